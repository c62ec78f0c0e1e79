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

  constructor(place: Place) {
    this.acked = place;
  }

  /** Begins a round of so many changes that ends at `next`. */
  open(next: Place, changes: number): Delivery {
    const delivery = { next, waiting: changes };
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
    this.#advance();
    if (this.#hasRoom()) this.#wake?.();
  }

  /** Resolves when there is room for another round, or at `end`. For one caller. */
  async room(): Promise<void> {
    if (this.#hasRoom() || this.#ended) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = null;
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
