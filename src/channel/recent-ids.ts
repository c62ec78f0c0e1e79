// Recent ids: which messages a channel has taken lately, so that a repeated one is known.
import { MAX_UNDER_WAY } from "../protocol/limits.ts";

/**
 * Remembers at least as many of the newest ids as all publishes that one gateway may repeat. Two generations: when the
 * young one is full it becomes the old one, and the old one is forgotten.
 */
export class RecentIds {
  #young = new Set<string>();
  #old = new Set<string>();

  /** `known` are ids from before, oldest first. */
  constructor(known: Iterable<string>) {
    for (const id of known) this.add(id);
  }

  add(id: string): void {
    this.#young.add(id);
    if (this.#young.size < MAX_UNDER_WAY) return;
    this.#old = this.#young;
    this.#young = new Set();
  }

  has(id: string): boolean {
    return this.#young.has(id) || this.#old.has(id);
  }
}
