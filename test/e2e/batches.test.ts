// The listener's door: batches of row changes, signed, and what is said to those that are not in order.
import { createHmac } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

const LISTENER_SECRET = "the listener's secret in these tests";

let stack: TestStack;

beforeAll(async () => {
  stack = await startStack({ env: { REALTIME_LISTENER_SECRET: LISTENER_SECRET } });
  const db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  // The feed must be one that can be joined; what is posted to it here has never been a row.
  await db.query("create table posted (n int primary key)");
  await db.query("select realtime.subscribe('posted')");
  await db.end();
});

afterAll(() => stack?.stop());

const now = (): number => Math.floor(Date.now() / 1000);

const feed = "public.posted";
const RELID = 16_384;

function header(more: Record<string, unknown> = {}): string {
  const columns = [{ name: "n", type: "int4" }];
  const table = { schema: "public", table: "posted", generation: 1, columns, primaryKey: ["n"] };
  return JSON.stringify({
    ...{ v: 1, source: "test", epoch: 1_000, batch: 1, redelivered: false, feed },
    tables: { [RELID]: { ...table, rls: false, readers: ["anon"] } },
    ...more,
  });
}

function change(id: number, more: Record<string, unknown> = {}): string {
  const at = "2026-01-01T00:00:00.000Z";
  return JSON.stringify({ id: String(id), x: "1", r: RELID, op: "I", at, new: { n: id }, ...more });
}

function sign(body: string, timestamp = String(now()), secret = LISTENER_SECRET): Record<string, string> {
  const signature = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
  return { "x-nself-timestamp": timestamp, "x-nself-signature": signature };
}

async function post(body: string, headers: Record<string, string> = sign(body)) {
  const response = await fetch(`${stack.url}/internal/changes`, { method: "POST", body, headers });
  return { status: response.status, answer: await response.json() };
}

const body = (...lines: string[]): string => `${lines.join("\n")}\n`;
const good = body(header(), change(1));

test.each([
  ["without a signature", () => ({}), "x-nself-timestamp and x-nself-signature are needed"],
  ["signed with another secret", () => sign(good, String(now()), "another secret"), /signature is wrong/],
  ["signed for another body", () => sign(body(header(), change(2))), /signature is wrong/],
  ["signed an hour ago", () => sign(good, String(now() - 3_600)), /x-nself-timestamp/],
  ["whose timestamp is no number", () => sign(good, "noon"), /x-nself-timestamp/],
  ["whose signature is no hex", () => ({ ...sign(good), "x-nself-signature": "zz" }), /x-nself-signature/],
  ["with a service key instead", () => ({ authorization: `Bearer ${stack.serviceKey}` }), /x-nself-signature/],
])("refuses a batch %s with 401", async (_name, headers, error) => {
  expect(await post(good, headers())).toEqual({ status: 401, answer: { error: expect.stringMatching(error) } });
});

test.each([
  ["that is empty", () => "", /header/],
  ["whose header is not JSON", () => body("{", change(1)), /line 1/],
  ["of an unknown version", () => body(header({ v: 2 }), change(1)), /line 1.*\bv\b/],
  ["whose header has no source", () => body(header({ source: undefined }), change(1)), /line 1.*source/],
  ["for a feed whose name is none", () => body(header({ feed: "posted" }), change(1)), /line 1.*feed/],
  ["with a line that is not JSON", () => body(header(), change(1), "{"), /line 3/],
  ["with an unknown operation", () => body(header(), change(1, { op: "X" })), /line 2.*op/],
  [
    "with a change of a table that the header does not describe",
    () => body(header(), change(1, { r: 1 })),
    /line 2.*table 1/,
  ],
  ["whose new row is no object", () => body(header(), change(1, { new: [1] })), /line 2.*new/],
])("refuses a batch %s with 400, naming the line", async (_name, make, error) => {
  expect(await post(make())).toEqual({ status: 400, answer: { error: expect.stringMatching(error) } });
});

test("refuses a batch over its limits with 413", async () => {
  const large = body(header(), change(1, { new: { text: "x".repeat(15_000_000) } }));
  const long = body(header(), ...Array.from({ length: 1_001 }, (_, n) => change(n)));
  for (const given of [large, long]) {
    expect(await post(given)).toEqual({ status: 413, answer: { error: expect.stringMatching(/at most/) } });
  }
});

test("takes a batch that comes again, wholly or in part, and delivers each change once", async () => {
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  await socket.join("realtime:table:public.posted");
  const source = uniqueName("source");
  const first = body(header({ source, batch: 7 }), change(1), change(2));
  const again = body(header({ source, batch: 7, redelivered: true }), change(1), change(2));
  const more = body(header({ source, batch: 8, redelivered: true }), change(2), change(3));
  for (const given of [first, again, more]) expect((await post(given)).status).toBe(200);
  expect((await post(again)).answer).toEqual({ ack: 7 });
  const inserts = await socket.until("the changes", 3, ({ event }) => event === "INSERT");
  await socket.heartbeat();
  expect(inserts.map(({ payload }) => payload.record)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
  expect(socket.frames.filter(({ event }) => event === "INSERT")).toHaveLength(3);
});

test("refuses an older listener with 409 once a newer one has delivered", async () => {
  const source = uniqueName("fenced");
  const from = (epoch: number, batch: number): string => body(header({ source, epoch, batch }), change(batch));
  for (const [epoch, batch, status] of [
    [5, 1, 200],
    [6, 2, 200],
    [5, 3, 409],
    [6, 4, 200],
  ] as const) {
    expect((await post(from(epoch, batch))).status).toBe(status);
  }
});
