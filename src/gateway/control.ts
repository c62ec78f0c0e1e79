// Control: what an administrator has done to the sockets of a gateway.
import { type Block, type BlockList, withReason } from "../protocol/blocks.ts";
import { type Close, closes } from "../protocol/closes.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";
import type { Session } from "./session.ts";

/** Takes the blocks that stand now, and ends whatever they forbid. */
export function enforce(gateway: Gateway, blocks: BlockList): void {
  gateway.blocks.set(blocks);
  const now = gateway.now();
  for (const session of [...gateway.sessions.values()]) {
    const block = gateway.blocks.of(session.claims, now);
    if (block !== undefined) gateway.end(session, closeFor(block));
    else {
      // A channel may have been joined with another token than the socket was opened with. What is under way is looked at
      // when it comes through.
      for (const membership of joined(session)) {
        const own = gateway.blocks.of(membership.claims, now);
        if (own !== undefined) gateway.memberships.putOut(membership, refusalFor(own));
      }
    }
  }
}

/** How the socket of somebody who is blocked ends. */
export function closeFor({ kind }: Block): Close {
  return kind === "user" ? closes.banned : closes.tokenRevoked;
}

/** What somebody is told who is blocked. */
export function refusalFor(block: Block): string {
  return withReason(block.kind === "user" ? "You are banned" : "Token has been revoked", block);
}

/** Ends one socket. False: it is not here. */
export function disconnect(gateway: Gateway, id: string): boolean {
  const session = gateway.sessions.get(id);
  if (session === undefined) return false;
  gateway.end(session, closes.disconnected);
  return true;
}

/** Ends a user's sockets, or puts them out of one channel (by its name); answers how many sockets that were. */
export function kick(gateway: Gateway, user: string, channel: string | undefined, reason: string): number {
  let count = 0;
  const isMeant = (topic: string): boolean => channel === undefined || topic === `realtime:${channel}`;
  for (const session of [...gateway.sessions.values()]) {
    for (const [name, topic] of session.topics) {
      if (topic.state === "joining" && isMeant(name)) topic.kicked.set(user, reason);
    }
    const memberships = joined(session).filter(
      ({ claims, tokens, topic }) => (claims.user === user || tokens.coming?.user === user) && isMeant(topic),
    );
    if (channel === undefined && session.claims.user === user) gateway.end(session, closes.kicked);
    else if (memberships.length === 0) continue;
    else for (const membership of memberships) gateway.memberships.putOut(membership, reason);
    count++;
  }
  return count;
}

function joined({ topics }: Session): Membership[] {
  return [...topics.values()].flatMap((topic) => (topic.state === "joined" ? [topic.membership] : []));
}
