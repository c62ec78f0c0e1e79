// The ring: the newest messages of a channel, durable within 250 ms, several to a row.
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

  get hasPending(): boolean {
    return this.#pending.length > 0;
  }

  /** Takes a message; it is written at the next `write`. */
  add(message: Message): void {
    this.#pending.push(message);
  }

  /** Writes what is pending, in rows of up to 100 messages or 64,000 characters. */
  write(): void {
    const pending = this.#pending;
    this.#pending = [];
    let row: Message[] = [];
    let length = 0;
    for (const message of pending) {
      const size = message.body.length;
      if (row.length > 0 && (row.length >= MAX_ROW_MESSAGES || length + size > MAX_ROW_LENGTH)) {
        this.#put(row);
        row = [];
        length = 0;
      }
      row.push(message);
      length += size;
    }
    if (row.length > 0) this.#put(row);
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
    const take = (messages: readonly Message[]): void => {
      for (let at = messages.length - 1; at >= 0 && found.length < limit; at--) {
        const message = messages[at];
        if (message !== undefined && message.at >= since) found.push(message);
      }
    };
    take(this.#pending);
    for (let at = this.#index.length - 1; at >= 0 && found.length < limit; at--) {
      const entry = this.#index[at];
      if (entry === undefined || entry.at < since) break;
      take(this.#messagesOf(entry));
    }
    return found.reverse();
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

function decodeRow(row: string): Message[] {
  const end = row.indexOf("\n");
  const headers: Header[] = JSON.parse(row.slice(0, end));
  let offset = end + 1;
  return headers.map(({ length, binary, ...rest }) => {
    const text = row.slice(offset, offset + length);
    offset += length;
    const body: Body = binary ? fromBase64(text) : text;
    return { ...rest, body };
  });
}

function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}
