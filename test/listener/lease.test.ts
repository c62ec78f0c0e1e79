// Who may deliver: one listener at a time, whatever woke when, and whoever may see whose sessions.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { takeLease } from "../../src/listener/lease.ts";
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

test("a listener that wakes after another took over delivers nothing unmarked that the other delivers too", async () => {
  const edge = await RecordingEdge.start(secret);
  const pool = new pg.Pool({ connectionString: postgres.url });
  const first = await startListener(postgres.url, edge.url, { REALTIME_NOTIFY: "off" });
  // Each feed of the edge knows only the epochs that it has heard itself.
  const newest = new Map<string, number>();
  const taken = new Set<string>();
  const doubled: string[] = [];
  edge.answer = ({ header: { feed, epoch, redelivered }, changes }) => {
    if (epoch < (newest.get(feed) ?? 0)) return 409;
    newest.set(feed, epoch);
    doubled.push(...changes.filter(({ id }) => taken.has(id) && !redelivered).map(({ id }) => `${epoch}: ${id}`));
    for (const { id } of changes) taken.add(id);
    return 200;
  };
  try {
    await pool.query("create table items (id int)");
    await pool.query("select realtime.subscribe('items')");
    let written = 0;
    for (let turn = 0; turn < 3; turn += 1) {
      await until("the lease", async () => (await first.health()).body.leaseHolder, 15_000);
      first.freeze(true);
      await pool.query("update realtime.cdc_consumers set lease_until = '-infinity'");
      const second = await startListener(postgres.url, edge.url, { REALTIME_NOTIFY: "off" });
      await until("the take-over", async () => (await second.health()).body.leaseHolder, 15_000);
      first.freeze(false);
      for (let n = 0; n < 40; n += 1) {
        await pool.query("insert into items values ($1)", [n]);
        written += 1;
      }
      await until("all changes", () => taken.size === written);
      await second.end("SIGTERM");
    }
    expect(doubled).toEqual([]);
  } finally {
    await first.end("SIGKILL");
    await edge.stop();
    await pool.end();
  }
}, 60_000);

test("a lease is respected by who may not see since when its owner's session lives", async () => {
  const owner = new pg.Client({ connectionString: postgres.url });
  await owner.connect();
  await owner.query("update realtime.cdc_consumers set owner = null");
  expect(await takeLease(owner)).not.toBeNull();
  await owner.query("create role stranger login password 's' bypassrls");
  await owner.query(
    "grant usage on schema realtime to stranger; grant select, update on all tables in schema realtime to stranger; " +
      "grant execute on all functions in schema realtime to stranger; grant select on all sequences in schema realtime to stranger",
  );
  const url = new URL(postgres.url);
  url.username = "stranger";
  url.password = "s";
  const stranger = new pg.Client({ connectionString: url.href });
  await stranger.connect();
  expect(await takeLease(stranger)).toBeNull();
  await owner.end();
  await until("the owner's session to end", () => takeLease(stranger));
  await stranger.end();
});

test("healthy feeds run only so far ahead of a stuck one, so that a restart repeats only so much", async () => {
  const edge = await RecordingEdge.start(secret);
  const pool = new pg.Pool({ connectionString: postgres.url });
  edge.answer = ({ header }) => (header.feed === "public.stuck" ? 500 : 200);
  const listener = await startListener(postgres.url, edge.url, { REALTIME_NOTIFY: "off" });
  try {
    await pool.query("create table stuck (id int); create table fine (id int)");
    await pool.query("select realtime.subscribe('stuck'), realtime.subscribe('fine')");
    await until("the lease", async () => (await listener.health()).body.leaseHolder, 15_000);
    await pool.query("insert into stuck values (1)");
    // Changes of 5 s, a round each few milliseconds: many more than 500 rounds if nothing held them back.
    const endAt = Date.now() + 5_000;
    let written = 0;
    while (Date.now() < endAt) {
      await pool.query("insert into fine values ($1)", [written]);
      written += 1;
    }
    const rounds = () => edge.batches.filter(({ header }) => header.feed === "public.fine").length;
    expect(edge.changes("public.fine").length).toBeLessThan(written);
    expect(rounds()).toBeLessThanOrEqual(500);
    edge.answer = () => 200;
    await until("all changes", () => edge.changes("public.fine").length === written, 15_000);
  } finally {
    await listener.end("SIGKILL");
    await edge.stop();
    await pool.end();
  }
}, 60_000);
