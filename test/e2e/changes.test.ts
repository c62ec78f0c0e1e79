// Row changes: what is committed in PostgreSQL reaches stock clients, once and in order, and nothing else does.

import { setTimeout as sleep } from "node:timers/promises";
import type { RealtimeChannel, RealtimePostgresChangesPayload } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  broadcast,
  Clients,
  eventually,
  join,
  oneClientAGateway,
  uniqueName,
  type Version,
  versions,
} from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new Clients(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
});

afterEach(() => clients.close());

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

interface Row {
  readonly [column: string]: unknown;
}

interface Wish {
  readonly event?: "*" | "INSERT" | "UPDATE" | "DELETE";
  readonly schema?: string;
  readonly table?: string;
  readonly filter?: string;
  readonly select?: string[];
}

type Change = RealtimePostgresChangesPayload<Row>;

/** Makes a table that is followed. @returns its name */
async function table(columns = "id int primary key, title text", prefix = "todos"): Promise<string> {
  const name = uniqueName(prefix).replaceAll("-", "_");
  await db.query(`create table ${name} (${columns})`);
  await db.query("select realtime.subscribe($1)", [name]);
  return name;
}

/** Joins a channel with these subscriptions. @returns the changes of each, and the channel's system messages */
async function follow(vsn: Version, ...wishes: Wish[]) {
  const channel = clients.open({ vsn }).channel(uniqueName("follow"));
  const system: { status: string; message: string }[] = [];
  channel.on("system", {}, (message: { status: string; message: string }) => void system.push(message));
  const changes = wishes.map((wish) => bind(channel, wish));
  await join(channel);
  return { channel, system, changes };
}

function bind(channel: RealtimeChannel, { event = "*", schema = "public", ...rest }: Wish): Change[] {
  const seen: Change[] = [];
  const see = (change: Change): void => void seen.push(change);
  channel.on("postgres_changes", { event, schema, ...rest }, see);
  return seen;
}

const brief = (changes: readonly Change[] = []): unknown[] =>
  changes.map(({ eventType, new: row, old }) => [eventType, eventType === "DELETE" ? old : row]);

