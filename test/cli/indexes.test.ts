// Large tables: what is asked for by time, by user and by channel comes from an index, however much there is.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { quantile } from "../../scripts/bench/statistics.ts";
import { admin } from "../support/admin.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

/** `INDEXED_MESSAGES=1000000 npm test indexes` has the number that was promised. */
const MESSAGES = Number(process.env.INDEXED_MESSAGES ?? 200_000);
const CHANNELS = 20;
const PROMISED_MS = 50;
const ASKED = 20;

let stack: TestStack;
let db: pg.Client;
let startedAt: Date;
beforeAll(async () => {
  stack = await startStack();
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  // As a backup is restored: what is filled in was captured, or sent, long ago.
  await db.query("set session_replication_role = replica");
  await db.query(`insert into realtime.channels (slug, name) select 'c' || n, 'c' || n from generate_series(1, $1) n`, [
    CHANNELS,
  ]);
  startedAt = new Date(Date.now() - 20 * 3_600_000);
  await db.query(
    `insert into realtime.messages (channel_id, topic, event_type, event, payload, sender_id, sent_at, skip_broadcast)
     select c.id, c.slug, 'message.new', 'message.new', jsonb_build_object('n', n), 'user-' || n % 1000,
       $2::timestamptz + n * (interval '19 hours' / $1::int), true
     from generate_series(1, $1::int) n join realtime.channels c on c.slug = 'c' || 1 + n % ${CHANNELS}`,
    [MESSAGES, startedAt],
  );
  await db.query(
    `insert into realtime.presence (user_id, channel_id) select 'user-' || n, c.id
     from realtime.channels c, generate_series(1, 2000) n`,
  );
  await db.query("set session_replication_role = origin; analyze realtime.messages; analyze realtime.presence");
}, 300_000);
afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

interface Plan {
  readonly "Node Type": string;
  readonly "Index Name"?: string;
  readonly Plans?: readonly Plan[];
}

async function explained(query: string): Promise<{ plan: Plan; ms: number }> {
  const { rows } = await db.query(`explain (analyze, format json) ${query}`);
  const [{ Plan: plan, "Execution Time": ms }] = rows[0]["QUERY PLAN"];
  return { plan, ms };
}

function nodesOf(plan: Plan): Plan[] {
  return [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];
}

const CHANNEL = "(select id from realtime.channels where slug = 'c7')";

test.each([
  ["messages by time", "messages", "where sent_at > now() - interval '70 minutes' order by sent_at limit 100"],
  [
    "messages of a channel by time",
    "messages",
    `where channel_id = ${CHANNEL} and sent_at > now() - interval '5 hours' order by sent_at limit 100`,
  ],
  ["newest messages of a channel", "messages", `where channel_id = ${CHANNEL} order by sent_at desc limit 50`],
  ["presence by user", "presence", "where user_id = 'user-77'"],
  ["presence by channel and user", "presence", `where channel_id = ${CHANNEL} and user_id = 'user-77'`],
  ["presence by channel", "presence", `where channel_id = ${CHANNEL}`],
])("AC-190: %s: the plan shows an index and no scan of the table", async (_what, table, condition) => {
  const { plan, ms } = await explained(`select * from realtime.${table} ${condition}`);
  const nodes = nodesOf(plan);
  expect(nodes.some((node) => node["Index Name"]?.startsWith(table))).toBe(true);
  expect(nodes.map((node) => node["Node Type"])).not.toContain("Seq Scan");
  expect(ms).toBeLessThan(PROMISED_MS);
});

test(`AC-190: of ${MESSAGES} messages a replay of 100 comes from an index, in time`, async () => {
  const scans = async (): Promise<number> => {
    await db.query("select pg_stat_clear_snapshot()");
    const { rows } = await db.query(
      "select seq_scan::int from pg_stat_user_tables where relid = 'realtime.messages'::regclass",
    );
    return rows[0].seq_scan;
  };
  const since = Math.floor(startedAt.getTime() / 1_000) + 9 * 3_600;
  const times: number[] = [];
  for (let asked = 0; asked < ASKED; asked++) {
    const from = performance.now();
    const found = await admin(stack, "GET", `/channels/c7/messages?since=${(since + asked) * 1_000}&limit=100`);
    times.push(performance.now() - from);
    expect(found).toHaveLength(100);
  }
  console.log(`replay of 100 of ${MESSAGES}: ${quantile(times, 0.5).toFixed(1)} ms (median of ${ASKED})`);
  // Promised are 50 ms; on a machine that does much else, that it is not ten times as much.
  expect(quantile(times, 0.5)).toBeLessThan(10 * PROMISED_MS);
  // PostgreSQL counts scans within a second of the end of what scanned.
  const before = await scans();
  const shown = await realtime(stack, ["replay", "c7", String(since), "json"]);
  expect(JSON.parse(shown.stdout)[0]).toMatchObject({ event_type: "message.new", sent_at: expect.any(String) });
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(await scans()).toBe(before);
});
