// Recent ids: which messages a channel has taken lately, so that a repeated one is known.

/** Remembers a number of the newest ids at least. Two generations: when the young one is full it becomes the old one. */
export class RecentIds {
  #young = new Set<string>();
  #old = new Set<string>();

  readonly #least: number;

  /** `known` are ids from before, oldest first; of all, at least so many of the newest are remembered. */
  constructor(known: Iterable<string>, least: number) {
    this.#least = least;
    for (const id of known) this.add(id);
  }

  add(id: string): void {
    this.#young.add(id);
    if (this.#young.size < this.#least) return;
    this.#old = this.#young;
    this.#young = new Set();
  }

  has(id: string): boolean {
    return this.#young.has(id) || this.#old.has(id);
  }
}
