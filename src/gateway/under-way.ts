// Publishes under way: on their way to the channel, and not yet known to have arrived.
import { MAX_UNDER_WAY, MAX_UNDER_WAY_LENGTH } from "../protocol/limits.ts";
import type { Down, Up } from "../protocol/link.ts";

type Publish = Extract<Up, { t: "publish" }>;
export type PublishDraft = Omit<Publish, "t" | "ack" | "again">;
export type Stored = (outcome: Outcome) => void;
type Outcome = Extract<Down, { t: "stored" }>;

interface Entry {
  readonly up: Publish;
  readonly stored: Stored | undefined;
  sent: boolean;
}

export class UnderWay {
  readonly #entries = new Map<string, Entry>();
  #length = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** Takes a publish up; undefined when there are too many. `sent` says whether it goes out right now. */
  add(draft: PublishDraft, sent: boolean, stored: Stored | undefined): Publish | undefined {
    const length = this.#length + draft.body.length;
    if (this.#entries.size >= MAX_UNDER_WAY || length > MAX_UNDER_WAY_LENGTH) return undefined;
    const up: Publish = { t: "publish", ...draft, ack: stored !== undefined, again: false };
    this.#entries.set(up.id, { up, stored, sent });
    this.#length = length;
    return up;
  }

  /** The echo of a publish says that the channel has it, unless its sender waits to hear that it is stored. True: it was one. */
  echoed(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.stored !== undefined) return false;
    this.#remove(entry);
    return true;
  }

  /** The channel has said what became of a publish. */
  settle(outcome: Outcome): void {
    const entry = this.#entries.get(outcome.id);
    if (entry === undefined) return;
    this.#remove(entry);
    entry.stored?.(outcome);
  }

  #remove({ up }: Entry): void {
    this.#entries.delete(up.id);
    this.#length -= up.body.length;
  }

  /** Everything under way, for a new link: what was on the old one goes as a repeat. */
  *resend(): Generator<Publish> {
    for (const entry of this.#entries.values()) {
      yield entry.sent ? { ...entry.up, again: true } : entry.up;
      entry.sent = true;
    }
  }
}