describe.each(versions)("version %s", (vsn) => {
  test("AC-204: insert, update and delete arrive with their rows, columns and time", async () => {
    const name = await table();
    const { changes, system } = await follow(vsn, { table: name });
    const before = Date.now();
    await db.query(`insert into ${name} values (1, 'a')`);
    await db.query(`update ${name} set title = 'b' where id = 1`);
    await db.query(`delete from ${name} where id = 1`);
    await eventually(() => expect(changes[0]).toHaveLength(3));
    const common = { schema: "public", table: name, errors: null, commit_timestamp: expect.any(String) };
    expect(changes[0]).toEqual([
      { ...common, eventType: "INSERT", new: { id: 1, title: "a" }, old: {} },
      { ...common, eventType: "UPDATE", new: { id: 1, title: "b" }, old: expect.objectContaining({ id: 1 }) },
      { ...common, eventType: "DELETE", new: {}, old: expect.objectContaining({ id: 1 }) },
    ]);
    for (const { commit_timestamp: at } of changes[0] ?? []) {
      expect(at).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(Math.abs(Date.parse(at) - before)).toBeLessThan(60_000);
    }
    expect(system).toEqual([
      expect.objectContaining({ extension: "postgres_changes", status: "ok", message: "Subscribed to PostgreSQL" }),
    ]);
  });

  test("a table that a migration adds to the publication supabase_realtime is followed without a command", async () => {
    const name = uniqueName("published").replaceAll("-", "_");
    await db.query(`create table ${name} (id int primary key)`);
    await db.query(`alter publication supabase_realtime add table ${name}`);
    const { changes } = await follow(vsn, { event: "INSERT", table: name, filter: "id=eq.2" });
    await db.query(`insert into ${name} values (1), (2)`);
    await eventually(() => expect(brief(changes[0])).toEqual([["INSERT", { id: 2 }]]));
  });

  test("each of several subscriptions of one channel gets what it asked for", async () => {
    const [name, other] = [await table(), await table()];
    const { changes } = await follow(
      vsn,
      { event: "INSERT", table: name },
      { event: "UPDATE", table: name },
      { event: "DELETE", table: name },
      { event: "*", table: name, filter: "id=eq.2" },
      { event: "*", table: name, filter: 'title=eq."late, or never"' },
      { event: "*", table: other },
      { event: "*" },
    );
    await db.query(`insert into ${name} values (1, 'a'), (2, 'b')`);
    await db.query(`update ${name} set title = 'late, or never' where id = 1`);
    await db.query(`delete from ${name} where id = 2`);
    await db.query(`insert into ${other} values (9, 'z')`);
    const all = [
      ["INSERT", { id: 1, title: "a" }],
      ["INSERT", { id: 2, title: "b" }],
      ["UPDATE", { id: 1, title: "late, or never" }],
      ["DELETE", { id: 2, title: "b" }],
      ["INSERT", { id: 9, title: "z" }],
    ];
    await eventually(() => expect(changes[6]).toHaveLength(5));
    await eventually(() => expect(changes[5]).toHaveLength(1));
    await eventually(() => expect(changes[3]).toHaveLength(2));
    expect(changes.slice(0, 6).map(brief)).toEqual([
      [all[0], all[1]],
      [all[2]],
      [all[3]],
      [all[1], all[3]],
      [all[2]],
      [all[4]],
    ]);
    // Tables keep their own order; that between two tables is not promised.
    expect(brief(changes[6]).filter((change) => change !== all[4])).toEqual(expect.arrayContaining(all));
  });

  test("a subscription to every schema hears every captured table", async () => {
    const name = await table();
    const { changes } = await follow(vsn, { schema: "*" });
    await db.query(`insert into ${name} values (1, 'a')`);
    await eventually(() =>
      expect(changes[0]).toEqual([expect.objectContaining({ table: name, new: { id: 1, title: "a" } })]),
    );
  });

  test("a table that is not captured is named in a system message, and the other subscriptions live", async () => {
    const name = await table();
    const { changes, system } = await follow(vsn, { table: "nobody_captures_this" }, { table: name });
    await eventually(() => expect(system).toHaveLength(2));
    expect(system).toContainEqual(
      expect.objectContaining({
        extension: "postgres_changes",
        status: "error",
        message: expect.stringMatching(/^Unable to subscribe to changes .*table: nobody_captures_this/),
      }),
    );
    await db.query(`insert into ${name} values (1, 'a')`);
    await eventually(() => expect(brief(changes[1])).toEqual([["INSERT", { id: 1, title: "a" }]]));
  });

  test("a channel that follows rows broadcasts and tracks like any other", async () => {
    const name = await table();
    const { channel, changes } = await follow(vsn, { table: name });
    const heard: unknown[] = [];
    channel.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
    const other = clients.open({ vsn }).channel(channel.subTopic);
    await join(other);
    await broadcast(other, "hello", { n: 1 });
    await db.query(`insert into ${name} values (1, 'a')`);
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));
    await eventually(() => expect(changes[0]).toHaveLength(1));
  });
});

test("what a rolled-back transaction wrote never arrives", async () => {
  const name = await table();
  const { changes } = await follow("2.0.0", { table: name });
  await db.query(`begin; insert into ${name} values (1, 'undone'); rollback`);
  await db.query(`begin; savepoint s; insert into ${name} values (2, 'undone'); rollback to s; commit`);
  await db.query(`insert into ${name} values (3, 'kept')`);
  await eventually(() => expect(brief(changes[0])).toEqual([["INSERT", { id: 3, title: "kept" }]]));
});

test("AC-070: a row of 100 kB arrives whole", async () => {
  const name = await table();
  const { changes } = await follow("2.0.0", { table: name });
  await db.query(`insert into ${name} values (1, repeat('0123456789', 10000))`);
  await eventually(() =>
    expect(brief(changes[0])).toEqual([["INSERT", { id: 1, title: "0123456789".repeat(10_000) }]]),
  );
});

