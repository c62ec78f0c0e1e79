// Matches of patterns: each is compiled once for everybody and tried once on a change, and their work is bounded.
import { compileLike } from "./like.ts";
import type { Operator } from "./parse.ts";
import type { Pattern } from "./patterns.ts";
import { compileRegex } from "./regex.ts";

export type PatternOperator = Extract<Operator, "like" | "ilike" | "match" | "imatch">;

/** Most steps that one change may take in one room. Anybody may write patterns, and a gateway does nothing else meanwhile. */
const MAX_STEPS = 3_000_000;
/** What compiling takes: something, and more for what is large. */
const COMPILE_STEPS = 10_000;
const COMPILE_STEPS_A_WEIGHT = 100;
/** What is kept compiled, in weights: a large one takes half a megabyte. */
const MAX_KEPT = 40_000;
/** A small one takes some memory too. */
const LEAST_KEPT = 40;

/** What patterns say of one change: each is tried on a text once, however many subscriptions have it. */
export class Matches {
  readonly #found = new Map<string, boolean | null>();
  #left = MAX_STEPS;
  #undecided = 0;

  /** How many questions were left open. */
  get undecided(): number {
    return this.#undecided;
  }

  /** Whether the text of a column matches; null, which passes nothing, where finding out could take too long. */
  of(column: string, operator: PatternOperator, pattern: string, text: string): boolean | null {
    const key = `${operator} ${pattern.length} ${pattern} ${column}`;
    let found = this.#found.get(key);
    if (found === undefined) {
      found = this.#find(operator, pattern, text);
      this.#found.set(key, found);
    }
    if (found === null) this.#undecided++;
    return found;
  }

  #find(operator: PatternOperator, pattern: string, text: string): boolean | null {
    if (this.#left <= 0) return null;
    const { weight, matches } = compiled(operator, pattern, (steps) => {
      this.#left -= steps;
    });
    const steps = text.length * weight;
    if (steps > this.#left) return null;
    this.#left -= steps;
    return matches(text);
  }
}

/** Compiled patterns of all gateways here, those last used at the end. */
const kept = new Map<string, Pattern>();
let keptWeight = 0;

/** A pattern, compiled if it is not kept; `spent` hears what that has taken. Throws UnsupportedPattern. */
export function compiled(operator: PatternOperator, text: string, spent?: (steps: number) => void): Pattern {
  const key = `${operator} ${text}`;
  const known = kept.get(key);
  const pattern = known ?? compile(operator, text);
  kept.delete(key);
  kept.set(key, pattern);
  if (known !== undefined) return known;
  spent?.(COMPILE_STEPS + COMPILE_STEPS_A_WEIGHT * pattern.weight);
  keptWeight += pattern.weight + LEAST_KEPT;
  for (const [oldest, { weight }] of kept) {
    if (keptWeight <= MAX_KEPT) break;
    kept.delete(oldest);
    keptWeight -= weight + LEAST_KEPT;
  }
  return pattern;
}

function compile(operator: PatternOperator, text: string): Pattern {
  const ignoreCase = operator === "ilike" || operator === "imatch";
  return operator.endsWith("like") ? compileLike(text, ignoreCase) : compileRegex(text, ignoreCase);
}
