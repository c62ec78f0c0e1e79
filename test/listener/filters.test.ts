// Filters and options of subscriptions, what they refuse, and that nothing of a subscription stays when it ends.
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Following, startFollowing } from "./following.ts";
import { until } from "./process.ts";

let world: Following;
let db: pg.Client;

beforeAll(async () => {
  world = await startFollowing();
  db = world.db;
  await db.query('create table orders (id int primary key, status text, price numeric, "Odd One" int, at timestamptz)');
}, 60_000);

afterAll(() => world?.stop());

const subscribe = (target: string, filter: string | null = null, options: object | null = null) =>
  db.query("select * from realtime.subscribe($1, null, $2, $3)", [target, filter, options]);

/** Which of the rows a filter lets through, by id. */
async function fitting(filter: string): Promise<number[]> {
  await db.query("delete from orders");
  world.edge.batches.length = 0;
  await subscribe("orders", filter);
  await db.query(`insert into orders values (1, 'open', 5, 1, '2026-01-01Z'), (2, 'closed', 10.5, 2, null),
    (3, 'o''pen', null, 3, '2026-06-01Z'), (4, null, -1, null, '2027-01-01Z')`);
  await db.query("select realtime.subscribe('orders'); truncate orders");
  await until("the truncation", () => world.edge.changes("public.orders").some(({ op }) => op === "T"));
  return world.edge.changes("public.orders").flatMap(({ op, new: row }) => (op === "I" ? [Number(row?.id)] : []));
}

describe("a filter", () => {
  test.each([
    ["status = 'open'", [1]],
    ["STATUS='o''pen' or price>=10.5", [2, 3]],
    ["status=eq.open", [1]],
    ["price=not.is.null", [1, 2, 4]],
    ["id=in.(2,4)", [2, 4]],
    ["status=like.o*", [1, 3]],
    ["not (price < 6 and price > -1e1) and id in (2, 3)", [2]],
    ["price is null or status is null", [3, 4]],
    ['"Odd One" between 2 and 3', [2, 3]],
    ["status is distinct from 'open'", [2, 3, 4]],
    ["at > '2026-03-01' and status ilike 'O%'", [3]],
  ])("%s is understood", async (filter, ids) => {
    expect(await fitting(filter)).toEqual(ids);
  });

  test.each([
    ["stat = 'open'", 'no column "stat"'],
    ["id = 'abc'", "invalid input syntax"],
    ["id = (select 1)", 'no column "select"'],
    ["pg_sleep(1) is null", 'no column "pg_sleep"'],
    ["status(1) = 1", "no function"],
    ["id = 1) or (true", "has not opened"],
    ["(id = 1", "too early"],
    ["id = 1; drop table orders", "not understood at: ; drop"],
    ["id = 1 -- x", "not understood at: --"],
    ["status = E'\\' or true'", 'no column "E"'],
    ["status = $$open$$", "not understood at: $$open"],
    ["id", "does not fit"],
    ["id=in.1", "takes a list"],
    ["status::text = 'open'", "not understood at: ::"],
  ])("%s is refused, and the subscription stays as it was", async (filter, why) => {
    await subscribe("orders", "id = 1");
    await expect(subscribe("orders", filter)).rejects.toMatchObject({
      code: "NS005",
      message: expect.stringContaining(why),
    });
    const { rows } = await db.query("select filter from realtime.subscriptions where table_name = 'public.orders'");
    expect(rows).toEqual([{ filter: "id = 1" }]);
  });

  test("of a whole schema is refused", async () => {
    await expect(subscribe("public.*", "id = 1")).rejects.toMatchObject({ code: "NS005" });
  });

  test("lets an update through by which a row enters or leaves, and a deletion by what the row was", async () => {
    await db.query("create table states (id int primary key, state text)");
    await subscribe("states", "state = 'open'");
    await db.query("insert into states values (1, 'new'), (2, 'open')");
    await db.query("update states set state = case id when 1 then 'open' else 'done' end");
    await db.query("update states set state = 'gone' where id = 2");
    await db.query("delete from states");
    const seen = await world.changes("public.states", 4);
    expect(seen.map(({ op, new: row, old }) => [op, row?.state, old?.state])).toEqual([
      ["I", "open", undefined],
      ["U", "open", "new"],
      ["U", "done", "open"],
      ["D", undefined, "open"],
    ]);
  });

  test("holds for every row of a statement of more than 10,000", async () => {
    await db.query("create table wide (id int primary key, side text)");
    await subscribe("wide", "side = 'left'");
    await db.query(
      "insert into wide select n, case when n % 2 = 0 then 'left' else 'right' end from generate_series(1, 21000) n",
    );
    await db.query("update wide set side = 'left' where id > 20990");
    const seen = await world.changes("public.wide", 10_510);
    expect(seen.slice(0, 10_500).map((change) => change.new?.id)).toEqual(
      Array.from({ length: 10_500 }, (_, n) => 2 * n + 2),
    );
  });

  test("whose column is gone lets nothing through, fails no write, and is told of", async () => {
    await db.query("create table shaky (id int, state text)");
    await subscribe("shaky", "state = 'open'");
    world.warnings.length = 0;
    await db.query("alter table shaky rename state to was");
    expect(world.warnings).toEqual([expect.stringContaining('no column "state"')]);
    await db.query("insert into shaky values (1, 'open')");
    await until("the listener's word", () =>
      world.listener.log.some((line) => line.includes("not captured as wanted")),
    );
    await subscribe("shaky", "was = 'open'");
    await db.query("insert into shaky values (2, 'open')");
    expect((await world.changes("public.shaky", 1))[0]?.new).toEqual({ id: 2, was: "open" });
    await until("the listener's word", () =>
      world.listener.log.some((line) => line.includes("not captured as wanted")),
    );
  });

  test("keeps to its table whatever that is called", async () => {
    for (const name of ["SHOP SIDE", "WHERE%s", "matches_public_IMAGE"]) {
      await db.query(`create table "${name}" (id int)`);
      await subscribe(`public."${name}"`, "id = 2");
      await db.query(`insert into "${name}" values (1), (2)`);
      const { rows } = await db.query("select table_name from realtime.subscriptions order by created_at desc limit 1");
      await world.changes(rows[0].table_name, 1);
    }
  });
});