test("values keep their types", async () => {
  const name = await table(
    "id int primary key, big bigint, exact numeric, yes bool, list int[], doc jsonb, at timestamp, bytes bytea, nothing text",
    "types",
  );
  const { changes } = await follow("2.0.0", { table: name });
  await db.query(
    `insert into ${name} values (1, 9007199254740991, 1.5, true, '{1,2}', '{"a":[null]}', '2026-01-01 10:00', '\\xff00', null)`,
  );
  await eventually(() => expect(changes[0]).toHaveLength(1));
  expect(changes[0]?.[0]?.new).toEqual({
    ...{ id: 1, big: 9007199254740991, exact: 1.5, yes: true, list: [1, 2], doc: { a: [null] } },
    ...{ at: "2026-01-01T10:00:00", bytes: expect.any(String), nothing: null },
  });
});

test("changes of one table arrive in the order of their commits, however many clients wrote them", async () => {
  const name = await table("writer int, n int, primary key (writer, n)");
  const { changes } = await follow("2.0.0", { table: name });
  const writers = await Promise.all(
    [0, 1, 2].map(async () => {
      const client = new pg.Client({ connectionString: stack.databaseUrl });
      await client.connect();
      return client;
    }),
  );
  await Promise.all(
    writers.map(async (client, writer) => {
      for (let n = 0; n < 50; n++) await client.query(`insert into ${name} values ($1, $2)`, [writer, n]);
      await client.end();
    }),
  );
  await eventually(() => expect(changes[0]).toHaveLength(150));
  for (const writer of [0, 1, 2]) {
    const own = (changes[0] ?? []).flatMap(({ new: row }) => ("n" in row && row.writer === writer ? [row.n] : []));
    expect(own).toEqual(Array.from({ length: 50 }, (_, n) => n));
  }
});

test("nothing is lost or doubled when the listener is killed while rows are written", async () => {
  const name = await table("id int primary key");
  const { changes } = await follow("2.0.0", { table: name });
  let writing = true;
  let written = 0;
  const writer = (async () => {
    while (writing) await db.query(`insert into ${name} values (${++written})`);
  })();
  await eventually(() => expect(changes[0]?.length).toBeGreaterThan(20));
  await stack.killListener();
  const atReturn = changes[0]?.length ?? 0;
  await eventually(() => expect(changes[0]?.length).toBeGreaterThan(atReturn + 20), 20_000);
  writing = false;
  await writer;
  await eventually(() => expect(changes[0]).toHaveLength(written), 20_000);
  expect((changes[0] ?? []).map(({ new: row }) => ("id" in row ? row.id : undefined))).toEqual(
    Array.from({ length: written }, (_, n) => n + 1),
  );
});

test("a table that is no longer followed is silent, and the channel stays", async () => {
  const [name, other] = [await table(), await table()];
  const { changes } = await follow("2.0.0", { table: name }, { table: other });
  await db.query("select realtime.unsubscribe($1)", [name]);
  await db.query(`insert into ${name} values (1, 'unheard')`);
  await db.query(`insert into ${other} values (1, 'heard')`);
  await eventually(() => expect(changes[1]).toHaveLength(1));
  expect(changes[0]).toEqual([]);
});

test("a role that may not read a table sees nothing of it", async () => {
  const name = await table();
  await db.query(`revoke select on ${name} from anon`);
  const { changes } = await follow("2.0.0", { table: name });
  const channel = clients.open({ key: stack.serviceKey }).channel(uniqueName("service"));
  const seen = bind(channel, { table: name });
  await join(channel);
  await db.query(`insert into ${name} values (1, 'secret')`);
  await eventually(() => expect(seen).toHaveLength(1));
  await db.query(`grant select on ${name} to anon`);
  let id = 1;
  await eventually(async () => {
    // The listener looks at privileges twice a second.
    await db.query(`insert into ${name} values (${++id}, 'open')`);
    expect(changes[0]).not.toEqual([]);
  });
  expect(brief(changes[0])).not.toContainEqual(["INSERT", { id: 1, title: "secret" }]);
});

