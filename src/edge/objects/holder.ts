// A holder: an object that the directory has to know, because it holds client sockets or presence.

/** Tells the directory whether this object holds anything, when that changes, and never waits for it. */
export class Holder {
  readonly #ctx: DurableObjectState;
  readonly #report: (holds: boolean) => Promise<void>;
  #told: boolean | undefined;
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
      .catch(() => {
        this.#told = undefined;
      });
    this.#ctx.waitUntil(this.#reports);
  }
}
