// Standing: whether a member may stay, as tokens are renewed and rights change (protocol.md §9, §12).
import type { Claims } from "../protocol/claims.ts";
import { isOfCode } from "../protocol/errors.ts";
import type { ClientFrame } from "../protocol/frames.ts";
import { isObject } from "../protocol/json.ts";
import type { Admission } from "../protocol/link.ts";
import { allRights, type Right } from "../protocol/rights.ts";
import { isFeedObject, isPrivateObject } from "../protocol/topics.ts";
import { rejudgeFeeds } from "./feeds.ts";
import type { Gateway } from "./gateway.ts";
import { joinerOf, type Membership } from "./membership.ts";
import { membershipRates, Rate } from "./rates.ts";
import type { Room } from "./room.ts";
import { watchExpiry } from "./sweep.ts";

/** Members whose rights are asked for at once when those of a whole room may have changed. */
const AT_ONCE = 32;
/** How often a judgement is tried that nobody could give, and how long between two tries. */
const TRIES = 4;
const TRY_MS = 2_000;
/** Tokens of one channel a minute that are looked at when they come; a later one is held (protocol.md §9.1). */
const TOKENS_PER_MINUTE = 12;

/** The tokens that come on an open channel. */
export interface Tokens {
  readonly rate: Rate;
  /** How many have been taken up: of two in a row the later one counts, whichever is verified first. */
  taken: number;
  /** The newest that came too early. */
  held: string | undefined;
  /** Claims that were verified, while the channel says what they may do. */
  coming: Claims | undefined;
}

export function newTokens(now: number): Tokens {
  return { rate: new Rate(TOKENS_PER_MINUTE, now), taken: 0, held: undefined, coming: undefined };
}

/** Takes a new token on an open channel. One that says the same is ignored; whom it may make less welcome is judged anew. */
export function refreshToken(gateway: Gateway, membership: Membership, frame: ClientFrame): void {
  const token = isObject(frame.payload) ? frame.payload.access_token : null;
  if (typeof token !== "string" || token.startsWith("sb_")) return;
  const { tokens } = membership;
  if (tokens.held !== undefined || !tokens.rate.take(gateway.now())) return hold(gateway, membership, token);
  takeToken(gateway, membership, token);
}

/** Looks at the newest token of many in a row, and not at those before it. */
function hold(gateway: Gateway, membership: Membership, token: string): void {
  const { tokens } = membership;
  const isFirst = tokens.held === undefined;
  tokens.held = token;
  if (!isFirst) return;
  gateway.timers.after(tokens.rate.waitSeconds(gateway.now()) * 1_000, () => {
    const { held } = tokens;
    tokens.held = undefined;
    if (held === undefined || !gateway.memberships.stands(membership)) return;
    tokens.rate.take(gateway.now());
    takeToken(gateway, membership, held);
  });
}

function takeToken(gateway: Gateway, membership: Membership, token: string): void {
  const { tokens } = membership;
  tokens.taken++;
  const turn = tokens.taken;
  const counts = (): boolean => tokens.taken === turn && gateway.memberships.stands(membership);
  gateway.claimsOf(membership.session, token).then(
    (claims) => {
      const before = tokens.coming ?? membership.claims;
      if (!counts() || sameClaims(claims, before)) return;
      tokens.coming = claims;
      const { object } = membership.room;
      // Of a public room, whether somebody is banned there, or no member of it, depends on who they are alone.
      const isOther = [membership.claims, before].some(
        ({ user, role }) => user !== claims.user || role !== claims.role,
      );
      void (isPrivateObject(object) || (isOther && !isFeedObject(object))
        ? rejudge(gateway, membership, 0)
        : takeComing(gateway, membership));
    },
    (error: unknown) => {
      if (counts()) refuseToken(gateway, membership, error);
    },
  );
}

function sameClaims(a: Claims, b: Claims): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** Takes claims that the channel has agreed to, once every feed knows who bears them. */
async function takeComing(gateway: Gateway, membership: Membership): Promise<void> {
  const { memberships } = gateway;
  const claims = membership.tokens.coming;
  if (claims === undefined) return;
  const viewer = await gateway.viewerOf(claims);
  const isKnown = viewer.key === membership.viewer.key || (await introduce(gateway, membership, { claims, viewer }));
  if (membership.tokens.coming !== claims || !memberships.stands(membership)) return;
  // Rows must not be shown to who is not their bearer any more: the client joins again with its new token.
  if (!isKnown)
    return memberships.drop(membership, "phx_error", { reason: "the token could not be taken, join again" });
  const refusal = gateway.refusalOf(claims);
  if (refusal !== undefined) return memberships.putOut(membership, refusal);
  const before = membership.claims;
  const { bindings } = membership;
  // Subscriptions are found by their viewers.
  memberships.retain(membership, []);
  membership.claims = claims;
  membership.viewer = viewer;
  memberships.retain(membership, bindings);
  membership.tokens.coming = undefined;
  rejudgeFeeds(gateway, membership, before);
  memberships.keep(membership);
  watchExpiry(gateway, membership);
  if (membership.bindings.some(({ record }) => !record.bare)) {
    gateway.system(membership, "postgres_changes", "ok", "Subscribed to PostgreSQL");
  }
}

