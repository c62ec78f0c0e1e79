// The ring: the newest messages of a channel, durable within 250 ms, several to a row.
import type { Message } from "../protocol/link.ts";
import {
  decodeMessages,
  encodeMessages,
  fitting,
  headersOf,
  isThere,
  type Kept,
  messagesOf,
} from "../protocol/messages.ts";
import type { ChannelStore, RingRow } from "./ports.ts";

/** Rows of the ring. The platform bills rows, so they are slots that are written over, never deleted. */
export const RING_SLOTS = 1_024;

type IndexEntry = Omit<RingRow, "body">;

export class Ring {
  readonly #store: ChannelStore;
  readonly #leaving: (row: IndexEntry) => void;
  readonly #index: IndexEntry[];
  #nextSlot: number;
  #pending: Kept[] = [];

  /** `leaving` is called with each row that is about to be written over or forgotten, while it still can be read. */
  constructor(store: ChannelStore, leaving: (row: IndexEntry) => void = () => {}) {
    this.#store = store;
    this.#leaving = leaving;
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

  #put(messages: Kept[]): void {
    const first = messages[0];
    const last = messages.at(-1);
    if (first === undefined || last === undefined) return;
    const oldest = this.#index[0];
    if (this.#index.length >= RING_SLOTS && oldest !== undefined) this.#leaving(oldest);
    const entry = { slot: this.#nextSlot, first: first.seq, last: last.seq, at: last.at };
    this.#store.putRing({ ...entry, body: encodeMessages(messages) });
    this.#nextSlot = (this.#nextSlot + 1) % RING_SLOTS;
    if (this.#index.length >= RING_SLOTS) this.#index.shift();
    this.#index.push(entry);
  }

  /** Ids of all messages held, oldest first; no body is decoded for them. */
  *ids(): Generator<string> {
    for (const entry of this.#index) {
      for (const { id } of headersOf(this.#store.ringBody(entry.slot) ?? "[]\n")) yield id;
    }
    for (const { id } of this.#pending) yield id;
  }

  /** Erases what a message said, and (with `sender`) only if this user did; false: it is not here. */
  erase(id: string, sender?: string): boolean {
    const fits = (message: Omit<Kept, "body">): boolean =>
      message.id === id && message.deleted === undefined && (sender === undefined || message.sender === sender);
    const clear = (message: Kept): Kept => (fits(message) ? { ...message, body: "", deleted: true } : message);
    if (this.#pending.some(fits)) {
      this.#pending = this.#pending.map(clear);
      return true;
    }
    for (const entry of this.#index.toReversed()) {
      const body = this.#store.ringBody(entry.slot);
      if (body === undefined || !headersOf(body).some(fits)) continue;
      this.#store.putRing({ ...entry, body: encodeMessages(decodeMessages(body).map(clear)) });
      return true;
    }
    return false;
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
    const wanted = (message: Kept): boolean => isThere(message) && message.at >= since && message.seq < before;
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
    yield* this.#pending.filter((message) => isThere(message) && wanted(message));
  }

  #messagesOf(entry: IndexEntry): Message[] {
    const body = this.#store.ringBody(entry.slot);
    return body === undefined ? [] : messagesOf(body);
  }

  /** Forgets the rows whose newest message was sent before a time (unix ms). False: there was none. */
  forget(before: number): boolean {
    const kept = this.#index.findIndex(({ at }) => at >= before);
    const gone = this.#index.splice(0, kept < 0 ? this.#index.length : kept);
    for (const { slot } of gone) this.#store.deleteRing(slot);
    return gone.length > 0;
  }

  /** Forgets everything, written and pending. The store is cleared by the caller. */
  clear(): void {
    this.write();
    for (const row of this.#index) this.#leaving(row);
    this.#index.length = 0;
    this.#pending = [];
    this.#nextSlot = 0;
  }
}
