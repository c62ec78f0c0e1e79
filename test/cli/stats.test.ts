// The command stats: true numbers, as a user reads them.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join } from "../support/clients.ts";
import { childrenOf } from "../support/processes.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

let stack: TestStack;
let clients: Clients;
beforeAll(async () => {
  stack = await startStack();
  clients = new Clients(stack);
});
afterAll(async () => {
  await clients?.close();
  await stack?.stop();
});

const nself = (...args: string[]) => realtime(stack, args);
const stats = async () => JSON.parse((await nself("stats", "--json")).stdout);

test("AC-163 AC-164 AC-165: the blocks, the connections of now and the most there were", async () => {
  const { stdout } = await nself("stats");
  const blocks = ["WebSocket Connections", "Channels", "Messages \\(24h\\)", "Database Subscriptions", "Presence"];
  expect(stdout).toMatch(new RegExp(`^Real-Time Statistics:\n\n${blocks.join(":\n.*\n\n")}:\n`, "s"));
  for (const name of ["a", "b", "c"]) await join(clients.open().channel(name));
  await eventually(async () => expect((await stats()).connections).toMatchObject({ active: 3, peak_24h: 3 }), 20_000);
  expect(JSON.parse((await nself("connections", "--json")).stdout)).toHaveLength(3);
  await clients.close();
  await eventually(async () => expect((await stats()).connections).toMatchObject({ active: 0, peak_24h: 3 }), 20_000);
  await stack.killEdge();
  await join(clients.open().channel("again"));
  await eventually(async () => expect((await stats()).connections).toMatchObject({ active: 1, peak_24h: 3 }), 20_000);
});

test("as a table and as CSV there is a row for each number", async () => {
  const [table, csv] = [await nself("stats", "--format", "table"), await nself("stats", "--format", "csv")];
  expect(table.stdout).toMatch(/^ block +\| figure +\| value\n[-+]+\n connections +\| active +\| \d+\n/);
  for (const line of table.stdout.trimEnd().split("\n")) expect(line.length).toBeLessThan(80);
  expect(csv.stdout).toMatch(/^block,figure,value\r\nconnections,active,\d+\r\n/);
  expect(csv.stdout).toMatch(/^broadcasts,total_messages,\d+\r$/m);
});

test("AC-166 AC-168 AC-169: each delivery is counted, and how long it took", async () => {
  const { messages_24h: before, connections: quiet } = await stats();
  expect(quiet.average_latency_ms).toBeNull();
  const [ann, bob] = [clients.open().channel("talk"), clients.open().channel("talk")];
  await Promise.all([join(ann), join(bob)]);
  let heard = 0;
  bob.on("broadcast", { event: "n" }, () => {
    heard += 1;
  });
  const start = Date.now();
  for (let n = 0; n < 5; n++) {
    await broadcast(ann, "n", { n });
    await eventually(() => expect(heard).toBe(n + 1), 20_000);
  }
  const average = (Date.now() - start) / 5;
  await eventually(async () => {
    const { messages_24h: after, connections } = await stats();
    expect(after.delivered - before.delivered).toBe(5);
    expect(after.sent).toBe(after.delivered + after.failed);
    // From the channel to the sockets: a part of the whole way.
    expect(connections.average_latency_ms).toBeGreaterThanOrEqual(0);
    expect(connections.average_latency_ms).toBeLessThanOrEqual(Math.ceil(average));
  }, 20_000);
});

test("AC-167 AC-170 AC-171 AC-172 AC-173 AC-174: channels, row changes, presence and broadcasts", async () => {
  await admin(stack, "POST", "/channels", { name: "lounge", type: "presence" });
  await nself("presence", "track", "ann", "lounge");
  await nself("presence", "track", "bob", "lounge", "offline");
  await nself("broadcast", "lounge", "e", "{}");
  const sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("create table public.things (id int primary key)");
  await nself("subscribe", "public.things");
  await join(clients.open().channel("table:public.things"));
  const before = (await stats()).subscriptions.events_processed_24h;
  await sql.query("insert into public.things select generate_series(1, 7)");
  await sql.end();
  await eventually(async () => {
    const { channels, subscriptions, presence, broadcasts } = await stats();
    expect(subscriptions).toMatchObject({ active: 1, tables_monitored: 1, events_processed_24h: before + 7 });
    expect(presence).toEqual({ users_tracked: 2, online: 1, heartbeats_1m: 1 });
    expect(channels).toMatchObject({ presence: 1 });
    expect(channels.total).toBe(channels.public + channels.private + channels.presence);
    expect(broadcasts.total_messages).toBe(1);
  }, 20_000);
});

test("what PostgreSQL need not be asked for is told while it is away", async () => {
  const listener = childrenOf(stack.pid).find(({ command }) => command.includes("listener/main.ts"));
  if (listener === undefined) throw new Error("there is no listener");
  await join(clients.open().channel("here"));
  await eventually(async () => expect((await stats()).connections.active).toBeGreaterThan(0), 20_000);
  // The way to PostgreSQL goes through it.
  process.kill(listener.pid, "SIGSTOP");
  try {
    const { code, stdout, stderr } = await nself("stats", "--json");
    expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining("PostgreSQL does not answer") });
    expect(JSON.parse(stdout)).toMatchObject({
      store: "unavailable",
      connections: { active: expect.toSatisfy((active) => active > 0) },
      messages_24h: { delivered: expect.any(Number) },
      channels: null,
      broadcasts: null,
      subscriptions: { tables_monitored: null },
    });
    expect((await nself("stats")).stdout).toMatch(/^Channels:\n +Total: +-$/m);
  } finally {
    process.kill(listener.pid, "SIGCONT");
  }
  await eventually(async () => expect(await stats()).toMatchObject({ store: "ready", reason: null }), 20_000);
}, 60_000);
