// Feeds: opened for the subscriptions of a join before it is answered, and again later where they could not be had.

import type { Claims } from "../protocol/claims.ts";
import { isOfCode, reasonOf } from "../protocol/errors.ts";
import { type Joined, NOT_CAPTURED } from "../protocol/link.ts";
import type { Timers } from "../protocol/timers.ts";
import { type Binding, resolveBinding } from "./bindings.ts";
import { joinerOf, type Membership, type Subscriber } from "./membership.ts";
import type { Memberships } from "./memberships.ts";
import type { Postgres } from "./ports.ts";
import type { Room } from "./room.ts";
import { feedOf, notCapturedMessage, type Wish, WishRefused } from "./wishes.ts";

/** What opening feeds needs of the gateway. */
export interface FeedHost {
  readonly timers: Timers;
  readonly postgres: Postgres;
  room(object: string): Room;
}

/** A subscription that does not stand yet, as it is kept. */
export interface Waiting {
  readonly wish: Wish;
  /** Unix ms. */
  readonly retryAt: number;
  /** What the client was told of it last. */
  readonly told: string;
}

/** Keeps the feeds of subscriptions while they are opened: one that nobody is in is let go after a while. */
export class Holds {
  readonly #releases = new Map<Room, () => void>();
  #over = false;

