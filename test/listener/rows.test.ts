// Any row and any statement: each arrives exactly as it was written, and none fails because it is captured.
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Following, startFollowing } from "./following.ts";
import { until } from "./process.ts";

let world: Following;
let db: pg.Client;

beforeAll(async () => {
  world = await startFollowing();
  db = world.db;
}, 60_000);

afterAll(() => world?.stop());

async function follow(name: string, definition: string, after = ""): Promise<void> {
  await db.query(`create table ${name} ${definition}${after}`);
  await db.query("select realtime.subscribe($1)", [name]);
}

/** The changes of a feed as `op new old`, with keys of rows alone where `id` says so. */
const brief = (changes: { op: string; new?: object; old?: object }[]) =>
  changes.map((change) => [change.op, change.new ?? null, change.old ?? null]);

test("every common type keeps its value to the last digit, whatever the writer's session is set to", async () => {
  await db.query(`create type mood as enum ('sad', 'so "happy"'); create domain positive as int check (value > 0);
    create type point3 as (x int, label text)`);
  await follow(
    "types",
    `(big bigint, num numeric, nan numeric, inf float8, f4 real, bytes bytea, ints int[], texts text[][], span int4range,
      spans tstzmultirange, m mood, d positive, c point3, doc json, docb jsonb, at timestamptz, forever timestamptz,
      day date, plain timestamp, span2 interval, ip inet, id uuid, price money, words tsvector, bits bit(5), flag bool,
      fixed char(5), mac macaddr, moods mood[], x xml)`,
  );
  const hostile = new pg.Client({ connectionString: world.postgres.url });
  await hostile.connect();
  await hostile.query(`set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set intervalstyle = 'sql_standard';
    set bytea_output = 'escape'; set extra_float_digits = -3; set quote_all_identifiers = on; set jit_above_cost = 0`);
  await hostile.query(
    `insert into types values (9223372036854775807, 1234567890123456789012345678901234567890.00000000000000000001, 'NaN',
      'infinity', 1.1, '\\x00ff5c', '{1,null,3}', '{{a,"b c"},{"d\\"e",null}}', '[1,5)',
      '{[2026-01-01 00:00+00,2026-02-01 00:00+00)}', 'so "happy"', 7, '(1,"a,b")', E'{"z":"\\\\u0000", "a":  1.50}',
      '{"b": 12345678901234567890}', '2026-01-01 00:00:00.123456+00', 'infinity', 'infinity', '2026-01-01 12:00',
      '1 year 2 days 03:04:05.678', '10.1.2.3/8', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1234.56, 'a:1 b:2', '10101', true,
      'ab', '08:00:2b:01:02:03', '{sad}', '<a>1</a>')`,
  );
  await hostile.end();
  await world.changes("public.types", 1);
  const body = world.edge.batches.find(({ header }) => header.feed === "public.types")?.body ?? "";
  for (const member of [
    '"big":9223372036854775807',
    '"num":1234567890123456789012345678901234567890.00000000000000000001',
    '"nan":"NaN"',
    '"inf":"Infinity"',
    '"f4":1.1',
    '"bytes":"\\\\x00ff5c"',
    '"ints":[1,null,3]',
    '"texts":[["a","b c"],["d\\"e",null]]',
    '"span":"[1,5)"',
    '"m":"so \\"happy\\""',
    '"d":7',
    '"c":{"x":1,"label":"a,b"}',
    '"doc":{"z":"\\u0000", "a":  1.50}',
    '"docb":{"b": 12345678901234567890}',
    '"at":"2026-01-01T00:00:00.123456+00:00"',
    '"forever":"infinity"',
    '"day":"infinity"',
    '"plain":"2026-01-01T12:00:00"',
    '"span2":"1 year 2 days 03:04:05.678"',
    '"ip":"10.1.2.3/8"',
    '"price":"$1,234.56"',
    `"words":"'a':1 'b':2"`,
    '"bits":"10101"',
    '"fixed":"ab   "',
    '"moods":["sad"]',
    '"x":"<a>1</a>"',
  ]) {
    expect(body).toContain(member);
  }
  expect(body).toContain("2026-01-01 00:00:00+00");
});

