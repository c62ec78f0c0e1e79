// Patience with PostgreSQL: nobody waits for it long, and just after it has failed to answer nobody asks.

import { StatementTooSlow, StoreNotReady, StoreUnavailable } from "../../store/database.ts";

/** How long a join waits for PostgreSQL, and how long after a failure the next one does not even try. */
const PATIENCE_MS = 2_000;
const AWAY_MS = 2_000;

/** Makes a way of asking that rejects soon while PostgreSQL is away. */
export function patiently(): <T>(question: () => Promise<T>) => Promise<T> {
  let awayUntil = 0;
  return async (question) => {
    if (Date.now() < awayUntil) throw new Error("PostgreSQL is away");
    try {
      return await Promise.race([
        question(),
        scheduler.wait(PATIENCE_MS).then(() => Promise.reject(new NoAnswer("no answer"))),
      ]);
    } catch (error) {
      if (saysAway(error)) awayUntil = Date.now() + AWAY_MS;
      throw error;
    }
  };
}

class NoAnswer extends Error {}

/** Whether nobody else would be answered either: what is wrong with one question says nothing of PostgreSQL. */
function saysAway(error: unknown): boolean {
  if (error instanceof StatementTooSlow) return false;
  return error instanceof StoreUnavailable || error instanceof StoreNotReady || error instanceof NoAnswer;
}
