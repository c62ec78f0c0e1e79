// The journal: gives messages their positions, has them in the ring in time, and says what was sent after which of them.
import { MAX_REPEATED, MAX_RESUME, MAX_RESUME_LENGTH, MAX_UNDER_WAY } from "../protocol/limits.ts";
import type { Message } from "../protocol/link.ts";
import { comparePositions, type Position } from "../protocol/positions.ts";
import type { ChannelPorts, RingRow } from "./ports.ts";
import { RecentIds } from "./recent-ids.ts";
import { Ring } from "./ring.ts";
import { Sequence } from "./sequence.ts";

/** A message is durable in the ring at latest this long after it was sent. */
const WRITE_WINDOW_MS = 250;

/** A message that has no position yet. */
export type Draft = Omit<Message, "seq" | "at">;

export class Journal {
  readonly ring: Ring;
  readonly #ports: Pick<ChannelPorts, "store" | "timers" | "id" | "messageTtlMs">;
  readonly #sequence: Sequence;
  #recentIds: RecentIds | undefined;
  /** Of what listeners deliver, while batches are repeated: reading the ring for each of them would take longer than all else. */
  #delivered: RecentIds | undefined;
  /** Unix ms of the last write to the ring. */
  #writtenAt = 0;
  #writeDue = false;

  /** `leaving`: see Ring. */
  constructor(
    ports: Pick<ChannelPorts, "store" | "timers" | "id" | "messageTtlMs">,
    leaving: (row: Omit<RingRow, "body">) => void,
  ) {
    this.#ports = ports;
    this.ring = new Ring(ports.store, leaving);
    this.#sequence = new Sequence(ports.store, this.ring.lastWritten, () => ports.id().slice(0, 8));
  }

  /** Of the newest message. */
  get position(): Position {
    return this.#sequence.position;
  }

  get epoch(): string {
    return this.#sequence.epoch;
  }

  /**
   * Takes a message that is about to be sent. The first one after 250 ms of quiet is written at once, as is a `durable` one;
   * what comes within 250 ms of a write is written together at their end.
   */
  add(draft: Draft, durable: boolean): Message {
    const message = this.#append(draft);
    const wait = Math.min(this.#writtenAt + WRITE_WINDOW_MS - message.at, WRITE_WINDOW_MS);
    if (durable || wait <= 0) this.#write();
    else {
      this.#sequence.reserve();
      this.#writeIn(wait);
    }
    return message;
  }

  /** Takes messages that are about to be sent together; all of them are written at once. */
  addAll(drafts: readonly Draft[]): Message[] {
    const messages = drafts.map((draft) => this.#append(draft));
    this.#write();
    return messages;
  }

  #append(draft: Draft): Message {
    const message: Message = { ...draft, seq: this.#sequence.next(), at: this.#ports.timers.now() };
    this.ring.add(message);
    this.#recentIds?.add(message.id);
    this.#delivered?.add(message.id);
    return message;
  }

  /** Writes all that is pending, and says so to the sequence: a crash from here on loses nothing of it. */
  #write(): void {
    this.ring.write();
    this.#writtenAt = this.#ports.timers.now();
    this.#sequence.settle();
  }

  /** Has what is pending written in a while. No timer stands for a channel that has nothing pending. */
  #writeIn(ms: number): void {
    if (this.#writeDue) return;
    this.#writeDue = true;
    this.#ports.timers.after(ms, () => {
      this.#writeDue = false;
      if (!this.ring.hasPending) return this.#sequence.settle();
      // Under load the reservation stays out: handing it back is a write of its own, and the next message reserves again.
      this.ring.write();
      this.#writtenAt = this.#ports.timers.now();
      this.#writeIn(WRITE_WINDOW_MS);
    });
  }

  /** Whether a message has been taken. Ids are gathered from the first time that somebody asks. */
  knows(id: string): boolean {
    this.#recentIds ??= new RecentIds(this.ring.ids(), MAX_UNDER_WAY);
    return this.#recentIds.has(id);
  }

  /** What a batch must not bring again: of repeated ones, what the ring holds and what has come since; of others nothing. */
  known(judgement: "repeated" | "new"): RecentIds | undefined {
    if (judgement === "repeated") this.#delivered ??= new RecentIds(this.ring.ids(), MAX_REPEATED);
    else this.#delivered = undefined;
    return this.#delivered;
  }

  /** Everything after a position, oldest first; undefined when that is not known to be all of it. */
  after(since: Position): Message[] | undefined {
    // Who has seen nothing yet stands before the first message, even if the epoch was not written down by then.
    const from = since.seq === 0 ? { ...this.position, seq: 0 } : since;
    const distance = comparePositions(this.position, from);
    if (distance === undefined || distance < 0 || since.seq < this.#sequence.floor) return undefined;
    if (distance === 0) return [];
    const first = this.ring.first;
    if (distance > MAX_RESUME || first === undefined || first > since.seq + 1) return undefined;
    return within(this.ring.after(since.seq), MAX_RESUME_LENGTH);
  }

  /** The newest messages, at most `limit`, sent at `since` (unix ms) or later; oldest first. */
  newest(limit: number, since: number): Message[] {
    return this.ring.newest(limit, Math.max(since, this.#kept));
  }

  /** Messages sent at `since` (unix ms) or later, beginning with the newest or the oldest, behind the one of number `after`. */
  *history(order: "newest" | "oldest", since: number, after?: number): Generator<Message> {
    const from = Math.max(since, this.#kept);
    if (order === "newest") return yield* this.ring.backwards(from, after);
    for (const message of this.ring.since(from)) {
      if (after === undefined || message.seq > after) yield message;
    }
  }

  /** Messages sent before this (unix ms) are too old to be had. */
  get #kept(): number {
    return this.#ports.timers.now() - this.#ports.messageTtlMs;
  }

  /** Something was not taken, as nobody listens: who stands before it cannot be told that they missed nothing. */
  skip(): void {
    this.#sequence.skip();
  }

  /** Something that was to come is lost: nobody who stands before it can be told what it was. */
  lose(): void {
    this.#sequence.next();
    this.#sequence.forget();
  }

  /** Forgets messages that were sent before a time (unix ms). Of a row of the ring, all go or none. */
  forget(before: number): void {
    // Numbers that were written before they were sent are known by the ring alone.
    if (this.ring.forget(before) && this.ring.last === 0) this.#sequence.forget();
  }

  /** Forgets everything. The store is cleared by the caller. */
  clear(): void {
    this.ring.clear();
    this.#sequence.forget();
  }
}

/** All messages, if they are no longer than `limit` together; undefined otherwise, without reading the rest. */
function within(messages: Iterable<Message>, limit: number): Message[] | undefined {
  const found: Message[] = [];
  let length = 0;
  for (const message of messages) {
    length += message.body.length;
    if (length > limit) return undefined;
    found.push(message);
  }
  return found;
}
