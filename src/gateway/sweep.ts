// The sweep: what falls due on a gateway. Sockets that have gone silent, tokens that expire, subscriptions to try again.
import type { Claims } from "../protocol/claims.ts";
import { closes } from "../protocol/closes.ts";
import { LISTENER_IDLE_MS } from "../protocol/limits.ts";
import { retryFeeds } from "./feeds.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";
import type { Session } from "./session.ts";

/** At most this long between two sweeps; what is due before the next one has the gateway woken for it. */
export const SWEEP_MS = 30_000;

/** Closes sockets that have been silent too long (protocol.md §1.5), and ends what an expired token had opened. */
export function sweep(gateway: Gateway): void {
  closeSilent(gateway, gateway.limits.idleMs);
  const named: Membership[] = [];
  for (const session of [...gateway.sessions.values()]) {
    for (const membership of membershipsOf(session)) {
      visit(gateway, membership);
      if (membership.named !== null) named.push(membership);
    }
  }
  gateway.forgetViewers();
  void gateway.namedTables.sweep(named);
}

/** Closes sockets that have been silent for so many milliseconds; answers how many. */
export function closeSilent(gateway: Gateway, ms: number): number {
  const now = gateway.now();
  const silent = [...gateway.sessions.values()].filter(
    (session) => session.lastSeen < now - (onlyListens(session) ? LISTENER_IDLE_MS : ms),
  );
  for (const session of silent) gateway.end(session, closes.idle);
  return silent.length;
}

function visit(gateway: Gateway, membership: Membership): void {
  const late = secondsLate(membership.claims, gateway.now());
  if (late >= 0) {
    return gateway.memberships.expired(membership, `Token has expired ${Math.round(late)} seconds ago`);
  }
  watchExpiry(gateway, membership);
  if (membership.waiting.length > 0) void retryFeeds(gateway, membership);
}

/**
 * Clients that follow tables by topic know no heartbeats (protocol.md §3.6): they join, and say no more. Who tracks
 * presence is not let off: a client that is gone must not seem to be there.
 */
function onlyListens(session: Session): boolean {
  if (session.heartbeats) return false;
  const memberships = membershipsOf(session);
  return memberships.some(followsByTopic) && memberships.every(({ tracked }) => tracked === null);
}

function followsByTopic({ bindings, waiting, named }: Membership): boolean {
  return named !== null || bindings.some(({ record }) => record.bare) || waiting.some(({ wish }) => wish.bare);
}

function membershipsOf({ topics }: Session): Membership[] {
  return [...topics.values()].flatMap((topic) => (topic.state === "joined" ? [topic.membership] : []));
}

/** Has the gateway woken when a token expires before the next sweep. */
export function watchExpiry(gateway: Gateway, { claims }: Membership): void {
  const expiresAt = (claims.exp ?? Number.POSITIVE_INFINITY) * 1000;
  if (expiresAt < gateway.now() + SWEEP_MS) gateway.due.wish(expiresAt);
}

/** Seconds since a token has expired, at `now` (unix ms); negative before that. */
export function secondsLate({ exp }: Claims, now: number): number {
  return exp === null ? Number.NEGATIVE_INFINITY : now / 1000 - exp;
}
