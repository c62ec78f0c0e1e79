// No feed waits for another: one that is stuck, slow or poisoned is parked, and nothing of it is lost.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { type ListenerProcess, secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;
let pool: pg.Pool;
let edge: RecordingEdge;
let listeners: ListenerProcess[];

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  pool = new pg.Pool({ connectionString: postgres.url, max: 4 });
  pool.on("error", () => {});
}, 60_000);

beforeEach(async () => {
  await pool.query("create table bad (id int, fill text); create table fine (id int)");
  await pool.query("select realtime.subscribe('bad'), realtime.subscribe('fine')");
  edge = await RecordingEdge.start(secret);
  listeners = [];
});

afterEach(async () => {
  await Promise.all(listeners.map((listener) => listener.end("SIGTERM")));
  await edge.stop();
  await pool.query("drop table bad, fine; truncate realtime.cdc_parked; select realtime.cdc_reconcile()");
});

afterAll(async () => {
  await pool?.end();
  await postgres?.stop();
});

async function listen(settings: Record<string, string> = {}): Promise<ListenerProcess> {
  const listener = await startListener(postgres.url, edge.url, { REALTIME_NOTIFY: "off", ...settings });
  listeners.push(listener);
  await until("the lease", async () => (await listener.health()).body.leaseHolder, 15_000);
  return listener;
}

const ids = (table: string) => edge.changes(`public.${table}`).map((change) => change.new?.id);
const upTo = (last: number) => Array.from({ length: last }, (_, n) => n + 1);

/** Writes rows to `fine` one by one, and resolves when all have arrived. */
async function writeFine(from: number, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await pool.query("insert into fine values ($1)", [from + n]);
  await until("all of the healthy feed", () => ids("fine").length === from + count - 1, 25_000);
}

test("a feed that the edge does not take is parked, the others go on, and a restart repeats little; then it arrives whole", async () => {
  let broken = true;
  edge.answer = ({ header }) => (broken && header.feed === "public.bad" ? 500 : 200);
  const listener = await listen();
  // More than this process keeps in memory for the edge.
  for (let n = 1; n <= 20; n += 1) await pool.query("insert into bad values ($1, repeat('x', 1000000))", [n]);
  await writeFine(1, 300);
  const { body } = await listener.health();
  expect(body.parked).toEqual([{ feed: "public.bad", changes: expect.any(Number) }]);
  expect(body).toMatchObject({ ok: false, edgeFailing: { feed: "public.bad" } });
  // What the healthy feed had is stored, so that the next listener does not send it again.
  await until("the place to be stored", async () => {
    const { rows } = await pool.query(
      "select from realtime.changes_a c, realtime.cdc_consumers r where not pg_visible_in_snapshot(c.xid, r.seen)",
    );
    return rows.length === 0;
  });
  await listener.end("SIGKILL");
  const sent = edge.batches.length;
  await listen();
  await writeFine(301, 20);
  const repeated = edge.batches
    .slice(sent)
    .flatMap(({ changes }) => changes.filter(({ new: row }) => Number(row?.id) <= 300));
  expect(repeated).toEqual([]);
  await pool.query("insert into bad values (21, 'x')");
  broken = false;
  await until("the feed that was stuck", () => ids("bad").length === 21, 20_000);
  expect(ids("bad")).toEqual(upTo(21));
  await until("nothing parked", async () => (await pool.query("select from realtime.cdc_parked")).rowCount === 0);
  await pool.query("insert into bad values (22, 'x')");
  await until("the next one", () => ids("bad").length === 22);
}, 90_000);

test("a slow feed with much to say does not slow down another", async () => {
  edge.answer = async ({ header }) => {
    if (header.feed === "public.bad") await sleep(700);
    return 200;
  };
  await listen();
  await writeFine(1, 1);
  for (let n = 1; n <= 40; n += 1) await pool.query("insert into bad values ($1, repeat('x', 500000))", [n]);
  const startedAt = performance.now();
  await writeFine(2, 10);
  expect(performance.now() - startedAt).toBeLessThan(6_000);
  expect(ids("bad").length).toBeLessThan(40);
  await until("the slow feed", () => ids("bad").length === 40, 40_000);
  expect(ids("bad")).toEqual(upTo(40));
}, 90_000);

test("a change that the edge refuses as bad is set aside and told, and its feed goes on; a person has it tried again", async () => {
  let poisonous = true;
  edge.answer = ({ changes }) => (poisonous && changes.some(({ new: row }) => row?.id === 7) ? 400 : 200);
  const listener = await listen();
  await pool.query("insert into bad select n, 'x' from generate_series(1, 10) n");
  await until("the others of its feed", () => ids("bad").length === 10, 20_000);
  expect(edge.changes("public.bad").map(({ op, new: row }) => row?.id ?? op)).toEqual([
    1,
    2,
    3,
    4,
    5,
    6,
    "G",
    8,
    9,
    10,
  ]);
  await pool.query("insert into bad values (11, 'x')");
  await until("the next one", () => ids("bad").at(-1) === 11);
  expect(listener.log.some((line) => line.includes("set aside") && line.includes("status 400"))).toBe(true);
  const { rows } = await pool.query("select realtime.cdc_status() -> 'parked' as parked");
  expect(rows[0]?.parked).toMatchObject([
    { feed: "public.bad", changes: 0, refused: 1, reason: expect.stringContaining("400") },
  ]);
  poisonous = false;
  await pool.query("select realtime.retry_refused('public.bad')");
  await until("the one that was refused", () =>
    edge.batches.some(({ changes }) => changes.some(({ new: row }) => row?.id === 7)),
  );
  await until("nothing parked", async () => (await pool.query("select from realtime.cdc_parked")).rowCount === 0);
}, 60_000);

test("a feed of which too much is parked is given up for a gap, and no other feed", async () => {
  let broken = true;
  edge.answer = ({ header }) => (broken && header.feed === "public.bad" ? 500 : 200);
  const listener = await listen({ REALTIME_OUTBOX_LIMIT: "120000000" });
  await writeFine(1, 1);
  // Incompressible: the bound is on bytes as they are sent and as they are kept.
  for (let n = 1; n <= 35; n += 1) {
    await pool.query("insert into bad select $1, string_agg(md5(random()::text), '') from generate_series(1, 31250)", [
      n,
    ]);
  }
  // Room is made for what comes next.
  await until(
    "giving up",
    async () => {
      await pool.query("insert into bad values (36, 'x')");
      await sleep(500);
      return listener.log.some((line) => line.includes("given up"));
    },
    100_000,
  );
  await writeFine(2, 20);
  broken = false;
  await until("the gap", () => edge.changes("public.bad").some(({ op }) => op === "G"), 20_000);
  await pool.query("insert into bad values (100, 'x')");
  await until("what comes after", () => ids("bad").at(-1) === 100, 20_000);
}, 150_000);
