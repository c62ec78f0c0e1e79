// The ring: the newest messages of a channel, durable within 250 ms, several to a row.
import type { Message } from "../protocol/link.ts";
import { decodeMessages, encodeMessages, fitting, idsOf } from "../protocol/messages.ts";
import type { ChannelStore, RingRow } from "./ports.ts";

/** Rows of the ring. The platform bills rows, so they are slots that are written over, never deleted. */
export const RING_SLOTS = 1_024;

type IndexEntry = Omit<RingRow, "body">;

export class Ring {
  readonly #store: ChannelStore;
  readonly #index: IndexEntry[];
  #nextSlot: number;
  #pending: Message[] = [];

  constructor(store: ChannelStore) {
    this.#store = store;
    this.#index = store.ringIndex();
    const newest = this.#index.at(-1);
    this.#nextSlot = newest === undefined ? 0 : (newest.slot + 1) % RING_SLOTS;
  }

  /** The last number written; 0 for an empty ring. */
  get lastWritten(): number {
    return this.#index.at(-1)?.last ?? 0;
  }

  /** The oldest number still held; undefined when nothing is. */
  get first(): number | undefined {
    return this.#index[0]?.first ?? this.#pending[0]?.seq;
  }

  /** The newest number, written or not; 0 for an empty ring. */
  get last(): number {
    return this.#pending.at(-1)?.seq ?? this.lastWritten;
  }

  get hasPending(): boolean {
    return this.#pending.length > 0;
  }

  /** Takes a message; it is written at the next `write`. */
  add(message: Message): void {
    this.#pending.push(message);
  }

  /** Writes what is pending, several messages to a row. */
  write(): void {
    while (this.#pending.length > 0) {
      const row = this.#pending.slice(0, fitting(this.#pending));
      this.#put(row);
      // Only now: a row that could not be written is tried again.
      this.#pending = this.#pending.slice(row.length);
    }
  }

  #put(messages: Message[]): void {
    const first = messages[0];
    const last = messages.at(-1);
    if (first === undefined || last === undefined) return;
    const entry = { slot: this.#nextSlot, first: first.seq, last: last.seq, at: last.at };
    this.#store.putRing({ ...entry, body: encodeMessages(messages) });
    this.#nextSlot = (this.#nextSlot + 1) % RING_SLOTS;
    if (this.#index.length >= RING_SLOTS) this.#index.shift();
    this.#index.push(entry);
  }

  /** Ids of all messages held, oldest first; no body is decoded for them. */
  *ids(): Generator<string> {
    for (const entry of this.#index) {
      yield* idsOf(this.#store.ringBody(entry.slot) ?? "[]\n");
    }
    for (const { id } of this.#pending) yield id;
  }

  /** Messages after `seq`, oldest first. */
  *after(seq: number): Generator<Message> {
    yield* this.#read(
      (entry) => entry.last > seq,
      (message) => message.seq > seq,
    );
  }

  /** Messages sent at `since` (unix ms) or later, oldest first. */
  *since(since: number): Generator<Message> {
    yield* this.#read(
      (entry) => entry.at >= since,
      (message) => message.at >= since,
    );
  }

  /** The newest messages, at most `limit`, none older than `since`; oldest first. */
  newest(limit: number, since: number): Message[] {
    const found: Message[] = [];
    for (const message of this.backwards(since)) {
      if (found.length >= limit) break;
      found.push(message);
    }
    return found.reverse();
  }

  /** Messages sent at `since` (unix ms) or later, newest first, from before the one of number `before`. */
  *backwards(since: number, before = Number.POSITIVE_INFINITY): Generator<Message> {
    const wanted = ({ at, seq }: Message): boolean => at >= since && seq < before;
    yield* this.#pending.filter(wanted).reverse();
    for (const entry of this.#index.toReversed()) {
      if (entry.at < since) return;
      if (entry.first < before) yield* this.#messagesOf(entry).filter(wanted).reverse();
    }
  }

  *#read(rows: (entry: IndexEntry) => boolean, wanted: (message: Message) => boolean): Generator<Message> {
    for (const entry of this.#index) {
      if (rows(entry)) yield* this.#messagesOf(entry).filter(wanted);
    }
    yield* this.#pending.filter(wanted);
  }

  #messagesOf(entry: IndexEntry): Message[] {
    const body = this.#store.ringBody(entry.slot);
    return body === undefined ? [] : decodeMessages(body);
  }

  /** Forgets everything, written and pending. The store is cleared by the caller. */
  clear(): void {
    this.#index.length = 0;
    this.#pending = [];
    this.#nextSlot = 0;
  }
}