/** Has every feed of a membership know a new viewer before it counts as one. False when one of them does not. */
async function introduce(
  gateway: Gateway,
  { session, room, bindings }: Membership,
  bearer: Pick<Membership, "claims" | "viewer">,
): Promise<boolean> {
  const feeds = new Set([room.object, ...bindings.map(({ record }) => record.feed)].filter(isFeedObject));
  const answers = [...feeds].map(
    (feed) =>
      new Promise<boolean>((resolve) => {
        gateway.room(feed).join(joinerOf({ session, ...bearer }, feed), { presence: false }, ({ ok }) => resolve(ok));
      }),
  );
  return (await Promise.all(answers)).every((ok) => ok);
}

/** An expired token is renewed and the client joins again by itself; one that never was any good is final. */
function refuseToken(gateway: Gateway, membership: Membership, error: unknown): void {
  const { memberships } = gateway;
  const message = error instanceof Error ? error.message : "The token provided is not a valid JWT";
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (message.startsWith("Token has expired")) return memberships.expired(membership, message);
  if (isOfCode("RealtimeRestarting", message)) return memberships.drop(membership, "phx_error", { reason: message });
  // That literal text is what clients have seen so far (protocol.md §4).
  memberships.putOut(membership, code === "JwtSignatureError" ? ":signature_error" : message);
}

/** Asks anew what these users, or everybody, may do in a room. Where nobody can say, it is tried again for a while. */
export async function reauthorize(gateway: Gateway, room: Room, users: readonly string[] | undefined): Promise<void> {
  const notBefore = gateway.now();
  let asked = [...room.members.values()].filter(
    ({ claims }) => users === undefined || users.includes(claims.user ?? ""),
  );
  for (let left = TRIES; asked.length > 0; left--) {
    const unknown: Membership[] = [];
    for (let at = 0; at < asked.length; at += AT_ONCE) {
      const some = asked.slice(at, at + AT_ONCE).filter((member) => gateway.memberships.stands(member));
      const judged = await Promise.all(some.map((member) => rejudge(gateway, member, notBefore, left > 1)));
      unknown.push(...some.filter((_, index) => !judged[index]));
    }
    asked = unknown;
    if (asked.length > 0) await new Promise<void>((resolve) => void gateway.timers.after(TRY_MS, resolve));
  }
}

/**
 * Asks what a member may do with the claims that it has or is about to have, and sees to it. Only the newest judgement
 * counts. False when nobody could say: with `patient` the member stays as it is, else it has to join again.
 */
async function rejudge(gateway: Gateway, membership: Membership, notBefore: number, patient = false): Promise<boolean> {
  const { session, room, rights: before, tokens } = membership;
  const claims = tokens.coming ?? membership.claims;
  membership.turn++;
  const { turn } = membership;
  const question = {
    joiner: joinerOf({ session, claims, viewer: membership.viewer }, room.object),
    notBefore,
    presence: membership.presenceEnabled && before.read.presence !== "granted",
  };
  return new Promise((resolve) => {
    // In the turn of the answer: what comes right after it is for members as they are then.
    room.admit(question, (result) => {
      const counts = membership.turn === turn && gateway.memberships.stands(membership);
      const isUnknown = !result.ok && !isOfCode("Unauthorized", result.reason) && result.moved === undefined;
      if (counts && !(isUnknown && patient)) settle(gateway, membership, claims, result);
      resolve(!(counts && isUnknown && patient));
    });
  });
}

function settle(gateway: Gateway, membership: Membership, claims: Claims, result: Admission): void {
  const { memberships } = gateway;
  if (!result.ok) {
    // Registered as the other kind of room now, or nobody could say: the client joins again and is told then.
    if (!isOfCode("Unauthorized", result.reason)) memberships.drop(membership, "phx_error", { reason: result.reason });
    else memberships.putOut(membership, result.reason.slice("Unauthorized: ".length));
    return;
  }
  const { rights: before, tokens } = membership;
  take(gateway, membership, result);
  const { read } = membership.rights;
  if (isLost(before.read.broadcast, read.broadcast) || isLost(before.read.presence, read.presence)) {
    const sub = membership.topic.slice("realtime:".length);
    return memberships.putOut(membership, `You no longer have permission to read from this Channel topic: ${sub}`);
  }
  if (tokens.coming === claims) void takeComing(gateway, membership);
}

function isLost(before: Right, after: Right): boolean {
  return before === "granted" && after !== "granted";
}

function take(
  gateway: Gateway,
  membership: Membership,
  { rights = allRights, limits = {} }: Extract<Admission, { ok: true }>,
): void {
  const unchanged = JSON.stringify(limits) === JSON.stringify(membership.limits);
  membership.rights = rights;
  membership.limits = limits;
  if (!unchanged) {
    membership.rates = membershipRates(membership.session.rates, limits, membership.claims.role, gateway.now());
  }
  if (membership.tracked !== null && rights.write.presence !== "granted") {
    membership.tracked = null;
    membership.room.presence({ t: "untrack", session: membership.session.id }, () => {});
  }
  gateway.memberships.keep(membership);
}
