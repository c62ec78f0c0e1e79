// Keeps how far delivery has come: rounds end in any order, the place moves past the first that has not.
import type { Place } from "./changes.ts";

/** Fetching stops while this many bytes wait for the edge: the outbox is the buffer, not this process. */
const mostUnacked = 8_000_000;

/**
 * Nor goes it further ahead of a round that is still on its way: what follows that round is delivered again after a
 * restart, and the edge knows a change again only while it remembers its id.
 */
const mostRoundsAhead = 500;

/** A fetched round on its way; `settle` it once a change. */
export interface Delivery {
  readonly next: Place;
  waiting: number;
  /** When the first of its changes was written, milliseconds of Unix time. */
  readonly writtenAt: number;
}

export class Progress {
  /** Everything up to here was acknowledged. */
  acked: Place;
  /** Changes fetched and not acknowledged, and their bytes. */
  changes = 0;
  bytes = 0;
  #deliveries: Delivery[] = [];
  #wake: (() => void) | null = null;
  #ended = false;
  #congestedSince: number | null = null;

  constructor(place: Place) {
    this.acked = place;
  }

  /** Begins a round of so many changes, the first written at `writtenAt`, that ends at `next`. */
  open(next: Place, changes: number, writtenAt: number): Delivery {
    const delivery = { next, waiting: changes, writtenAt };
    this.#deliveries.push(delivery);
    this.#advance();
    return delivery;
  }

  /** One of its changes turned out to stand for so many more. */
  extend(delivery: Delivery, changes: number): void {
    delivery.waiting += changes;
  }

  hold(bytes: number): void {
    this.changes += 1;
    this.bytes += bytes;
  }

  settle(delivery: Delivery, bytes: number): void {
    delivery.waiting -= 1;
    this.changes -= 1;
    this.bytes -= bytes;
    if (delivery.waiting <= 0) this.#advance();
    if (this.#hasRoom()) this.#wake?.();
  }

  /** Whether there is room for another round, waiting for it so many milliseconds, or until `end`. For one caller. */
  async room(patience: number): Promise<boolean> {
    if (!this.#hasRoom() && !this.#ended) {
      this.#congestedSince ??= performance.now();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, patience);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = null;
    }
    if (this.bytes < mostUnacked / 2 && this.#deliveries.length < mostRoundsAhead / 2) this.#congestedSince = null;
    return this.#hasRoom() || this.#ended;
  }

  /** For how long fetching has had to wait again and again, milliseconds. */
  get congestedFor(): number {
    return this.#congestedSince === null ? 0 : performance.now() - this.#congestedSince;
  }

  /** The round that the place waits for, where there are too many of them; null where there are too many bytes. */
  get obstacle(): Delivery | null {
    return this.#deliveries.length < mostRoundsAhead ? null : (this.#deliveries[0] ?? null);
  }

  /** When the oldest change was written that is not delivered, milliseconds of Unix time; null: there is none. */
  get oldestAt(): number | null {
    return this.#deliveries[0]?.writtenAt ?? null;
  }

  /** No further round: whoever waits for room need not. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  #hasRoom(): boolean {
    return this.bytes < mostUnacked && this.#deliveries.length < mostRoundsAhead;
  }

  #advance(): void {
    const firstOpen = this.#deliveries.findIndex((delivery) => delivery.waiting > 0);
    const done = this.#deliveries.splice(0, firstOpen === -1 ? this.#deliveries.length : firstOpen);
    this.acked = done.at(-1)?.next ?? this.acked;
  }
}
