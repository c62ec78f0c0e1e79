// Row changes: what is committed in PostgreSQL reaches stock clients, once and in order, and nothing else does.
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
  test("insert, update and delete arrive with their rows, columns and time", async () => {
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

test("a row of 100 kB arrives whole", async () => {
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
