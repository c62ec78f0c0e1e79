// Coming from Supabase: channels and tables are taken over from its database.
import { createClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime, start } from "./nself.ts";

let stack: TestStack;
let sql: pg.Client;
let supabase: string;
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query(`create table orders (id int primary key); create table "Mixed" (id int primary key);
    create table tickets (id int primary key, state varchar(9)); create table odd (id int primary key)`);
  await sql.query("create database supabase");
  supabase = stack.databaseUrl.replace(/\/[^/]*$/, "/supabase");
  const there = new pg.Client({ connectionString: supabase });
  await there.connect();
  // As far as it is read, a database of Supabase: its publication, and the table of messages with its kinds of topics.
  await there.query(`
    create schema realtime;
    create table realtime.messages (topic text not null, extension text not null, private boolean default false);
    insert into realtime.messages values ('room:1', 'broadcast', true), ('room:1', 'broadcast', true),
      ('lobby', 'broadcast', false), ('both', 'broadcast', true), ('both', 'broadcast', false),
      ('Loud Room', 'broadcast', false), (E'evil\\u001b[2J', 'broadcast', false);
    create table public.orders (id int primary key);
    create table public."Mixed" (id int primary key);
    create policy "members hear" on realtime.messages for select to public using (topic like 'room:%');
    create policy say on realtime.messages as restrictive for insert to postgres, pg_monitor with check (extension = 'broadcast');
    create function public.note() returns trigger language plpgsql as
      $$ begin perform realtime.send('{}', 'note', realtime.topic(), true); return new; end $$;
    create table public.tickets (id int primary key, state varchar(9));
    create publication supabase_realtime for table public.orders, public."Mixed",
      public.tickets where (state = 'it''s ::text' and (id > 3 or state is null)) with (publish = 'insert, update');
  `);
  await there.end();
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

/** The publication's, without the casts that PostgreSQL has written into it. */
const FILTER = "((state = 'it''s ::text') AND ((id > 3) OR (state IS NULL)))";

const migrate = (...args: string[]) => start(stack, ["migrate", ...args], { env: { SUPABASE_DB_URL: supabase } }).ended;
const json = async (...args: string[]) => JSON.parse((await realtime(stack, [...args, "json"])).stdout);
const state = async () => [await json("channel", "list"), await json("subscriptions")];

test("AC-235: a dry run says what would be done, and changes nothing", async () => {
  const before = await state();
  const run = await migrate("from-supabase", "realtime", "--dry-run");
  expect(run).toMatchObject({ code: 0 });
  expect(run.stdout).toBe(`Would be done (nothing was changed):
  channel create lobby public
  channel create room:1 private
  subscribe public.Mixed INSERT,UPDATE
  subscribe public.orders INSERT,UPDATE
  subscribe public.tickets INSERT,UPDATE --filter '${FILTER.replaceAll("'", "'\\''")}'

Not taken over: policies on realtime.messages. They ask your tables: run these where those are, after init:
  create policy "members hear" on realtime.messages as permissive for select to public using ((topic ~~ 'room:%'::text));
  create policy say on realtime.messages as restrictive for insert to pg_monitor, postgres with check ((extension = 'broadcast'::text));

Not taken over: functions that use the schema realtime, and their triggers. Its send, broadcast_changes, topic and
messages are here as they are there:
  public.note uses realtime.send, realtime.topic
`);
  expect(await state()).toEqual(before);
});

test("AC-231 AC-232 AC-233: channels and tables are taken over; what cannot be is named, its letters harmless", async () => {
  const run = await migrate("from-supabase", "realtime");
  expect(run).toMatchObject({ code: 0 });
  expect(
    run.stderr
      .split("\n")
      .map((line) => line.split(" stays ")[0])
      .sort(),
  ).toEqual(["", "✱ Loud Room", "✱ both", "✱ evil\\u001b[2J"]);
  expect(run.stderr).not.toContain("\u001b");
  expect(run.stdout).toContain("Not taken over: policies");
  expect((await json("channel", "list")).map(({ slug, type }: Record<string, string>) => `${slug} ${type}`)).toEqual(
    expect.arrayContaining(["lobby public", "room:1 private"]),
  );
  const tables = await json("subscriptions");
  expect(tables.map(({ table_name }: Record<string, string>) => table_name).sort()).toEqual([
    "public.Mixed",
    "public.orders",
    "public.tickets",
  ]);
  expect(tables[0]).toMatchObject({ events: ["INSERT", "UPDATE"] });
  expect(tables.find(({ table_name }: Record<string, string>) => table_name === "public.tickets")).toMatchObject({
    filter: FILTER,
  });
});

