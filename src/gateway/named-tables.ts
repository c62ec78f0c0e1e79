// Tables that topics name (protocol.md §3.6). Most rooms whose name looks like a table's are just rooms: they wait for
// nothing, and are compared with the list of captured tables when they are joined, and when it changes.
import type { CapturedTables } from "./captured.ts";
import { type RetryHost, retryFeeds, soon } from "./feeds.ts";
import type { Membership } from "./membership.ts";

export class NamedTables {
  readonly #host: RetryHost;
  /** The list that everybody has been compared with. */
  #seen: CapturedTables | undefined;

  constructor(host: RetryHost) {
    this.#host = host;
  }

  /** Has a new member subscribed to the table that its topic names, if it is one that is captured. */
  async joined(membership: Membership): Promise<void> {
    if (membership.named === null) return;
    const { postgres, timers } = this.#host;
    const now = timers.now();
    try {
      this.#compare(membership, await postgres.captured());
      // It may be captured since a moment ago, and the client know it.
      if (membership.named !== null) this.#compare(membership, await postgres.captured(now));
    } catch {
      this.#seen = undefined;
      this.#host.wakeAt(soon(this.#host.timers));
    }
  }

  /** Does the same for all of them if the list has changed. */
  async sweep(memberships: readonly Membership[]): Promise<void> {
    if (memberships.length === 0) return;
    try {
      const captured = await this.#host.postgres.captured();
      if (captured === this.#seen) return;
      this.#seen = captured;
      for (const membership of memberships) this.#compare(membership, captured);
    } catch {
      // At the next sweep, then.
      this.#seen = undefined;
    }
  }

  #compare(membership: Membership, captured: CapturedTables): void {
    const wish = membership.named;
    if (wish === null || !this.#host.memberships.stands(membership) || !captured.has(wish.schema, wish.table)) return;
    membership.named = null;
    membership.waiting = [...membership.waiting, { wish, retryAt: this.#host.timers.now(), told: "" }];
    void retryFeeds(this.#host, membership);
  }
}
