// Latency under ordinary load: a room of ten people, one word at a time. Bounds that a person would notice, not figures.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { quantile } from "../../../scripts/bench/statistics.ts";
import { broadcast, eventually, join, uniqueName } from "../../support/clients.ts";
import { Peers } from "../../support/peers.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

const PEOPLE = 10;
const ROUNDS = 20;
/** The machine is shared with other tests; on one of its own each takes a few milliseconds. */
const MAX_MEDIAN_MS = 250;

let stack: TestStack;
let peers: Peers;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack();
  peers = new Peers(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
});

afterAll(async () => {
  await peers?.close();
  await db?.end();
  await stack?.stop();
});

test("a join, a broadcast, a presence and a row change reach everybody before a person would notice", async () => {
  const [room, table] = [uniqueName("room"), uniqueName("rows").replaceAll("-", "_")];
  await db.query(`create table ${table} (id int primary key)`);
  await db.query("select realtime.subscribe($1)", [table]);
  const heard = { broadcast: 0, presence: 0, row: 0 };
  const joins: number[] = [];
  const channels = [];
  for (let n = 0; n < PEOPLE; n++) {
    const channel = peers.channel("newest 2.0.0", room, undefined);
    channel
      .on("broadcast", { event: "*" }, () => void heard.broadcast++)
      .on("presence", { event: "join" }, () => void heard.presence++)
      .on("postgres_changes", { event: "INSERT", schema: "public", table }, () => void heard.row++);
    const startedAt = performance.now();
    await join(channel);
    joins.push(performance.now() - startedAt);
    channels.push(channel);
  }
  const [first] = channels;
  if (first === undefined) throw new Error("nobody is there");
  const acts = {
    broadcast: () => broadcast(first, "x", {}),
    presence: (round: number) => first.track({ round }),
    row: (round: number) => db.query(`insert into ${table} values (${round})`),
  };
  const medians: Record<string, number> = { join: quantile(joins, 0.5) };
  for (const what of ["broadcast", "presence", "row"] as const) {
    const took: number[] = [];
    for (let round = 1; round <= ROUNDS; round++) {
      const expected = heard[what] + (what === "broadcast" ? PEOPLE - 1 : PEOPLE);
      const startedAt = performance.now();
      await acts[what](round);
      await eventually(() => expect(heard[what]).toBe(expected));
      took.push(performance.now() - startedAt);
    }
    medians[what] = quantile(took, 0.5);
  }
  for (const [what, median] of Object.entries(medians)) expect(median, what).toBeLessThan(MAX_MEDIAN_MS);
});
