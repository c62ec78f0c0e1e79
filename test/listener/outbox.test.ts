// The outbox stays within its bound: capture stops and starts again, told to everybody; and it is emptied without vacuum.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;
let pool: pg.Pool;

beforeAll(async () => {
  postgres = await startPostgres({ autovacuum_naptime: "1s" });
  await migrate(postgres.url);
  pool = new pg.Pool({ connectionString: postgres.url, max: 4 });
  pool.on("error", () => {});
  await pool.query("create table items (id int, fill text); select realtime.subscribe('items')");
  await pool.query("create table quiet (id int); select realtime.subscribe('quiet')");
}, 60_000);

afterAll(async () => {
  await pool?.end();
  await postgres?.stop();
});

const status = async () => (await pool.query("select realtime.cdc_status() as state")).rows[0]?.state;
const fill = "string_agg(md5(random()::text), '')";
const write = (id: number) =>
  pool
    .query(`insert into items select $1, ${fill} from generate_series(1, 3000)`, [id])
    .then(({ rowCount }) => rowCount);

test("an edge that is away: alarm at half, capture stops at the bound while writers go on, and a gap is told when it is back", async () => {
  const edge = await RecordingEdge.start(secret);
  edge.answer = () => 503;
  const listener = await startListener(postgres.url, edge.url, { REALTIME_OUTBOX_LIMIT: "5000000" });
  try {
    await until("the lease", async () => (await listener.health()).body.leaseHolder, 15_000);
    for (let n = 1; n <= 27; n += 1) await write(n);
    await until("the alarm", async () => (await listener.health()).body.outbox, 5_000);
    await until("half", () => listener.log.some((line) => line.includes("half full")), 5_000);
    expect((await status()).capturing).toBe(true);
    for (let n = 28; n <= 60; n += 1) await write(n);
    await until("the stop", async () => (await status()).capturing === false, 5_000);
    await until("health", async () => {
      const { status, body } = await listener.health();
      return status === 503 && (body.outbox as { alarm: string }).alarm === "stopped";
    });
    const { outbox_bytes: before } = await status();
    expect(await write(1000)).toBe(1);
    expect((await status()).outbox_bytes).toBe(before);
    // A transaction that writes while capture is off, and commits long after it is on again.
    const late = await pool.connect();
    await late.query("begin; insert into quiet values (1)");
    edge.answer = () => 200;
    await until("capture", async () => (await status()).capturing === true, 20_000);
    const gaps = (table: string) => edge.changes(`public.${table}`).filter(({ op }) => op === "G").length;
    await until("the gaps", () => gaps("items") === 1 && gaps("quiet") === 1);
    await pool.query("insert into items values (2000, 'x')");
    await until("what is captured again", () => edge.changes("public.items").at(-1)?.new?.id === 2000);
    expect(
      edge
        .changes("public.items")
        .map(({ op }) => op)
        .indexOf("G"),
    ).toBe(edge.changes("public.items").length - 2);
    expect(edge.changes("public.items").some(({ new: row }) => row?.id === 1000)).toBe(false);
    // Who has started anew at the gap could not see that row yet: it is told again.
    await late.query("commit");
    late.release();
    await until("the second gap", () => gaps("quiet") === 2, 8_000);
    expect((await listener.health()).body).toMatchObject({ ok: true, outbox: { alarm: "none" } });
    expect((await status()).outbox_bytes).toBeLessThan(1_000_000);
  } finally {
    await listener.end("SIGKILL");
    await edge.stop();
  }
}, 90_000);

test("the bound holds where no listener runs at all", async () => {
  await until("the lease to end", async () => (await status()).leading === false);
  await pool.query("update realtime.settings set outbox_limit = 3000000");
  for (let n = 1; n <= 2_000 && (await status()).capturing; n += 1) await write(n);
  expect(await status()).toMatchObject({ capturing: false, leading: false });
  expect(await write(1)).toBe(1);
  // Our own tables write to the outbox too.
  for (const own of [
    "insert into realtime.messages (topic)",
    "update realtime.channels",
    "update realtime.channel_members",
  ]) {
    await pool.query("select setval('realtime.cdc_ctl', 0)");
    const statement = own.startsWith("insert")
      ? `${own} select topic from realtime.messages limit 0`
      : `${own} set id = id`;
    for (let n = 1; n <= 2_000 && (await status()).capturing; n += 1) await pool.query(statement);
    expect([own, (await status()).capturing]).toEqual([own, false]);
  }
  const edge = await RecordingEdge.start(secret);
  const listener = await startListener(postgres.url, edge.url, { REALTIME_OUTBOX_LIMIT: "50000000" });
  try {
    await until("capture", async () => (await status()).capturing === true, 30_000);
    await until("the gap", () => edge.changes("public.quiet").some(({ op }) => op === "G"));
  } finally {
    await listener.end("SIGTERM");
    await edge.stop();
  }
}, 120_000);

test("under load, beside a transaction that stays open, the outbox stays small and is never vacuumed", async () => {
  const edge = await RecordingEdge.start(secret);
  const listener = await startListener(postgres.url, edge.url, {
    REALTIME_OUTBOX_LIMIT: "60000000",
    REALTIME_NOTIFY: "off",
  });
  const open = await pool.connect();
  try {
    await until("the lease", async () => (await listener.health()).body.leaseHolder, 15_000);
    await open.query("begin; create temp table own (id int); select pg_current_xact_id()");
    let largest = 0;
    const endAt = Date.now() + 15_000;
    let written = 0;
    while (Date.now() < endAt) {
      written += 1;
      await pool.query(`insert into items select $1, ${fill} from generate_series(1, 10000)`, [written]);
      if (written % 10 === 0) largest = Math.max(largest, (await status()).outbox_bytes);
    }
    expect(written * 320_000).toBeGreaterThan(30_000_000);
    expect(largest).toBeLessThan((written * 320_000) / 2);
    expect((await status()).capturing).toBe(true);
    const { rows } = await pool.query(
      "select relname, autovacuum_count::int as runs from pg_stat_all_tables where schemaname = 'realtime' and relname in ('changes_a', 'changes_b')",
    );
    expect(rows.every(({ runs }) => runs === 0)).toBe(true);
  } finally {
    await open.query("rollback");
    open.release();
    await listener.end("SIGTERM");
    await edge.stop();
  }
}, 90_000);
