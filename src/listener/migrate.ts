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

/** How long connecting, and each lock, may take, milliseconds. */
const patience = 10_000;

/** PostgreSQL's SQLSTATE of a lock that was not to be had in time. */
const lockNotAvailable = "55P03";

export interface MigrateOptions {
  /** Hears the name of each migration once it is applied. */
  onStep?: (version: string) => void;
  /** Hears what a migration could not do and what an administrator may do about it; nothing where all is well. */
  onWarning?: (warning: string) => void;
  /** Ends a migration by URL, which then rejects with the reason; what was not committed is undone. */
  signal?: AbortSignal;
}

/**
 * Applies the migrations that `database` (a URL, or a connected client) has not had, all in one transaction, and
 * returns their names; two callers at once are safe, and a second call does nothing. Throws MigrationError: `edited`
 * when a file differs from what was applied, `newer` when the database had one that has no file, `foreign` when the tables
 * of another server are in their place, else the SQLSTATE.
 */
export async function migrate(database: string | pg.ClientBase, options: MigrateOptions = {}): Promise<string[]> {
  const { onStep, onWarning, signal } = options;
  if (typeof database !== "string") return apply(database, onStep);
  signal?.throwIfAborted();
  const client = new pg.Client({
    connectionString: database,
    application_name: "nself-realtime migrate",
    connectionTimeoutMillis: patience,
  });
  client.on("notice", ({ severity, message = "", hint }) => {
    if (severity === "WARNING") onWarning?.(hint === undefined ? message : `${message}. ${hint}`);
  });
  // The query under way rejects with the same; without a listener the process would end.
  client.on("error", () => {});
  // Raced, since a session whose server does not answer takes its time to end.
  const called = Promise.withResolvers<never>();
  const callOff = () => {
    void client.end().catch(() => {});
    called.reject(signal?.reason);
  };
  signal?.addEventListener("abort", callOff, { once: true });
  try {
    return await Promise.race([called.promise, client.connect().then(() => apply(client, onStep))]);
  } finally {
    signal?.removeEventListener("abort", callOff);
    if (!signal?.aborted) await client.end().catch(() => {});
  }
}

async function apply(client: pg.ClientBase, onStep: MigrateOptions["onStep"]): Promise<string[]> {
  const migrations = await load();
  // The search_path of a database or a role is not ours to trust: whoever may create in it could pose as what we call.
  await client.query(`begin; set local search_path = ''; set local lock_timeout = ${patience}`);
  try {
    await client.query("select pg_advisory_xact_lock(hashtextextended('realtime.migrations', 0))");
    await client.query("create schema if not exists realtime");
    await client.query(`create table if not exists realtime.migrations (
      version text primary key, checksum text not null, applied_at timestamptz not null default now())`);
    const { rows } = await client.query<{ version: string; checksum: string }>(
      "select version, checksum from realtime.migrations",
    );
    const applied = new Map(rows.map((row) => [row.version, row.checksum]));
    if (applied.size === 0) await refuseForeign(client);
    refuseNewer(migrations, applied);
    const missing = migrations.filter((migration) => !matches(migration, applied.get(migration.version)));
    for (const migration of missing) await applyOne(client, migration, onStep);
    // A restored or cloned database is captured anew from here on, and one whose functions have changed by their new ones.
    await client.query("select realtime.cdc_recognise()");
    await client.query("select realtime.cdc_reconcile()");
    await client.query("commit");
    return missing.map((migration) => migration.version);
  } catch (error) {
    await client.query("rollback").catch(() => {});
    if (error instanceof pg.DatabaseError && error.code === lockNotAvailable) throw busy(error);
    throw error;
  }
}

function busy(cause: Error): MigrationError {
  const message = `The schema realtime was in use for ${patience / 1000} s: another migration, or a transaction left open.`;
  return new MigrationError(lockNotAvailable, `${message} End it and try again.`, cause);
}

/** Who else calls a schema `realtime` its own, by what is in it: the older servers of this name, and Supabase. */
const others = `
  select string_agg(c.relname, ', ' order by c.relname) as tables,
    case when bool_or(c.relname = 'schema_migrations') then 'Supabase Realtime'
      when bool_or(c.relname = 'channels' and a.attname = 'tenant_id') then 'nself realtime of before 0.9'
      when bool_or(c.relname = 'channels') then 'nself realtime 0.9'
      else 'something else' end as owner
  from pg_class c left join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
  where c.relnamespace = 'realtime'::regnamespace and c.relkind in ('r', 'p', 'v')
    and c.relname in ('channels', 'channel_members', 'messages', 'presence', 'subscriptions', 'connections', 'broadcasts',
      'settings', 'schema_migrations')`;

/** Tables of another server are left as they are: to make ours beside them is impossible, to change them not ours to do. */
async function refuseForeign(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ tables: string | null; owner: string }>(others);
  const [found] = rows;
  if (found === undefined || found.tables === null) return;
  throw new MigrationError(
    "foreign",
    `The schema realtime holds tables of ${found.owner} (${found.tables}). Nothing was changed. Move them aside first: ` +
      "alter schema realtime rename to realtime_before; docs/operations.md says how their rows are taken over then.",
  );
}

function refuseNewer(migrations: Migration[], applied: ReadonlyMap<string, string>): void {
  const known = new Set(migrations.map(({ version }) => version));
  const newer = [...applied.keys()].filter((version) => !known.has(version)).sort();
  if (newer.length === 0) return;
  throw new MigrationError(
    "newer",
    `This database has had ${newer.join(", ")}, of which there is no file here: it is newer than this version. Update it.`,
  );
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
  onStep: MigrateOptions["onStep"],
): Promise<void> {
  try {
    await client.query(sql);
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    if (error.code === lockNotAvailable) throw busy(error);
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
