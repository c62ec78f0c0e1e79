// The ring: the newest messages of a channel, durable within 250 ms, several to a row.
import { fromBase64, toBase64 } from "../protocol/base64.ts";
import type { Body, Message } from "../protocol/link.ts";
import type { ChannelStore, RingRow } from "./ports.ts";

/** Rows of the ring. The platform bills rows, so they are slots that are written over, never deleted. */
export const RING_SLOTS = 1_024;
const MAX_ROW_MESSAGES = 100;
const MAX_ROW_LENGTH = 64_000;

type IndexEntry = Omit<RingRow, "body">;

/** A message's header in a row; its body follows all headers, `length` UTF-16 units long, base64 if it is bytes. */
type Header = Omit<Message, "body"> & { readonly length: number; readonly binary?: true };

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

  /** Writes what is pending, in rows of up to 100 messages or 64,000 characters. */
  write(): void {
    while (this.#pending.length > 0) {
      const row = this.#nextRow();
      this.#put(row);
      // Only now: a row that could not be written is tried again.
      this.#pending = this.#pending.slice(row.length);
    }
  }

  #nextRow(): Message[] {
    let length = 0;
    const end = this.#pending.findIndex(({ body }, count) => {
      length += body.length;
      return count > 0 && (count >= MAX_ROW_MESSAGES || length > MAX_ROW_LENGTH);
    });
    return end < 0 ? this.#pending : this.#pending.slice(0, end);
  }

  #put(messages: Message[]): void {
    const first = messages[0];
    const last = messages.at(-1);
    if (first === undefined || last === undefined) return;
    const entry = { slot: this.#nextSlot, first: first.seq, last: last.seq, at: last.at };
    this.#store.putRing({ ...entry, body: encodeRow(messages) });
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
    return body === undefined ? [] : decodeRow(body);
  }

  /** Forgets everything, written and pending. The store is cleared by the caller. */
  clear(): void {
    this.#index.length = 0;
    this.#pending = [];
    this.#nextSlot = 0;
  }
}

function encodeRow(messages: readonly Message[]): string {
  const bodies = messages.map(({ body }) => (typeof body === "string" ? body : toBase64(body)));
  const headers = messages.map(({ body, ...rest }, index): Header => {
    const length = bodies[index]?.length ?? 0;
    return typeof body === "string" ? { ...rest, length } : { ...rest, length, binary: true };
  });
  return `${JSON.stringify(headers)}\n${bodies.join("")}`;
}

function headersOf(row: string): Header[] {
  return JSON.parse(row.slice(0, row.indexOf("\n")));
}

function decodeRow(row: string): Message[] {
  let offset = row.indexOf("\n") + 1;
  return headersOf(row).map(({ length, binary, ...rest }) => {
    const text = row.slice(offset, offset + length);
    offset += length;
    const body: Body = binary ? fromBase64(text) : text;
    return { ...rest, body };
  });
}
