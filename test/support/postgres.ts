// A real PostgreSQL for a test file: the stack's own, with a port and a home of its own, gone when stopped. With
// TEST_POSTGRES=15 it is Debian's PostgreSQL 15.
import { execFile } from "node:child_process";
import { chown, mkdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { Children, type ChildSpec } from "../../src/stack/children.ts";
import { accepts } from "../../src/stack/database.ts";
import { Guard } from "../../src/stack/guard.ts";
import { embeddedUrl, postgresChild } from "../../src/stack/postgres.ts";
import { postgresUser, runAs } from "../../src/stack/postgres-user.ts";
import { Report } from "../../src/stack/report.ts";
import { newHome } from "./stack.ts";

const PASSWORD = "postgres";
/** Sessions that are about to end are waited for so long. */
const GOODBYE_MS = 500;

/** Where Debian's package puts the programs of PostgreSQL 15. */
export const POSTGRES_15 = "/usr/lib/postgresql/15/bin";

export interface TestPostgres {
  /** Connection string of the superuser, database `postgres`. */
  url: string;
  /** Stops (ending every session) and starts the server on the same data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts PostgreSQL on a free port of loopback. Extra server settings as `{ name: value }`. */
export async function startPostgres(settings: Record<string, string> = {}): Promise<TestPostgres> {
  const { signal } = new AbortController();
  const [home, port] = [await newHome(), await freePort()];
  const guard = new Guard();
  const children = new Children(guard, new Report());
  const make = process.env.TEST_POSTGRES === "15" ? postgres15 : postgresChild;
  const child = await make(home, port, PASSWORD, signal);
  const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  // Tests provoke errors; the server's word on them would drown the report.
  const spec = { ...child, args: [...child.args, ...options], shows: () => false };
  let server = await children.start(spec, signal);
  return {
    url: embeddedUrl(port, PASSWORD),
    async restart() {
      await server[Symbol.asyncDispose]();
      server = await children.start(spec, signal);
    },
    async stop() {
      await lastGoodbyes(embeddedUrl(port, PASSWORD));
      await server[Symbol.asyncDispose]();
      await guard[Symbol.asyncDispose]();
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** A pool says that it has ended before its sessions have: one that the server ends first throws where nobody listens. */
async function lastGoodbyes(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => undefined);
  const others = "select from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
  try {
    await client.connect();
    const giveUpAt = Date.now() + GOODBYE_MS;
    while ((await client.query(others)).rowCount !== 0 && Date.now() < giveUpAt) await sleep(10);
    await client.end();
  } catch {
    // It does not run: there is nobody to wait for.
  }
}

/** The same server of version 15, which has neither the options nor the locales that the stack asks for. */
async function postgres15(home: string, port: number): Promise<ChildSpec> {
  const data = join(home, "postgres");
  const user = await postgresUser(data);
  await mkdir(data, { mode: 0o700 });
  if (user) await chown(data, user.uid, user.gid);
  const options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
  const initdb = runAs(user, join(POSTGRES_15, "initdb"), [`--pgdata=${data}`, ...options], data);
  await promisify(execFile)(initdb.command, initdb.args, { env: initdb.env, ...initdb.user });
  const settings = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
  return {
    name: "PostgreSQL 15",
    ...runAs(user, join(POSTGRES_15, "postgres"), ["-D", data, "-p", String(port), ...settings], data),
    ready: () => accepts(embeddedUrl(port, PASSWORD)),
    shows: () => false,
    keeps: () => false,
    stop: { signal: "SIGINT", graceMs: 10_000 },
    orphanSignal: "INT",
  };
}

/** A port of loopback that nothing listens on at this moment. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}
