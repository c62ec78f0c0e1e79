// Migrations, and what subscribe and unsubscribe leave in the catalogue and refuse at the door.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";

let postgres: TestPostgres;
let db: pg.Client;

beforeAll(async () => {
  postgres = await startPostgres();
  db = new pg.Client({ connectionString: postgres.url });
  await db.connect();
}, 60_000);

afterAll(async () => {
  await db?.end();
  await postgres?.stop();
});

/** The columns of a query's rows, as arrays. */
async function rows(text: string, values: unknown[] = []): Promise<unknown[][]> {
  return (await db.query({ text, values, rowMode: "array" })).rows;
}

const triggers = (table: string) =>
  rows("select tgname from pg_trigger where tgrelid = $1::regclass and not tgisinternal order by 1", [table]);

describe("migrations", () => {
  test("are applied once, by whoever comes first", async () => {
    const steps: string[] = [];
    const [first, second] = await Promise.all([
      migrate(postgres.url, { onStep: (version) => steps.push(version) }),
      migrate(postgres.url, { onStep: (version) => steps.push(version) }),
    ]);
    expect([...first, ...second]).toEqual(steps);
    expect(steps[0]).toBe("0001_roles");
    expect(new Set(steps).size).toBe(steps.length);
    expect(await migrate(db)).toEqual([]);
  });

  test("refuse a file that was edited after it was applied, by name", async () => {
    await db.query("begin; update realtime.migrations set checksum = 'other' where version = '0002_tables'; commit");
    await expect(migrate(postgres.url)).rejects.toMatchObject({
      code: "edited",
      message: expect.stringContaining("0002_tables"),
    });
    await db.query("drop schema realtime cascade");
    expect(await migrate(postgres.url)).toContain("0002_tables");
  });

  test("refuse a database that has had more than there are files for, by name", async () => {
    await db.query("insert into realtime.migrations (version, checksum) values ('9999_later', 'x')");
    await expect(migrate(postgres.url)).rejects.toMatchObject({
      code: "newer",
      message: expect.stringContaining("9999_later"),
    });
    await db.query("delete from realtime.migrations where version = '9999_later'");
  });

  test("can be called off while they wait, and then nothing is applied", async () => {
    await db.query("begin; select pg_advisory_xact_lock(hashtextextended('realtime.migrations', 0))");
    const called = new AbortController();
    const waiting = migrate(postgres.url, { signal: called.signal });
    setTimeout(() => called.abort(new Error("called off")), 200);
    await expect(waiting).rejects.toThrow("called off");
    await db.query("commit");
    await expect(migrate(postgres.url, { signal: AbortSignal.abort(new Error("before")) })).rejects.toThrow("before");
  });

  test("say so when another holds what they need for ten seconds", async () => {
    await db.query("begin; lock table realtime.migrations in access exclusive mode");
    await expect(migrate(postgres.url)).rejects.toMatchObject({
      code: "55P03",
      message: expect.stringContaining("in use for 10 s"),
    });
    await db.query("commit");
  });

  test("do not look names up where the database says", async () => {
    await db.query(`create schema lure; create table public.called (by text);
      create function lure.hashtextextended(text, integer) returns bigint language sql as
        $$ insert into public.called values (current_user); select 1::bigint $$;`);
    await db.query("alter role postgres set search_path = lure, pg_catalog");
    await migrate(postgres.url);
    await db.query("alter role postgres reset search_path");
    expect(await rows("select by from public.called")).toEqual([]);
  });

  test("AC-239: need neither superuser nor extension, also where the roles are not there yet", async () => {
    await db.query(
      "drop schema realtime, auth cascade; drop role anon, authenticated, service_role, nself_realtime_capture",
    );
    await db.query("create role plain login password 'plain' createrole");
    await db.query("create database plain owner plain");
    const url = new URL(postgres.url);
    url.username = url.password = url.pathname = "plain";
    expect((await migrate(url.href)).length).toBeGreaterThan(5);
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    await client.query("create table t (id int); select realtime.subscribe('t'); insert into t values (1)");
    expect((await client.query("select op from realtime.changes_a")).rows).toEqual([{ op: "I" }]);
    await client.query("begin; set local role anon; select realtime.topic(); commit");
    await client.end();
    await migrate(db);
  });

  test("say what an administrator must run where a role is missing and may not be made", async () => {
    await db.query("create role weak login password 'weak'");
    await db.query("create database weak owner weak");
    const url = new URL(postgres.url);
    url.username = url.password = url.pathname = "weak";
    await db.query("alter role anon rename to was_anon");
    await expect(migrate(url.href)).rejects.toMatchObject({
      code: "42501",
      message: expect.stringContaining("An administrator runs: create role anon nologin"),
    });
    await db.query("alter role was_anon rename to anon");
    await expect(migrate(url.href)).rejects.toMatchObject({
      code: "42501",
      message: expect.stringContaining("An administrator runs: grant nself_realtime_capture to weak"),
    });
    await db.query("grant nself_realtime_capture to weak");
    expect(await migrate(url.href)).toContain("0005_capture");
  });

  test("grant nothing to everyone, and put row-level security on every table", async () => {
    await db.query("create role nobody");
    expect(await rows("select has_schema_privilege('nobody', 'realtime', 'usage')")).toEqual([[false]]);
    expect(
      await rows(`select relname from pg_class where relnamespace = 'realtime'::regnamespace and relkind = 'r'
        and relname <> 'migrations' and (not relrowsecurity or has_table_privilege('nobody', oid, 'select'))`),
    ).toEqual([]);
    // As at Supabase whoever may use the schema may call these, and they act as their caller.
    expect(
      await rows(`select proname, prosecdef from pg_proc where pronamespace = 'realtime'::regnamespace
        and has_function_privilege('nobody', oid, 'execute') order by proname`),
    ).toEqual(["broadcast_changes", "check_payload_size", "send", "send_binary"].map((name) => [name, false]));
  });

  test("both spellings of a column give the same value", async () => {
    await db.query("insert into realtime.channels (slug, name) values ('general', 'General')");
    await db.query(
      "insert into realtime.messages (channel_id, event_type, payload) select id, 'greet', '{}' from realtime.channels",
    );
    expect(await rows("select event = event_type, created_at = sent_at from realtime.messages")).toEqual([
      [true, true],
    ]);
    await db.query("insert into realtime.presence (user_id) values ('user-1')");
    await expect(db.query("insert into realtime.presence (user_id) values ('user-1')")).rejects.toMatchObject({
      code: "23505",
    });
    await db.query("insert into realtime.connections (connection_id) values ('c1')");
    expect(await rows("select last_ping = last_seen_at, last_seen = last_seen_at from realtime.connections")).toEqual([
      [true, true],
    ]);
  });
});

