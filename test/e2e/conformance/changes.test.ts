// Row changes over every way in: who subscribes hears each change, from the first after SUBSCRIBED on (protocol.md §8).
import type { RealtimeChannel, RealtimePostgresChangesPayload } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, join, uniqueName } from "../../support/clients.ts";
import { Peers, type Way, ways } from "../../support/peers.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let peers: Peers;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack();
  peers = new Peers(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
});

afterEach(() => peers.close());

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

interface Row {
  readonly [column: string]: unknown;
}

type Change = RealtimePostgresChangesPayload<Row>;

interface Wish {
  readonly event?: "*" | "INSERT" | "UPDATE" | "DELETE";
  readonly table?: string;
  readonly filter?: string;
  readonly select?: string[];
}

/** Makes a table that is followed. @returns its name */
async function table(columns = "id int primary key, title text"): Promise<string> {
  const name = uniqueName("todos").replaceAll("-", "_");
  await db.query(`create table ${name} (${columns}); grant select on ${name} to anon, authenticated, service_role`);
  await db.query("select realtime.subscribe($1)", [name]);
  return name;
}

function bind(channel: RealtimeChannel, { event = "*", ...rest }: Wish): Change[] {
  const seen: Change[] = [];
  const see = (change: Change): void => void seen.push(change);
  // One overload an event: this one stands for all.
  channel.on("postgres_changes", { event, schema: "public", ...rest }, see);
  return seen;
}

/** Joins a channel with these subscriptions. @returns the changes of each, and what the system told */
async function follow(way: Way, wishes: readonly Wish[], key = stack.anonKey) {
  const room = uniqueName("follow");
  const channel = peers.channel(way, room, undefined, { key });
  const told: string[] = [];
  channel.on("system", {}, ({ extension, status, message }: Record<string, string>) => {
    told.push(`${extension} ${status}: ${message}`);
  });
  const changes = wishes.map((wish) => bind(channel, wish));
  await join(channel);
  return { changes, told };
}

const brief = (changes: readonly Change[] = []): unknown[] =>
  changes.map(({ eventType, new: row, old }) => [eventType, eventType === "DELETE" ? old : row]);

const subscribed = "postgres_changes ok: Subscribed to PostgreSQL";

describe.each(ways)("%s", (way) => {
  test("hears insert, update and delete, of one event or of all, filtered or not, on several subscriptions at once", async () => {
    const name = await table();
    const { changes, told } = await follow(way, [
      { table: name },
      { event: "INSERT", table: name },
      { event: "UPDATE", table: name },
      { event: "DELETE", table: name },
      { table: name, filter: "id=eq.2" },
      { table: name, filter: "title=eq.b" },
    ]);
    await db.query(`insert into ${name} values (1, 'a'), (2, 'b')`);
    await db.query(`update ${name} set title = 'c' where id = 1`);
    await db.query(`delete from ${name} where id = 2`);
    const [one, two] = [
      { id: 1, title: "a" },
      { id: 2, title: "b" },
    ];
    const all = [
      ["INSERT", one],
      ["INSERT", two],
      ["UPDATE", { id: 1, title: "c" }],
      ["DELETE", expect.objectContaining({ id: 2 })],
    ];
    await eventually(() => expect(brief(changes[0])).toEqual(all));
    expect(brief(changes[1])).toEqual(all.slice(0, 2));
    expect(brief(changes[2])).toEqual([all[2]]);
    expect(changes[2]?.[0]?.old).toEqual(one);
    expect(brief(changes[3])).toEqual([all[3]]);
    expect(brief(changes[4])).toEqual([all[1], all[3]]);
    // What is deleted is filtered by any column, for the whole old row is known.
    expect(brief(changes[5])).toEqual([all[1], all[3]]);
    expect(told).toEqual([subscribed]);
  });

  test("hears the change that is committed the moment it has joined", async () => {
    for (let times = 0; times < 5; times++) {
      const name = await table();
      const { changes } = await follow(way, [{ table: name }]);
      await db.query(`insert into ${name} values (1, 'first')`);
      await eventually(() => expect(brief(changes[0])).toEqual([["INSERT", { id: 1, title: "first" }]]));
    }
  });

  test("is never told of a mismatch, however many subscriptions it writes, and however it writes them", async () => {
    const name = await table();
    const odd: Wish[] = [
      { table: name, filter: "" },
      { table: name, filter: 'title=eq."a,b"' },
      { event: "INSERT" },
      { table: name, filter: "  id=eq.1  " },
      { table: "nobody_follows_this" },
    ];
    const many = Array.from({ length: 40 }, (_, n): Wish => ({ table: name, filter: `id=eq.${n}` }));
    const { changes } = await follow(way, [...odd, ...many]);
    await db.query(`insert into ${name} values (1, 'a,b')`);
    const hit = [["INSERT", { id: 1, title: "a,b" }]];
    const expected = [hit, hit, hit, hit, [], ...many.map((_, n) => (n === 1 ? hit : []))];
    await eventually(() => expect(changes.map(brief)).toEqual(expected));
  });

  test("hears what its role may select, and that alone", async () => {
    const name = await table();
    await db.query(`revoke select on ${name} from anon`);
    const user = await peers.token();
    const anon = await follow(way, [{ table: name }]);
    const others = await Promise.all([user, stack.serviceKey].map((key) => follow(way, [{ table: name }], key)));
    await db.query(`insert into ${name} values (1, 'secret')`);
    for (const { changes } of others) {
      await eventually(() => expect(brief(changes[0])).toEqual([["INSERT", { id: 1, title: "secret" }]]));
    }
    expect(anon.changes[0]).toEqual([]);
  });
});

