// The teller: brings an object's tally to the directory, in batches and never on a message's path.
import { type Tallied, Tally } from "../../gateway/tally.ts";
import type { Timers } from "../../protocol/timers.ts";

/** What is counted within this long is told together. The alarm that tells sweeps, too: not to be had every second. */
const GATHER_MS = 5_000;

export class Teller {
  readonly tally = new Tally(() => this.#wish());
  readonly #timers: Timers;
  readonly #tell: (tallied: Tallied) => Promise<void>;
  #due: number | undefined;

  constructor(timers: Timers, tell: (tallied: Tallied) => Promise<void>) {
    this.#timers = timers;
    this.#tell = tell;
  }

  /** By the alarm: a timer would keep an object that only counted something from going to sleep. */
  #wish(): void {
    this.#due = this.#timers.now() + GATHER_MS;
    this.#timers.alarm(this.#due);
  }

  /** To be called by the object's alarm. Never throws: what could not be told is told the next time. */
  async alarm(): Promise<void> {
    if (this.#due === undefined) return;
    if (this.#timers.now() < this.#due) return this.#timers.alarm(this.#due);
    this.#due = undefined;
    const tallied = this.tally.take();
    await this.#tell(tallied).catch(() => this.tally.putBack(tallied));
  }
}
