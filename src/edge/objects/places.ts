// Places: how many sockets each object may hold, out of what all of them may hold together. Handed out some at a time, so
// that few connections have to ask.
import type { Tables } from "./tables.ts";

/**
 * Most places handed out at once, and at most which part of those that are free: near the limit it is one at a time. Nor
 * does anybody get more than they fill: a thousand channels with one socket each are to keep no thousands from others.
 */
const MOST_AT_ONCE = 64;
const PART = 16;

export const placeTables = [
  "CREATE TABLE IF NOT EXISTS places (holder TEXT PRIMARY KEY, places INTEGER) WITHOUT ROWID",
];

export class Places {
  readonly #tables: Tables;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  /** Free ones, of `most`, for an object that holds so many. */
  free(holder: string, held: number, most: number): number {
    const query = "SELECT coalesce(sum(places), 0) AS others FROM places WHERE holder <> ?";
    const [{ others } = { others: 0 }] = this.#tables.read<{ others: number }>(query, holder);
    return Math.max(0, most - others - held);
  }

  /** Gives an object the places that it fills, and some of the free ones; answers how many it has then. */
  give(holder: string, held: number, free: number): number {
    const places = held + Math.min(MOST_AT_ONCE, Math.ceil(free / PART), Math.max(1, held));
    if (places > 0) this.#tables.write("INSERT OR REPLACE INTO places (holder, places) VALUES (?, ?)", holder, places);
    else this.#tables.erase("DELETE FROM places WHERE holder = ?", holder);
    return places;
  }

  /** Objects that have places. */
  holders(): string[] {
    return this.#tables.read<{ holder: string }>("SELECT holder FROM places").map(({ holder }) => holder);
  }
}
