// Sessions of the listener: settings of its own where a session is its own, and none left behind where a pooler shares them.
import pg from "pg";
import type { Config } from "./config.ts";

const queryPatience = 20_000;
/** Whether a pooler stands between is asked so often: other users of it may disturb the answer. */
const probes = 3;

/**
 * The search_path of a database or a role is not ours to trust: whoever may create in it could pose as what we call.
 * Fresh tables have no statistics; the indexes are right for every fetch. A lock on a user's table is asked for so briefly
 * that writers behind us do not notice. Without sequential scans a plan looks costly enough to be compiled, which would
 * take longer than it runs, and every fetch would be planned anew.
 */
const settings = {
  search_path: "''",
  enable_seqscan: "off",
  jit: "off",
  plan_cache_mode: "force_generic_plan",
  lock_timeout: "'200ms'",
};

export function newSession({ databaseUrl }: Config, part: string, onEnd: (error: Error) => void): pg.Client {
  const client = new pg.Client({
    connectionString: databaseUrl,
    application_name: `nself-realtime ${part}`,
    connectionTimeoutMillis: 5_000,
    query_timeout: queryPatience,
    keepAlive: true,
  });
  client.on("error", onEnd);
  return client;
}

/**
 * Makes connected sessions ready. Returns whether they are shared: a pooler gives each transaction a session of
 * PostgreSQL's that others used before and will use after, so that nothing may be set in it, nor be expected to stay.
 */
export async function prepareSessions(first: pg.Client, second: pg.Client): Promise<boolean> {
  const isShared = await areShared(first, second);
  for (const client of [first, second]) {
    if (isShared) useTransactions(client);
    else await client.query(statements("set"));
    askInTurn(client);
  }
  return isShared;
}

/** Two clients that are served by one process of PostgreSQL have a pooler between. */
async function areShared(first: pg.Client, second: pg.Client): Promise<boolean> {
  const pid = async (client: pg.Client) => {
    const { rows } = await client.query<{ pid: number }>("select pg_catalog.pg_backend_pid() as pid");
    return rows[0]?.pid;
  };
  for (let probe = 0; probe < probes; probe += 1) {
    if ((await pid(first)) === (await pid(second))) return true;
  }
  return false;
}

type Asking = (asked: string | pg.QueryConfig, values?: unknown[]) => Promise<pg.QueryResult>;

/** One statement after the other, whoever asks: of clients that are asked for several at once, pg no longer sees to that. */
function askInTurn(client: pg.Client): void {
  const run: Asking = client.query.bind(client);
  let last: Promise<unknown> = Promise.resolve();
  const query: Asking = (asked, values) => {
    const answer = last.then(() => run(asked, values));
    last = answer.catch(() => {});
    return answer;
  };
  Object.defineProperty(client, "query", { value: query });
}

/** Each statement in a transaction of its own that brings the settings, and none of them prepared by name. */
function useTransactions(client: pg.Client): void {
  const run = client.query.bind(client);
  const begin = `begin; ${statements("set local")}`;
  const query: Asking = async (asked, values) => {
    await run(begin);
    try {
      const statement =
        typeof asked === "string" ? { text: asked, values: values ?? [] } : { ...asked, name: undefined };
      const answer = await run(statement);
      await run("commit");
      return answer;
    } catch (error) {
      await run("rollback").catch(() => {});
      throw error;
    }
  };
  Object.defineProperty(client, "query", { value: query, configurable: true });
}

function statements(verb: string): string {
  return Object.entries(settings)
    .map(([name, value]) => `${verb} ${name} = ${value}`)
    .join("; ");
}