test("columns may be called what capture calls its own, and there may be none", async () => {
  const names = [
    "tg_relid",
    "tg_op",
    "word",
    "counted",
    "found",
    "ring",
    "taken",
    "k",
    "n",
    "o",
    "r",
    "new",
    "old",
    "image",
  ];
  await follow("named", `(${names.map((name) => `"${name}" int`).join(", ")})`);
  await db.query(`insert into named values (${names.map((_, n) => n)})`);
  await db.query("update named set k = 99");
  const [inserted, updated] = await world.changes("public.named", 2);
  expect(inserted?.new).toEqual(Object.fromEntries(names.map((name, n) => [name, n])));
  expect(updated).toMatchObject({ new: { k: 99 }, old: { k: 7 } });
  await follow("empty", "()");
  await db.query("insert into empty default values; delete from empty");
  expect(brief(await world.changes("public.empty", 2))).toEqual([
    ["I", {}, null],
    ["D", null, {}],
  ]);
});

describe("a statement of more than 10,000 rows", () => {
  test("arrives whole and in order, its first rows as they were, the others as they are", async () => {
    await follow("many", "(id bigint, part text, note text, primary key (part, id))");
    await db.query("insert into many select 9007199254740993 + n, 'a\"b', 'n' || n from generate_series(0, 11499) n");
    const inserted = await world.changes("public.many", 11_500);
    expect(inserted.map((change) => change.new?.note)).toEqual(Array.from({ length: 11_500 }, (_, n) => `n${n}`));
    expect(inserted.every((change) => change.errors === undefined)).toBe(true);
    await db.query("begin; update many set note = 'u' || id; delete from many where id > 9007199254752000; commit");
    const count = 9007199254752000n - 9007199254740993n + 1n;
    const gone = 11_500 - Number(count);
    const seen = (await world.changes("public.many", 11_500 * 2 + gone)).slice(11_500);
    expect(seen.map(({ op }) => op.toUpperCase()).join("")).toBe("U".repeat(11_500) + "D".repeat(gone));
    const unread = seen.filter(({ errors }) => errors?.[0] === "Error 404: Row Not Found");
    expect(unread).toHaveLength(gone);
    expect(Object.keys(unread[0]?.new ?? {})).toEqual(["part", "id"]);
    expect(seen[11_000]).toMatchObject({ op: "u", new: { part: 'a"b', note: /^u900/ }, old: { part: 'a"b' } });
    const bodies = world.edge.batches.map(({ body }) => body).join("\n");
    expect(bodies).toContain('"id":9007199254751994,"part"');
    await db.query("delete from many");
    expect((await world.changes("public.many", 11_500 * 2 + gone + Number(count))).at(-1)).toMatchObject({
      op: "d",
      old: { part: 'a"b' },
    });
  });

  test("that changes keys tells the keys before", async () => {
    await follow("moved", "(id int primary key)");
    await db.query("insert into moved select generate_series(1, 10003)");
    await db.query("update moved set id = -id");
    const seen = await world.changes("public.moved", 20_006);
    expect(seen.at(-1)).toMatchObject({ op: "u", new: { id: -10_003 }, old: { id: 10_003 } });
  });

  test.each([
    ["without a key", "keyless", "(id int)"],
    ["with a key of a type of the user's own", "own_key", "(id small primary key)"],
  ])("of a table %s arrives as it was, to the last row", async (_, name, columns) => {
    await db.query(
      "do $$ begin create domain small as int check (value < 1000000); exception when others then null; end $$",
    );
    await follow(name, columns);
    await db.query(`insert into ${name} select generate_series(1, 10003)`);
    await db.query(`update ${name} set id = id + 20000`);
    const seen = await world.changes(`public.${name}`, 20_006);
    expect(seen.at(-1)).toMatchObject({ op: "U", new: { id: 30_003 }, old: { id: 10_003 } });
  });

  test("of a table whose policies would run for the listener arrives as keys, and nothing of theirs runs", async () => {
    const { rows } = await db.query("select prosrc from pg_proc where proname = 'cdc_hydrate'");
    expect(rows).toHaveLength(1);
    await follow("guarded", "(id int primary key)");
    await db.query(
      "create role weak_reader; grant usage on schema realtime to weak_reader; grant select on guarded to weak_reader",
    );
    await db.query(
      "grant execute on function realtime.cdc_hydrate, realtime.cdc_key, realtime.cdc_image to weak_reader",
    );
    await db.query("alter table guarded enable row level security; insert into guarded values (1)");
    await db.query("begin; set local role weak_reader");
    await expect(
      db.query(`select * from realtime.cdc_hydrate('guarded'::regclass, '[{"id":1}]', 0)`),
    ).rejects.toMatchObject({ code: "42501", message: expect.stringContaining("row-level security") });
    await db.query("rollback");
  });
});

