// Joining: from a `phx_join` frame to a membership, or to an error reply that says why not.

import type { Claims } from "../protocol/claims.ts";
import { reasonOf } from "../protocol/errors.ts";
import type { ClientFrame } from "../protocol/frames.ts";
import { type JoinRequest, parseJoin } from "../protocol/join.ts";
import { MAX_REGEXES, MAX_TERMS } from "../protocol/limits.ts";
import type { Joined, Viewer } from "../protocol/link.ts";
import { allRights } from "../protocol/rights.ts";
import { feedObject, namesInTopic, type Topic as ParsedTopic, parseTopic, roomObject } from "../protocol/topics.ts";
import { awaitFeeds, forConfiguration, Holds, type Opened, openFeeds, withLimit } from "./feeds.ts";
import type { Gateway } from "./gateway.ts";
import { joinerOf, type Subscriber } from "./membership.ts";
import { tellWhenReady } from "./readiness.ts";
import type { Room } from "./room.ts";
import type { Joining, Session } from "./session.ts";
import { echoWishes, parseWish, topicWish, type Wish, WishRefused, wishIds } from "./wishes.ts";

/** A join that came through: the room, and each row-change subscription with how it went. */
interface Admitted {
  readonly room: Room;
  readonly request: JoinRequest;
  readonly claims: Claims;
  readonly viewer: Viewer;
  readonly presenceKey: string;
  readonly opened: Opened;
  /** The table that the topic may name. */
  readonly named: Wish | null;
  readonly joined: Extract<Joined, { ok: true }>;
}

/** A refused join: `message` is the reason of the error reply. */
export class JoinRefused extends Error {
  override readonly name = "JoinRefused";
}

/** Handles a `phx_join` frame. A topic that is joined already is left first; frames for it wait until this is answered. */
export function handleJoin(gateway: Gateway, session: Session, frame: ClientFrame): void {
  const topic = parseTopic(frame.topic);
  if ("reason" in topic) return gateway.reply(session, frame, "error", topic);
  if (!session.rates.joins.take(gateway.now())) {
    const reason = reasonOf("ClientJoinRateLimitReached", "Too many joins per second");
    return gateway.reply(session, frame, "error", { reason });
  }
  const before = session.topics.get(frame.topic);
  if (before?.state === "joined") gateway.memberships.leave(before.membership);
  if (session.topics.size >= gateway.limits.channels) {
    const reason = reasonOf("ChannelRateLimitReached", "Too many channels");
    return gateway.reply(session, frame, "error", { reason });
  }
  const joining: Joining = { state: "joining", joinRef: frame.joinRef, waiting: [], kicked: new Map() };
  session.topics.set(frame.topic, joining);
  // A client that has left, or joined again, meanwhile gets no answer to this join any more.
  const current = (): boolean => session.topics.get(frame.topic) === joining && gateway.sessions.has(session.id);
  join(gateway, session, frame, topic, (admitted) => {
    const { claims, room } = admitted;
    // They may have been banned or kicked meanwhile.
    const refusal = gateway.refusalOf(claims) ?? joining.kicked.get(claims.user ?? "");
    if (current() && refusal === undefined) begin(gateway, session, frame, admitted);
    // Nothing to undo at the channel, where the session may be a member by another join.
    else room.release();
    return refusal;
  })
    .catch((error: unknown) => {
      if (!current()) return;
      session.topics.delete(frame.topic);
      gateway.reply(session, frame, "error", { reason: reasonFor(gateway, error) });
    })
    .finally(() => {
      if (gateway.sessions.has(session.id)) for (const run of joining.waiting) run();
    });
}

/** Begins the membership, and tells the client. */
function begin(gateway: Gateway, session: Session, frame: ClientFrame, admitted: Admitted): void {
  const { room, request, claims, viewer, presenceKey, opened, named, joined } = admitted;
  const { self, ack, presenceEnabled } = request;
  const { ok: _ok, rights = allRights, limits = {}, table: _table, ...standing } = joined;
  const membership = gateway.memberships.enter({
    ...{ session, room, claims, viewer, rights, limits, self, ack, presenceKey, presenceEnabled },
    topic: frame.topic,
    joinRef: frame.joinRef,
    tracked: null,
    bindings: [],
    waiting: [],
    refused: [],
    named,
  });
  const { heartbeatMs, reconnectMs } = gateway.pace;
  const pace = { heartbeat_ms: heartbeatMs, reconnect_ms: reconnectMs };
  const echo = echoWishes(request.postgresChanges);
  gateway.reply(session, frame, "ok", { postgres_changes: echo, ...standing, ...pace });
  gateway.memberships.opened(membership, opened);
  void gateway.namedTables.joined(membership);
  if (request.replicationReady) tellWhenReady(gateway, membership);
}

function reasonFor(gateway: Gateway, error: unknown): string {
  if (error instanceof JoinRefused) return error.message;
  if (error instanceof Error && "code" in error) return `${error.code}: ${error.message}`;
  gateway.log("join crashed", { reason: String(error) });
  return "Unknown Error on Channel";
}

/**
 * Runs a join. `admitted` runs in the turn in which the channel's answer arrives, so that no message falls between the
 * reply and the first delivery; it answers what stands against the joiner by then. Rejects with JoinRefused.
 */
