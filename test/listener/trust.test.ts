// What the owners of captured tables may bring about through capture: nothing but changes of their own tables.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";

let postgres: TestPostgres;
let db: pg.Client;
let mallory: pg.Client;
const warnings: string[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  db = new pg.Client({ connectionString: postgres.url });
  db.on("notice", (notice) => warnings.push(String(notice.message)));
  await db.connect();
  await db.query("create role mallory login password 'm'; create schema m authorization mallory");
  mallory = new pg.Client({ connectionString: mallorysUrl() });
  await mallory.connect();
}, 60_000);

afterAll(async () => {
  await mallory?.end();
  await db?.end();
  await postgres?.stop();
});

function mallorysUrl(): string {
  const url = new URL(postgres.url);
  url.username = "mallory";
  url.password = "m";
  return url.href;
}

/** The changes of a table that wait in the outbox, oldest first. */
async function waiting(table: string) {
  const { rows } = await db.query(
    `select op, new, old from (select * from realtime.changes_a union all select * from realtime.changes_b) c
     where relid = $1::regclass order by seq`,
    [table],
  );
  return rows;
}

/** Makes a type of mallory's whose cast to json runs `body`, and a captured table with a column of it. */
async function trap(name: string, body: string) {
  await mallory.query(`
    create table m.${name} (id int);
    create type m.${name}_type as enum ('x');
    create function m.${name}_json(m.${name}_type) returns json language plpgsql as $$ begin ${body} return '1'; end $$;
    create cast (m.${name}_type as json) with function m.${name}_json(m.${name}_type);
    alter table m.${name} add e m.${name}_type`);
  await db.query("select realtime.subscribe($1)", [`m.${name}`]);
}

describe("a cast to json of a user's own", () => {
  test("runs with no right of ours, and when it fails the write does not", async () => {
    await trap("climb", "execute 'alter role mallory superuser';");
    await trap("forge", "insert into realtime.changes_a (relid, op) values (1, 'T');");
    await trap("who", "return to_json(current_user::text);");
    await mallory.query("insert into m.climb values (1, 'x'); insert into m.forge values (1, 'x')");
    await mallory.query("insert into m.who values (1, 'x')");
    expect((await db.query("select rolsuper from pg_roles where rolname = 'mallory'")).rows).toEqual([
      { rolsuper: false },
    ]);
    expect((await db.query("select from realtime.changes_a where relid = 1")).rowCount).toBe(0);
    expect(await waiting("m.climb")).toEqual([{ op: "I", new: null, old: null }]);
    expect(await waiting("m.who")).toEqual([{ op: "I", new: { id: 1, e: "nself_realtime_capture" }, old: null }]);
  });

  test("leaves behind no search_path in which our own names are looked up", async () => {
    await trap("lure", "perform set_config('search_path', 'm, pg_catalog', false);");
    await mallory.query(`
      create table m.callers (name text);
      grant all on m.callers to public;
      create function m.gt(bigint, integer) returns boolean language plpgsql as
        $$ begin insert into m.callers values (current_user); return $1 operator(pg_catalog.>) $2::bigint; end $$;
      create operator m.> (leftarg = bigint, rightarg = integer, function = m.gt);
      create operator m.>= (leftarg = bigint, rightarg = integer, function = m.gt);
      create function m.pg_notify(text, text) returns void language sql as
        $$ insert into m.callers values (current_user) $$`);
    await db.query("select realtime.cdc_ring(60)");
    await mallory.query("insert into m.lure values (1, 'x')");
    await mallory.query("update m.lure set id = 2");
    await mallory.query("delete from m.lure");
    await db.query("select realtime.cdc_ring(0)");
    expect((await waiting("m.lure")).map(({ op }) => op)).toEqual(["I", "U", "D"]);
    expect((await db.query("select name from m.callers where name <> 'mallory'")).rows).toEqual([]);
    await mallory.query("reset search_path");
  });
});

test("a temporary table cannot pose as a type of what runs at every change of tables", async () => {
  await db.query("create table m.plain (id int); alter table m.plain owner to mallory");
  await db.query("select realtime.subscribe('m.plain')");
  // A session of its own: functions that were called before are compiled already.
  const fresh = new pg.Client({ connectionString: mallorysUrl() });
  await fresh.connect();
  await fresh.query("create temp table text (x int)");
  await fresh.query("alter table m.plain add at timestamptz");
  await fresh.end();
  expect((await db.query("select settings from realtime.cdc_tables where relid = 'm.plain'::regclass")).rows).toEqual([
    { settings: " set timezone = 'UTC'" },
  ]);
});

