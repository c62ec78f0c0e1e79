// What a gateway keeps, in its object's SQLite.
import type { JoinRecord, SessionStore } from "../../gateway/ports.ts";
import type { SessionRecord } from "../../gateway/session.ts";
import type { Position } from "../../protocol/positions.ts";
import type { Tables } from "./tables.ts";

/** Additive only: objects of an earlier deploy wake up on the tables they have. */
export const sessionTables = [
  "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
  `CREATE TABLE IF NOT EXISTS joins (session TEXT NOT NULL, topic TEXT NOT NULL, record TEXT NOT NULL,
     PRIMARY KEY (session, topic)) WITHOUT ROWID`,
  "CREATE TABLE IF NOT EXISTS positions (object TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID",
];

export class SqliteSessionStore implements SessionStore {
  readonly #tables: Tables;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  sessions(): SessionRecord[] {
    return this.#tables.read<{ record: string }>("SELECT record FROM sessions").map(({ record }) => JSON.parse(record));
  }

  putSession(session: SessionRecord): void {
    this.#tables.write(
      "INSERT OR REPLACE INTO sessions (id, record) VALUES (?, ?)",
      session.id,
      JSON.stringify(session),
    );
  }

  deleteSession(id: string): void {
    this.#tables.erase("DELETE FROM sessions WHERE id = ?", id);
    this.#tables.erase("DELETE FROM joins WHERE session = ?", id);
  }

  joins(): JoinRecord[] {
    return this.#tables.read<{ record: string }>("SELECT record FROM joins").map(({ record }) => JSON.parse(record));
  }

  putJoin(join: JoinRecord): void {
    const values = [join.session, join.topic, JSON.stringify(join)];
    this.#tables.write("INSERT OR REPLACE INTO joins (session, topic, record) VALUES (?, ?, ?)", ...values);
  }

  deleteJoin(session: string, topic: string): void {
    this.#tables.erase("DELETE FROM joins WHERE session = ? AND topic = ?", session, topic);
  }

  positions(): ReadonlyMap<string, Position> {
    const rows = this.#tables.read<{ object: string; epoch: string; seq: number }>(
      "SELECT object, epoch, seq FROM positions",
    );
    return new Map(rows.map(({ object, epoch, seq }) => [object, { epoch, seq }]));
  }

  putPosition(object: string, { epoch, seq }: Position): void {
    this.#tables.write("INSERT OR REPLACE INTO positions (object, epoch, seq) VALUES (?, ?, ?)", object, epoch, seq);
  }

  deletePosition(object: string): void {
    this.#tables.erase("DELETE FROM positions WHERE object = ?", object);
  }
}