async function join(
  gateway: Gateway,
  session: Session,
  frame: ClientFrame,
  topic: ParsedTopic,
  admitted: (result: Admitted) => string | undefined,
): Promise<void> {
  const request = parseJoin(frame.payload);
  if (request.replay === "invalid")
    throw new JoinRefused(reasonOf("UnableToReplayMessages", "Replay params are not valid"));
  const { replay } = request;
  const claims = await gateway.claimsOf(session, request.token);
  const viewer = await gateway.viewerOf(claims);
  const asked = await withNamed(gateway, wishesOf(topic, request));
  const holds = new Holds();
  try {
    const opened = await openWishes(gateway, { session, claims, viewer }, request, asked, holds);
    const presenceKey = request.presenceKey === "" ? gateway.newId() : request.presenceKey;
    const wishes = {
      presence: request.presenceEnabled,
      ...(replay === undefined ? {} : { replay }),
      ...(request.resume === undefined ? {} : { resume: request.resume }),
    };
    const enter = async (object: string): Promise<Extract<Joined, { ok: false }> | undefined> => {
      const room = gateway.room(object);
      const refusal = joinedAs(room, session, frame.topic);
      if (refusal !== undefined) return refusal;
      return new Promise((resolve) => {
        room.join(joinerOf({ session, claims, viewer }, object), wishes, (answer) => {
          // Both spellings may have been on their way.
          const joined = answer.ok ? (joinedAs(room, session, frame.topic) ?? answer) : answer;
          const { named } = asked;
          if (!joined.ok) return resolve(joined);
          const refused = admitted({ room, request, claims, viewer, presenceKey, opened, named, joined });
          resolve(refused === undefined ? undefined : { ok: false, reason: reasonOf("Unauthorized", refused) });
        });
      });
    };
    let refusal = await enter(topic.kind === "feed" ? feedObject(topic.feed) : roomObject(topic.sub, request.private));
    // A registered channel's type decides, whatever the join says.
    if (refusal?.moved !== undefined) refusal = await enter(roomObject(topic.sub, refusal.moved === "private"));
    if (refusal !== undefined) throw new JoinRefused(refusal.reason);
  } finally {
    holds.release();
  }
}

/** The refusal of a second topic for one channel, as a feed's name may be spelled: one would be deaf. */
function joinedAs(room: Room, session: Session, topic: string): Extract<Joined, { ok: false }> | undefined {
  const member = room.members.get(session.id);
  if (member === undefined || member.topic === topic) return undefined;
  return {
    ok: false,
    reason: reasonOf("TopicAlreadyJoined", `This socket has joined the same feed as ${member.topic}`),
  };
}

/**
 * Opens the feeds of all subscriptions, so that changes flow before the client hears that it has joined. Rejects with
 * JoinRefused when the join asked to wait for them and one of them does not come.
 */
async function openWishes(
  gateway: Gateway,
  who: Subscriber,
  request: JoinRequest,
  { wishes, problems }: Asked,
  holds: Holds,
): Promise<Opened> {
  if (request.wait === undefined || request.postgresChanges.length === 0) {
    const opened = await openFeeds(gateway, who, wishes, holds);
    return { ...opened, problems: [...problems, ...opened.problems] };
  }
  const [problem] = problems;
  if (problem !== undefined) throw new JoinRefused(forConfiguration(problem));
  const bindings = await awaitFeeds(gateway, who, wishes, holds, request.wait);
  if ("refusal" in bindings) throw new JoinRefused(bindings.refusal);
  return { bindings, problems: [], waiting: [], refused: [] };
}

/** Subscriptions as they are asked for, and messages about those that nobody could serve. */
interface Asked {
  readonly wishes: readonly Wish[];
  readonly problems: readonly string[];
  readonly named: Wish | null;
}

/** The subscriptions that a join asks for: in its payload, or by a topic that names a table (protocol.md §3.6). */
function wishesOf(topic: ParsedTopic, request: JoinRequest): Asked {
  const ids = wishIds(request.postgresChanges);
  const left = { terms: MAX_TERMS, regexes: MAX_REGEXES };
  const [wishes, problems]: [Wish[], string[]] = [[], []];
  for (const [index, entry] of request.postgresChanges.entries()) {
    const wish = understood(() => parseWish(entry, ids[index] ?? 1), left);
    if (typeof wish === "string") problems.push(wish);
    else wishes.push(wish);
  }
  const names = ids.length > 0 || request.private ? undefined : namesInTopic(topic, request.legacy);
  const named = names && understood(() => topicWish(...names), left);
  // A room whose name is no table's is just a room.
  return { wishes, problems, named: typeof named === "object" ? named : null };
}

/** A room does not wait long to hear whether its name is a table's. */
const LIST_MS = 250;

/** Has a table that the topic names, and that is captured as far as can be said soon, subscribed before the reply. */
async function withNamed(gateway: Gateway, asked: Asked): Promise<Asked> {
  const { named } = asked;
  if (named === null) return asked;
  const list = gateway.postgres.captured().catch(() => undefined);
  const captured = await withLimit(gateway.timers, list, LIST_MS);
  if (captured?.has(named.schema, named.table) !== true) return asked;
  return { ...asked, wishes: [...asked.wishes, named], named: null };
}

/** A subscription, or the message about one that cannot be had. */
function understood(parse: () => Wish, left: { terms: number; regexes: number }): Wish | string {
  try {
    const wish = parse();
    take(left, wish);
    return wish;
  } catch (error) {
    if (error instanceof WishRefused) return error.message;
    throw error;
  }
}

/** Takes a subscription's terms from what one join may have. Throws WishRefused when they are more than is left. */
function take(left: { terms: number; regexes: number }, { terms }: Wish): void {
  const regexes = terms.filter(({ operator }) => operator === "match" || operator === "imatch").length;
  if (terms.length > left.terms) throw new WishRefused(`Too many filters: a channel has at most ${MAX_TERMS} terms`);
  if (regexes > left.regexes) {
    throw new WishRefused(`Too many filters: a channel has at most ${MAX_REGEXES} terms with match or imatch`);
  }
  left.terms -= terms.length;
  left.regexes -= regexes;
}