test("a subscription that selects columns gets those and the key, whatever its filter asks for", async () => {
  const name = await table("id int primary key, title text, big bigint, secret text");
  const { changes, system } = await follow(
    "2.0.0",
    { table: name, select: ["big"], filter: "title=like.a%" },
    { table: name, select: ["title", "id"], filter: 'title=in.("a,b",c)' },
    { table: name },
  );
  await eventually(() => expect(system.map(({ message }) => message)).toEqual(["Subscribed to PostgreSQL"]));
  await db.query(`insert into ${name} values (1, 'a,b', 5, 's'), (2, 'c', null, 's'), (3, 'd', 7, 's')`);
  await db.query(`update ${name} set title = 'a' where id = 3`);
  await eventually(() => expect(changes[2]).toHaveLength(4));
  expect(changes.slice(0, 2).map(brief)).toEqual([
    [
      ["INSERT", { id: 1, big: 5 }],
      ["UPDATE", { id: 3, big: 7 }],
    ],
    [
      ["INSERT", { id: 1, title: "a,b" }],
      ["INSERT", { id: 2, title: "c" }],
    ],
  ]);
  expect(changes[0]?.[1]?.old).toEqual({ id: 3, big: 7 });
});

test("bad subscriptions are told one by one, and the good one of the channel lives", async () => {
  const name = await table();
  const { changes, system } = await follow(
    "2.0.0",
    { table: name, filter: "nope=eq.1" },
    { table: name, filter: "id=eq.one" },
    { table: name, filter: "title=match.(" },
    { table: name, select: ["nope"] },
    { select: ["id"] },
    { table: name, filter: "id=gt.1" },
  );
  const problem = (filters: string, error: string, select = "nil") =>
    `Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: [event: *, schema: public, table: ${name}, filters: [${filters}], select: ${select}]. Exception: ERROR ${error}`;
  await eventually(() => expect(system).toHaveLength(6));
  expect(system.map(({ message }) => message)).toEqual([
    "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
    problem('{"nope", "eq", "1", false}', "P0001 (raise_exception) invalid column for filter nope"),
    problem(
      '{"id", "eq", "one", false}',
      '22P02 (invalid_text_representation) invalid input syntax for type integer: "one"',
    ),
    problem(
      '{"title", "match", "(", false}',
      "P0001 (raise_exception) invalid regular expression for match filter: parentheses () not balanced",
    ),
    problem("", "P0001 (raise_exception) invalid column for select nope", '["nope"]'),
    "Subscribed to PostgreSQL",
  ]);
  await db.query(`insert into ${name} values (1, 'a'), (2, 'b')`);
  await eventually(() => expect(brief(changes[5])).toEqual([["INSERT", { id: 2, title: "b" }]]));
  expect(changes.slice(0, 5)).toEqual([[], [], [], [], []]);
});

test("a role filters by the columns that it may read, and by no others", async () => {
  const name = await table("id int primary key, title text, secret text");
  await db.query(`revoke select on ${name} from anon; grant select (id, title) on ${name} to anon`);
  const { system } = await follow(
    "2.0.0",
    { table: name, filter: "title=eq.a" },
    { table: name, filter: "secret=eq.a" },
  );
  await eventually(() => expect(system).toHaveLength(2));
  expect(system[0]?.message).toContain("ERROR P0001 (raise_exception) invalid column for filter secret");
});

