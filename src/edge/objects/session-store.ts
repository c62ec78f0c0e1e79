// What a gateway keeps, in its object's SQLite.
import type { JoinRecord, SessionStore } from "../../gateway/ports.ts";
import type { SessionRecord } from "../../gateway/session.ts";
import type { Position } from "../../protocol/positions.ts";
import type { Timers } from "../../protocol/timers.ts";
import type { Tables } from "./tables.ts";

/** Additive only: objects of an earlier deploy wake up on the tables they have. */
export const sessionTables = [
  "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
  `CREATE TABLE IF NOT EXISTS joins (session TEXT NOT NULL, topic TEXT NOT NULL, record TEXT NOT NULL,
     PRIMARY KEY (session, topic)) WITHOUT ROWID`,
  "CREATE TABLE IF NOT EXISTS positions (object TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
];

/** Writes are gathered this long into one commit: a timer that is due keeps the object awake until it is done. */
const GATHER_MS = 1_000;

export class SqliteSessionStore implements SessionStore {
  readonly #tables: Tables;
  readonly #timers: Timers;
  readonly #own: string | undefined;
  /** By what they write; a later write of the same thing takes the place of an earlier one. */
  #due = new Map<string, () => void>();

  /** `own` names the channel that lives in the same object: it never speaks while its gateway sleeps. */
  constructor(tables: Tables, timers: Timers, own?: string) {
    this.#tables = tables;
    this.#timers = timers;
    this.#own = own;
  }

  #later(what: string, write: () => void): void {
    if (this.#due.size === 0) this.#timers.after(GATHER_MS, () => this.#write());
    this.#due.set(what, write);
  }

  #write(): void {
    const due = this.#due;
    this.#due = new Map();
    for (const [what, write] of due) {
      try {
        write();
      } catch (error) {
        // What cannot be written, a join larger than a row, must not keep all that comes after it from being written.
        console.warn(JSON.stringify({ event: "not kept", what, reason: String(error) }));
      }
    }
  }

  sessions(): SessionRecord[] {
    const rows = this.#tables.read<{ record: string }>("SELECT record FROM sessions");
    // Those of an earlier deploy have no headers.
    return rows.map(({ record }) => ({ headers: {}, ...JSON.parse(record) }));
  }

  putSession(session: SessionRecord): void {
    this.#later(`session ${session.id}`, () =>
      this.#tables.write(
        "INSERT OR REPLACE INTO sessions (id, record) VALUES (?, ?)",
        ...[session.id, JSON.stringify(session)],
      ),
    );
  }

  deleteSession(id: string): void {
    this.#later(`session ${id}`, () => {
      this.#tables.erase("DELETE FROM sessions WHERE id = ?", id);
      this.#tables.erase("DELETE FROM joins WHERE session = ?", id);
    });
  }

  joins(): JoinRecord[] {
    return this.#tables.read<{ record: string }>("SELECT record FROM joins").map(({ record }) => JSON.parse(record));
  }

  putJoin(join: JoinRecord): void {
    const { session, topic } = join;
    this.#later(`join ${session} ${topic}`, () =>
      this.#tables.write(
        "INSERT OR REPLACE INTO joins (session, topic, record) VALUES (?, ?, ?)",
        ...[session, topic, JSON.stringify(join)],
      ),
    );
  }

  deleteJoin(session: string, topic: string): void {
    this.#later(`join ${session} ${topic}`, () =>
      this.#tables.erase("DELETE FROM joins WHERE session = ? AND topic = ?", session, topic),
    );
  }

  positions(): ReadonlyMap<string, Position> {
    const query = "SELECT object, epoch, seq FROM positions";
    const rows = this.#tables.read<{ object: string; epoch: string; seq: number }>(query);
    return new Map(rows.map(({ object, epoch, seq }) => [object, { epoch, seq }]));
  }

  putPosition(object: string, { epoch, seq }: Position): void {
    if (object === this.#own) return;
    this.#later(`position ${object}`, () =>
      this.#tables.write("INSERT OR REPLACE INTO positions (object, epoch, seq) VALUES (?, ?, ?)", object, epoch, seq),
    );
  }

  deletePosition(object: string): void {
    this.#later(`position ${object}`, () => this.#tables.erase("DELETE FROM positions WHERE object = ?", object));
  }
}
