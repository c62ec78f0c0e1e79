// Promises of the documents that one command alone does not keep: what init leaves, scenarios, limits as they are by default.
import { createClient, type RealtimeChannel } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { type Running, realtime, start } from "./nself.ts";

let stack: TestStack;
let sql: pg.Client;
let minute: Running;
let minuteBegan: number;
beforeAll(async () => {
  stack = await startStack({
    // As they are by default, which tests do not have else.
    env: {
      REALTIME_CONNECTIONS_PER_MINUTE: "",
      REALTIME_MESSAGES_PER_MINUTE: "",
      REALTIME_PRESENCE_PER_MINUTE: "",
      REALTIME_IP_HEADER: "x-forwarded-for",
    },
  });
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("create table users (id int primary key, email text); create table posts (id int primary key)");
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

const nself = (...args: string[]) => realtime(stack, args);
const json = async (...args: string[]) => JSON.parse((await nself(...args, "--json")).stdout);
const select = async (query: string) => (await sql.query(query)).rows;

function joined(channel: RealtimeChannel): Promise<void> {
  return new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === "SUBSCRIBED") resolve();
      if (status === "CHANNEL_ERROR") reject(error ?? new Error("the join was refused"));
    });
  });
}

test("AC-011 AC-015: init leaves six tables, empty but for the default channel, and a socket connects to what status says", async () => {
  expect(await nself("init")).toMatchObject({ code: 0 });
  for (const table of ["channel_members", "messages", "presence", "subscriptions", "connections"]) {
    expect(await select(`select count(*)::int as rows from realtime.${table}`), table).toEqual([{ rows: 0 }]);
  }
  expect(await select("select slug from realtime.channels")).toEqual([{ slug: "general" }]);
  const { url } = await json("status");
  const client = createClient(url, stack.anonKey);
  await joined(client.channel("general"));
  await client.removeAllChannels();
});

test("AC-227 AC-023: the documented setup succeeds, and status counts what it made", { timeout: 60_000 }, async () => {
  for (const command of [
    ["init"],
    ["channel", "create", "general", "public"],
    ["channel", "create", "announcements", "public"],
    ["channel", "create", "support", "private"],
    ["subscribe", "public.users", "INSERT,UPDATE,DELETE"],
    ["subscribe", "public.posts", "INSERT,UPDATE"],
  ]) {
    expect(await nself(...command)).toMatchObject({ code: 0 });
  }
  const status = async () => (await nself("status")).stdout;
  expect(await status()).toContain("✓ 3 channels (2 public, 1 private, 0 presence)\n");
  expect(await status()).toMatch(/Tables monitored: +2\n/);
  expect(await status()).toContain("✓ 0 active subscriptions of clients to row changes\n");
  const client = createClient(stack.url, stack.serviceKey);
  const changes = { event: "INSERT", schema: "public", table: "users" } as const;
  await joined(client.channel("watch").on("postgres_changes", changes, () => {}));
  await vi.waitFor(
    async () => expect(await status()).toContain("✓ 1 active subscription of clients to row changes\n"),
    10_000,
  );
  await client.removeAllChannels();
});

test("tables are counted as monitored, not the wishes to: all of a schema is as many as it has", async () => {
  const monitored = async () => Number((await nself("status")).stdout.match(/Tables monitored: +(\d+)/)?.[1]);
  const before = await monitored();
  await sql.query(
    "create schema counted; create table counted.a (id int primary key); create table counted.b (id int)",
  );
  await nself("subscribe", "counted.*");
  expect(await monitored()).toBe(before + 2);
  await nself("unsubscribe", "counted.*");
  expect(await monitored()).toBe(before);
});

test("AC-053 begins: listen in a script, without seconds", async () => {
  minuteBegan = Date.now();
  minute = start(stack, ["realtime", "listen", "public.users"]);
  await vi.waitFor(() => expect(minute.stdout()).toContain("Listening to public.users..."), 10_000);
});

test("AC-038 AC-045: events that were not asked for, or are no more, are not delivered", async () => {
  const listener = start(stack, ["realtime", "listen", "public.posts", "--forever"]);
  await vi.waitFor(() => expect(listener.stdout()).toContain("Listening to"), 10_000);
  const operations = () => [...listener.stdout().matchAll(/\] ([A-Z]+):/g)].map(([, operation]) => operation);
  await sql.query("insert into posts values (1)");
  await sql.query("update posts set id = 2");
  await sql.query("delete from posts");
  await sql.query("insert into posts values (3)");
  await vi.waitFor(() => expect(operations()).toEqual(["INSERT", "UPDATE", "INSERT"]), 5_000);
  expect(await nself("subscribe", "public.posts", "DELETE")).toMatchObject({ code: 0 });
  await sql.query("insert into posts values (4)");
  await sql.query("delete from posts where id = 3");
  await vi.waitFor(() => expect(operations()).toEqual(["INSERT", "UPDATE", "INSERT", "DELETE"]), 5_000);
  listener.child.kill("SIGINT");
  expect(await listener.ended).toMatchObject({ code: 0 });
});

