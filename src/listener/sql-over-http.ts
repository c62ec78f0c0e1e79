// SQL over HTTP as @neondatabase/serverless speaks it: one query, or a batch in one transaction.
import pg from "pg";
import * as z from "zod";
import type { Config } from "./config.ts";
import type { Log } from "./log.ts";

const query = z.object({
  query: z.string().min(1),
  params: z.array(z.union([z.string(), z.number(), z.boolean(), z.null()])).default([]),
});
const request = z.union([query, z.object({ queries: z.array(query).min(1).max(100) })]);
type Query = z.infer<typeof query>;

const isolationLevels: Record<string, string> = {
  ReadUncommitted: "read uncommitted",
  ReadCommitted: "read committed",
  RepeatableRead: "repeatable read",
  Serializable: "serializable",
};

/**
 * What a request names is to be found where it says, and not where a database's or a role's settings say; and it runs as
 * the edge's role where there is one. Of a session that logged in as another user PostgreSQL lets any statement take that
 * role off again: only a login of its own (REALTIME_SQL_DATABASE_URL) is a wall.
 */
const prepare = `
  select pg_catalog.set_config('search_path', '', false), (
    select pg_catalog.set_config('role', r.rolname, false)
    from pg_catalog.pg_roles r where r.rolname = 'nself_realtime_edge'
      and pg_catalog.pg_has_role(r.oid, case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000
        then 'set' else 'member' end)) as role`;

export interface SqlAnswer {
  status: number;
  body: unknown;
}

type Headers = Record<string, string | string[] | undefined>;

/** Answers SQL requests through a pool of sessions; each request finds a session as if new. */
export class SqlOverHttp {
  #pool: pg.Pool;
  #log: Log;
  #isWarned = false;

  constructor({ databaseUrl, sessions, timeoutMs }: Config["sql"], log: Log) {
    this.#log = log;
    const onError = (error: Error) => log.warn("an idle SQL session ended", { error });
    this.#pool = new pg.Pool({
      connectionString: databaseUrl,
      max: sessions,
      application_name: "nself-realtime sql",
      connectionTimeoutMillis: 5_000,
      statement_timeout: timeoutMs,
      idle_in_transaction_session_timeout: timeoutMs,
    });
    this.#pool.on("error", onError);
    this.#pool.on("connect", (client) => {
      // A session that ends while it is in use fails its query as well; without a listener the process would end.
      client.on("error", () => {});
      // Queued before whatever the session is asked first.
      void this.#prepare(client).catch(onError);
    });
  }

  /** Sessions that are open, and those of them that are not in use; requests that wait for one. */
  get pool(): { open: number; idle: number; waiting: number } {
    return { open: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount };
  }

  async #prepare(client: pg.ClientBase): Promise<void> {
    const { rows } = await client.query<{ role: string | null }>(prepare);
    if (rows[0]?.role || this.#isWarned) return;
    this.#isWarned = true;
    this.#log.warn(
      "SQL runs as the user of DATABASE_URL: the role nself_realtime_edge is not there, or not ours to take",
    );
  }

  /** Runs the request of a body (JSON text). A wrong request and an SQL error answer 400 with message and code. */
  async answer(headers: Headers, body: string): Promise<SqlAnswer> {
    const parsed = request.safeParse(parseJson(body));
    if (!parsed.success) return refuse('the body is not {"query", "params"} nor {"queries": [...]} in JSON');
    const begin = "queries" in parsed.data ? beginStatement(headers) : null;
    if (begin instanceof Error) return refuse(begin.message);
    let client: pg.PoolClient;
    try {
      client = await this.#pool.connect();
    } catch (error) {
      return { status: 503, body: { message: `PostgreSQL is away: ${messageOf(error)}` } };
    }
    let broken: Error | undefined;
    try {
      const asked = parsed.data;
      const results = await ("queries" in asked
        ? runBatch(client, asked.queries, begin ?? "begin", headers)
        : run(client, asked, headers));
      return { status: 200, body: Array.isArray(results) ? { results } : results };
    } catch (error) {
      if (error instanceof pg.DatabaseError) return { status: 400, body: describe(error) };
      broken = error instanceof Error ? error : new Error(String(error));
      return { status: 503, body: { message: `PostgreSQL went away: ${broken.message}` } };
    } finally {
      this.#giveBack(client, broken);
    }
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  // What a request set in its session (a role, claims, a prepared name) must not reach the next one.
  #giveBack(client: pg.PoolClient, broken: Error | undefined): void {
    if (broken) {
      client.release(broken);
      return;
    }
    const reset = client.query("discard all").then(() => this.#prepare(client));
    reset.then(
      () => client.release(),
      (error: Error) => client.release(error),
    );
  }
}

async function runBatch(client: pg.PoolClient, queries: Query[], begin: string, headers: Headers): Promise<unknown[]> {
  await client.query(begin);
  try {
    const results: unknown[] = [];
    for (const one of queries) results.push(await run(client, one, headers));
    await client.query("commit");
    return results;
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  }
}

async function run(client: pg.PoolClient, { query: text, params }: Query, headers: Headers): Promise<unknown> {
  // Absent means true: fetchOptions.headers of the driver replaces its own headers, and it still expects both.
  const raw = headers["neon-raw-text-output"] !== "false";
  const asArrays = headers["neon-array-mode"] !== "false";
  const config: pg.QueryConfig & { rowMode?: "array"; queryMode: "extended" } = {
    text,
    values: params,
    // A single statement: the simple protocol would take several.
    queryMode: "extended",
    ...(asArrays ? { rowMode: "array" as const } : {}),
    ...(raw ? { types: { getTypeParser: () => (value: string) => value } } : {}),
  };
  const result = await client.query(config);
  return {
    command: result.command,
    rowCount: result.rowCount,
    fields: result.fields,
    rows: result.rows,
    rowAsArray: asArrays,
  };
}

function beginStatement(headers: Headers): string | Error {
  const level = headers["neon-batch-isolation-level"];
  const isolation = level === undefined ? "" : isolationLevels[String(level)];
  if (isolation === undefined) return new Error(`"${String(level).slice(0, 40)}" is not an isolation level`);
  return [
    "begin",
    isolation && `isolation level ${isolation}`,
    headers["neon-batch-read-only"] === "true" && "read only",
    headers["neon-batch-deferrable"] === "true" && "deferrable",
  ]
    .filter(Boolean)
    .join(" ");
}

function describe(error: pg.DatabaseError) {
  const { message, severity, code, detail, hint, position, internalPosition, internalQuery, where } = error;
  const { schema, table, column, dataType, constraint, file, line, routine } = error;
  return {
    ...{ message, severity, code, detail, hint, position, internalPosition, internalQuery, where },
    ...{ schema, table, column, dataType, constraint, file, line, routine },
  };
}

function refuse(message: string): SqlAnswer {
  return { status: 400, body: { message, code: "08P01", severity: "ERROR" } };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
