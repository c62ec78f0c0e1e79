// Listeners: which of them may deliver to a feed, and whether a batch may have come before.
import type { BatchHeader } from "../protocol/changes.ts";
import type { ChannelStore } from "./ports.ts";

interface Delivered {
  readonly epoch: number;
  readonly batch: number;
}

export class Listeners {
  readonly #store: ChannelStore;
  /** The newest batch taken in this life, by the database that was read. */
  readonly #newest = new Map<string, Delivered>();

  constructor(store: ChannelStore) {
    this.#store = store;
  }

  /**
   * Judges a batch. `stale`: a listener of a newer epoch has delivered, the lease of this one is over. `repeated`: some
   * or all of it may have been taken before. The epoch outlives the object, the number of the batch does not.
   */
  judge({ source, epoch, batch, redelivered }: BatchHeader): "stale" | "repeated" | "new" {
    const key = `listener:${source}`;
    const newest = this.#newest.get(source) ?? { epoch: Number(this.#store.get(key) ?? 0), batch: 0 };
    if (epoch < newest.epoch) return "stale";
    if (epoch > newest.epoch) this.#store.set(key, String(epoch));
    const isNew = epoch > newest.epoch || batch > newest.batch;
    if (isNew) this.#newest.set(source, { epoch, batch });
    return redelivered || !isNew ? "repeated" : "new";
  }
}
