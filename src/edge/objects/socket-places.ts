// Places for the client sockets of an object: all objects together hold as many sockets as may be, and no more.

interface Ports {
  /** The client sockets that the object holds now. */
  sockets(): number;
  /** Resolves when it is known who is to be kept out. */
  ready(): Promise<void>;
  /** Tells the directory that so many sockets are held and so many more wanted; answers how many may be held from now on. */
  places(held: number, more: boolean): Promise<number>;
}

export class SocketPlaces {
  readonly #ports: Ports;
  /** Sockets that may be held without asking. The directory never counts fewer, so all together are never too many. */
  #places = 0;
  /** What is said of places is said one after the other, for the same reason. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  /** Takes a socket by `accept`; undefined: as many are open everywhere as may be. Rejects as `ready` does. */
  async admit(accept: () => Response): Promise<Response | undefined> {
    await this.#ports.ready();
    if (this.#ports.sockets() < this.#places) return accept();
    return this.#inTurn(async () => {
      const held = this.#ports.sockets();
      if (held >= this.#places) this.#places = await this.#ports.places(held, true);
      await this.#ports.ready();
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
