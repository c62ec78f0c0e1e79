// Who may deliver: one listener at a time, whatever woke when, and whoever may see whose sessions.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { takeLease } from "../../src/listener/lease.ts";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { TcpProxy } from "../support/proxy.ts";
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

test("a leader cut off from PostgreSQL is replaced within five seconds, and what it still sends is refused", async () => {
  const edge = await RecordingEdge.start(secret);
  const pool = new pg.Pool({ connectionString: postgres.url });
  await pool.query("create table cut (id int); select realtime.subscribe('cut')");
  const network = await TcpProxy.start(postgres.url);
  const url = new URL(postgres.url);
  url.port = new URL(network.url).port;
  const first = await startListener(url.href, edge.url, { REALTIME_NOTIFY: "off" });
  await until("the lease", async () => (await first.health()).body.leaseHolder, 15_000);
  const second = await startListener(postgres.url, edge.url, { REALTIME_NOTIFY: "off" });
  try {
    await until("standby", async () => (await second.health()).body.state === "standby");
    // Neither side of the connection learns that it is dead: the server keeps the session, and with it the lease.
    network.swallow();
    const cutAt = performance.now();
    await until("the take-over", async () => (await second.health()).body.leaseHolder, 8_000);
    expect(performance.now() - cutAt).toBeLessThan(5_000);
    await pool.query("insert into cut values (1)");
    await until("the change", () => edge.changes("public.cut").length === 1);
    expect(edge.batches.at(-1)?.header.epoch).toBe((await second.health()).body.epoch);
  } finally {
    await first.end("SIGKILL");
    await second.end("SIGTERM");
    await network.stop();
    await edge.stop();
    await pool.end();
  }
}, 60_000);

test("a leader that is stopped in its tracks is replaced within five seconds", async () => {
  const edge = await RecordingEdge.start(secret);
  const first = await startListener(postgres.url, edge.url);
  await until("the lease", async () => (await first.health()).body.leaseHolder, 15_000);
  const second = await startListener(postgres.url, edge.url);
  try {
    await until("standby", async () => (await second.health()).body.state === "standby");
    first.freeze(true);
    const stoppedAt = performance.now();
    await until("the take-over", async () => (await second.health()).body.leaseHolder, 8_000);
    expect(performance.now() - stoppedAt).toBeLessThan(5_000);
    first.freeze(false);
    await until("the first to notice", () => first.log.some((line) => line.includes("took the lease")));
    await until("standby", async () => (await first.health()).body.state === "standby");
  } finally {
    await first.end("SIGKILL");
    await second.end("SIGTERM");
    await edge.stop();
  }
}, 60_000);
