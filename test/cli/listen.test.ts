// Commands on row changes: subscribe, unsubscribe, subscriptions, listen.
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
  await sql.query("create table users (id int primary key, email text); create table posts (id int primary key)");
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
const subscriptions = async () => JSON.parse((await nself("subscriptions", "json")).stdout);

/** Starts `listen` and waits until it has said that it has joined, and for how long: on two streams, which race. */
async function listen(...args: string[]): Promise<Running> {
  const listener = start(stack, ["realtime", "listen", ...args]);
  running.push(listener);
  await vi.waitFor(() => {
    expect(listener.stdout() + listener.stderr()).toContain("Listening to ");
    expect(listener.stderr()).toMatch(/ℹ (until|for) .*\n/);
  }, 10_000);
  return listener;
}

const lines = (listener: Running) => listener.stdout().trimEnd().split("\n").slice(1);

test("AC-037 AC-044 AC-046 AC-061 AC-062: subscribe, again, with fewer events; the list shows it once", async () => {
  const made = await nself("subscribe", "public.users");
  expect(made).toMatchObject({ code: 0, stderr: "", last: expect.stringMatching(/^[0-9a-f-]{36}$/) });
  expect((await nself("subscriptions")).stdout).toBe(
    "Active Database Subscriptions:\n\n  public.users              INSERT, UPDATE, DELETE\n",
  );
  expect(await nself("subscribe", "users", "insert, update")).toMatchObject({ code: 0, last: made.last });
  expect(await subscriptions()).toMatchObject([
    { id: made.last, table_name: "public.users", events: ["INSERT", "UPDATE"] },
  ]);
});

test("AC-040: a filter narrows what is captured, and notifications can be left out", async () => {
  await sql.query("create table comments (id int primary key, post_id text, body text)");
  const filter = "post_id = '123'";
  expect(await nself("subscribe", "public.comments", "INSERT,UPDATE", filter)).toMatchObject({ code: 0 });
  expect(await subscriptions()).toContainEqual(
    expect.objectContaining({ table_name: "public.comments", filter, options: {} }),
  );
  expect(await nself("subscribe", "comments", "--filter", "post=1")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('no column "post"'),
  });
  expect(await nself("subscribe", "comments", "--filter", filter, "--no-notify")).toMatchObject({ code: 0 });
  expect(await subscriptions()).toContainEqual(expect.objectContaining({ filter, options: { notify: false } }));
  const listener = await listen("public.comments", "--format", "json");
  await sql.query("insert into comments values (1, '124', 'x'), (2, '123', 'y')");
  await sql.query("update comments set body = repeat('z', 5000000)");
  const printed = () => listener.stdout().split("\n").slice(0, -1);
  await vi.waitFor(() => expect(printed()).toHaveLength(2), 15_000);
  const [inserted, updated] = printed().map((line) => JSON.parse(line));
  expect(inserted.new).toMatchObject({ id: 2 });
  expect([updated.new.id, updated.new.body.length, updated.old.body]).toEqual([2, 5_000_000, "y"]);
  await nself("unsubscribe", "comments");
});

test("AC-041 AC-042 AC-043: a bad table or event is refused and leaves nothing", async () => {
  const before = await subscriptions();
  expect(await nself("subscribe", "public.nosuch")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no table "public.nosuch"'),
  });
  expect(await nself("subscribe", "public.posts", "UPSERT")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('"UPSERT"'),
  });
  expect(await nself("subscribe", "a.b.c.d")).toMatchObject({ code: 2 });
  expect(await subscriptions()).toEqual(before);
});

test("AC-048 AC-049 AC-050: unsubscribe by table or id; what is not there is not found", async () => {
  const { last } = await nself("subscribe", "public.posts");
  expect(await nself("unsubscribe", last)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("✓ Subscription removed"),
  });
  await nself("subscribe", "public.posts");
  expect(await nself("unsubscribe", "public.posts")).toMatchObject({ code: 0 });
  expect((await subscriptions()).map(({ table_name }: Record<string, string>) => table_name)).not.toContain(
    "public.posts",
  );
  await nself("subscribe", "public.posts");
  await nself("subscribe", "public.*");
  expect(await nself("unsubscribe", "public.posts")).toMatchObject({
    code: 0,
    stderr: expect.stringContaining("still captured by public.*"),
  });
  expect(await nself("unsubscribe", "public.*")).toMatchObject({ code: 0, stderr: "" });
  expect(await nself("unsubscribe", "public.never")).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining("public.never"),
  });
});

