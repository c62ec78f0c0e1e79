// Brings a database's `realtime` schema to the newest version: numbered SQL files, forward only.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import pg from "pg";

const directory = new URL("../../migrations/", import.meta.url);

/** A migration that cannot be applied. `code` is ours or PostgreSQL's SQLSTATE; the message says what to do. */
export class MigrationError extends Error {
  override name = "MigrationError";
  readonly code: string;

  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

interface Migration {
  version: string;
  sql: string;
  checksum: string;
}

/**
 * Applies the migrations that `database` (a URL, or a connected client) has not had, all in one transaction, and
 * returns their names; two callers at once are safe, and a second call does nothing. `onStep` hears each name.
 * Throws MigrationError: `edited` when a file differs from what was applied, else the SQLSTATE of the failure.
 */
export async function migrate(
  database: string | pg.ClientBase,
  options: { onStep?: (version: string) => void } = {},
): Promise<string[]> {
  if (typeof database !== "string") return apply(database, options.onStep);
  const client = new pg.Client({ connectionString: database, application_name: "nself-realtime migrate" });
  await client.connect();
  try {
    return await apply(client, options.onStep);
  } finally {
    await client.end();
  }
}

async function apply(client: pg.ClientBase, onStep: ((version: string) => void) | undefined): Promise<string[]> {
  const migrations = await load();
  await client.query("begin");
  try {
    await client.query("select pg_advisory_xact_lock(hashtextextended('realtime.migrations', 0))");
    await client.query("create schema if not exists realtime");
    await client.query(`create table if not exists realtime.migrations (
      version text primary key, checksum text not null, applied_at timestamptz not null default now())`);
    const { rows } = await client.query<{ version: string; checksum: string }>(
      "select version, checksum from realtime.migrations",
    );
    const applied = new Map(rows.map((row) => [row.version, row.checksum]));
    const missing = migrations.filter((migration) => !matches(migration, applied.get(migration.version)));
    for (const migration of missing) await applyOne(client, migration, onStep);
    await client.query("commit");
    return missing.map((migration) => migration.version);
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  }
}

function matches(migration: Migration, checksum: string | undefined): boolean {
  if (checksum === undefined) return false;
  if (checksum === migration.checksum) return true;
  const { version } = migration;
  throw new MigrationError(
    "edited",
    `Migration ${version} was edited after it was applied to this database. Restore the file; changes go into a new one.`,
  );
}

async function applyOne(
  client: pg.ClientBase,
  { version, sql, checksum }: Migration,
  onStep: ((version: string) => void) | undefined,
): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    const hint = error.hint === undefined ? "" : ` ${error.hint}`;
    throw new MigrationError(error.code ?? "unknown", `Migration ${version} failed: ${error.message}.${hint}`, error);
  }
  await client.query("insert into realtime.migrations (version, checksum) values ($1, $2)", [version, checksum]);
  onStep?.(version);
}

async function load(): Promise<Migration[]> {
  const files = (await readdir(directory)).filter((file) => /^\d{4}_\w+\.sql$/.test(file)).sort();
  return Promise.all(
    files.map(async (file) => {
      const sql = await readFile(new URL(file, directory), "utf8");
      return { version: file.replace(/\.sql$/, ""), sql, checksum: createHash("sha256").update(sql).digest("hex") };
    }),
  );
}
