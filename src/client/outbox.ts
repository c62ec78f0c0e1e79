// The outbox: broadcasts that wait for a connection, and those of which is not known yet whether they arrived.
import { RealtimeError } from "./errors.ts";
import type { Outgoing } from "./types.ts";

/** How a broadcast went; `undefined`: no answer came in time. */
export type Outcome = { readonly error?: string } | undefined;

/** A broadcast with its nonce, by which its sender knows it when it hears it again. */
export interface Draft extends Outgoing {
  readonly nonce: string;
}

interface Entry {
  readonly draft: Draft;
  readonly resolve: () => void;
  readonly reject: (error: RealtimeError) => void;
  /** `doubtful`: it was sent on a socket that broke before the answer. */
  state: "queued" | "sent" | "doubtful";
}

/** Nonces of so many messages are remembered: as many messages as one resume brings (`MAX_RESUME`). */
const MAX_NONCES = 10_000;

export class Outbox {
  readonly #size: number;
  /** Hands a draft to the socket. False: there is none. */
  readonly #transmit: (draft: Draft, done: (outcome: Outcome) => void) => boolean;
  /** In the order of sending. */
  #entries: Entry[] = [];
  /** Of what was sent and not heard again; made by chance, as everybody reads them and nobody may know the next. */
  readonly #nonces = new Set<string>();
  #isOpen = false;

  /** `size` is how many may wait. */
  constructor(size: number, transmit: (draft: Draft, done: (outcome: Outcome) => void) => boolean) {
    this.#size = size;
    this.#transmit = transmit;
  }

  /** Sends as soon as that can be. Resolves when the server has it; rejects with RealtimeError. */
  send(message: Outgoing): Promise<void> {
    if (!this.#isOpen && this.#entries.length >= this.#size) {
      return Promise.reject(new RealtimeError("queue_full", `${this.#size} messages wait for the connection already`));
    }
    const draft = { ...message, nonce: crypto.randomUUID() };
    return new Promise((resolve, reject) => {
      const entry: Entry = { draft, resolve, reject, state: "queued" };
      this.#entries.push(entry);
      if (this.#isOpen) this.#dispatch(entry);
    });
  }

  /** Whether a message that was heard is one of ours; if so, it has arrived. */
  heard(nonce: unknown): boolean {
    if (typeof nonce !== "string" || !this.#nonces.delete(nonce)) return false;
    const entry = this.#entries.find(({ draft }) => draft.nonce === nonce);
    if (entry !== undefined) this.#settle(entry, {});
    return true;
  }

  /** The channel takes messages again, and all that it has heard of us was heard: what was not has not arrived. */
  open(): void {
    this.#isOpen = true;
    // Bytes have no nonce.
    this.#giveUp(({ draft }) => isBytes(draft.payload));
    this.#flush();
  }

  /** The channel takes nothing for now; answers to what was sent still come. */
  pause(): void {
    this.#isOpen = false;
  }

  /** The socket is gone, and answers with it. */
  lost(): void {
    this.pause();
    for (const entry of this.#entries) if (entry.state === "sent") entry.state = "doubtful";
  }

  /** It cannot be found out what arrived: sending that once more might double it. */
  giveUpDoubtful(): void {
    this.#giveUp(() => true);
  }

  #giveUp(which: (entry: Entry) => boolean): void {
    for (const entry of this.#entries.filter((one) => one.state === "doubtful" && which(one))) {
      this.#remove(entry);
      entry.reject(new RealtimeError("in_doubt", `Whether ${JSON.stringify(entry.draft.event)} was sent is not known`));
    }
  }

  /** Nothing of it will be sent any more. */
  clear(error: RealtimeError): void {
    this.pause();
    for (const { reject } of this.#entries.splice(0)) reject(error);
  }

  #flush(): void {
    for (const entry of [...this.#entries]) {
      if (!this.#isOpen) return;
      if (entry.state !== "sent") this.#dispatch(entry);
    }
  }

  #dispatch(entry: Entry): void {
    entry.state = "sent";
    try {
      const isSent = this.#transmit(entry.draft, (outcome) => this.#settle(entry, outcome));
      if (isSent) this.#remember(entry.draft.nonce);
      else entry.state = "queued";
    } catch (error) {
      this.#remove(entry);
      entry.reject(error instanceof RealtimeError ? error : new RealtimeError("rejected", String(error)));
    }
  }

  #remember(nonce: string): void {
    this.#nonces.add(nonce);
    const [oldest] = this.#nonces;
    if (this.#nonces.size > MAX_NONCES && oldest !== undefined) this.#nonces.delete(oldest);
  }

  #settle(entry: Entry, outcome: Outcome): void {
    // Settled before: heard again, while the answer was under way.
    if (!this.#remove(entry)) return;
    const what = JSON.stringify(entry.draft.event);
    if (outcome === undefined) entry.reject(new RealtimeError("timed_out", `No answer to ${what}`));
    else if (outcome.error === undefined) entry.resolve();
    else entry.reject(new RealtimeError("rejected", `The server refused ${what}: ${outcome.error}`, outcome.error));
  }

  #remove(entry: Entry): boolean {
    const at = this.#entries.indexOf(entry);
    if (at >= 0) this.#entries.splice(at, 1);
    return at >= 0;
  }
}

export function isBytes(payload: Outgoing["payload"]): payload is Uint8Array | ArrayBuffer {
  return payload instanceof Uint8Array || payload instanceof ArrayBuffer;
}