test("a join that waits is confirmed when it succeeds, and fails with the reason where it cannot", async () => {
  const name = await table();
  const client = clients.open();
  const config = { postgres_changes_options: { wait: true } };
  const channel = client.channel(uniqueName("waits"), { config });
  const seen = bind(channel, { table: name });
  await join(channel);
  await db.query(`insert into ${name} values (1, 'a')`);
  await eventually(() => expect(seen).toHaveLength(1));
  const refused = client.channel(uniqueName("waits"), { config });
  bind(refused, { table: "nobody_captures_this" });
  await expect(join(refused)).rejects.toThrow(
    "RealtimeDisabledForConfiguration: Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: [event: *, schema: public, table: nobody_captures_this, filters: [], select: nil]",
  );
});

test("who takes packed frames gets in fewer of them what others get one by one", async () => {
  const name = await table();
  const topic = `realtime:${uniqueName("packed")}`;
  const [packed, plain] = await Promise.all(
    [{ packed: "true" }, {}].map((query) => RawSocket.open(stack.url, { key: stack.anonKey, query })),
  );
  if (packed === undefined || plain === undefined) throw new Error("no sockets");
  const changesOf = (socket: RawSocket) =>
    socket.until("100 changes", 100, ({ event }) => event === "postgres_changes");
  for (const socket of [packed, plain]) {
    await socket.join(topic, { postgres_changes: [{ event: "*", schema: "public", table: name }] });
    await socket.until("the subscription", 1, ({ event }) => event === "system");
  }
  const before = packed.texts.length;
  await db.query(`insert into ${name} select n, 'x' from generate_series(1, 100) n`);
  expect(await changesOf(packed)).toEqual(await changesOf(plain));
  expect(packed.texts.length - before).toBeLessThan(20);
  packed.close();
  plain.close();
});

test("wildcards in the table, and a table alone, which is one of public", async () => {
  const schema = uniqueName("elsewhere").replaceAll("-", "_");
  await db.query(`create schema ${schema}; create table ${schema}.a (id int primary key);
    grant usage on schema ${schema} to anon, authenticated, service_role; grant select on ${schema}.a to anon`);
  await db.query("select realtime.subscribe($1)", [`${schema}.a`]);
  const name = await table("id int primary key");
  const { changes, system } = await follow(
    "2.0.0",
    ...[{ schema, table: "*" }, { schema }, { table: name }, { schema: "*", table: name }],
    { schema: "*", table: "nobody_captures_this" },
  );
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  await socket.join("realtime:alone", { postgres_changes: [{ event: "insert", table: name }] });
  await db.query(`insert into ${schema}.a values (1)`);
  await db.query(`insert into ${name} values (2)`);
  await eventually(() => expect(changes.map((each) => each.length)).toEqual([1, 1, 1, 1, 0]));
  expect(system.map(({ message }) => message)).toEqual([
    expect.stringContaining("[event: *, schema: *, table: nobody_captures_this, filters: [], select: nil]"),
    "Subscribed to PostgreSQL",
  ]);
  await socket.until("the row", 1, ({ event }) => event === "postgres_changes");
  socket.close();
});

test("a change has the keys that Supabase's have, and nothing else in its data", async () => {
  const name = await table("id int primary key, at timestamptz, bytes bytea");
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  const reply = await socket.join("realtime:shape", {
    postgres_changes: [{ schema: "public", table: name, filter: "" }],
  });
  expect(reply.response.postgres_changes).toEqual([
    { schema: "public", table: name, filter: "", id: expect.any(Number) },
  ]);
  await db.query(`insert into ${name} values (1, '2026-01-01 10:00+01', '\\xff00')`);
  await db.query(`update ${name} set bytes = null`);
  await db.query(`delete from ${name}`);
  const frames = await socket.until("the changes", 3, ({ event }) => event === "postgres_changes");
  const common = {
    schema: "public",
    table: name,
    commit_timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    columns: [
      { name: "id", type: "int4" },
      { name: "at", type: "timestamptz" },
      { name: "bytes", type: "bytea" },
    ],
    errors: null,
  };
  const row = { id: 1, at: "2026-01-01T09:00:00+00:00", bytes: "ff00" };
  expect(frames.map(({ payload }) => payload.data)).toStrictEqual([
    { ...common, type: "INSERT", record: row },
    { ...common, type: "UPDATE", record: { ...row, bytes: null }, old_record: expect.objectContaining({ id: 1 }) },
    { ...common, type: "DELETE", old_record: expect.objectContaining({ id: 1 }) },
  ]);
  socket.close();
});

