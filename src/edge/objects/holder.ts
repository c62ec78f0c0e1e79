// A holder: an object that the directory has to know, because it holds client sockets or presence.

/** Tells the directory whether this object holds anything, when that changes, and never waits for it. */
export class Holder {
  readonly #ctx: DurableObjectState;
  readonly #report: (holds: boolean) => Promise<void>;
  #told: boolean | undefined;
  /** The directory knows that this object holds something, and has told it what to keep out. */
  #known = false;
  /** One report after the other: one that overtook another would stand in the directory though it is over. */
  #reports = Promise.resolve();

  /** `report` brings it to the directory; one that fails is made again when there is next something to tell. */
  constructor(ctx: DurableObjectState, report: (holds: boolean) => Promise<void>) {
    this.#ctx = ctx;
    this.#report = report;
  }

  tell(holds: boolean): void {
    if (this.#told === holds) return;
    this.#told = holds;
    this.#reports = this.#reports
      .then(() => this.#report(holds))
      .then(() => {
        this.#known = holds;
      })
      .catch(() => {
        this.#told = undefined;
        this.#known = false;
      });
    this.#ctx.waitUntil(this.#reports);
  }

  /** Before a socket is taken: who is to be kept out must be known. Rejects when the directory cannot say. */
  async ready(): Promise<void> {
    this.tell(true);
    if (this.#known) return;
    await this.#reports;
    if (!this.#known) throw new Error("the directory does not answer: who is banned cannot be known");
  }
}