test("notifications are switched off for one subscription, and unknown options are refused", async () => {
  await db.query("create table loud (id int); create table quiet (id int)");
  await subscribe("loud");
  await subscribe("quiet", null, { notify: false });
  const ears = new pg.Client({ connectionString: world.postgres.url });
  await ears.connect();
  const heard: string[] = [];
  ears.on("notification", ({ channel }) => heard.push(channel));
  await ears.query('listen "realtime:table:public.loud"; listen "realtime:table:public.quiet"');
  await db.query("insert into quiet values (1); insert into loud values (1)");
  await world.changes("public.quiet", 1);
  await until("the loud one", () => heard.length > 0);
  expect(heard).toEqual(["realtime:table:public.loud"]);
  await ears.end();
  for (const options of ['{"loud": true}', '{"notify": "no"}', "[]"]) {
    await expect(db.query("select realtime.subscribe('loud', options => $1::jsonb)", [options])).rejects.toMatchObject({
      code: "NS008",
    });
  }
});

describe("following", () => {
  const catalogue = async () =>
    (
      await db.query(`select 'function' as kind, oid::regprocedure::text as name from pg_proc where pronamespace = 'realtime'::regnamespace
      union all select 'trigger', tgrelid::regclass || ' ' || tgname from pg_trigger where not tgisinternal
      union all select 'relation', relname from pg_class where relnamespace = 'realtime'::regnamespace
      union all select 'acl', nspacl::text from pg_namespace where nspname = 'realtime' order by 1, 2`)
    ).rows;

  beforeEach(async () => {
    await db.query("select realtime.unsubscribe(table_name) from realtime.subscriptions");
  });

  test("leaves no trace when it ends", async () => {
    await db.query("create schema traced; create table traced.a (id int, k int) partition by list (k)");
    await db.query("create table traced.a1 partition of traced.a default; create table traced.b (id int)");
    const before = await catalogue();
    await subscribe("traced.a", "id > 0");
    await subscribe("traced.*");
    expect(await catalogue()).not.toEqual(before);
    await db.query("select realtime.unsubscribe('traced.*'), realtime.unsubscribe('traced.a')");
    expect(await catalogue()).toEqual(before);
    expect((await db.query("select from realtime.cdc_tables where dropped_at is null")).rowCount).toBe(0);
  });

  test("of more tables than one transaction should lock is completed by the listener, table by table", async () => {
    await db.query("create schema crowd");
    for (let n = 0; n < 260; n += 1) await db.query(`create table crowd.t${n} (id int)`);
    world.warnings.length = 0;
    await subscribe("crowd.*");
    expect(world.warnings.some((text) => text.includes("60 more tables"))).toBe(true);
    await until(
      "all of them",
      async () =>
        (await db.query("select from realtime.cdc_tables where schema_name = 'crowd' and dropped_at is null"))
          .rowCount === 260,
      20_000,
    );
  });

  test("says so where tables made later are found by the listener alone, and finds them", async () => {
    await db.query("create schema polled; alter event trigger nself_realtime_ddl disable");
    world.warnings.length = 0;
    await subscribe("polled.*");
    expect(world.warnings).toEqual([expect.stringContaining("within two seconds")]);
    await db.query("create table polled.later (id int)");
    await until(
      "capture",
      async () => (await db.query("select from pg_trigger where tgrelid = 'polled.later'::regclass")).rowCount === 4,
    );
    await db.query("insert into polled.later values (1)");
    await world.changes("polled.later", 1);
    await db.query("alter event trigger nself_realtime_ddl enable");
  });

  test("a temporary table costs and captures nothing", async () => {
    await db.query("create schema temps");
    await subscribe("temps.*");
    await db.query("create temp table brief (id int); insert into brief values (1)");
    expect((await db.query("select from pg_trigger where tgrelid = 'brief'::regclass")).rowCount).toBe(0);
  });
});
