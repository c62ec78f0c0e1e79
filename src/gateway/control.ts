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

/** What a kick has come to: how many sockets were ended, and which channels somebody was put out of on others'. */
export interface Kicked {
  connections: number;
  channels: string[];
}

/**
 * Ends the sockets that a user has opened and puts them out of the channels that they joined on others', or puts them out
 * of one channel (by its name).
 */
export function kick(gateway: Gateway, user: string, channel: string | undefined, reason: string): Kicked {
  let connections = 0;
  const channels = new Set<string>();
  const isMeant = (topic: string): boolean => channel === undefined || topic === `realtime:${channel}`;
  for (const session of [...gateway.sessions.values()]) {
    for (const [name, topic] of session.topics) {
      if (topic.state === "joining" && isMeant(name)) topic.kicked.set(user, reason);
    }
    if (channel === undefined && session.claims.user === user) {
      gateway.end(session, closes.kicked);
      connections++;
      continue;
    }
    for (const membership of joined(session)) {
      const { claims, tokens, topic } = membership;
      if (!isMeant(topic) || (claims.user !== user && tokens.coming?.user !== user)) continue;
      gateway.memberships.putOut(membership, reason);
      channels.add(topic.slice("realtime:".length));
    }
  }
  return { connections, channels: [...channels] };
}

function joined({ topics }: Session): Membership[] {
  return [...topics.values()].flatMap((topic) => (topic.state === "joined" ? [topic.membership] : []));
}