test("AC-197: what a client sends reaches others and the list of messages", async () => {
  const [one, other] = [createClient(stack.url, stack.anonKey), createClient(stack.url, stack.anonKey)];
  const heard: unknown[] = [];
  const [speaking, listening] = [one.channel("general"), other.channel("general")];
  listening.on("broadcast", { event: "message" }, ({ payload }) => heard.push(payload));
  await Promise.all([joined(speaking), joined(listening)]);
  await speaking.send({ type: "broadcast", event: "message", payload: { text: "Hello World!" } });
  await vi.waitFor(() => expect(heard).toEqual([{ text: "Hello World!" }]), 5_000);
  expect(await json("messages", "general", "1")).toMatchObject([
    { event_type: "message", payload: { text: "Hello World!" } },
  ]);
  await Promise.all([one.removeAllChannels(), other.removeAllChannels()]);
});

test("AC-184 AC-185 AC-186 AC-187 AC-188 AC-189: the tables hold the documented columns", async () => {
  const documented = {
    channels: ["id", "name", "type", "created_at", "metadata"],
    channel_members: ["channel_id", "user_id", "joined_at"],
    messages: ["id", "channel_id", "event", "payload", "created_at"],
    presence: ["user_id", "channel_id", "status", "last_seen", "metadata"],
    subscriptions: ["id", "table_name", "events", "created_at"],
    connections: ["id", "user_id", "connected_at", "last_ping"],
  };
  for (const [table, columns] of Object.entries(documented)) {
    await sql.query(`select ${columns.join(", ")} from realtime.${table} limit 1`);
  }
});

test("AC-215 AC-216: by default the 61st message and the 11th presence update of a minute are refused", async () => {
  const client = createClient(stack.url, stack.anonKey);
  const channel = client.channel("busy", { config: { broadcast: { ack: true }, presence: { key: "ann" } } });
  await joined(channel);
  const sent: string[] = [];
  for (let n = 0; n < 61; n++) sent.push(await channel.send({ type: "broadcast", event: "e", payload: { n } }));
  expect(sent.filter((answer) => answer !== "ok")).toEqual(["error"]);
  expect(sent.at(-1)).toBe("error");
  const tracked: string[] = [];
  for (let n = 0; n < 11; n++) tracked.push(await channel.track({ n }));
  expect(tracked).toEqual([...Array(10).fill("ok"), "error"]);
  await client.removeAllChannels();
});

test("AC-214: by default the 101st connection of an address in a minute is refused", async () => {
  const statuses: number[] = [];
  for (let n = 0; n < 101; n++) {
    // No socket is opened, and each counts: that it asks is what is limited.
    const response = await fetch(`${stack.url}/realtime/v1/websocket?apikey=hello`, {
      headers: { "x-forwarded-for": "192.0.2.7" },
    });
    statuses.push(response.status);
    await response.body?.cancel();
  }
  expect(statuses.slice(0, 100)).not.toContain(429);
  expect(statuses[100]).toBe(429);
});

test("AC-194: fifty sockets are not fifty database connections", async () => {
  const count = async () =>
    (await select("select count(*)::int as n from pg_stat_activity where backend_type = 'client backend'"))[0].n;
  const clients = Array.from({ length: 50 }, () => createClient(stack.url, stack.serviceKey));
  const changes = { event: "*", schema: "public", table: "users" } as const;
  await Promise.all(clients.map((client) => joined(client.channel("many").on("postgres_changes", changes, () => {}))));
  expect(await json("connections")).toHaveLength(51);
  expect(await count()).toBeLessThan(15);
  await Promise.all(clients.map((client) => client.removeAllChannels()));
});

test("AC-053: listen in a script ends by itself after a minute, well", { timeout: 90_000 }, async () => {
  expect(await minute.ended).toMatchObject({ code: 0, stderr: expect.stringContaining("for 60 s") });
  expect(Date.now() - minuteBegan).toBeGreaterThan(59_000);
  expect(Date.now() - minuteBegan).toBeLessThan(75_000);
});
