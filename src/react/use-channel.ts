// useChannel: a room's messages, a way to send to it, and who is online there.
import type { Broadcast, Gap, Loose, MessageMeta, PresenceState, RealtimeClient, SubscribeStatus } from "@nself/client";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useRealtimeClient } from "./provider.ts";
import { appear, enter } from "./rooms.ts";

export interface UseChannelOptions {
  /** The events whose messages are wanted; without them all are. */
  readonly events?: readonly string[];
  /** Whether to take part in presence: `true`, or what others see of this client, such as `{ user_id, status }`. */
  readonly presence?: boolean | Loose;
  /** Only for members, or whom the policies let in; the first hook of a room decides. Default false. */
  readonly private?: boolean;
  /** How many messages are kept; default 500, the newest. */
  readonly limit?: number;
  /** The client, where it is not the provider's. */
  readonly client?: RealtimeClient;
  /** Messages may be missing after a break: fetch what you show anew. */
  readonly onGap?: (gap: Gap) => void;
}

/** A message as it is shown. */
export interface Message<Payload = Loose> {
  readonly id: string;
  readonly event: string;
  readonly payload: Payload;
  readonly meta: MessageMeta;
}

/** Somebody who is online, with what they track. */
export type Online = Loose & { readonly key: string };

export interface UseChannel<Payload = Loose> {
  /** Since the component was mounted, in the order of the room. */
  readonly messages: readonly Message<Payload>[];
  /** Sends to everybody in the room, this component too. Resolves when the message is stored; see `channel.send`. */
  readonly send: (event: string, payload?: Payload) => Promise<void>;
  /** Everybody once, however many tabs they have; empty without `presence`. */
  readonly online: readonly Online[];
  /** The server has us in the room right now. */
  readonly isJoined: boolean;
}

const DEFAULT_LIMIT = 500;
const NOBODY: readonly Online[] = [];

/** A component's time in one room. */
interface Visit {
  readonly client: RealtimeClient;
  readonly roomId: string;
  readonly isPrivate: boolean;
  /** The component is not there any more, or on another visit. */
  isGone: boolean;
}

interface Seen<Payload> {
  readonly visit: Visit;
  readonly messages: readonly Message<Payload>[];
  readonly online: readonly Online[];
  readonly isJoined: boolean;
}

function nothing<Payload>(visit: Visit): Seen<Payload> {
  return { visit, messages: [], online: [], isJoined: false };
}

/** Follows a room while the component is mounted. Components of one room share its channel, all share the client's socket. */
export function useChannel<Payload = Loose>(roomId: string, options: UseChannelOptions = {}): UseChannel<Payload> {
  const { presence = false, private: isPrivate = false } = options;
  const client = useRealtimeClient(options.client);
  const latest = useRef(options);
  // What is written anew in every render is compared by what it says; undefined: no part in presence.
  const tracked = presence === false ? undefined : JSON.stringify(presence === true ? { status: "online" } : presence);

  useEffect(() => {
    latest.current = options;
  });

  // A visit ends when any of these changes: what was seen on it is not shown on the next one.
  const visit = useMemo<Visit>(() => ({ client, roomId, isPrivate, isGone: false }), [client, roomId, isPrivate]);
  const [seen, setSeen] = useState<Seen<Payload>>(() => nothing(visit));
  const see = useCallback(
    (more: (before: Seen<Payload>) => Partial<Seen<Payload>>): void => {
      setSeen((seen) => {
        const before = seen.visit === visit ? seen : nothing<Payload>(visit);
        return { ...before, ...more(before) };
      });
    },
    [visit],
  );

  useEffect(() => {
    const [{ channel }, leave] = enter(visit.client, visit.roomId, visit.isPrivate);
    // Strict mode comes back to a visit.
    visit.isGone = false;
    const hear = ({ event, payload, meta }: Broadcast<Payload>): void => {
      const { events, limit = DEFAULT_LIMIT } = latest.current;
      if (events !== undefined && !events.includes(event)) return;
      see(({ messages }) => {
        const all = [...messages, { id: meta.id, event, payload, meta }];
        return { messages: all.slice(Math.max(all.length - limit, 0)) };
      });
    };
    const miss = (gap: Gap): void => latest.current.onGap?.(gap);
    const follow = (status: SubscribeStatus): void => see(() => ({ isJoined: status === "SUBSCRIBED" }));
    channel.on("broadcast", { event: "*" }, hear).on("gap", miss).subscribe(follow);
    return () => {
      visit.isGone = true;
      channel.off(hear).off(miss).off(follow);
      leave();
    };
  }, [visit, see]);

  useEffect(() => {
    if (tracked === undefined) return;
    const [room, leave] = enter(visit.client, visit.roomId, visit.isPrivate);
    const { channel } = room;
    const meet = (): void => see(() => ({ online: listed(channel.presenceState()) }));
    channel.on("presence", { event: "sync" }, meet);
    meet();
    const disappear = appear(room, JSON.parse(tracked));
    return () => {
      channel.off(meet);
      disappear();
      leave();
    };
  }, [visit, see, tracked]);

  const send = useCallback(
    async (event: string, payload?: Payload) => {
      const { client, roomId, isPrivate, isGone } = visit;
      if (isGone) throw new Error(`The component that sends to ${roomId} is not mounted any more`);
      // In an effect of a child it may come before the room is entered, and the room may be left before it is answered.
      const [{ channel }, leave] = enter(client, roomId, isPrivate);
      try {
        await channel.send({ type: "broadcast", event, payload: payload ?? {} });
      } finally {
        leave();
      }
    },
    [visit],
  );
  const { messages, online, isJoined } = seen.visit === visit ? seen : nothing<Payload>(visit);
  return { messages, send, online: tracked === undefined ? NOBODY : online, isJoined };
}

/** Each key once, with what it tracked last. */
function listed(state: PresenceState): Online[] {
  return Object.entries(state).map(([key, presences]) => {
    const { presence_ref: _, ...payload } = presences.at(-1) ?? { presence_ref: "" };
    return { ...payload, key };
  });
}
