// Joining: from a `phx_join` frame to a membership, or to an error reply that says why not.

import type { Claims } from "../protocol/claims.ts";
import type { ClientFrame } from "../protocol/frames.ts";
import { type JoinRequest, parseJoin } from "../protocol/join.ts";
import type { Joined, Viewer } from "../protocol/link.ts";
import { feedObject, namesInTopic, type Topic as ParsedTopic, roomObject } from "../protocol/topics.ts";
import { awaitFeeds, type FeedHost, forConfiguration, holdFeeds, type Opened, openFeeds } from "./feeds.ts";
import { joinerOf, type Subscriber } from "./membership.ts";
import type { Room } from "./room.ts";
import type { Session } from "./session.ts";
import { parseWish, topicWish, type Wish, WishRefused, wishIds } from "./wishes.ts";

/** A join that came through: the room, and each row-change subscription with how it went. */
export interface Admitted {
  readonly room: Room;
  readonly request: JoinRequest;
  readonly claims: Claims;
  readonly viewer: Viewer;
  readonly presenceKey: string;
  readonly opened: Opened;
  readonly joined: Extract<Joined, { ok: true }>;
}

/** What joining needs of the gateway. */
export interface JoinHost extends FeedHost {
  claimsOf(session: Session, token: string | undefined): Promise<Claims>;
  viewerOf(claims: Claims): Promise<Viewer>;
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
  const viewer = await host.viewerOf(claims);
  const asked = wishesOf(topic, request);
  const holds = [holdFeeds(host, asked.wishes)];
  try {
    const opened = await openWishes(host, { session, claims, viewer }, request, asked);
    holds.push(...opened.bindings.map(({ record }) => host.room(record.feed).hold()));
    const presenceKey = request.presenceKey === "" ? host.newId() : request.presenceKey;
    const wishes = {
      presence: request.presenceEnabled,
      ...(replay === undefined ? {} : { replay }),
      ...(request.resume === undefined ? {} : { resume: request.resume }),
    };
    const enter = (object: string): Promise<Extract<Joined, { ok: false }> | undefined> => {
      const room = host.room(object);
      return new Promise((resolve) => {
        room.join(joinerOf({ session, claims, viewer }, object), wishes, (joined) => {
          if (joined.ok) admitted({ room, request, claims, viewer, presenceKey, opened, joined });
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

/**
 * Opens the feeds of all subscriptions, so that changes flow before the client hears that it has joined. Rejects with
 * JoinRefused when the join asked to wait for them and one of them does not come.
 */
async function openWishes(
  host: JoinHost,
  who: Subscriber,
  request: JoinRequest,
  { wishes, problems }: Asked,
): Promise<Opened> {
  if (request.wait === undefined || request.postgresChanges.length === 0) {
    const opened = await openFeeds(host, who, wishes);
    return { ...opened, problems: [...problems, ...opened.problems] };
  }
  const [problem] = problems;
  if (problem !== undefined) throw new JoinRefused(forConfiguration(problem));
  const bindings = await awaitFeeds(host, who, wishes, request.wait);
  if ("refusal" in bindings) throw new JoinRefused(bindings.refusal);
  return { bindings, problems: [], waiting: [] };
}

/** Subscriptions as they are asked for, and messages about those that nobody could serve. */
interface Asked {
  readonly wishes: readonly Wish[];
  readonly problems: readonly string[];
}

/** The subscriptions that a join asks for: in its payload, or by a topic that names a table (protocol.md §3.6). */
function wishesOf(topic: ParsedTopic, request: JoinRequest): Asked {
  const ids = wishIds(request.postgresChanges);
  const asked = request.postgresChanges.map((entry, index) => () => parseWish(entry, ids[index] ?? 1));
  const names = asked.length > 0 || request.private ? undefined : namesInTopic(topic, request.legacy);
  if (names !== undefined) asked.push(() => topicWish(...names));
  const [wishes, problems]: [Wish[], string[]] = [[], []];
  for (const parse of asked) {
    try {
      wishes.push(parse());
    } catch (error) {
      if (!(error instanceof WishRefused)) throw error;
      // A room whose name is no table's is just a room.
      if (names === undefined) problems.push(error.message);
    }
  }
  return { wishes, problems };
}