  keep(room: Room): void {
    if (!this.#over && !this.#releases.has(room)) this.#releases.set(room, room.hold());
  }

  release(): void {
    this.#over = true;
    for (const release of this.#releases.values()) release();
  }
}

/** What has come of subscriptions. */
export interface Opened {
  readonly bindings: Binding[];
  /** Messages about the subscriptions that do not stand. */
  readonly problems: string[];
  readonly waiting: Waiting[];
  /** Those that cannot stand as they are written, for whoever asked. */
  readonly refused: Wish[];
}

type Outcome =
  | { readonly binding: Binding }
  /** It cannot stand as it is written, and is not tried again for the same role and user. */
  | { readonly refused: string }
  /** Nobody captures the table, which `nself realtime subscribe` changes from one moment to the next. */
  | { readonly absent: string }
  /** Nobody could say: the feed or PostgreSQL is away. */
  | { readonly unreachable: string };

/** How long a join that does not ask to wait is held for a feed: stock clients give up after 10 s (protocol.md §13.1). */
const PATIENCE_MS = 4_000;
/** When what could not be reached is tried again (protocol.md §8.3). */
const SOON_MS = { from: 5_000, to: 10_000 };
/** And what is still not captured at the second try: the gateway's sweep sees to it, no alarm is set. */
const LATE_MS = 30_000;
/** Between the tries of a join that waits (protocol.md §8.3). */
const TRY_MS = { from: 100, to: 1_000 };

/** Opens all feeds at once, not for long: what cannot be reached by then is told and waits. Never rejects. */
export async function openFeeds(
  host: FeedHost,
  who: Subscriber,
  wishes: readonly Wish[],
  holds: Holds,
): Promise<Opened> {
  const ask = asking(host, who, holds);
  const outcomes = wishes.map(async (wish) => ({ wish, outcome: await openSoon(host, who, wish, ask) }));
  return gathered(host, await Promise.all(outcomes));
}

/**
 * Opens all feeds however often that has to be tried, for `timeout` milliseconds at most (protocol.md §8.3). Answers the
 * reason of the error reply (§3.5) when a subscription is refused or the time is over.
 */
export async function awaitFeeds(
  host: FeedHost,
  who: Subscriber,
  wishes: readonly Wish[],
  holds: Holds,
  timeout: number,
): Promise<Binding[] | { readonly refusal: string }> {
  let late = false;
  const untilOpen = async (wish: Wish): Promise<Binding> => {
    for (;;) {
      const outcome = await openFeed(host, who, wish, asking(host, who, holds));
      if ("binding" in outcome) return outcome.binding;
      if (!("unreachable" in outcome)) throw new WishRefused("refused" in outcome ? outcome.refused : outcome.absent);
      await pause(host.timers, within(TRY_MS));
      if (late) throw new WishRefused("the time is over");
    }
  };
  try {
    const bindings = await withLimit(host.timers, Promise.all(wishes.map(untilOpen)), timeout);
    if (bindings !== undefined) return bindings;
  } catch (error) {
    if (error instanceof WishRefused) return { refusal: forConfiguration(error.message) };
    throw error;
  } finally {
    late = true;
  }
  const waited = `Timed out after ${timeout}ms waiting for the postgres_changes subscription`;
  return { refusal: reasonOf("PostgresChangesSubscribeTimeout", waited) };
}

/** The reason for which a join that waits is refused, where any other would be told this message (protocol.md §3.5). */
export function forConfiguration(message: string): string {
  return reasonOf("RealtimeDisabledForConfiguration", message);
}

/** What retrying needs of the gateway beyond that. */
export interface RetryHost extends FeedHost {
  readonly memberships: Pick<Memberships, "stands" | "retain" | "keep" | "opened">;
  /** Has them tried again when they are due. */
  wakeFor(waiting: readonly Waiting[]): void;
  /** Has the gateway look at what is due, at `time` (unix ms) or a little later. */
  wakeAt(time: number): void;
}

/** Tries again what waits and is due. What still cannot be had waits on; the client is told when the reason changes. */
export async function retryFeeds(host: RetryHost, membership: Membership): Promise<void> {
  const now = host.timers.now();
  const due = membership.waiting.filter(({ retryAt }) => retryAt <= now);
  const kept = membership.waiting.filter(({ retryAt }) => retryAt > now);
  if (due.length === 0) return host.wakeFor(kept);
  // No second try while this one runs; and should this life end before it has, the next one tries.
  const trying = due.map((waiting) => ({ ...waiting, retryAt: now + LATE_MS }));
  membership.waiting = [...kept, ...trying];
  const { viewer } = membership;
  const holds = new Holds();
  const ask = asking(host, membership, holds);
  const outcomes = await Promise.all(
    due.map(async ({ wish, told }) => ({ wish, told, outcome: await openSoon(host, membership, wish, ask) })),
  );
  const others = membership.waiting.filter((waiting) => !trying.includes(waiting));
  if (host.memberships.stands(membership) && viewer.key !== membership.viewer.key) {
    // The answers were for somebody else.
    membership.waiting = [...others, ...due];
    void retryFeeds(host, membership);
  } else if (host.memberships.stands(membership)) {
    const opened = gathered(host, outcomes);
    membership.waiting = others;
    if (opened.bindings.length + opened.problems.length > 0) host.memberships.opened(membership, opened);
    // Nothing new is not worth a write: in the next life it is tried at once.
    else membership.waiting = [...others, ...opened.waiting];
    host.wakeFor(membership.waiting);
  }
  holds.release();
}

/**
 * Another token: what was refused to the role before may stand for this one, and what stood may not any more
 * (protocol.md §9.1). A token for the same role and user changes nothing.
 */
export function rejudgeFeeds(host: RetryHost, membership: Membership, before: Claims): void {
  const { claims, bindings, refused } = membership;
  if (isSame(before, claims)) return;
  const kept = bindings.filter(({ record }) => record.readers?.includes(claims.role) !== false);
  const lost = bindings.filter((binding) => !kept.includes(binding)).map(({ record }) => record.wish);
  if (lost.length + refused.length === 0) return;
  host.memberships.retain(membership, kept);
  const retryAt = host.timers.now();
  const again = [...lost, ...refused].map((wish) => ({ wish, retryAt, told: "" }));
  membership.refused = [];
  membership.waiting = [...membership.waiting, ...again];
  host.memberships.keep(membership);
  void retryFeeds(host, membership);
}

function isSame(a: Claims, b: Claims): boolean {
  return a.role === b.role && a.user === b.user;
}

function gathered(
  { timers }: FeedHost,
  results: readonly { readonly wish: Wish; readonly told?: string; readonly outcome: Outcome }[],
): Opened {
  const opened: Opened = { bindings: [], problems: [], waiting: [], refused: [] };
  for (const { wish, told = "", outcome } of results) {
    if ("binding" in outcome) opened.bindings.push(outcome.binding);
    else if ("refused" in outcome) {
      opened.problems.push(outcome.refused);
      opened.refused.push(wish);
    } else {
      const problem = "absent" in outcome ? outcome.absent : outcome.unreachable;
      // The client has not asked for it in so many words.
      const isNews = problem !== told && !wish.bare;
      if (isNews) opened.problems.push(problem);
      const isSoon = isNews || "unreachable" in outcome;
      opened.waiting.push({ wish, retryAt: isSoon ? soon(timers) : timers.now() + LATE_MS, told: problem });
    }
  }
  return opened;
}

type Ask = (feed: string) => Promise<Joined>;

/** Asks each feed once, however many of the subscriptions are of it. */
function asking(host: FeedHost, who: Subscriber, holds: Holds): Ask {
  const answers = new Map<string, Promise<Joined>>();
  return (feed) => {
    const answer =
      answers.get(feed) ??
      new Promise((resolve) => {
        const room = host.room(feed);
        holds.keep(room);
        room.join(joinerOf(who, feed), { presence: false }, resolve);
      });
    answers.set(feed, answer);
    return answer;
  };
}

async function openSoon(host: FeedHost, who: Subscriber, wish: Wish, ask: Ask): Promise<Outcome> {
  const outcome = await withLimit(host.timers, openFeed(host, who, wish, ask), PATIENCE_MS);
  return outcome ?? { unreachable: reasonOf("TimeoutOnRpcCall", "Node request timeout") };
}

async function openFeed(host: FeedHost, who: Subscriber, wish: Wish, ask: Ask): Promise<Outcome> {
  try {
    // Before a room is made or a channel woken: anybody may ask for any name.
    if (!(await isCaptured(host, wish))) return { absent: notCapturedMessage(wish) };
    const joined = await ask(feedOf(wish));
    if (joined.ok) {
      return joined.table === undefined
        ? UNREACHABLE
        : { binding: await resolveBinding(wish, joined.table, who.claims, who.session.questions) };
    }
    if (joined.reason === NOT_CAPTURED) return { absent: notCapturedMessage(wish) };
    return isOfCode("Unauthorized", joined.reason) ? { refused: joined.reason } : { unreachable: joined.reason };
  } catch (error) {
    if (error instanceof WishRefused) return { refused: error.message };
    return UNREACHABLE;
  }
}

/** Whether a table is captured now: it may be since a moment ago, and the client know it. */
async function isCaptured({ postgres, timers }: FeedHost, { schema, table }: Wish): Promise<boolean> {
  const now = timers.now();
  const known = await postgres.captured();
  return known.has(schema, table) || (await postgres.captured(now)).has(schema, table);
}

const UNREACHABLE = {
  unreachable: reasonOf("UnableToConnectToProject", "Realtime was unable to connect to the project database"),
};

/** What a promise gives, or undefined when that takes longer than `ms`. */
export function withLimit<T>(timers: Timers, promise: Promise<T>, ms: number): Promise<T | undefined> {
  let cancel = (): void => {};
  const limit = new Promise<undefined>((resolve) => {
    cancel = timers.after(ms, () => resolve(undefined));
  });
  return Promise.race([promise, limit]).finally(() => cancel());
}

function pause(timers: Timers, ms: number): Promise<void> {
  return new Promise((resolve) => void timers.after(ms, resolve));
}

/** When what could not be reached is tried again, unix ms. */
export function soon(timers: Timers): number {
  return timers.now() + within(SOON_MS);
}

/** Spread, so that many who failed together do not come back together. */
function within({ from, to }: { from: number; to: number }): number {
  return from + Math.random() * (to - from);
}
