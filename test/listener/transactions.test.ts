// Transactions arrive unsplit and marked: no batch ends inside one that a batch can hold, and its last change says so.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
}, 60_000);

afterAll(() => postgres?.stop());

test("no batch ends inside a transaction, interleaved writers and a backlog notwithstanding", async () => {
  const edge = await RecordingEdge.start(secret);
  const pool = new pg.Pool({ connectionString: postgres.url, max: 4 });
  await pool.query("create table items (id int, tx int); select realtime.subscribe('items')");
  await pool.query("create table others (id int); select realtime.subscribe('others')");
  // Before the listener: more than one round, in transactions that overlap.
  await Promise.all(
    Array.from({ length: 4 }, async (_, writer) => {
      const client = await pool.connect();
      for (let n = 0; n < 15; n += 1) {
        await client.query("begin");
        for (let part = 0; part < 7; part += 1) {
          await client.query("insert into items select k, $1 from generate_series(1, 50) k", [writer * 100 + n]);
        }
        await client.query("insert into others values (1)");
        await client.query("commit");
      }
      client.release();
    }),
  );
  const listener = await startListener(postgres.url, edge.url, { REALTIME_NOTIFY: "off" });
  try {
    await until("all changes", () => edge.changes("public.items").length === 21_000, 20_000);
    const batches = edge.batches.filter(({ header }) => header.feed === "public.items");
    expect(batches.length).toBeGreaterThan(20);
    let ends = 0;
    for (const { changes } of batches) {
      for (const [index, { x, last }] of changes.entries()) {
        if (changes[index + 1]?.x !== x) expect(last).toBe(true);
        if (last) ends += 1;
      }
    }
    // Each is whole, but for the few that a page of a backlog of this size cuts.
    expect(ends).toBeGreaterThanOrEqual(60);
    expect(ends).toBeLessThanOrEqual(60 + 12);
    edge.batches.length = 0;
    await pool.query("insert into items select k, 0 from generate_series(1, 1500) k");
    await until("a transaction larger than a batch", () => edge.changes("public.items").length === 1_500);
    expect(edge.batches.map(({ changes }) => changes.length)).toEqual([1_000, 500]);
    expect(
      edge
        .changes("public.items")
        .map(({ last }) => last ?? false)
        .indexOf(true),
    ).toBe(1_499);
  } finally {
    await listener.end("SIGTERM");
    await pool.end();
    await edge.stop();
  }
}, 60_000);
