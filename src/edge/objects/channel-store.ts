// What a channel keeps, in its object's SQLite.
import type { ChannelStore, MemberRow, RingRow, SightRow } from "../../channel/ports.ts";
import type { Tables } from "./tables.ts";

const KEPT_SIGHTS = 10_000;

/** Additive only: objects of an earlier deploy wake up on the tables they have. */
export const channelTables = [
  "CREATE TABLE IF NOT EXISTS named (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
  "CREATE TABLE IF NOT EXISTS ring (slot INTEGER PRIMARY KEY, first INTEGER, last INTEGER, at INTEGER, body TEXT)",
  "CREATE TABLE IF NOT EXISTS ring_parts (slot INTEGER, part INTEGER, body TEXT, PRIMARY KEY (slot, part)) WITHOUT ROWID",
  `CREATE TABLE IF NOT EXISTS members (ref TEXT PRIMARY KEY, key TEXT NOT NULL, user TEXT, session TEXT, gateway TEXT,
     meta TEXT NOT NULL, seenAt INTEGER NOT NULL) WITHOUT ROWID`,
  "CREATE TABLE IF NOT EXISTS sights (user TEXT PRIMARY KEY, metadata TEXT NOT NULL, seenAt INTEGER NOT NULL) WITHOUT ROWID",
];

/** Longest text of one row, UTF-16 units: a row holds 2 MB, and a unit is at most 3 bytes. */
const MAX_PART_LENGTH = 600_000;

type Row<T> = { [K in keyof T]: T[K] & SqlStorageValue };

export class SqliteChannelStore implements ChannelStore {
  readonly #tables: Tables;
  /** Slots whose body goes on in `ring_parts`. */
  readonly #parted: Set<number>;
  /** How many sights there are, once it has been counted: counting reads, and bills, every row. */
  #sights: number | undefined;

  constructor(tables: Tables) {
    this.#tables = tables;
    const parted = tables.read<{ slot: number }>("SELECT DISTINCT slot FROM ring_parts");
    this.#parted = new Set(parted.map(({ slot }) => slot));
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
    const first = this.#tables.read<{ body: string }>("SELECT body FROM ring WHERE slot = ?", slot)[0]?.body;
    if (first === undefined || !this.#parted.has(slot)) return first;
    const query = "SELECT body FROM ring_parts WHERE slot = ? ORDER BY part";
    return [first, ...this.#tables.read<{ body: string }>(query, slot).map(({ body }) => body)].join("");
  }

  putRing({ slot, first, last, at, body }: RingRow): void {
    if (this.#parted.delete(slot)) this.#tables.erase("DELETE FROM ring_parts WHERE slot = ?", slot);
    const [head = "", ...rest] = partsOf(body);
    const values = [slot, first, last, at, head];
    this.#tables.write("INSERT OR REPLACE INTO ring (slot, first, last, at, body) VALUES (?, ?, ?, ?, ?)", ...values);
    if (rest.length > 0) this.#parted.add(slot);
    for (const [part, text] of rest.entries()) {
      this.#tables.write("INSERT INTO ring_parts (slot, part, body) VALUES (?, ?, ?)", slot, part, text);
    }
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
    this.#parted.clear();
    for (const table of ["ring", "ring_parts", "members", "sights"]) this.#tables.erase(`DELETE FROM ${table}`);
    this.#sights = 0;
  }
}

/** A text in parts that each fit a row; none begins in the middle of a character. */
export function partsOf(text: string): string[] {
  if (text.length <= MAX_PART_LENGTH) return [text];
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    const end = at + MAX_PART_LENGTH;
    const splits = isHighSurrogate(text.charCodeAt(end - 1));
    parts.push(text.slice(at, splits ? end - 1 : end));
    at = splits ? end - 1 : end;
  }
  return parts;
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit < 0xdc00;
}