test("a change of 5 MB goes to the edge in one piece", async () => {
  await follow("heavy", "(id int, text text)");
  await db.query("insert into heavy values (1, repeat('x', 5000000))");
  await db.query("update heavy set id = 2");
  const [, updated] = await world.changes("public.heavy", 2);
  expect([String(updated?.new?.text).length, String(updated?.old?.text).length]).toEqual([5_000_000, 5_000_000]);
});

test("COPY, upsert, MERGE, CTEs, cascades and triggers of the user's own are captured as what they did", async () => {
  await follow("parents", "(id int primary key, note text)");
  await follow("children", "(id int primary key, parent int references parents on delete cascade on update cascade)");
  await db.query(`create function touch() returns trigger language plpgsql as
    $$ begin new.note := coalesce(new.note, '') || '!'; return new; end $$;
    create trigger touch before insert or update on parents for each row execute function touch()`);
  await db.query("insert into parents values (1, 'a') on conflict (id) do update set note = 'b'");
  await db.query("insert into parents values (1, 'a'), (2, null) on conflict (id) do update set note = 'c'");
  await db.query(`merge into parents p using (values (2, 'm'), (3, 'n')) v (id, note) on p.id = v.id
    when matched then update set note = v.note when not matched then insert values (v.id, v.note)`);
  await db.query(
    "with made as (insert into parents values (4, 'cte') returning id) insert into children select id, id from made",
  );
  await db.query("update parents set id = 5 where id = 4");
  await db.query("delete from parents where id = 5");
  const parents = brief(await world.changes("public.parents", 8)).map(([op, image, old]) => [op, image ?? old]);
  expect(parents.slice(0, 1)).toEqual([["I", { id: 1, note: "a!" }]]);
  expect(parents.slice(1, 3)).toEqual(
    expect.arrayContaining([
      ["U", { id: 1, note: "c!" }],
      ["I", { id: 2, note: "!" }],
    ]),
  );
  expect(parents.slice(3, 5)).toEqual(
    expect.arrayContaining([
      ["U", { id: 2, note: "m!" }],
      ["I", { id: 3, note: "n!" }],
    ]),
  );
  expect(brief(await world.changes("public.children", 3))).toEqual([
    ["I", { id: 4, parent: 4 }, null],
    ["U", { id: 4, parent: 5 }, { id: 4, parent: 4 }],
    ["D", null, { id: 4, parent: 5 }],
  ]);
});

test("generated and identity columns arrive filled in", async () => {
  const virtual = world.version >= 18 ? ", v int generated always as (n * 3) virtual" : "";
  await follow(
    "made",
    `(id int generated always as identity, n int, s int generated always as (n * 2) stored${virtual})`,
  );
  await db.query("insert into made (n) values (5)");
  const [change] = await world.changes("public.made", 1);
  expect(change?.new).toMatchObject({ id: 1, n: 5, s: 10 });
});