test("an image that JSON cannot hold leaves the write alone", async () => {
  await db.query("create table public.vast (id int, digits numeric[])");
  await db.query("select realtime.subscribe('vast')");
  await db.query("insert into public.vast select 1, array_agg(1e130000::numeric) from generate_series(1, 9000)");
  expect(await waiting("public.vast")).toEqual([{ op: "I", new: null, old: null }]);
});

describe("a table that cannot be captured", () => {
  test("does not keep a schema's other tables from it, and is named", async () => {
    await db.query("create schema many; create table many.a (id int); create table many.b (id int)");
    const other = new pg.Client({ connectionString: postgres.url });
    await other.connect();
    await other.query("begin; insert into many.a values (1)");
    warnings.length = 0;
    await db.query("select realtime.subscribe('many.*')");
    expect(warnings).toEqual([expect.stringContaining("many.a")]);
    await db.query("insert into many.b values (1)");
    expect(await waiting("many.b")).toHaveLength(1);
    await expect(db.query("select realtime.subscribe('many.a', '{INSERT}')")).rejects.toMatchObject({ code: "55P03" });
    await other.query("commit");
    await other.end();
    expect((await db.query("select realtime.cdc_reconcile() as failures")).rows).toEqual([{ failures: [] }]);
    await db.query("insert into many.a values (2)");
    expect(await waiting("many.a")).toHaveLength(1);
  });

  test("for a foreign partition is refused by reason, and let go when it gets one later", async () => {
    await db.query(`
      create foreign data wrapper nothing;
      create server nowhere foreign data wrapper nothing;
      create table public.far (id int, k int) partition by list (k);
      create table public.far_1 partition of public.far for values in (1);
      select realtime.subscribe('far');
      insert into public.far values (1, 1);
      create foreign table public.far_2 partition of public.far for values in (2) server nowhere`);
    await db.query("insert into public.far values (2, 1)");
    expect(await waiting("public.far")).toHaveLength(1);
    expect((await db.query("select from pg_trigger where tgrelid = 'public.far'::regclass")).rowCount).toBe(0);
    await expect(db.query("select realtime.subscribe('far')")).rejects.toMatchObject({
      code: "NS003",
      message: expect.stringContaining("foreign"),
    });
  });

  test("for being temporary is refused", async () => {
    await db.query("create temp table fleeting (id int)");
    const { rows } = await db.query(
      "select relnamespace::regnamespace::text || '.fleeting' as name from pg_class where relname = 'fleeting'",
    );
    await expect(db.query("select realtime.subscribe($1)", [rows[0].name])).rejects.toMatchObject({ code: "NS003" });
  });
});

test("triggers and functions of the user's own keep the names that capture would have taken", async () => {
  await db.query(`
    create table public.taken (id int);
    create function realtime.notify_public_taken() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger realtime_insert_taken after insert on public.taken execute function realtime.notify_public_taken()`);
  await db.query("select realtime.subscribe('taken'); insert into public.taken values (1)");
  expect(await waiting("public.taken")).toHaveLength(1);
  await db.query("select realtime.unsubscribe('taken')");
  expect((await db.query("select tgname from pg_trigger where tgrelid = 'public.taken'::regclass")).rows).toEqual([
    { tgname: "realtime_insert_taken" },
  ]);
});

test("a column that comes later gets the session settings it needs", async () => {
  await db.query("create table public.grown (id int); select realtime.subscribe('grown')");
  await db.query("alter table public.grown add at timestamptz");
  await db.query(
    "begin; set local timezone = 'Asia/Tokyo'; insert into public.grown values (1, '2026-01-01Z'); commit",
  );
  expect(await waiting("public.grown")).toEqual([
    { op: "I", new: { id: 1, at: "2026-01-01T00:00:00+00:00" }, old: null },
  ]);
});

test("the outbox is not turned for nothing", async () => {
  await db.query("update realtime.cdc_consumers set seen = pg_current_snapshot()");
  await db.query("select realtime.cdc_rotate()");
  await db.query("select realtime.cdc_rotate()");
  expect((await db.query("select realtime.cdc_rotate() as turned")).rows).toEqual([{ turned: false }]);
});
