// What a channel keeps, in its object's SQLite.
import type { ChannelStore, MemberRow, RingRow, SightRow } from "../../channel/ports.ts";
import type { Tables } from "./tables.ts";

const KEPT_SIGHTS = 10_000;

/** Additive only: objects of an earlier deploy wake up on the tables they have. */
export const channelTables = [
  "CREATE TABLE IF NOT EXISTS named (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
  "CREATE TABLE IF NOT EXISTS ring (slot INTEGER PRIMARY KEY, first INTEGER, last INTEGER, at INTEGER, body TEXT)",
  `CREATE TABLE IF NOT EXISTS members (ref TEXT PRIMARY KEY, key TEXT NOT NULL, user TEXT, session TEXT, gateway TEXT,
     meta TEXT NOT NULL, seenAt INTEGER NOT NULL) WITHOUT ROWID`,
  "CREATE TABLE IF NOT EXISTS sights (user TEXT PRIMARY KEY, metadata TEXT NOT NULL, seenAt INTEGER NOT NULL) WITHOUT ROWID",
];

type Row<T> = { [K in keyof T]: T[K] & SqlStorageValue };

export class SqliteChannelStore implements ChannelStore {
  readonly #tables: Tables;
  /** How many sights there are, once it has been counted: counting reads, and bills, every row. */
  #sights: number | undefined;

  constructor(tables: Tables) {
    this.#tables = tables;
  }

  get(key: string): string | undefined {
    return this.#tables.read<{ value: string }>("SELECT value FROM named WHERE key = ?", key)[0]?.value;
  }

  set(key: string, value: string): void {
    this.#tables.write("INSERT OR REPLACE INTO named (key, value) VALUES (?, ?)", key, value);
  }

  ringIndex(): Omit<RingRow, "body">[] {
    return this.#tables.read<Row<Omit<RingRow, "body">>>("SELECT slot, first, last, at FROM ring ORDER BY first");
  }

  ringBody(slot: number): string | undefined {
    return this.#tables.read<{ body: string }>("SELECT body FROM ring WHERE slot = ?", slot)[0]?.body;
  }

  putRing({ slot, first, last, at, body }: RingRow): void {
    const values = [slot, first, last, at, body];
    this.#tables.write("INSERT OR REPLACE INTO ring (slot, first, last, at, body) VALUES (?, ?, ?, ?, ?)", ...values);
  }

  members(): MemberRow[] {
    return this.#tables.read<Row<MemberRow>>("SELECT ref, key, user, session, gateway, meta, seenAt FROM members");
  }

  putMember({ ref, key, user, session, gateway, meta, seenAt }: MemberRow): void {
    this.#tables.write(
      "INSERT OR REPLACE INTO members (ref, key, user, session, gateway, meta, seenAt) VALUES (?, ?, ?, ?, ?, ?, ?)",
      ...[ref, key, user, session, gateway, meta, seenAt],
    );
  }

  deleteMember(ref: string): void {
    this.#tables.erase("DELETE FROM members WHERE ref = ?", ref);
  }

  sights(): SightRow[] {
    return this.#tables.read<Row<SightRow>>("SELECT user, metadata, seenAt FROM sights");
  }

  /** The last sight of one user. */
  sight(user: string): SightRow | undefined {
    return this.#tables.read<Row<SightRow>>("SELECT user, metadata, seenAt FROM sights WHERE user = ?", user)[0];
  }

  hasSights(): boolean {
    return this.#tables.read("SELECT 1 FROM sights LIMIT 1").length > 0;
  }

  putSight({ user, metadata, seenAt }: SightRow): void {
    const before = this.#countSights();
    const isNew = this.sight(user) === undefined;
    this.#tables.write(
      "INSERT OR REPLACE INTO sights (user, metadata, seenAt) VALUES (?, ?, ?)",
      user,
      metadata,
      seenAt,
    );
    if (isNew) this.#sights = before + 1;
    if (before < KEPT_SIGHTS || !isNew) return;
    // Half of them at once, so that it is seldom that the oldest have to be looked for.
    const surplus = KEPT_SIGHTS / 2;
    this.#tables.erase("DELETE FROM sights WHERE user IN (SELECT user FROM sights ORDER BY seenAt LIMIT ?)", surplus);
    this.#sights = before + 1 - surplus;
  }

  #countSights(): number {
    this.#sights ??= this.#tables.read<{ count: number }>("SELECT count(*) AS count FROM sights")[0]?.count ?? 0;
    return this.#sights;
  }

  clear(): void {
    for (const table of ["ring", "members", "sights"]) this.#tables.erase(`DELETE FROM ${table}`);
    this.#sights = 0;
  }
}
