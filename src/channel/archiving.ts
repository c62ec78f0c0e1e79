// Archiving: what a registered channel says is kept in the database too, written behind its back in batches.
import type { Message } from "../protocol/link.ts";
import type { ChannelPorts } from "./ports.ts";
import type { Ring } from "./ring.ts";

/** Messages within this long go together. */
const GATHER_MS = 1_000;
const RETRY_FIRST_MS = 5_000;
const RETRY_MAX_MS = 60_000;
/** What goes in one statement: as many messages, and as long together. */
const MAX_BATCH = 200;
const MAX_BATCH_LENGTH = 1_000_000;

/**
 * The ring holds what is still to be written, and a cursor says from where: PostgreSQL may be away as long as the ring
 * lasts. A batch that was written, and whose cursor was not, is written again, which changes nothing.
 */
export class Archiving {
  readonly #ring: Ring;
  readonly #ports: Pick<ChannelPorts, "store" | "timers" | "archive" | "access">;
  #due = false;
  #retryMs = RETRY_FIRST_MS;
  #running: Promise<void> | undefined;

  constructor(ring: Ring, ports: Pick<ChannelPorts, "store" | "timers" | "archive" | "access">) {
    this.#ring = ring;
    this.#ports = ports;
    // An earlier life may have ended before it was written.
    if (ring.last > this.#cursor && ports.access.known() !== null) this.#wish(GATHER_MS);
  }

  get #cursor(): number {
    return Number(this.#ports.store.get("archived") ?? 0);
  }

  /** A message was sent. Never waits: an alarm sees to it, whatever life the channel is in by then. */
  note(): void {
    if (this.#due || this.#ports.access.known() === null) return;
    this.#wish(GATHER_MS);
  }

  #wish(ms: number): void {
    this.#due = true;
    this.#ports.timers.alarm(this.#ports.timers.now() + ms);
  }

  /** What was sent up to this number is not to be kept. */
  skipTo(seq: number): void {
    this.#ports.store.set("archived", String(seq));
  }

  /** Writes all that is to be kept. Rejects when PostgreSQL does not take it: it will be tried again. */
  run(): Promise<void> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #run(): Promise<void> {
    const { access, archive } = this.#ports;
    try {
      this.#due = false;
      if (access.known() === null || this.#ring.last <= this.#cursor || (await access.registration()) === null) return;
      for (let batch = this.#next(); batch.length > 0; batch = this.#next()) {
        const from = this.#cursor;
        const kept = batch.filter(({ event, stored }) => event === "broadcast" && !stored);
        if (kept.length > 0) await archive.keep(kept);
        // A channel that was deleted meanwhile has moved it on.
        if (this.#cursor === from) this.skipTo(batch.at(-1)?.seq ?? from);
      }
      this.#retryMs = RETRY_FIRST_MS;
    } catch (error) {
      this.#wish(this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
      throw error;
    }
  }

  #next(): Message[] {
    const batch: Message[] = [];
    let length = 0;
    for (const message of this.#ring.after(this.#cursor)) {
      length += message.body.length;
      if (batch.length > 0 && (batch.length >= MAX_BATCH || length > MAX_BATCH_LENGTH)) break;
      batch.push(message);
    }
    return batch;
  }
}
