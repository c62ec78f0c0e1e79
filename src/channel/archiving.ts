// Archiving: what a registered channel says is kept in the database too, written behind its back in batches.
import type { Message } from "../protocol/link.ts";
import { messagesOf } from "../protocol/messages.ts";
import type { ChannelPorts, RingRow } from "./ports.ts";
import type { Ring } from "./ring.ts";

/** Messages within this long go together. */
const GATHER_MS = 1_000;
const RETRY_FIRST_MS = 5_000;
const RETRY_MAX_MS = 60_000;
/** What goes in one statement: as many messages, and as long together. */
const MAX_BATCH = 200;
const MAX_BATCH_LENGTH = 1_000_000;
/** The most that waits for the database beyond the ring, UTF-16 units. */
const MAX_BACKLOG_LENGTH = 256_000_000;

/**
 * The ring holds what is still to be written, and a cursor says from where. While PostgreSQL is away, what the ring would
 * write over goes into the backlog, which is written first. A batch that was written, and whose cursor was not, is written
 * again, which changes nothing.
 */
export class Archiving {
  readonly #ring: Ring;
  readonly #ports: Pick<ChannelPorts, "store" | "timers" | "archive">;
  readonly #mostBacklog: number;
  /** The last number that is in the database, or is not to be. */
  #cursor: number;
  /** Whose history is written: the id of a channel; null: the name is an open one's; undefined: nothing was heard of it. */
  #channel: string | null | undefined;
  /** The last number of earlier lives. */
  readonly #before: number;
  /** How long the backlog is, once it has been counted. */
  #backlogLength: number | undefined;
  /** Messages that neither the ring nor the backlog could hold, and nobody was told of. */
  #lost = 0;
  #due = false;
  #retryMs = RETRY_FIRST_MS;
  #running: Promise<void> | undefined;

  /** `mostBacklog`: see MAX_BACKLOG_LENGTH. */
  constructor(
    ring: Ring,
    ports: Pick<ChannelPorts, "store" | "timers" | "archive">,
    mostBacklog: number = MAX_BACKLOG_LENGTH,
  ) {
    this.#ring = ring;
    this.#ports = ports;
    this.#mostBacklog = mostBacklog;
    this.#cursor = Number(ports.store.get("archived") ?? 0);
    const kept = ports.store.get("history");
    this.#channel = kept === "" ? null : kept;
    this.#before = ring.last;
    // An earlier life may have ended before it was written.
    if (typeof this.#channel === "string" && this.#waits) this.#wish(GATHER_MS);
  }

  get #waits(): boolean {
    return this.#ring.last > this.#cursor || this.#lengthOfBacklog > 0;
  }

  get #lengthOfBacklog(): number {
    this.#backlogLength ??= this.#ports.store.backlogLength();
    return this.#backlogLength;
  }

  /**
   * As what the name is registered now: the id of a channel, null for none. What was said as one channel, or as none, is
   * not the history of another.
   */
  heard(channel: string | null): void {
    const before = this.#channel;
    if (channel === before) return;
    this.#channel = channel;
    // An open channel writes nothing.
    if (channel === null && before === undefined) return;
    this.#ports.store.set("history", channel ?? "");
    // Who spoke in this life while nothing was heard of it, PostgreSQL being away, spoke in the channel for all they knew.
    this.#skipTo(before === undefined ? this.#before : this.#ring.last);
    this.#drop(Number.POSITIVE_INFINITY);
    if (channel !== null && this.#waits) this.#wish(GATHER_MS);
  }

  /** A message was sent. Never waits: an alarm sees to it, whatever life the channel is in by then. */
  note(): void {
    if (this.#due || typeof this.#channel !== "string") return;
    // What is writing now takes it along, and if it fails, it is not to be tried at once.
    this.#wish(this.#running === undefined ? GATHER_MS : this.#retryMs);
  }

  #wish(ms: number): void {
    this.#due = true;
    this.#ports.timers.alarm(this.#ports.timers.now() + ms);
  }

  /** A row of the ring is about to be written over: what of it is still to be written goes into the backlog. */
  rescue({ slot, first, last }: Omit<RingRow, "body">): void {
    if (last <= this.#cursor || typeof this.#channel !== "string") return;
    const body = this.#ports.store.ringBody(slot) ?? "";
    if (this.#lengthOfBacklog + body.length > this.#mostBacklog) {
      this.#lost += last - Math.max(first - 1, this.#cursor);
      return;
    }
    this.#ports.store.putBacklog(last, body);
    this.#backlogLength = this.#lengthOfBacklog + body.length;
    this.note();
  }

  /** What was sent before a time (unix ms) is not to be kept. */
  forget(before: number): void {
    this.#ports.store.set("forgotten", String(before));
  }

  #skipTo(seq: number): void {
    if (seq <= this.#cursor) return;
    this.#cursor = seq;
    this.#ports.store.set("archived", String(seq));
  }

  /** Forgets what the backlog holds up to a number. */
  #drop(upTo: number): void {
    if (this.#lengthOfBacklog === 0) return;
    this.#ports.store.dropBacklog(upTo);
    this.#backlogLength = undefined;
  }

  /** Writes all that is to be kept. Rejects when PostgreSQL does not take it: it will be tried again. */
  run(): Promise<void> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #run(): Promise<void> {
    const { archive } = this.#ports;
    this.#due = false;
    try {
      for (let batch = this.#next(); batch.length > 0; batch = this.#next()) {
        const channel = this.#channel;
        const forgotten = Number(this.#ports.store.get("forgotten") ?? 0);
        const kept = batch.filter(({ event, stored, at }) => event === "broadcast" && !stored && at >= forgotten);
        if (typeof channel === "string" && kept.length > 0) await archive.keep(channel, kept);
        // A channel that was deleted meanwhile has moved it on.
        if (this.#channel === channel) this.#skipTo(batch.at(-1)?.seq ?? 0);
      }
      this.#due = false;
      this.#retryMs = RETRY_FIRST_MS;
    } catch (error) {
      this.#wish(this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MAX_MS);
      throw error;
    } finally {
      this.#drop(this.#cursor);
      if (this.#lost > 0) archive.lost(this.#lost);
      this.#lost = 0;
    }
  }

  #next(): Message[] {
    const batch: Message[] = [];
    if (typeof this.#channel !== "string") return batch;
    let length = 0;
    for (const message of this.#waiting()) {
      length += message.body.length;
      if (batch.length > 0 && (batch.length >= MAX_BATCH || length > MAX_BATCH_LENGTH)) break;
      batch.push(message);
    }
    return batch;
  }

  /** What is to be written, oldest first. */
  *#waiting(): Generator<Message> {
    let seq = this.#cursor;
    while (this.#lengthOfBacklog > 0) {
      const row = this.#ports.store.backlogAfter(seq);
      if (row === undefined) break;
      for (const message of messagesOf(row.body)) if (message.seq > seq) yield message;
      seq = row.last;
    }
    yield* this.#ring.after(seq);
  }
}
