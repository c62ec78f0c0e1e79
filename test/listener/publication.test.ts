// The publication supabase_realtime: what an application's migrations add to it is captured, and nothing else is done.
import pg from "pg";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { type ListenerProcess, secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;
let edge: RecordingEdge;
let listener: ListenerProcess | undefined;
let db: pg.Client;

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  edge = await RecordingEdge.start(secret);
  db = new pg.Client({ connectionString: postgres.url });
  await db.connect();
  await db.query("create table todos (id int primary key, title text, hidden text); create table notes (id int)");
}, 60_000);

afterEach(async () => {
  await listener?.end("SIGTERM");
  listener = undefined;
});

afterAll(async () => {
  await db?.end();
  await edge?.stop();
  await postgres?.stop();
});

async function listen(settings: Record<string, string> = {}): Promise<void> {
  listener = await startListener(postgres.url, edge.url, settings);
  await until("the lease", async () => (await listener?.health())?.body.leaseHolder, 15_000);
}

async function followed(): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    "select table_name || ' ' || array_to_string(events, ',') as name from realtime.subscriptions order by 1",
  );
  return rows.map(({ name }) => name);
}

async function triggersOf(table: string): Promise<number> {
  const { rowCount } = await db.query("select from pg_trigger where tgrelid = $1::regclass", [table]);
  return rowCount ?? 0;
}

test("a table is captured from the statement that adds it to the publication, and until it leaves", async () => {
  await listen();
  await db.query("alter publication supabase_realtime add table todos, notes");
  expect(await followed()).toEqual(["public.notes INSERT,UPDATE,DELETE", "public.todos INSERT,UPDATE,DELETE"]);
  await db.query("insert into todos values (1, 'a'); insert into notes values (2)");
  await until("both changes", () => edge.changes("public.todos").length + edge.changes("public.notes").length === 2);
  await db.query("alter publication supabase_realtime drop table notes");
  expect([await triggersOf("notes"), await followed()]).toEqual([0, ["public.todos INSERT,UPDATE,DELETE"]]);
  await db.query("drop table notes; create table notes (id int)");
});

test("only the operations that are published are captured", async () => {
  await db.query("alter publication supabase_realtime set (publish = 'insert, delete')");
  expect(await followed()).toEqual(["public.todos INSERT,DELETE"]);
  await db.query("alter publication supabase_realtime set (publish = 'insert, update, delete, truncate')");
  expect(await followed()).toEqual(["public.todos INSERT,UPDATE,DELETE"]);
});

test("a published table is not unsubscribed, and who tries is told what to do", async () => {
  await expect(db.query("select realtime.unsubscribe('todos')")).rejects.toMatchObject({
    code: "NS009",
    message: expect.stringContaining("publication supabase_realtime"),
    hint: expect.stringContaining("alter publication supabase_realtime drop table"),
  });
});

test("what a person has subscribed is theirs, before and after the publication", async () => {
  await db.query("select realtime.subscribe('todos', '{INSERT}')");
  await db.query("alter publication supabase_realtime set (publish = 'update')");
  expect(await followed()).toEqual(["public.todos INSERT"]);
  await db.query("alter publication supabase_realtime drop table todos");
  expect(await followed()).toEqual(["public.todos INSERT"]);
  await db.query("select realtime.unsubscribe('todos')");
  await db.query("alter publication supabase_realtime set (publish = 'insert, update, delete')");
  expect(await followed()).toEqual([]);
});

test("a table of which some rows or columns alone are published is not captured, since all would show", async () => {
  await db.query("alter publication supabase_realtime add table todos (id, title), notes where (id > 1)");
  expect([await followed(), await triggersOf("todos")]).toEqual([[], 0]);
  await db.query("alter publication supabase_realtime drop table todos, notes");
});

test("a table that is renamed is captured under its new name at once, and what takes its old name is not", async () => {
  await db.query("alter publication supabase_realtime add table todos; alter table todos rename to tasks");
  await db.query("create table todos (id int primary key, title text, hidden text)");
  expect([await followed(), await triggersOf("todos")]).toEqual([["public.tasks INSERT,UPDATE,DELETE"], 0]);
  expect(await triggersOf("tasks")).toBeGreaterThan(0);
  await db.query("drop table tasks; create table tasks (id int)");
  expect([await followed(), await triggersOf("tasks")]).toEqual([[], 0]);
  await db.query("drop table tasks");
});

test("a name that could be another's is left to a person, and keeps no other table from being followed", async () => {
  await db.query('create schema dotted; create table dotted."*" (id int); create table dotted."b.c" (id int)');
  await db.query(
    'alter publication supabase_realtime add table dotted."*", dotted."b.c", todos, tables in schema dotted',
  );
  expect(await followed()).toEqual(["dotted.* INSERT,UPDATE,DELETE", "public.todos INSERT,UPDATE,DELETE"]);
  await db.query("alter publication supabase_realtime drop tables in schema dotted");
  expect([await followed(), await triggersOf('dotted."*"')]).toEqual([["public.todos INSERT,UPDATE,DELETE"], 0]);
  await db.query("drop schema dotted cascade; alter publication supabase_realtime drop table todos");
});

test("many tables come and go in a moment each", async () => {
  await db.query(
    `do $$ begin for n in 1..150 loop execute format('create table many_%s (id int)', n); end loop; end $$`,
  );
  const { rows } = await db.query("select string_agg('many_' || n, ', ') as names from generate_series(1, 150) n");
  await db.query(`alter publication supabase_realtime add table ${rows[0]?.names}`);
  expect(await followed()).toHaveLength(150);
  const startedAt = performance.now();
  await db.query(`alter publication supabase_realtime drop table ${rows[0]?.names}`);
  expect([await followed(), performance.now() - startedAt < 10_000]).toEqual([[], true]);
});

test("schemas and all tables are followed with what comes later", async () => {
  await db.query("create schema app; alter publication supabase_realtime add tables in schema app");
  expect(await followed()).toEqual(["app.* INSERT,UPDATE,DELETE"]);
  await db.query("create table app.later (id int)");
  expect(await triggersOf("app.later")).toBeGreaterThan(0);
  await db.query("drop publication supabase_realtime");
  expect([await followed(), await triggersOf("app.later")]).toEqual([[], 0]);
  await db.query("create publication supabase_realtime for all tables");
  expect(await followed()).toEqual(["app.* INSERT,UPDATE,DELETE", "public.* INSERT,UPDATE,DELETE"]);
  await db.query("create schema fresh; create table fresh.first (id int)");
  expect(await triggersOf("fresh.first")).toBeGreaterThan(0);
  await db.query("drop publication supabase_realtime; create publication supabase_realtime");
  expect(await followed()).toEqual([]);
});

test("without an event trigger the listener follows; where it is not to be followed, nothing is captured", async () => {
  await db.query("alter event trigger nself_realtime_publication disable");
  await db.query("alter publication supabase_realtime add table todos");
  expect(await followed()).toEqual([]);
  await listen();
  await until("the subscription", async () => (await followed()).length === 1, 10_000);
  await until("capture", async () => (await triggersOf("todos")) > 0, 10_000);
  await listener?.end("SIGTERM");
  await listen({ REALTIME_PUBLICATION: "off" });
  await until("its end", async () => (await triggersOf("todos")) === 0, 10_000);
  await db.query("alter event trigger nself_realtime_publication enable");
  await db.query(
    "alter publication supabase_realtime drop table todos; alter publication supabase_realtime add table todos",
  );
  expect(await followed()).toEqual([]);
});
