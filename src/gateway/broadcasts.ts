// Broadcasts from clients: checked, given an id, and handed to the channel (protocol.md §6).
import type { BroadcastError } from "../protocol/errors.ts";
import { type ClientFrame, UserBroadcast } from "../protocol/frames.ts";
import { exceeds, isObject } from "../protocol/json.ts";
import { type Body, broadcastBody } from "../protocol/link.ts";
import { MAX_PERSIST_TTL_S, parsePersist } from "../protocol/persist.ts";
import { isPrivateObject } from "../protocol/topics.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";

/** Handles a `broadcast` frame. Who asked for acks hears of every failure by reply, others by a system message. */
export function handleBroadcast(gateway: Gateway, membership: Membership, frame: ClientFrame): void {
  const { session, room, claims, ack, rights } = membership;
  const refuse = (code: BroadcastError, message: string): void => {
    if (ack) gateway.reply(session, frame, "error", { error: code });
    else gateway.system(membership, "broadcast", "error", message);
  };
  if (room.object.startsWith("feed:")) {
    return refuse("unauthorized", "A feed carries row changes only: nothing can be broadcast on it");
  }
  if (isOverRate(gateway, membership, refuse)) return;
  const { broadcast, persistence } = rights.write;
  if (broadcast === "failed") return refuse("rls_policy_error", "A policy on realtime.messages raised an error");
  if (broadcast === "denied") return refuse("unauthorized", "You do not have permissions to write to this Channel");
  const content = contentOf(frame.payload);
  if (content === undefined) return refuse("invalid_payload", 'A broadcast needs an object with a string "event"');
  const most = membership.limits.payloadBytes ?? gateway.limits.payloadBytes;
  if (exceeds(content.body, most)) {
    return refuse("payload_size_exceeded", `A broadcast payload holds at most ${most} bytes`);
  }
  // On a public channel it means nothing (protocol.md §6.9).
  const persist = isPrivateObject(room.object) ? content.persist : undefined;
  if (persist === "invalid")
    return refuse("invalid_persist_ttl", `persist takes a ttl from 1 to ${MAX_PERSIST_TTL_S} seconds`);
  const { name, body } = content;
  const publish = {
    id: gateway.newId(),
    session: session.id,
    sender: claims.user,
    name,
    body,
    ...(persist !== undefined && persistence === "granted" && { persist: persist.ttl }),
  };
  if (!room.publish(publish, ack ? (outcome) => gateway.stored(session, frame, outcome) : undefined)) {
    refuse("channel_unavailable", "The channel cannot be reached: the message was not sent");
  }
}

/** Takes a message off the membership's allowance; when there is none left says so, but not to every single message. */
function isOverRate(
  gateway: Gateway,
  { rates: { messages }, limits, ack }: Membership,
  refuse: (code: BroadcastError, message: string) => void,
): boolean {
  const now = gateway.now();
  if (messages.take(now)) return false;
  if (ack || messages.tells(now)) {
    const wait = messages.waitSeconds(now);
    const setting = limits.messagesPerMinute === undefined ? "REALTIME_MESSAGES_PER_MINUTE" : "the channel's own limit";
    const limit = `${messages.perMinute} a minute (${setting})`;
    refuse("too_many_messages", `Too many messages: at most ${limit}, go on in ${wait} s`);
  }
  return true;
}

interface Content {
  /** The user's event name. */
  readonly name: string;
  readonly body: Body;
  readonly persist?: ReturnType<typeof parsePersist>;
}

/** What goes on: of a text frame the payload as the sender wrote it, all keys included. */
function contentOf(payload: unknown): Content | undefined {
  if (payload instanceof UserBroadcast) {
    const { event, metadata } = payload;
    return { name: event, body: broadcastBody(event, payload.payload), persist: parsePersist(metadata.persist) };
  }
  if (!isObject(payload)) return undefined;
  // `meta` is ours to give; stock clients take any payload with `ids` for a row change and break on it (protocol.md §0).
  const { meta: _ours, ids: _ids, ...rest } = payload;
  const name = rest.event;
  return typeof name === "string" ? { name, body: JSON.stringify(rest) } : undefined;
}
