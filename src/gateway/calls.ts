// Calls: what a gateway has asked a channel and not yet heard the answer of.
import { reasonOf } from "../protocol/errors.ts";
import { MAX_CALLS } from "../protocol/limits.ts";
import type { Down, Up } from "../protocol/link.ts";
import type { Timers } from "../protocol/timers.ts";

/** Just before stock clients give up on a join by themselves (protocol.md §13.1). */
const TIMEOUT_MS = 9_000;

export type Call = Extract<Up, { call: number }>;
export type Answer = Extract<Down, { call: number }>;
/** A call as its caller writes it: its number is given here. */
export type CallDraft = Call extends infer C ? (C extends Call ? Omit<C, "call"> : never) : never;

interface Pending {
  readonly up: Call;
  /** It went out on a link. */
  sent: boolean;
  readonly cancel: () => void;
  readonly answer: (down: Answer | Error) => void;
}

export class Calls {
  readonly #timers: Timers;
  readonly #pending = new Map<number, Pending>();
  #next = 1;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  get size(): number {
    return this.#pending.size;
  }

  /** All calls that wait, in their order: a new link needs them again. What is to be done once alone is not asked twice. */
  *waiting(): Generator<Call> {
    for (const [call, pending] of this.#pending) {
      const { up, sent } = pending;
      pending.sent = true;
      if (!sent || up.t !== "moderate") yield up;
      else this.#end(call, new Error("the channel was lost before it answered: it may have been done"));
    }
  }

  /** Takes a call up, which is `sent` at once or will be, and answers it with its number; undefined, and an error as the answer, when too many wait. */
  add(draft: CallDraft, sent: boolean, answer: (down: Answer | Error) => void): Call | undefined {
    if (this.#pending.size >= MAX_CALLS) {
      answer(new Error(reasonOf("RealtimeRestarting", "Realtime is restarting, please standby")));
      return undefined;
    }
    const call = this.#next++;
    const up: Call = { ...draft, call };
    const cancel = this.#timers.after(TIMEOUT_MS, () => {
      this.#end(call, new Error(reasonOf("TimeoutOnRpcCall", "Node request timeout")));
    });
    this.#pending.set(call, { up, sent, cancel, answer });
    return up;
  }

  answer(down: Answer): void {
    this.#end(down.call, down);
  }

  #end(call: number, answer: Answer | Error): void {
    const pending = this.#pending.get(call);
    if (pending === undefined) return;
    this.#pending.delete(call);
    pending.cancel();
    pending.answer(answer);
  }

  /** Forgets the presence calls of a session that has left: sent later, they would bring it back. */
  forget(session: string): void {
    for (const [call, { up, cancel }] of this.#pending) {
      if ((up.t !== "track" && up.t !== "untrack") || up.session !== session) continue;
      this.#pending.delete(call);
      cancel();
    }
  }
}
