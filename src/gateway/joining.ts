// Joining: from a `phx_join` frame to a membership, or to an error reply that says why not.

import type { Claims } from "../protocol/claims.ts";
import type { ClientFrame } from "../protocol/frames.ts";
import { type JoinRequest, parseJoin } from "../protocol/join.ts";
import { type Joined, type Joiner, NOT_CAPTURED } from "../protocol/link.ts";
import { feedObject, type Topic as ParsedTopic, roomObject } from "../protocol/topics.ts";
import { type BadBinding, type Binding, bindingIds, isServed, parseBinding } from "./bindings.ts";
import { joinerOf } from "./membership.ts";
import type { Room } from "./room.ts";
import type { Session } from "./session.ts";

/** A join that came through: the room, and each row-change subscription with how it went. */
export interface Admitted {
  readonly room: Room;
  readonly request: JoinRequest;
  readonly claims: Claims;
  readonly presenceKey: string;
  readonly bindings: readonly Binding[];
  /** Messages about the subscriptions that cannot be served. */
  readonly problems: readonly string[];
  readonly joined: Extract<Joined, { ok: true }>;
}

/** What joining needs of the gateway. */
export interface JoinHost {
  room(object: string): Room;
  claimsOf(session: Session, token: string | undefined): Promise<Claims>;
  newId(): string;
}

/** A refused join: `message` is the reason of the error reply. */
export class JoinRefused extends Error {
  override readonly name = "JoinRefused";
}

/**
 * Runs a join. `admitted` runs in the turn in which the channel's answer arrives, so that no message falls between the
 * reply and the first delivery. Rejects with JoinRefused.
 */
export async function join(
  host: JoinHost,
  session: Session,
  frame: ClientFrame,
  topic: ParsedTopic,
  admitted: (result: Admitted) => void,
): Promise<void> {
  const request = parseJoin(frame.payload);
  if (request.replay === "invalid") throw new JoinRefused("UnableToReplayMessages: Replay params are not valid");
  const { replay } = request;
  const claims = await host.claimsOf(session, request.token);
  const ids = bindingIds(request.postgresChanges);
  const parsed = request.postgresChanges.map((entry, index) => parseBinding(entry, ids[index] ?? 1));
  // A feed that nobody is in yet is let go after a while, and a join may take longer.
  const holds = parsed.filter(isServed).map(({ feed }) => host.room(feed).hold());
  try {
    const { bindings, problems } = await openFeeds(host, (feed) => joinerOf(session, claims, feed), parsed);
    const presenceKey = request.presenceKey === "" ? host.newId() : request.presenceKey;
    const wishes = {
      presence: request.presenceEnabled,
      ...(replay === undefined ? {} : { replay }),
      ...(request.resume === undefined ? {} : { resume: request.resume }),
    };
    const enter = (object: string): Promise<Extract<Joined, { ok: false }> | undefined> => {
      const room = host.room(object);
      return new Promise((resolve) => {
        room.join(joinerOf(session, claims, object), wishes, (joined) => {
          if (joined.ok) admitted({ room, request, claims, presenceKey, bindings, problems, joined });
          resolve(joined.ok ? undefined : joined);
        });
      });
    };
    let refusal = await enter(topic.kind === "feed" ? feedObject(topic.feed) : roomObject(topic.sub, request.private));
    // A registered channel's type decides, whatever the join says.
    if (refusal?.moved !== undefined) refusal = await enter(roomObject(topic.sub, refusal.moved === "private"));
    if (refusal !== undefined) throw new JoinRefused(refusal.reason);
  } finally {
    for (const release of holds) release();
  }
}

/** Opens the feeds of all subscriptions, so that changes flow before the client hears that it has joined. */
async function openFeeds(
  host: JoinHost,
  joiner: (feed: string) => Joiner,
  parsed: readonly (Binding | BadBinding)[],
): Promise<{ bindings: Binding[]; problems: string[] }> {
  const results = await Promise.all(
    parsed.map((binding) => ("error" in binding ? binding : openFeed(host, joiner(binding.feed), binding))),
  );
  return {
    bindings: results.filter(isServed),
    problems: results.flatMap((result) => ("error" in result ? [result.error] : [])),
  };
}

function openFeed(host: JoinHost, joiner: Joiner, binding: Binding): Promise<Binding | BadBinding> {
  return new Promise((resolve) => {
    host.room(binding.feed).join(joiner, { presence: false }, (joined) => {
      if (joined.ok) return resolve(binding);
      resolve({
        error:
          joined.reason === NOT_CAPTURED
            ? `Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: ${binding.description}`
            : joined.reason,
      });
    });
  });
}
