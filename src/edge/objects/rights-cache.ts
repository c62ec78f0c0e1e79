// Rights as they were last answered, by who asked with what: people who come back at once, or with a second tab, ask nothing.
import type { Joiner } from "../../protocol/link.ts";
import { mayJoin, type Rights } from "../../protocol/rights.ts";

/**
 * How long an answer holds for those who come later. Who is in keeps theirs until a token or a report changes it; who was
 * refused may be invited the next moment.
 */
const FRESH_MS = { let: 5_000, refused: 500 };
/** The oldest answers are let go beyond this. */
const MAX_ANSWERS = 1_000;

interface Asked {
  readonly answer: Promise<Rights>;
  readonly user: string | null;
  /** Unix ms. */
  readonly at: number;
  freshMs: number;
}

export class RightsCache {
  readonly #ask: (joiner: Joiner) => Promise<Rights>;
  readonly #asked = new Map<string, Asked>();

  constructor(ask: (joiner: Joiner) => Promise<Rights>) {
    this.#ask = ask;
  }

  /** The rights of somebody, asked for not before `notBefore` (unix ms). Those who come at once ask once. */
  get(joiner: Joiner, notBefore: number): Promise<Rights> {
    const now = Date.now();
    const { role, user, principal } = joiner;
    const key = JSON.stringify([role, user, principal]);
    const known = this.#asked.get(key);
    if (known !== undefined && known.at >= Math.max(notBefore, now - known.freshMs)) return known.answer;
    const asked = { answer: this.#ask(joiner), user, at: now, freshMs: FRESH_MS.let };
    this.#asked.delete(key);
    this.#asked.set(key, asked);
    for (const oldest of this.#asked.keys()) {
      if (this.#asked.size <= MAX_ANSWERS) break;
      this.#asked.delete(oldest);
    }
    asked.answer.then(
      (rights) => {
        if (!mayJoin(rights)) asked.freshMs = FRESH_MS.refused;
      },
      () => {
        if (this.#asked.get(key) === asked) this.#asked.delete(key);
      },
    );
    return asked.answer;
  }

  /** Forgets what was answered for these users, or for everybody. */
  forget(users?: readonly string[]): void {
    if (users === undefined) return this.#asked.clear();
    for (const [key, { user }] of this.#asked) if (user !== null && users.includes(user)) this.#asked.delete(key);
  }
}
