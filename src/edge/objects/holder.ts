// A holder: an object that the directory has to know, because it holds client sockets or presence.

/** How long after a report that failed it is made again, milliseconds. */
const AGAIN_MS = 2_000;

interface HolderPorts {
  /** The client sockets that the object holds now. */
  sockets(): number;
  /** Brings to the directory whether it holds anything; one that fails is made again in a while. */
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
  /** Number of the newest report; what an older one brings about is over. */
  #newest = 0;
  /** How many are about to come in: meanwhile nobody tells that nothing is held. */
  #entering = 0;
  /** Sockets that may be held without asking. The directory never counts fewer, so all together are never too many. */
  #places = 0;
  /** What is said of places is said one after the other, for the same reason. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ctx: DurableObjectState, ports: HolderPorts) {
    this.#ctx = ctx;
    this.#ports = ports;
  }

  tell(holds: boolean): void {
    if (this.#told === holds || (!holds && this.#entering > 0)) return;
    this.#told = holds;
    this.#known = false;
    const number = ++this.#newest;
    this.#reports = this.#reports
      .then(() => this.#ports.report(holds))
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

  /** Takes a socket by `accept`; undefined: as many are open everywhere as may be. Rejects as `ready` does. */
  async admit(accept: () => Response): Promise<Response | undefined> {
    await this.ready();
    if (this.#ports.sockets() < this.#places) return accept();
    return this.#inTurn(async () => {
      const held = this.#ports.sockets();
      if (held >= this.#places) this.#places = await this.#ports.places(held, true);
      await this.ready();
      return this.#ports.sockets() < this.#places ? accept() : undefined;
    });
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
