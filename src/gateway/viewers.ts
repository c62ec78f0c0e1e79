// Viewers of a feed's room: as whom somebody here sees it, told to the feed before anybody counts on it.
import type { Viewer } from "../protocol/link.ts";

/** A join that has been told its viewer is over by then, whether it came to a subscription or not. */
const KEPT_MS = 60_000;

export class Viewers {
  readonly #known = new Map<string, { readonly viewer: Viewer; readonly at: number }>();

  get size(): number {
    return this.#known.size;
  }

  list(): Viewer[] {
    return [...this.#known.values()].map(({ viewer }) => viewer);
  }

  /** Whether it is new. `now` in unix ms. */
  add(viewer: Viewer, now: number): boolean {
    const isNew = !this.#known.has(viewer.key);
    this.#known.set(viewer.key, { viewer, at: now });
    return isNew;
  }

  /** Lets go of all but those in use, unless they have come in the last minute. Answers their keys. */
  forget(inUse: ReadonlySet<string>, now: number): string[] {
    const gone = [...this.#known].filter(([key, { at }]) => !inUse.has(key) && at < now - KEPT_MS).map(([key]) => key);
    for (const key of gone) this.#known.delete(key);
    return gone;
  }
}
