// Answers kept by the key of the request: a write that comes again is answered, and not done again.
import type { Once } from "./rpc.ts";
import type { Tables } from "./tables.ts";

/** Additive only. `n` tells what is oldest without an index to write. */
export const answerTables = [
  `CREATE TABLE IF NOT EXISTS answers (n INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,
     request TEXT NOT NULL, answer TEXT NOT NULL, at INTEGER NOT NULL)`,
];

const KEPT_MS = 86_400_000;
/** Answers that one object keeps; of more, the oldest go early. */
const MAX_ANSWERS = 5_000;

type Row = { request: string; answer: string };

export class Answers {
  readonly #tables: Tables;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** What was answered to a request with this key; `key_reused`: that was another request. */
  find({ key, request }: Once): { answer: string } | "key_reused" | undefined {
    const query = "SELECT request, answer FROM answers WHERE key = ? AND at > ?";
    const [row] = this.#tables.read<Row>(query, key, Date.now() - KEPT_MS);
    if (row === undefined) return undefined;
    return row.request === request ? { answer: row.answer } : "key_reused";
  }

  /** Keeps an answer for 24 hours. */
  keep({ key, request }: Once, answer: string): void {
    const now = Date.now();
    const insert = "INSERT OR REPLACE INTO answers (key, request, answer, at) VALUES (?, ?, ?, ?)";
    this.#tables.write(insert, key, request, answer, now);
    this.#tables.erase("DELETE FROM answers WHERE n <= last_insert_rowid() - ?", MAX_ANSWERS);
    // One comes, two may go: nothing stays for good, and no more is read than that.
    const oldest = "SELECT n FROM answers ORDER BY n LIMIT 2";
    this.#tables.erase(`DELETE FROM answers WHERE n IN (${oldest}) AND at <= ?`, now - KEPT_MS);
  }
}