test("partitions attached and detached, rows that move both ways, and heirs", async () => {
  await follow("halves", "(id int primary key, note text)", " partition by range (id)");
  await db.query("create table low partition of halves for values from (0) to (10)");
  await db.query("create table high (id int primary key, note text)");
  await db.query("alter table halves attach partition high for values from (10) to (20)");
  await db.query("insert into halves values (1, 'a'), (11, 'b')");
  await db.query("insert into high values (12, 'direct')");
  await db.query("update halves set id = case when id < 10 then id + 14 else id - 6 end where id in (1, 11)");
  await db.query("alter table halves detach partition high");
  await db.query("insert into high values (19, 'alone')");
  await db.query("insert into halves values (2, 'c')");
  expect(brief(await world.changes("public.halves", 6)).map(([op, image, old]) => [op, image, old])).toEqual([
    ["I", { id: 1, note: "a" }, null],
    ["I", { id: 11, note: "b" }, null],
    ["I", { id: 12, note: "direct" }, null],
    ["U", { id: 15, note: "a" }, { id: 1, note: "a" }],
    ["U", { id: 5, note: "b" }, { id: 11, note: "b" }],
    ["I", { id: 2, note: "c" }, null],
  ]);
  await follow("elder", "(id int)");
  await db.query(
    "create table heir (more int) inherits (elder); insert into heir values (1, 2); update elder set id = 3",
  );
  expect(brief(await world.changes("public.elder", 1))).toEqual([["U", { id: 3 }, { id: 1 }]]);
});

test("a session goes on writing while its table is altered, renamed, moved, dropped and made again", async () => {
  await follow("living", "(id int primary key, a text)");
  await db.query("insert into living values (1, 'a')");
  await db.query("alter table living rename a to b; insert into living values (2, 'b')");
  await db.query("alter table living alter b type int using 3; insert into living values (3, 3)");
  await db.query("alter table living add c jsonb default '{}', drop b; insert into living values (4)");
  await db.query("alter table living rename id to key; update living set key = 5 where key = 4");
  expect(brief(await world.changes("public.living", 5)).slice(1)).toEqual([
    ["I", { id: 2, b: "b" }, null],
    ["I", { id: 3, b: 3 }, null],
    ["I", { id: 4, c: {} }, null],
    ["U", { key: 5, c: {} }, { key: 4, c: {} }],
  ]);
  await db.query("create schema elsewhere; select realtime.subscribe('elsewhere.*')");
  await db.query("alter table living set schema elsewhere; insert into elsewhere.living values (6)");
  await db.query("alter table elsewhere.living rename to lived; insert into elsewhere.lived values (7)");
  await until(
    "both",
    () => world.edge.changes().filter(({ new: row }) => row?.key === 6 || row?.key === 7).length === 2,
  );
  await db.query(
    "drop table elsewhere.lived; create table elsewhere.lived (z int); insert into elsewhere.lived values (8)",
  );
  await until("the new one", () => world.edge.changes("elsewhere.lived").some(({ new: row }) => row?.z === 8));
});

test("replicas' writes and those of rolled back savepoints are not captured, those after them are", async () => {
  await follow("loaded", "(id int)");
  await db.query("begin; set local session_replication_role = replica; insert into loaded values (1); commit");
  await db.query(
    "begin; savepoint a; insert into loaded values (2); rollback to a; insert into loaded values (3); commit",
  );
  expect((await world.changes("public.loaded", 1))[0]?.new).toEqual({ id: 3 });
});

test("a write succeeds while the control sequence is missing and while nobody may ring", async () => {
  await follow("stubborn", "(id int)");
  await db.query("begin; drop sequence realtime.cdc_ctl; insert into stubborn values (1); rollback");
  await db.query("insert into stubborn values (2)");
  expect((await world.changes("public.stubborn", 1))[0]?.new).toEqual({ id: 2 });
});

test("a prepared transaction is captured when it is committed, and does not fail of a bell that still stands", async () => {
  const prepared = await startFollowing({ max_prepared_transactions: "5" });
  try {
    await prepared.db.query("create table prepared (id int); select realtime.subscribe('prepared')");
    await prepared.db.query("select realtime.cdc_ring(60)");
    await prepared.db.query("begin; insert into prepared values (1); prepare transaction 'one'");
    await prepared.db.query("insert into prepared values (2)");
    await prepared.changes("public.prepared", 1);
    await prepared.db.query("commit prepared 'one'");
    expect((await prepared.changes("public.prepared", 2)).map((change) => change.new?.id)).toEqual([2, 1]);
  } finally {
    await prepared.stop();
  }
});
