// Questions: what the subscriptions of one session ask PostgreSQL. Few at once, and literals of one type together.
import type { Literals, Postgres } from "./ports.ts";

/** Questions of one session that are under way; the others wait. */
const MOST_AT_ONCE = 2;
/** And how many may wait. */
const MOST_WAITING = 1_000;
/** Literals of one question. */
const MOST_LITERALS = 1_000;

interface Question {
  /** Of literals, their type: what it is the same for may be asked together. Undefined: it is asked alone. */
  readonly type: string | undefined;
  readonly literals: readonly string[];
  ask(): Promise<void>;
  take(answer: Literals): void;
  fail(error: unknown): void;
}

type Asked = Pick<Postgres, "literals" | "patternFault">;

export class Questions implements Asked {
  readonly #postgres: Asked;
  #waiting: Question[] = [];
  #underWay = 0;

  constructor(postgres: Asked) {
    this.#postgres = postgres;
  }

  literals(type: string, literals: readonly string[]): Promise<Literals> {
    return new Promise((take, fail) => {
      const ask = async (): Promise<void> => take(await this.#postgres.literals(type, literals));
      this.#add({ type, literals, ask, take, fail });
    });
  }

  patternFault(pattern: string): Promise<string | undefined> {
    return new Promise((resolve, fail) => {
      const ask = async (): Promise<void> => resolve(await this.#postgres.patternFault(pattern));
      this.#add({ type: undefined, literals: [], ask, take: () => {}, fail });
    });
  }

  #add(question: Question): void {
    if (this.#waiting.length >= MOST_WAITING) return question.fail(new Error("too many questions wait"));
    this.#waiting.push(question);
    // What is asked in the same turn goes together.
    queueMicrotask(() => this.#next());
  }

  #next(): void {
    const [first] = this.#waiting;
    if (first === undefined || this.#underWay >= MOST_AT_ONCE) return;
    const together = [first];
    let count = first.literals.length;
    for (const other of this.#waiting.slice(1)) {
      if (other.type === undefined || other.type !== first.type) continue;
      count += other.literals.length;
      if (count > MOST_LITERALS) break;
      together.push(other);
    }
    const taken = new Set(together);
    this.#waiting = this.#waiting.filter((question) => !taken.has(question));
    this.#underWay++;
    void this.#ask(together).finally(() => {
      this.#underWay--;
      this.#next();
    });
  }

  async #ask(together: readonly Question[]): Promise<void> {
    const [{ type, ask } = { type: undefined, ask: undefined }] = together;
    try {
      if (type === undefined || together.length === 1) return await ask?.();
      const all = together.flatMap(({ literals }) => literals);
      const answer = await this.#postgres.literals(type, all);
      // PostgreSQL tells of one fault only: alone, each hears its own.
      if ("fault" in answer) this.#waiting.push(...together.map((question) => ({ ...question, type: undefined })));
      else this.#share(answer.json, together);
    } catch (error) {
      for (const { fail } of together) fail(error);
    }
  }

  #share(json: readonly string[], together: readonly Question[]): void {
    let at = 0;
    for (const { literals, take } of together) {
      take({ json: json.slice(at, at + literals.length) });
      at += literals.length;
    }
  }
}
