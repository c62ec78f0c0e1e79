// What is due: a core's own wishes to be called, apart from what else its object is woken for.
import type { Timers } from "./timers.ts";

const SECOND_MS = 1_000;

export class Due {
  readonly #timers: Timers;
  /** Unix ms, whole seconds: so there are few, however many wish. */
  readonly #wishes = new Set<number>();
  /** What an earlier life has wished for is not known: the first call is due whenever it comes. */
  #isFirst = true;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** Wishes to be called at `at` (unix ms), or within a second from then. */
  wish(at: number): void {
    const second = Math.ceil(at / SECOND_MS) * SECOND_MS;
    this.#wishes.add(second);
    this.#timers.alarm(second);
  }

  /** Wishes to be called by `at` at the latest: not at all where it will be sooner. */
  by(at: number): void {
    if (![...this.#wishes].some((wish) => wish <= at)) this.wish(at);
  }

  /** To be asked when the alarm rings: whether it rings for one of these. Those that are over are forgotten. */
  take(): boolean {
    const now = this.#timers.now();
    const over = [...this.#wishes].filter((at) => at <= now);
    for (const at of over) this.#wishes.delete(at);
    if (this.#wishes.size > 0) this.#timers.alarm(Math.min(...this.#wishes));
    const isDue = this.#isFirst || over.length > 0;
    this.#isFirst = false;
    return isDue;
  }
}