test("AC-206: the Flutter SDK's join, whose topic names the table, gets the frames of its events", async () => {
  const name = await table();
  const topic = `realtime:public:${name}`;
  // A gateway looks at the list of captured tables once a second.
  await sleep(1_100);
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey, vsn: "1.0.0" });
  const config = { broadcast: {}, presence: {}, postgres_changes: [] };
  const reply = await socket.ask(topic, "phx_join", { config });
  expect(reply).toMatchObject({ status: "ok", response: { postgres_changes: [] } });
  const legacy = await RawSocket.open(stack.url, { key: stack.anonKey });
  await legacy.ask(`${topic}:id=gt.1`, "phx_join", {});
  await db.query(`insert into ${name} values (1, 'a'), (2, 'b')`);
  await db.query(`delete from ${name} where id = 2`);
  const [first] = await socket.until("the rows", 2, ({ event }) => event === "INSERT");
  expect(first).toMatchObject({ topic, payload: { type: "INSERT", table: name, record: { id: 1, title: "a" } } });
  await socket.until("the row", 1, ({ event, payload }) => event === "DELETE" && !("record" in payload));
  const filtered = await legacy.until("the row", 1, ({ event }) => event === "INSERT");
  expect(filtered.map(({ payload }) => payload.record)).toEqual([{ id: 2, title: "b" }]);
  socket.close();
  legacy.close();
});

test("a channel named like a table's topic is a room, and its subscriptions are its own", async () => {
  const name = await table();
  const [one, other] = [clients.open().channel(`public:${name}`), clients.open().channel(`public:${name}`)];
  const seen = bind(one, { table: name, filter: "id=eq.2" });
  const heard: unknown[] = [];
  other.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
  await join(one);
  await join(other);
  await broadcast(one, "hello", { n: 1 });
  await db.query(`insert into ${name} values (1, 'a'), (2, 'b')`);
  await eventually(() => expect(brief(seen)).toEqual([["INSERT", { id: 2, title: "b" }]]));
  await eventually(() => expect(heard).toEqual([{ n: 1 }]));
});

test("a subscription of a table that is captured later begins by itself", async () => {
  const name = uniqueName("later").replaceAll("-", "_");
  await db.query(`create table ${name} (id int primary key)`);
  const { changes, system } = await follow("2.0.0", { table: name });
  await eventually(() => expect(system.map(({ status }) => status)).toEqual(["error"]));
  await db.query("select realtime.subscribe($1)", [name]);
  await eventually(() => expect(system.map(({ status }) => status)).toEqual(["error", "ok"]), 15_000);
  await db.query(`insert into ${name} values (1)`);
  await eventually(() => expect(brief(changes[0])).toEqual([["INSERT", { id: 1 }]]));
}, 30_000);

test("a value beyond PostgreSQL's limits is refused, and keeps nobody else from being served", async () => {
  const name = await table("id int primary key, doc jsonb, n numeric");
  const deep = await follow(
    "2.0.0",
    { table: name, filter: `doc=eq.${"[".repeat(20_000)}${"]".repeat(20_000)}` },
    { table: name, filter: "n=eq.1e100000" },
    { table: name, filter: "id=eq.0x10" },
  );
  await eventually(() => expect(deep.system).toHaveLength(3));
  const errors = deep.system.map(({ message }) => /ERROR \w+ \(\w+\)/.exec(message)?.[0] ?? message);
  expect(errors).toEqual([
    "ERROR 54001 (statement_too_complex)",
    "ERROR 0A000 (feature_not_supported)",
    "Subscribed to PostgreSQL",
  ]);
  await db.query(`insert into ${name} values (16)`);
  await eventually(() => expect(deep.changes.map((each) => each.length)).toEqual([0, 0, 1]));
});