describe("subscribe", () => {
  beforeAll(() =>
    db.query(`create table users (id int primary key); create table "Order" (id int); create table "order" (id int)`),
  );

  test("AC-063 AC-064 AC-065: makes the documented function and triggers, and repeating it replaces the events", async () => {
    await db.query("select realtime.subscribe('public.users')");
    const all = [
      ["realtime_delete_users"],
      ["realtime_insert_users"],
      ["realtime_truncate_users"],
      ["realtime_update_users"],
    ];
    expect(await triggers("users")).toEqual(all);
    expect(await rows("select to_regproc('realtime.notify_public_users')::text")).toEqual([
      ["realtime.notify_public_users"],
    ]);
    const again = await rows("select table_name, events from realtime.subscribe('users', '{update, Insert,INSERT}')");
    expect(again).toEqual([["public.users", ["INSERT", "UPDATE"]]]);
    expect(await triggers("users")).toEqual([all[1], all[2], all[3]]);
    expect(await rows("select count(*)::int from realtime.subscriptions")).toEqual([[1]]);
  });

  test.each([
    ["public.Order", "public.Order"],
    ['public."Order"', "public.Order"],
    ["order", "public.order"],
    ["PUBLIC.ORDER", "public.order"],
  ])("%s names %s", async (target, name) => {
    expect(await rows("select table_name from realtime.subscribe($1)", [target])).toEqual([[name]]);
  });

  test.each([
    ["nothing", null, null, "NS002", "public.nothing"],
    ["nowhere.*", null, null, "NS002", "nowhere"],
    ["a.b.c", null, null, "NS001", "a.b.c"],
    ["", null, null, "NS001", ""],
    ["users; drop table users", null, null, "NS001", "drop table"],
    ["realtime.messages", null, null, "NS007", "realtime.messages"],
    ["users", ["INSERT", "upsert"], null, "NS004", "UPSERT"],
    ["users", null, "name=eq.1", "NS005", "name"],
  ])("refuses %j with events %j and filter %j by code and name", async (target, events, filter, code, named) => {
    await expect(db.query("select realtime.subscribe($1, $2, $3)", [target, events, filter])).rejects.toMatchObject({
      code,
      message: expect.stringContaining(named),
    });
  });

  test("a view is refused as such", async () => {
    await db.query("create view seen as select 1 as id");
    await expect(db.query("select realtime.subscribe('seen')")).rejects.toMatchObject({ code: "NS003" });
  });
});

describe("unsubscribe", () => {
  test("AC-051: by name or by id leaves no trigger and no function", async () => {
    await db.query("create table gone (id int)");
    for (const key of ["table_name", "id::text"]) {
      await db.query("select realtime.subscribe('gone')");
      const [[target] = []] = await rows(`select ${key} from realtime.subscriptions where table_name = 'public.gone'`);
      expect(await rows("select table_name from realtime.unsubscribe($1)", [target])).toEqual([["public.gone"]]);
      expect(await triggers("gone")).toEqual([]);
      expect(await rows("select proname from pg_proc where proname = 'notify_public_gone'")).toEqual([]);
    }
  });

  test("of a table that was dropped meanwhile works", async () => {
    await db.query("create table brief (id int); select realtime.subscribe('brief'); drop table brief");
    expect(await rows("select table_name from realtime.unsubscribe('brief')")).toEqual([["public.brief"]]);
    expect(await rows("select proname from pg_proc where proname = 'notify_public_brief'")).toEqual([]);
  });

  test("of what is not followed is refused", async () => {
    await expect(db.query("select realtime.unsubscribe('never')")).rejects.toMatchObject({ code: "NS006" });
  });
});
