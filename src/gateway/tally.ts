// The tally: what a gateway has delivered, and how many sockets it holds, since it last told the directory.

/** What is told. Numbers since the last time, but for `connections`. */
export interface Tallied {
  /** Sockets now, and the most since the last time. */
  readonly connections: number;
  readonly peak: number;
  /** Messages and row changes that were sent to a socket, and those that were not: it had to be closed instead. */
  readonly delivered: number;
  readonly failed: number;
  /** Of so many messages the time from their channel to the sockets, milliseconds together. */
  readonly timed: number;
  readonly latencyMs: number;
  /** Row changes taken. */
  readonly changes: number;
}

const NOTHING = { delivered: 0, failed: 0, timed: 0, latencyMs: 0, changes: 0 };

export class Tally {
  readonly #wake: () => void;
  #connections = 0;
  #peak = 0;
  #counts = { ...NOTHING };
  #touched = false;

  /** `wake` is called when there is something to tell, once until it has been taken. */
  constructor(wake: () => void) {
    this.#wake = wake;
  }

  #touch(): void {
    if (this.#touched) return;
    this.#touched = true;
    this.#wake();
  }

  connected(connections: number): void {
    this.#connections = connections;
    this.#peak = Math.max(this.#peak, connections);
    this.#touch();
  }

  delivered(done: boolean, messages: number): void {
    if (done) this.#counts.delivered += messages;
    else this.#counts.failed += messages;
    this.#touch();
  }

  timed(latencyMs: number): void {
    this.#counts.timed++;
    // Clocks of different machines differ: a message does not come before it was sent.
    this.#counts.latencyMs += Math.max(0, latencyMs);
  }

  changed(changes: number): void {
    this.#counts.changes += changes;
    this.#touch();
  }

  /** What there is to tell; from here on it counts anew. */
  take(): Tallied {
    const taken = { connections: this.#connections, peak: this.#peak, ...this.#counts };
    this.#peak = this.#connections;
    this.#counts = { ...NOTHING };
    this.#touched = false;
    return taken;
  }

  /** What was taken could not be told: it is to be told the next time. */
  putBack({ peak, delivered, failed, timed, latencyMs, changes }: Tallied): void {
    this.#peak = Math.max(this.#peak, peak);
    const counts = this.#counts;
    counts.delivered += delivered;
    counts.failed += failed;
    counts.timed += timed;
    counts.latencyMs += latencyMs;
    counts.changes += changes;
  }
}
