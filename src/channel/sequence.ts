// The sequence: gives each message of a channel its position, and never gives one twice, not even after a crash.
import type { Position } from "../protocol/positions.ts";
import type { ChannelStore } from "./ports.ts";

const BLOCK = 1_000;

/**
 * A number whose message is written before it is sent needs no more than the ring. Numbers of messages that are sent
 * first and written later are reserved in blocks, and what is left of a block is handed back when the ring has caught
 * up. A life that begins with a reservation still out follows a crash: messages may have been sent that the ring never
 * saw, and `floor` says up to where nobody can be told that they missed nothing.
 */
export class Sequence {
  readonly epoch: string;
  readonly #store: ChannelStore;
  #last: number;
  #reserved: number;
  #floor: number;

  /** `ringLast` is the last number that the ring holds, 0 when it is empty. */
  constructor(store: ChannelStore, ringLast: number, newEpoch: () => string) {
    this.#store = store;
    this.epoch = store.get("epoch") ?? newEpoch();
    this.#reserved = Number(store.get("reserved") ?? 0);
    this.#floor = Number(store.get("floor") ?? 0);
    this.#last = Math.max(ringLast, this.#reserved);
    if (this.#reserved > ringLast) {
      this.#floor = this.#reserved;
      store.set("floor", String(this.#floor));
    }
  }

  /** The position of the newest message; seq 0 before the first. */
  get position(): Position {
    return { epoch: this.epoch, seq: this.#last };
  }

  /** Nobody can resume from a position below this one: something after it was lost. */
  get floor(): number {
    return this.#floor;
  }

  /** The next number. */
  next(): number {
    if (this.#last === 0) this.#store.set("epoch", this.epoch);
    this.#last++;
    return this.#last;
  }

  /** Makes sure that the newest number is never given again, though its message is not in the ring yet. */
  reserve(): void {
    if (this.#last > this.#reserved) this.#setReserved(this.#last + BLOCK);
  }

  /** Hands back what is left of the block. Only when the ring holds every number given out. */
  settle(): void {
    if (this.#reserved > this.#last) this.#setReserved(this.#last);
  }

  /** Something happened here that no message tells of: who stands before it cannot be told that they missed nothing. */
  skip(): void {
    // Where nobody can stand before it, there is nobody to tell.
    if (this.#floor === this.#last && this.#last > 0) return;
    this.next();
    this.forget();
  }

  /** Nothing given out so far can be had any more. */
  forget(): void {
    this.#setReserved(this.#last);
    this.#floor = this.#last;
    this.#store.set("floor", String(this.#floor));
  }

  #setReserved(upTo: number): void {
    this.#reserved = upTo;
    this.#store.set("reserved", String(upTo));
  }
}