test("AC-052 AC-056 AC-057 AC-059: listen shows each change as it comes", async () => {
  await nself("subscribe", "public.users");
  const listener = await listen("public.users");
  expect(listener.stdout()).toMatch(/^Listening to public\.users\.\.\.\n/);
  expect(listener.stderr()).toContain("for 60 s");
  await sql.query("insert into users values (1, 'user@example.com')");
  await vi.waitFor(() => expect(lines(listener)).toHaveLength(1), 2_000);
  await sql.query("update users set email = 'new@example.com'");
  await sql.query("delete from users");
  await vi.waitFor(() => expect(lines(listener)).toHaveLength(3), 2_000);
  const [inserted, updated, deleted] = lines(listener);
  expect(inserted).toMatch(/^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] INSERT: \{"id":1,"email":"user@example\.com"\}$/);
  expect(updated).toMatch(/\] UPDATE: \{"id":1,"email":"new@example\.com"\}$/);
  expect(deleted).toMatch(/\] DELETE: \{"id":1,"email":"new@example\.com"\}$/);
});

test("AC-058: the raw form is psql's, the JSON form an envelope a line", async () => {
  const [raw, json] = [await listen("public.users", "--format", "raw"), await listen("public.users", "--json")];
  await sql.query("insert into users values (2, 'a')");
  await sql.query("update users set email = 'b'");
  await vi.waitFor(() => {
    expect(lines(raw)).toHaveLength(4);
    expect(json.stdout().trimEnd().split("\n")).toHaveLength(2);
  }, 2_000);
  expect(raw.stdout()).toMatch(
    /Asynchronous notification "realtime:table:public\.users" received from server process with PID \d+\.\nPayload: \{/,
  );
  const [inserted, updated] = json
    .stdout()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  const row = { schema: "public", table: "users" };
  expect(inserted).toEqual({ timestamp: expect.any(Number), operation: "INSERT", ...row, new: { id: 2, email: "a" } });
  expect(updated).toMatchObject({
    operation: "UPDATE",
    ...row,
    new: { id: 2, email: "b" },
    old: { id: 2, email: "a" },
  });
  expect(inserted.timestamp).toBe(Math.floor(inserted.timestamp));
});

test("AC-067 AC-069: every client, by socket and by plain LISTEN, gets each change, new and old as documented", async () => {
  await sql.query("create table heard (id int primary key, note text)");
  await nself("subscribe", "public.heard");
  const listeners = await Promise.all([listen("public.heard", "--json"), listen("public.heard", "--json")]);
  const clients = [createClient(stack.url, stack.serviceKey), createClient(stack.url, stack.serviceKey)];
  const seen = await Promise.all(
    clients.map(async (client) => {
      const changes: unknown[][] = [];
      const channel = client.channel("watch");
      channel.on("postgres_changes", { event: "*", schema: "public", table: "heard" }, (change) => {
        changes.push([change.eventType, change.new, change.old]);
      });
      await new Promise<void>((resolve) => {
        channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
      });
      return changes;
    }),
  );
  const ears = [
    new pg.Client({ connectionString: stack.databaseUrl }),
    new pg.Client({ connectionString: stack.databaseUrl }),
  ];
  const notified = await Promise.all(
    ears.map(async (ear) => {
      const payloads: string[] = [];
      ear.on("notification", ({ payload = "" }) => payloads.push(payload));
      await ear.connect();
      await ear.query('listen "realtime:table:public.heard"');
      return payloads;
    }),
  );

  await sql.query("insert into heard values (1, 'a')");
  await sql.query("update heard set note = 'b'");
  await sql.query("delete from heard");
  const [first, second] = [
    { id: 1, note: "a" },
    { id: 1, note: "b" },
  ];
  await vi.waitFor(() => {
    for (const changes of seen) {
      expect(changes).toEqual([
        ["INSERT", first, {}],
        ["UPDATE", second, first],
        ["DELETE", {}, second],
      ]);
    }
    for (const lines of [...listeners.map((one) => one.stdout().trimEnd().split("\n")), ...notified]) {
      const row = { timestamp: expect.any(Number), schema: "public", table: "heard" };
      expect(lines.map((line) => withoutExtras(JSON.parse(line)))).toEqual([
        { ...row, operation: "INSERT", new: first },
        { ...row, operation: "UPDATE", new: second, old: first },
        { ...row, operation: "DELETE", old: second },
      ]);
    }
  }, 10_000);
  await Promise.all([...clients.map((client) => client.removeAllChannels()), ...ears.map((ear) => ear.end())]);
});

/** A notification has a time in milliseconds and an id besides what is documented. */
function withoutExtras({ timestamp_ms: _ms, id: _id, ...documented }: Record<string, unknown>) {
  return documented;
}

test("numbers keep their digits", async () => {
  await sql.query("create table if not exists exact (id bigint primary key, price numeric)");
  await nself("subscribe", "public.exact");
  const listener = await listen("exact");
  await sql.query("insert into exact values (9007199254740993, 1.10)");
  await vi.waitFor(
    () => expect(lines(listener)).toEqual([expect.stringContaining('{"id":9007199254740993,"price":1.10}')]),
    2_000,
  );
});

test("AC-055: listen ends after the seconds given, well", async () => {
  const before = Date.now();
  const run = await nself("listen", "public.users", "2");
  expect(run).toMatchObject({ code: 0, stderr: expect.stringContaining("for 2 s") });
  expect(Date.now() - before).toBeGreaterThan(1_900);
  // Well before the 60 s that it would listen by itself, however slow the machine.
  expect(Date.now() - before).toBeLessThan(20_000);
});

test("AC-054: listen without an end stops at Ctrl+C, well", async () => {
  const listener = await listen("public.users", "--forever");
  expect(listener.stderr()).toContain("until Ctrl+C");
  listener.child.kill("SIGINT");
  expect(await listener.ended).toMatchObject({ code: 0 });
});

test("AC-060: seconds that are no number, and a table that is not captured, are refused", async () => {
  expect(await nself("listen", "public.users", "abc")).toMatchObject({
    code: 2,
    stdout: "",
    stderr: expect.stringContaining("Usage:"),
  });
  expect(await nself("listen", "public.posts")).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringContaining("nself realtime subscribe public.posts"),
  });
});

