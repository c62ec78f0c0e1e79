// The doorbell under load: a listener whose rounds are few because they are large does not have writers notify.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { secret, startListener, until } from "./process.ts";

const BURSTS = 25;
const TRANSACTIONS = 30;

test("while many transactions come in few rounds the bell stays off", async () => {
  const postgres = await startPostgres();
  const edge = await RecordingEdge.start(secret);
  await migrate(postgres.url);
  const listener = await startListener(postgres.url, edge.url);
  const pool = new pg.Pool({ connectionString: postgres.url, max: 10 });
  pool.on("error", () => {});
  try {
    await pool.query("create table items (id int)");
    await pool.query("select realtime.subscribe('items')");
    const states: unknown[] = [];
    for (let burst = 0; burst < BURSTS; burst++) {
      await Promise.all(Array.from({ length: TRANSACTIONS }, () => pool.query("insert into items values (1)")));
      states.push((await listener.health()).body.state);
      await sleep(100);
    }
    await until("all changes", () => edge.changes().length === BURSTS * TRANSACTIONS);
    // Whatever it was when the first of them came.
    expect(new Set(states.slice(10))).toEqual(new Set(["active"]));
    await until("quiet", async () => (await listener.health()).body.state === "armed");
  } finally {
    await listener.end("SIGTERM");
    await pool.end();
    await edge.stop();
    await postgres.stop();
  }
}, 60_000);
