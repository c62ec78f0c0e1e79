// What only PostgreSQL can say of row-change subscriptions, for the gateway of an object.
import type { Postgres } from "../../gateway/ports.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";
import { patiently } from "./patience.ts";

/** How long an answer holds: many clients who come at once ask the same. */
const FRESH_MS = 1_000;
const MAX_ANSWERS = 1_000;

export function askPostgres(env: Env): Postgres {
  const ask = patiently();
  const captured = remembering(() => ask(() => openStore(env).tables.captured()));
  return {
    literals: remembering((type: string, literals: readonly string[]) =>
      ask(() => openStore(env).tables.literals(type, literals)),
    ),
    patternFault: remembering((pattern: string) => ask(() => openStore(env).tables.patternFault(pattern))),
    async isCaptured(schema, table) {
      const names = await captured();
      return names.some(([s, t]) => (schema === "*" || s === schema) && (table === "*" || t === table));
    },
  };
}

/** The same question, asked again within a moment, has the same answer. One that failed is asked anew. */
function remembering<Q extends readonly unknown[], A>(
  question: (...asked: Q) => Promise<A>,
): (...asked: Q) => Promise<A> {
  let [answers, until] = [new Map<string, Promise<A>>(), 0];
  return (...asked) => {
    if (Date.now() >= until || answers.size >= MAX_ANSWERS) [answers, until] = [new Map(), Date.now() + FRESH_MS];
    const key = JSON.stringify(asked);
    const known = answers.get(key);
    if (known !== undefined) return known;
    const own = answers;
    const answer = question(...asked);
    own.set(key, answer);
    answer.catch(() => own.delete(key));
    return answer;
  };
}