test("where all tables are captured, one that does not exist is said not to, with the channel of that name", async () => {
  await sql.query("create schema shop; create table shop.orders (id int primary key)");
  await nself("subscribe", "shop.*");
  expect(await nself("listen", "shop.nope")).toMatchObject({
    code: 1,
    stdout: "",
    stderr: "✗ there is no table shop.nope that is captured\n",
  });
  await nself("subscribe", "public.*");
  expect(await nself("listen", "general")).toMatchObject({
    code: 1,
    stdout: "",
    stderr:
      "✗ there is no table public.general that is captured; for the channel of that name: nself realtime listen channel:general\n",
  });
  await nself("unsubscribe", "public.*");
});

test("listen follows a channel, private ones too", async () => {
  await nself("channel", "create", "War Room", "private");
  const listener = await listen("channel:War Room");
  await nself("broadcast", "war-room", "hello", '{"n": 1}');
  await vi.waitFor(() => expect(lines(listener)).toEqual([expect.stringMatching(/\] hello: \{"n":1\}$/)]), 2_000);
});

test("AC-130: a listener whose server was killed shows every change once", async () => {
  const listener = await listen("public.users", "--forever", "--json");
  await sql.query("insert into users values (10, 'before')");
  await vi.waitFor(() => expect(listener.stdout()).toContain('"before"'), 2_000);
  await stack.killEdge();
  await sql.query("insert into users select n, 'meanwhile' from generate_series(11, 30) n");
  await vi.waitFor(() => expect(listener.stdout().trimEnd().split("\n")).toHaveLength(21), 15_000);
  await sql.query("insert into users values (31, 'after')");
  await vi.waitFor(() => expect(listener.stdout()).toContain('"after"'), 5_000);
  const ids = listener
    .stdout()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line).new.id);
  expect(ids).toEqual(Array.from({ length: 22 }, (_, n) => n + 10));
});
