// What only PostgreSQL can say of row-change subscriptions, for the gateway of an object.
import { CapturedTables } from "../../gateway/captured.ts";
import type { Postgres } from "../../gateway/ports.ts";
import { openStore } from "../../store/store.ts";
import type { Env } from "../env.ts";
import { patiently } from "./patience.ts";

/** How long an answer holds: many clients who come at once ask the same. */
const FRESH_MS = 1_000;
/** Whoever waits for readiness asks this often. */
const READY_MS = 500;
/** Between two questions for the list of captured tables. */
const PAUSE_MS = 100;
const MAX_ANSWERS = 1_000;

export function askPostgres(env: Env): Postgres {
  const ask = patiently();
  return {
    literals: remembering((type: string, literals: readonly string[]) =>
      ask(() => openStore(env).tables.literals(type, literals)),
    ),
    patternFault: remembering((pattern: string) => ask(() => openStore(env).tables.patternFault(pattern))),
    captured: capturedTables(() => ask(() => openStore(env).tables.captured())),
    isReady: remembering(() => ask(() => openStore(env).listener.isReady()), READY_MS),
  };
}

/** The list of captured tables: the same object until it changes, and asked for seldom, whoever wants it fresh. */
function capturedTables(question: () => Promise<[schema: string, table: string][]>): Postgres["captured"] {
  let [tables, key] = [new CapturedTables([]), "[]"];
  let latest = { answer: Promise.resolve(tables), at: Number.NEGATIVE_INFINITY };
  let next: Promise<CapturedTables> | undefined;
  const ask = async (): Promise<CapturedTables> => {
    const names = await question();
    const newKey = JSON.stringify(names);
    if (newKey !== key) [tables, key] = [new CapturedTables(names), newKey];
    return tables;
  };
  return (notBefore = Date.now() - FRESH_MS) => {
    if (latest.at >= notBefore) return latest.answer;
    next ??= scheduler.wait(Math.max(0, latest.at + PAUSE_MS - Date.now())).then(() => {
      const asked = { answer: ask(), at: Date.now() };
      [latest, next] = [asked, undefined];
      asked.answer.catch(() => {
        if (latest === asked) latest = { ...asked, at: Number.NEGATIVE_INFINITY };
      });
      return asked.answer;
    });
    return next;
  };
}

/** The same question, asked again within a moment, has the same answer. One that failed is asked anew. */
function remembering<Q extends readonly unknown[], A>(
  question: (...asked: Q) => Promise<A>,
  freshMs = FRESH_MS,
): (...asked: Q) => Promise<A> {
  let [answers, until] = [new Map<string, Promise<A>>(), 0];
  return (...asked) => {
    if (Date.now() >= until || answers.size >= MAX_ANSWERS) [answers, until] = [new Map(), Date.now() + freshMs];
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
