// Counters of the last 24 hours, kept by the directory in buckets of a minute, from what objects report in batches.
import type { Tallied } from "../../gateway/tally.ts";
import type { Totals } from "./rpc.ts";
import type { Tables } from "./tables.ts";

const MINUTE_MS = 60_000;
const KEPT_MINUTES = 24 * 60;

export const counterTables = [
  `CREATE TABLE IF NOT EXISTS minutes (minute INTEGER PRIMARY KEY, peak INTEGER NOT NULL, delivered INTEGER NOT NULL,
     failed INTEGER NOT NULL, timed INTEGER NOT NULL, latencyMs REAL NOT NULL, changes INTEGER NOT NULL)`,
  "CREATE TABLE IF NOT EXISTS held (name TEXT PRIMARY KEY, connections INTEGER NOT NULL) WITHOUT ROWID",
];

export class Counters {
  readonly #tables: Tables;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** Takes what the object of that name has counted since it last told. */
  add(name: string, { connections, peak, delivered, failed, timed, latencyMs, changes }: Tallied, now: number): void {
    const [others] = this.#tables.read<{ sum: number | null }>(
      "SELECT sum(connections) AS sum FROM held WHERE name <> ?",
      name,
    );
    if (connections > 0)
      this.#tables.write("INSERT OR REPLACE INTO held (name, connections) VALUES (?, ?)", name, connections);
    else this.#tables.erase("DELETE FROM held WHERE name = ?", name);
    const minute = Math.floor(now / MINUTE_MS);
    const values = [minute, (others?.sum ?? 0) + peak, delivered, failed, timed, latencyMs, changes];
    this.#tables.write(
      `INSERT INTO minutes (minute, peak, delivered, failed, timed, latencyMs, changes) VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (minute) DO UPDATE SET peak = max(peak, excluded.peak), delivered = delivered + excluded.delivered,
         failed = failed + excluded.failed, timed = timed + excluded.timed, latencyMs = latencyMs + excluded.latencyMs,
         changes = changes + excluded.changes`,
      ...values,
    );
    this.#tables.erase("DELETE FROM minutes WHERE minute < ?", minute - KEPT_MINUTES);
  }

  /** The object of that name holds no sockets any more. */
  forget(name: string): void {
    this.#tables.erase("DELETE FROM held WHERE name = ?", name);
  }

  /** An object that died with its sockets tells nothing any more: what it held counts as long as it is a holder. */
  forgetDead(): void {
    this.#tables.erase("DELETE FROM held WHERE name NOT IN (SELECT kind || ':' || name FROM holders)");
  }

  totals(now: number): Totals {
    const [sums] = this.#tables.read<{ [K in keyof Totals]: number | null }>(
      `SELECT max(peak) AS peak, sum(delivered) AS delivered, sum(failed) AS failed, sum(changes) AS changes,
         sum(latencyMs) / nullif(sum(timed), 0) AS latencyMs FROM minutes WHERE minute >= ?`,
      Math.floor(now / MINUTE_MS) - KEPT_MINUTES,
    );
    const { peak, delivered, failed, latencyMs, changes } = sums ?? {};
    return {
      peak: peak ?? 0,
      delivered: delivered ?? 0,
      failed: failed ?? 0,
      latencyMs: latencyMs ?? null,
      changes: changes ?? 0,
    };
  }
}
