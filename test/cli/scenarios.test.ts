// The scenarios and the troubleshooting sections of the documents: each command shows what the text says that it shows.
import { createClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { type Running, realtime, start } from "./nself.ts";

let stack: TestStack;
let sql: pg.Client;
const running: Running[] = [];
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("create table users (id int generated always as identity primary key, email text)");
  for (const args of [["init"], ["subscribe", "public.users"], ["channel", "create", "general", "public"]]) {
    expect(await nself(...args)).toMatchObject({ code: 0 });
  }
});
afterEach(async () => {
  for (const { child, ended } of running.splice(0)) {
    child.kill("SIGINT");
    await ended;
  }
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

const nself = (...args: string[]) => realtime(stack, args);
/** What a command shows that succeeds. */
const shown = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await nself(...args);
  expect({ args, code, stderr }).toEqual({ args, code: 0, stderr: expect.not.stringContaining("✗") });
  return stdout + stderr;
};
const follow = (...args: string[]): Running => {
  const follower = start(stack, ["realtime", ...args]);
  running.push(follower);
  return follower;
};
const eventually = (assertion: () => void | Promise<void>) => vi.waitFor(assertion, { timeout: 10_000, interval: 50 });

/** Somebody with a socket, in the channel. */
async function visitor() {
  const client = createClient(stack.url, stack.anonKey);
  const heard: unknown[] = [];
  const channel = client.channel("general");
  channel.on("broadcast", { event: "user.joined" }, ({ payload }) => heard.push(payload));
  channel.on("presence", { event: "sync" }, () => {});
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  return { channel, heard, leave: () => client.removeAllChannels() };
}

test('AC-228: "User Joins Channel": who listens by a socket sees member, presence and event', async () => {
  const { channel, heard, leave } = await visitor();
  await shown("channel", "join", "general", "user-123");
  await shown("presence", "track", "user-123", "general", "online");
  await shown("broadcast", "general", "user.joined", '{"user_id": "user-123", "name": "John Doe"}');
  await eventually(() => {
    expect(channel.presenceState()).toMatchObject({ "user-123": [{ status: "online" }] });
    expect(heard).toEqual([{ user_id: "user-123", name: "John Doe" }]);
  });
  expect(await shown("channel", "members", "general")).toMatch(/^ {2}user-123 +\(no name\) +online +member$/m);
  await leave();
});

test('AC-229: "Monitor Activity": listen, messages, presence and statistics show that activity', async () => {
  const { leave } = await visitor();
  const listener = follow("listen", "public.users", "300");
  await eventually(() => expect(listener.stderr()).toContain("for 300 s"));
  await sql.query("insert into users (email) values ('user@example.com')");
  await eventually(() => expect(listener.stdout()).toMatch(/\] INSERT: \{"id":\d+,"email":"user@example\.com"\}$/m));
  expect(await shown("messages", "general", "50")).toMatch(/user\.joined.*"John Doe"/);
  expect(await shown("presence", "online", "general")).toMatch(
    /^Online Users \(general\): 1\n\n {2}user-123 .*online/m,
  );
  await eventually(async () => {
    const stats = await shown("stats");
    expect(stats).toMatch(/^WebSocket Connections:\n +Active: +2$/m);
    expect(stats).toMatch(/^ +Delivered: +[1-9]/m);
    expect(stats).toMatch(/^ +Tables monitored: +1$/m);
    expect(stats).toMatch(/^ +Events processed \(24h\): +1$/m);
    expect(stats).toMatch(/^ +Currently online: +1$/m);
  });
  await leave();
});

test('AC-230: "Connection Issues": status, logs and connections show who is connected', async () => {
  const { leave } = await visitor();
  expect(await shown("status")).toMatch(/✓ WebSocket server running\n✓ 1 active connection\n/);
  const logs = follow("logs", "--follow");
  await eventually(() => expect(logs.stdout()).toContain('"event":"connected"'));
  expect(await shown("connections")).toMatch(/^ {2}\S+ +\S+ +general +Connected \d+s ago$/m);
  await leave();
});

test('AC-230: "Message Delivery Issues", "Messages Not Arriving": channels, messages, statistics, and changes as they come', async () => {
  await shown("broadcast", "general", "message.new", '{"text": "Hello!"}');
  expect(await shown("channel", "list")).toMatch(/^ {2}general +public +\d+ members?$/m);
  expect(await shown("messages", "general", "10")).toMatch(/message\.new.*"Hello!"/);
  expect(await shown("stats")).toMatch(/^Broadcasts:\n +Total: +[1-9]/m);
  const listener = follow("listen", "channel:general");
  await eventually(() => expect(listener.stdout()).toContain("Listening to"));
  await shown("broadcast", "general", "message.new", '{"text": "Again!"}');
  await eventually(() => expect(listener.stdout()).toContain('message.new: {"text":"Again!"}'));
});

test('AC-230: "Subscriptions Not Working": the subscription, its triggers, and a row by hand', async () => {
  expect(await shown("subscriptions")).toMatch(/^ {2}public\.users +INSERT, UPDATE, DELETE$/m);
  const { rows } = await sql.query("select tgname from pg_trigger where tgrelid = 'users'::regclass order by 1");
  expect(rows.map(({ tgname }) => tgname.toLowerCase())).toEqual(
    expect.arrayContaining(["realtime_delete_users", "realtime_insert_users", "realtime_update_users"]),
  );
  const listener = follow("listen", "public.users");
  await eventually(() => expect(listener.stderr()).toMatch(/for 60 s/));
  await sql.query("insert into public.users (email) values ('test@example.com')");
  await eventually(() => expect(listener.stdout()).toContain('"email":"test@example.com"'));
});

test('AC-230: "Presence Not Updating": the statistics, a status by hand, and what is stale goes', async () => {
  const online = async () => (await shown("presence", "stats")).match(/Currently online: +(\d+)/)?.[1];
  await shown("presence", "offline", "user-123");
  await eventually(async () => expect(await online()).toBe("0"));
  await shown("presence", "track", "user-123", "general", "online");
  await eventually(async () => expect(await online()).toBe("1"));
  expect(await shown("presence", "online")).toMatch(/^ {2}user-123 .*online/m);
  expect(await shown("presence", "cleanup")).toMatch(/: 0$/m);
  expect(await shown("cleanup")).toMatch(/Expired presence: 0$/m);
});
