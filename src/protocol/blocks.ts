// Blocks: users who may not connect, and tokens that count no more.
import type { Claims } from "./claims.ts";

/** A user who is banned everywhere, or a token (by its `jti`) that was revoked. */
export interface Block {
  readonly kind: "user" | "token";
  readonly id: string;
  /** Unix ms; null: for good. */
  readonly until: number | null;
  readonly reason: string | null;
}

/** What somebody is told who is kept out: with the reason, where one was given. */
export function withReason(what: string, { reason }: { readonly reason: string | null }): string {
  return reason === null ? what : `${what}: ${reason}`;
}

/** All blocks that stand. Of two lists the one of the higher revision counts, whichever arrives last. */
export interface BlockList {
  readonly revision: number;
  readonly blocks: readonly Block[];
}

/** Most blocks that stand at once: every object that holds sockets has them in memory. */
export const MAX_BLOCKS = 10_000;

export class Blocks {
  #revision = 0;
  #blocks = new Map<string, Block>();

  /** Of the list that counts; 0: none has been heard of. */
  get revision(): number {
    return this.#revision;
  }

  /** Takes the blocks that stand now in place of those before; a list that was overtaken by a newer one is ignored. */
  set({ revision, blocks }: BlockList): void {
    if (revision < this.#revision) return;
    this.#revision = revision;
    this.#blocks = new Map(blocks.map((block) => [`${block.kind} ${block.id}`, block]));
  }

  /** What stands against somebody at `now` (unix ms). The service is no user that can be banned: it is who lifts bans. */
  of({ role, user, all }: Pick<Claims, "role" | "user" | "all">, now: number): Block | undefined {
    if (this.#blocks.size === 0) return undefined;
    const { jti } = all;
    const found = [
      user === null || role === "service_role" ? undefined : this.#blocks.get(`user ${user}`),
      typeof jti === "string" ? this.#blocks.get(`token ${jti}`) : undefined,
    ];
    return found.find((block) => block !== undefined && (block.until === null || block.until > now));
  }
}
