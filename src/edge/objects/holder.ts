// A holder: an object that the directory has to know, because it holds client sockets or presence.

/** How long after a report that failed it is made again, milliseconds. */
const AGAIN_MS = 2_000;

/** Tells the directory whether this object holds anything, when that changes, and never waits for it. */
export class Holder {
  readonly #ctx: DurableObjectState;
  readonly #report: (holds: boolean) => Promise<void>;
  #told: boolean | undefined;
  /** The directory knows that this object holds something, and has told it what to keep out. */
  #known = false;
  /** One report after the other: one that overtook another would stand in the directory though it is over. */
  #reports = Promise.resolve();
  /** Number of the newest report; what an older one brings about is over. */
  #newest = 0;
  /** How many are about to come in: meanwhile nobody tells that nothing is held. */
  #entering = 0;

  /** `report` brings it to the directory; one that fails is made again in a while. */
  constructor(ctx: DurableObjectState, report: (holds: boolean) => Promise<void>) {
    this.#ctx = ctx;
    this.#report = report;
  }

  tell(holds: boolean): void {
    if (this.#told === holds || (!holds && this.#entering > 0)) return;
    this.#told = holds;
    this.#known = false;
    const number = ++this.#newest;
    this.#reports = this.#reports
      .then(() => this.#report(holds))
      .then(() => {
        this.#known = holds && number === this.#newest;
      })
      .catch(() => {
        if (number !== this.#newest) return;
        this.#told = undefined;
        setTimeout(() => {
          if (this.#told === undefined) this.tell(holds);
        }, AGAIN_MS);
      });
    this.#ctx.waitUntil(this.#reports);
  }

  /**
   * Before somebody is let in: who is to be kept out must be known, and is as long as the caller awaits nothing else.
   * Rejects when the directory cannot say.
   */
  async ready(): Promise<void> {
    this.tell(true);
    if (this.#known) return;
    this.#entering++;
    try {
      await this.#reports;
    } finally {
      this.#entering--;
    }
    if (!this.#known) throw new Error("the directory does not answer: who is banned cannot be known");
  }
}
