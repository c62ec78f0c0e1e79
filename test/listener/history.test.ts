// A database that goes on as another one: restored, cloned, set back or failed over to.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { POSTGRES_15, startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;
let edge: RecordingEdge;

beforeAll(async () => {
  postgres = await startPostgres();
  edge = await RecordingEdge.start(secret);
}, 60_000);

afterAll(async () => {
  await edge?.stop();
  await postgres?.stop();
});

async function database(name: string): Promise<{ url: string; db: pg.Client }> {
  const url = new URL(postgres.url);
  url.pathname = name;
  const db = new pg.Client({ connectionString: url.href });
  await db.connect();
  return { url: url.href, db };
}

async function administer(statement: string): Promise<void> {
  const { db } = await database("postgres");
  await db.query(statement);
  await db.end();
}

/** Makes a database that was followed, with one change delivered and one that waits. */
async function original(name: string): Promise<string> {
  await administer(`create database ${name}`);
  const { url, db } = await database(name);
  await migrate(url);
  await db.query("create table filler (id int); create table items (id int primary key, note text)");
  await db.query("select realtime.subscribe('items', null, 'id > 0'), realtime.subscribe('public.*')");
  const listener = await startListener(url, edge.url);
  await db.query("insert into items values (1, 'delivered')");
  await until("the first", () => edge.changes("public.items").some(({ new: row }) => row?.note === "delivered"));
  await listener.end("SIGTERM");
  await db.query("insert into items values (2, 'waiting')");
  await db.end();
  return url;
}

async function copyIsItsOwn(name: string): Promise<void> {
  edge.batches.length = 0;
  const { url, db } = await database(name);
  await db.query("insert into items values (3, 'before it is known')");
  await migrate(url);
  await db.query("insert into items values (4, 'after')");
  const listener = await startListener(url, edge.url);
  await until("the change", () => edge.changes("public.items").some(({ op }) => op === "I"));
  await new Promise((resolve) => setTimeout(resolve, 200));
  const seen = edge.changes("public.items");
  expect(seen.map(({ op, new: row }) => [op, row?.id])).toEqual([
    ["G", undefined],
    ["I", 4],
  ]);
  await until(
    "the gap to be settled",
    async () => !(await db.query("select gap from realtime.cdc_consumers")).rows[0].gap,
  );
  await listener.end("SIGTERM");
  await db.end();
}

test("a clone has a source of its own, delivers nothing of the original's, and tells of the gap", async () => {
  await original("first");
  const source = edge.batches[0]?.header.source;
  await administer("create database clone template first");
  await copyIsItsOwn("clone");
  expect(edge.batches[0]?.header.source).not.toBe(source);
});

test.runIf(process.env.TEST_POSTGRES === "15" && existsSync(POSTGRES_15))(
  "a dump that is restored takes writes at once, and is captured after migrate, each change once",
  async () => {
    edge.batches.length = 0;
    const url = await original("dumped");
    await administer("create database restored");
    const target = new URL(url);
    target.pathname = "restored";
    // Other numbers for other tables: what was captured under them must not be mixed up.
    const { db } = await database("restored");
    await db.query("create schema other; create table other.one (id int); create table other.two (id int)");
    await db.end();
    const run = promisify(execFile);
    const { stdout } = await run(`${POSTGRES_15}/pg_dump`, [url], { maxBuffer: 64_000_000 });
    const restoring = run(`${POSTGRES_15}/psql`, ["-q", "-v", "ON_ERROR_STOP=1", target.href]);
    restoring.child.stdin?.end(stdout);
    await restoring;
    await copyIsItsOwn("restored");
  },
);

test("a sequence that fell behind what was read, as after a crash that lost commits, is another history", async () => {
  edge.batches.length = 0;
  await administer("create database setback");
  const { url, db } = await database("setback");
  await migrate(url);
  await db.query("create table items (id int); select realtime.subscribe('items')");
  const listener = await startListener(url, edge.url);
  await db.query("insert into items select generate_series(1, 5)");
  await until("five", () => edge.changes("public.items").length === 5);
  await db.query("select setval('realtime.changes_seq', 2)");
  await db.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'nself-realtime reader' and datname = 'setback'",
  );
  await until("the gap", () => edge.changes("public.items").some(({ op }) => op === "G"));
  await db.query("insert into items values (6), (7)");
  const arrived = () => new Set(edge.changes("public.items").map(({ new: row }) => row?.id));
  await until("all of them", () => arrived().has(6) && arrived().has(7));
  const ids = edge.batches.flatMap(({ header, changes }) => changes.map(({ id }) => `${header.source}:${id}`));
  expect(new Set(ids).size).toBe(ids.length);
  await listener.end("SIGTERM");
  await db.end();
});

test("a failover keeps the place, so that what waits arrives, and tells of the gap", async () => {
  edge.batches.length = 0;
  const url = await original("failed_over");
  const { db } = await database("failed_over");
  await db.query("update realtime.cdc_consumers set history = regexp_replace(history, '[^/]*$', '00000000')");
  edge.batches.length = 0;
  const listener = await startListener(url, edge.url);
  await until("both", () => edge.changes("public.items").length >= 2);
  expect(edge.changes("public.items").map(({ op, new: row }) => [op, row?.note])).toEqual([
    ["G", undefined],
    ["I", "waiting"],
  ]);
  await listener.end("SIGTERM");
  await db.end();
});