describe("filters of every operator", () => {
  const rows = "(1, 'apple', true), (2, 'Banana', false), (3, null, null), (4, 'a,b (c) \"d\"', true)";

  test.each([
    ["id=eq.2", [2]],
    ["id=neq.2", [1, 3, 4]],
    ["id=lt.2", [1]],
    ["id=lte.2", [1, 2]],
    ["id=gt.2", [3, 4]],
    ["id=gte.2", [2, 3, 4]],
    ["id=in.(1,3)", [1, 3]],
    ['word=in.(apple,"a,b (c) \\"d\\"")', [1, 4]],
    ["word=like.%an%", [2]],
    ["word=like.b%", []],
    ["word=ilike.b%", [2]],
    ["word=match.^[ab]", [1, 4]],
    ["word=imatch.^B", [2]],
    ["word=is.null", [3]],
    ["word=not.is.null", [1, 2, 4]],
    ["done=is.true", [1, 4]],
    ["done=is.unknown", [3]],
    ["word=isdistinct.apple", [2, 3, 4]],
    ["word=not.isdistinct.apple", [1]],
    ["word=not.eq.apple", [2, 4]],
    ["id=gt.1,done=eq.true", [4]],
    [' word=eq."a,b (c) \\"d\\"" ', [4]],
    ["", [1, 2, 3, 4]],
  ])("%s passes %j", async (filter, ids) => {
    const name = await table("id int primary key, word text, done bool");
    const { changes, told } = await follow("newest 2.0.0", [{ table: name, filter }, { table: name }]);
    await db.query(`insert into ${name} values ${rows}`);
    await eventually(() => expect(changes[1]).toHaveLength(4));
    expect(told).toEqual([subscribed]);
    expect((changes[0] ?? []).map(({ new: row }) => ("id" in row ? row.id : undefined))).toEqual(ids);
  });

  test.each([
    ["id=foo.hey", 'Error parsing `filter` params: ["foo", "hey"]'],
    ["undefined", 'Error parsing `filter` params: ["undefined"]'],
    ["id=in.1,2", "Error parsing `filter` params"],
    [
      "id=eq.1,,id=eq.2",
      "Error parsing `filter` params: filter must not contain empty segments (check for extra commas)",
    ],
  ])("%s is refused with the words that are known for it", async (filter, message) => {
    const name = await table();
    const { told } = await follow("newest 2.0.0", [{ table: name, filter }]);
    await eventually(() => expect(told.join("\n")).toContain(`postgres_changes error: ${message}`));
  });
});

describe("columns that a subscription selects", () => {
  test.each(ways)("are all that %s hears, with the key", async (way) => {
    const name = await table("id int primary key, title text, body text, done bool");
    const { changes } = await follow(way, [{ table: name, select: ["title"], filter: "done=eq.true" }]);
    await db.query(`insert into ${name} values (1, 'a', 'long', true), (2, 'b', 'long', false)`);
    await eventually(() => expect(brief(changes[0])).toEqual([["INSERT", { id: 1, title: "a" }]]));
  });
});

describe("a join that waits for its subscriptions", () => {
  const waiting = (name: string) => {
    // A key that the client passes on and its types do not know yet.
    const config = { postgres_changes_options: { wait: true, timeout: 5_000 } };
    const channel = peers.channel("newest 2.0.0", uniqueName("wait"), { config });
    return { channel, seen: bind(channel, { table: name }) };
  };

  test("is answered when changes flow", async () => {
    const name = await table();
    const { channel, seen } = waiting(name);
    await join(channel);
    await db.query(`insert into ${name} values (1, 'a')`);
    await eventually(() => expect(brief(seen)).toEqual([["INSERT", { id: 1, title: "a" }]]));
  });

  test("is refused when the table is not followed", async () => {
    const { channel } = waiting("nobody_follows_this");
    await expect(join(channel)).rejects.toThrow(
      /^RealtimeDisabledForConfiguration: Unable to subscribe to changes with given parameters/,
    );
  });
});
