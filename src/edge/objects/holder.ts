// A holder: an object that the directory has to know, because it holds client sockets or presence.

interface HolderPorts {
  /** The client sockets that the object holds now. */
  sockets(): number;
  /** Brings to the directory whether it holds anything; one that fails is made again when there is next something to tell. */
  report(holds: boolean): Promise<void>;
  /** Tells the directory that so many sockets are held and so many more wanted; answers how many may be held from now on. */
  places(held: number, more: boolean): Promise<number>;
}

/** Tells the directory whether this object holds anything, when that changes, and never waits for it. */
export class Holder {
  readonly #ctx: DurableObjectState;
  readonly #ports: HolderPorts;
  #told: boolean | undefined;
  /** The directory knows that this object holds something, and has told it what to keep out. */
  #known = false;
  /** One report after the other: one that overtook another would stand in the directory though it is over. */
  #reports = Promise.resolve();
  /** Sockets that may be held without asking. The directory never counts fewer, so all together are never too many. */
  #places = 0;
  /** What is said of places is said one after the other, for the same reason. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, ports: HolderPorts) {
    this.#ctx = ctx;
    this.#ports = ports;
  }

  tell(holds: boolean): void {
    if (this.#told === holds) return;
    this.#told = holds;
    this.#reports = this.#reports
      .then(() => this.#ports.report(holds))
      .then(() => {
        this.#known = holds;
      })
      .catch(() => {
        this.#told = undefined;
        this.#known = false;
      });
    this.#ctx.waitUntil(this.#reports);
  }

  /**
   * Takes a socket by `accept`; undefined: as many are open everywhere as may be. Who is to be kept out is known before.
   * Rejects when the directory cannot say.
   */
  async admit(accept: () => Response): Promise<Response | undefined> {
    await this.#ready();
    if (this.#ports.sockets() < this.#places) return accept();
    return this.#inTurn(async () => {
      const held = this.#ports.sockets();
      if (held >= this.#places) this.#places = await this.#ports.places(held, true);
      return this.#ports.sockets() < this.#places ? accept() : undefined;
    });
  }

  async #ready(): Promise<void> {
    this.tell(true);
    if (this.#known) return;
    await this.#reports;
    if (!this.#known) throw new Error("the directory does not answer: who is banned cannot be known");
  }

  /** Gives back the places that no socket has: others need them. */
  giveBack(): Promise<void> {
    return this.#inTurn(async () => {
      this.#places = this.#ports.sockets();
      await this.#ports.places(this.#places, false);
    });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => {});
    return done;
  }
}
