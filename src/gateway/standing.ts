// Standing: what keeps a member in a channel. Tokens that are renewed or expire, rights that change (protocol.md §9).
import type { Claims } from "../protocol/claims.ts";
import type { ClientFrame } from "../protocol/frames.ts";
import { isObject } from "../protocol/json.ts";
import type { Admission } from "../protocol/link.ts";
import { allRights, type Right, type Rights } from "../protocol/rights.ts";
import { isPrivateObject } from "../protocol/topics.ts";
import { rejudgeFeeds } from "./feeds.ts";
import type { Gateway } from "./gateway.ts";
import { joinerOf, type Membership } from "./membership.ts";
import { membershipRates } from "./rates.ts";
import type { Room } from "./room.ts";
import { watchExpiry } from "./sweep.ts";

/** Members whose rights are asked for at once when those of a whole room may have changed. */
const AT_ONCE = 500;

/** Takes a new token on an open channel. One that says the same is ignored; a private channel judges its bearer anew. */
export function refreshToken(gateway: Gateway, membership: Membership, frame: ClientFrame): void {
  const token = isObject(frame.payload) ? frame.payload.access_token : null;
  if (typeof token !== "string" || token.startsWith("sb_")) return;
  // Of two tokens in a row the later one counts, whichever is verified first.
  membership.refreshes++;
  const turn = membership.refreshes;
  const stands = (): boolean => membership.refreshes === turn && gateway.stands(membership);
  gateway.claimsOf(membership.session, token).then(
    (claims) => {
      if (stands() && !sameClaims(claims, membership.claims)) void takeClaims(gateway, membership, claims);
    },
    (error: unknown) => {
      if (stands()) refuseToken(gateway, membership, error);
    },
  );
}

function sameClaims(a: Claims, b: Claims): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

async function takeClaims(gateway: Gateway, membership: Membership, claims: Claims): Promise<void> {
  if (isPrivateObject(membership.room.object) && !(await rejudge(gateway, membership, claims, 0))) return;
  const before = membership.claims;
  membership.claims = claims;
  rejudgeFeeds(gateway, membership, before);
  gateway.keep(membership);
  watchExpiry(gateway, membership);
  if (membership.bindings.some(({ record }) => !record.bare))
    gateway.system(membership, "postgres_changes", "ok", "Subscribed to PostgreSQL");
}

/** An expired token is renewed and the client joins again by itself; one that never was any good is final. */
function refuseToken(gateway: Gateway, membership: Membership, error: unknown): void {
  const message = error instanceof Error ? error.message : "The token provided is not a valid JWT";
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (message.startsWith("Token has expired")) {
    gateway.system(membership, "system", "error", message);
    return gateway.drop(membership, "phx_error", { reason: "token expired" });
  }
  // That literal text is what clients have seen so far (protocol.md §4).
  gateway.putOut(membership, code === "JwtSignatureError" ? ":signature_error" : message);
}

/** Asks anew what everybody in a private room may do; of the limits that it sets for itself, everybody hears. */
export async function reauthorize(gateway: Gateway, room: Room): Promise<void> {
  const notBefore = gateway.now();
  const members = [...room.members.values()];
  for (let at = 0; at < members.length; at += AT_ONCE) {
    const some = members.slice(at, at + AT_ONCE).filter((member) => gateway.stands(member));
    await Promise.all(some.map((member) => rejudge(gateway, member, member.claims, notBefore)));
  }
}

/** Asks what a member with these claims may do, and sees to it. False when the member is out. */
async function rejudge(gateway: Gateway, membership: Membership, claims: Claims, notBefore: number): Promise<boolean> {
  const { session, room, rights } = membership;
  const question = {
    joiner: joinerOf(session, claims, room.object),
    notBefore,
    presence: membership.presenceEnabled && rights.read.presence !== "granted",
  };
  const result = await new Promise<Admission>((resolve) => {
    room.admit(question, (answer) => {
      // In the turn of the answer: what comes right after it is for members as they are then.
      if (gateway.stands(membership) && answer.ok) take(gateway, membership, answer);
      resolve(answer);
    });
  });
  if (!gateway.stands(membership)) return false;
  if (!result.ok) {
    // Registered as the other kind of room now, or nobody could say: the client joins again and is told then.
    if (!result.reason.startsWith("Unauthorized: ")) gateway.drop(membership, "phx_error", { reason: result.reason });
    else gateway.putOut(membership, result.reason.replace("Unauthorized: ", ""));
    return false;
  }
  if (
    isLost(rights.read.broadcast, membership.rights.read.broadcast) ||
    isLost(rights.read.presence, membership.rights.read.presence)
  ) {
    const sub = membership.topic.slice("realtime:".length);
    gateway.putOut(membership, `You no longer have permission to read from this Channel topic: ${sub}`);
    return false;
  }
  return true;
}

function isLost(before: Right, after: Right): boolean {
  return before === "granted" && after !== "granted";
}

function take(
  gateway: Gateway,
  membership: Membership,
  { rights = allRights, limits = {} }: { rights?: Rights; limits?: Membership["limits"] },
): void {
  const unchanged = JSON.stringify(limits) === JSON.stringify(membership.limits);
  membership.rights = rights;
  membership.limits = limits;
  if (!unchanged) {
    membership.rates = membershipRates(membership.session.rates, limits, membership.claims.role, gateway.now());
  }
  gateway.keep(membership);
}