test("AC-234: presence of an unchanged Supabase client works on a channel that was taken over", async () => {
  const client = createClient(stack.url, stack.anonKey);
  const channel = client.channel("lobby", { config: { presence: { key: "ann" } } });
  channel.on("presence", { event: "sync" }, () => {});
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  await channel.track({ device: "phone" });
  await vi.waitFor(() => expect(channel.presenceState()).toMatchObject({ ann: [{ device: "phone" }] }), 5_000);
  expect(await json("presence", "online", "lobby")).toHaveLength(1);
  await client.removeAllChannels();
});

test("AC-235: a second run leaves what is there, also what was changed since", async () => {
  await realtime(stack, ["subscribe", "public.orders", "DELETE"]);
  const before = await state();
  const run = await migrate("from", "supabase", "realtime");
  expect(run).toMatchObject({ code: 0, stdout: expect.stringContaining("Captured already: public.orders") });
  expect(await state()).toEqual(before);
});

test("a condition that the server does not know is said, and its table not captured", async () => {
  await sql.query("create database computed");
  const url = stack.databaseUrl.replace(/\/[^/]*$/, "/computed");
  const there = new pg.Client({ connectionString: url });
  await there.connect();
  await there.query(`create table public.odd (id int primary key);
    create publication supabase_realtime for table public.odd where (id % 2 = 1)`);
  await there.end();
  const run = await migrate("from-supabase", "--db-url", url);
  expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining("public.odd is not captured") });
  const captured = (await json("subscriptions")).map(({ table_name }: Record<string, string>) => table_name);
  expect(captured).not.toContain("public.odd");
});

test("what cannot be taken over now is a failure that says what, and the rest is done", async () => {
  await realtime(stack, ["unsubscribe", "public.orders"]);
  await sql.query("drop table orders");
  const dry = await migrate("from-supabase", "--dry-run");
  expect(dry.stdout).toContain(
    "Could not be done: the database of this server has no such table. Make it first:\n  public.orders\n",
  );
  expect(dry.stdout).not.toContain("subscribe public.orders");
  expect(await migrate("from-supabase")).toMatchObject({ code: 1, stderr: expect.stringContaining("public.orders") });
});

test("a database that cannot be read, or is not named, is said to be", async () => {
  expect(await start(stack, ["migrate", "from-supabase"]).ended).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("SUPABASE_DB_URL"),
  });
  const run = await migrate("from-supabase", "--db-url", "postgresql://nobody:secret@127.0.0.1:1/none");
  expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining("cannot be read") });
  expect(run.stderr).not.toContain("secret");
});

test("a URL that is none is said to be, with what to do, and without the password", async () => {
  for (const url of ["postgresql://postgres:pa#ss@127.0.0.1:1/none", "nonsense", "https://db.example.com/pa#ss"]) {
    const run = await migrate("from-supabase", "--db-url", url);
    expect(run).toMatchObject({ code: 2, stdout: "", stderr: expect.stringMatching(/such as postgresql:.*%23/) });
    expect(run.stderr).not.toMatch(/pa#ss|\n +at /);
  }
});

test("more topics than are read are said to be more", async () => {
  await sql.query("create database crowded");
  const url = stack.databaseUrl.replace(/\/[^/]*$/, "/crowded");
  const there = new pg.Client({ connectionString: url });
  await there.connect();
  await there.query(`create schema realtime;
    create table realtime.messages (topic text not null, private boolean default false);
    insert into realtime.messages select 'room-' || n from generate_series(1, 10001) n`);
  await there.end();
  const run = await migrate("from-supabase", "--dry-run", "--db-url", url);
  expect(run.stdout.match(/channel create/g)).toHaveLength(10_000);
  expect(run.stderr).toContain("more topics than 10000");
});
