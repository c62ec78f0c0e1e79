// Row-level security on row changes: every subscriber gets what SELECT would show them, and nobody anything else.

import { setTimeout as sleep } from "node:timers/promises";
import type { RealtimeChannel, RealtimePostgresChangesPayload } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Clients, eventually, join, oneClientAGateway, uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { userToken } from "../support/tokens.ts";

const ANN = "6f1c3a9e-0000-4000-8000-00000000000a";
const BOB = "6f1c3a9e-0000-4000-8000-00000000000b";
/** Longer than a description of a table is trusted. */
const POLICY_MS = 700;

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

type Change = RealtimePostgresChangesPayload<Record<string, unknown>>;

const token = (sub: string, more: object = {}): Promise<string> => userToken(stack, { sub, ...more });

/** Makes a table with row-level security that is followed. @returns its name */
async function table(columns: string, ...policies: string[]): Promise<string> {
  const name = uniqueName("secured").replaceAll("-", "_");
  await db.query(`create table ${name} (${columns}); alter table ${name} enable row level security`);
  for (const policy of policies)
    await db.query(`create policy ${uniqueName('"p').replaceAll("-", "_")}" on ${name} ${policy}`);
  await db.query("select realtime.subscribe($1)", [name]);
  return name;
}

interface Follower {
  readonly channel: RealtimeChannel;
  readonly changes: Change[];
  /** Operation and row, the old one of a DELETE. */
  brief(): unknown[];
}

/** Follows a table as a user, or with a key. */
async function follow(
  name: string,
  as: { token?: () => Promise<string>; key?: string },
  schema = "public",
): Promise<Follower> {
  const client = clients.open(as);
  // Without it the client joins with its key, and sends the token after.
  if (as.token !== undefined) await client.realtime.setAuth();
  const channel = client.channel(uniqueName("follow"));
  const changes: Change[] = [];
  channel.on("postgres_changes", { event: "*", schema, table: name }, (change) => void changes.push(change));
  await join(channel);
  const brief = (): unknown[] =>
    changes.map(({ eventType, new: row, old }) => [eventType, eventType === "DELETE" ? old : row]);
  return { channel, changes, brief };
}

const user = (sub: string, more: object = {}) => ({ token: () => token(sub, more) });
const service = () => ({ key: stack.serviceKey });

describe.each([
  ["own rows, compared at once", "for select using (owner = auth.uid())"],
  ["own rows, as a query", "for select using (owner = (select auth.uid()))"],
  ["own rows, by a function of PostgreSQL", "for select using (coalesce(owner = auth.uid(), false))"],
])("%s", (_title, policy) => {
  test("each user gets inserts, updates and deletes of their own rows, and the service role gets all", async () => {
    const name = await table("id int primary key, owner uuid, note text", policy);
    const [ann, bob, all] = [
      await follow(name, user(ANN)),
      await follow(name, user(BOB)),
      await follow(name, service()),
    ];
    const anon = await follow(name, {});
    const wild = await follow("*", user(ANN));
    await db.query(`insert into ${name} values (1, '${ANN}', 'a'), (2, '${BOB}', 'b'), (3, null, 'c')`);
    await db.query(`update ${name} set note = note || '!'`);
    await db.query(`update ${name} set owner = '${ANN}' where id = 2`);
    await db.query(`delete from ${name}`);
    await eventually(() => expect(all.changes).toHaveLength(10));
    const expected = [
      ["INSERT", { id: 1, owner: ANN, note: "a" }],
      ["UPDATE", { id: 1, owner: ANN, note: "a!" }],
      ["UPDATE", { id: 2, owner: ANN, note: "b!" }],
      ["DELETE", { id: 1, owner: ANN, note: "a!" }],
      ["DELETE", { id: 2, owner: ANN, note: "b!" }],
    ];
    await eventually(() => expect(ann.brief()).toEqual(expected));
    await eventually(() => expect(wild.brief()).toEqual(expected));
    await eventually(() =>
      expect(bob.brief()).toEqual([
        ["INSERT", { id: 2, owner: BOB, note: "b" }],
        ["UPDATE", { id: 2, owner: BOB, note: "b!" }],
      ]),
    );
    expect(anon.changes).toEqual([]);
    // What a row was is shown to who could see it; of one that was another's, the key is.
    expect(ann.changes.slice(1, 3).map(({ old }) => old)).toEqual([{ id: 1, owner: ANN, note: "a" }, { id: 2 }]);
  });
});

test("a membership in another table takes effect with the next row", async () => {
  const members = uniqueName("members").replaceAll("-", "_");
  await db.query(`create table ${members} (of_team int, who uuid)`);
  const name = await table(
    "id int primary key, team int",
    `for select to authenticated using (exists (select from ${members} where of_team = team and who = auth.uid()))`,
  );
  const [ann, all] = [await follow(name, user(ANN)), await follow(name, service())];
  await db.query(`insert into ${name} values (1, 1)`);
  await eventually(() => expect(all.changes).toHaveLength(1));
  await db.query(`insert into ${members} values (1, '${ANN}')`);
  await db.query(`insert into ${name} values (2, 1), (3, 2)`);
  await eventually(() => expect(ann.brief()).toEqual([["INSERT", { id: 2, team: 1 }]]));
  await db.query(`delete from ${members}`);
  await db.query(`insert into ${name} values (4, 1)`);
  await eventually(() => expect(all.changes).toHaveLength(4));
  expect(ann.changes).toHaveLength(1);
});

test("a policy that is made, changed or dropped decides within seconds", async () => {
  const name = await table("id int primary key, owner uuid");
  const [ann, all] = [await follow(name, user(ANN)), await follow(name, service())];
  const insert = async (id: number): Promise<void> => {
    await sleep(POLICY_MS);
    await db.query(`insert into ${name} values (${id}, '${ANN}')`);
    await eventually(() => expect(all.changes).toHaveLength(id));
  };
  await insert(1);
  await db.query(`create policy own on ${name} for select using (owner = auth.uid())`);
  await insert(2);
  await db.query(`alter policy own on ${name} using (owner <> auth.uid())`);
  await insert(3);
  await db.query(`alter policy own on ${name} using (true)`);
  await insert(4);
  await db.query(`create policy no on ${name} as restrictive for select using (id > 5)`);
  await insert(5);
  await insert(6);
  await db.query(`drop policy own on ${name}`);
  await insert(7);
  await db.query(`alter table ${name} disable row level security`);
  await insert(8);
  expect(ann.brief()).toEqual([2, 4, 6, 8].map((id) => ["INSERT", { id, owner: ANN }]));
});

test("a role without SELECT gets nothing, and columns without it are in no change", async () => {
  const name = await table("id int primary key, title text, secret text", "for select using (true)");
  await db.query(
    `revoke select on ${name} from anon, authenticated; grant select (id, title) on ${name} to authenticated`,
  );
  const [ann, anon, all] = [await follow(name, user(ANN)), await follow(name, {}), await follow(name, service())];
  await db.query(`insert into ${name} values (1, 'a', 's')`);
  await db.query(`update ${name} set secret = 't'`);
  await db.query(`delete from ${name}`);
  await eventually(() => expect(all.changes).toHaveLength(3));
  await eventually(() => expect(ann.changes).toHaveLength(3));
  expect(ann.brief()).toEqual(["INSERT", "UPDATE", "DELETE"].map((operation) => [operation, { id: 1, title: "a" }]));
  expect(JSON.stringify(ann.changes)).not.toContain("secret");
  expect(all.brief()[0]).toEqual(["INSERT", { id: 1, title: "a", secret: "s" }]);
  expect(anon.changes).toEqual([]);
});

test("who may not read the key is told so with every change, and nothing else", async () => {
  const name = await table("id int primary key, title text", "for select using (title = 'a')");
  await db.query(`revoke select on ${name} from authenticated; grant select (title) on ${name} to authenticated`);
  const socket = await RawSocket.open(stack.url, { key: await token(ANN) });
  await socket.join("realtime:blind", { postgres_changes: [{ event: "*", schema: "public", table: name }] });
  await db.query(`insert into ${name} values (1, 'b')`);
  const [frame] = await socket.until("the change", 1, ({ event }) => event === "postgres_changes");
  expect(frame?.payload.data).toEqual({
    ...{ schema: "public", table: name, type: "INSERT", commit_timestamp: null, columns: [], record: {} },
    errors: ["Error 401: Unauthorized"],
  });
  socket.close();
});

test("a policy that raises an error stops only whom it is raised for", async () => {
  const name = await table("id int primary key, owner uuid", "for select using (owner = auth.uid())");
  const [ann, broken, all] = [
    await follow(name, user(ANN)),
    await follow(name, user("no uuid")),
    await follow(name, service()),
  ];
  await db.query(`insert into ${name} values (1, '${ANN}')`);
  await eventually(() => expect(ann.changes).toHaveLength(1));
  await db.query(`alter policy ${await policyOf(name)} on ${name} using (1 / (id - 2) < 9)`);
  await sleep(POLICY_MS);
  await db.query(`insert into ${name} values (2, '${ANN}')`);
  // One batch is judged as a whole: what raises an error for one of its rows hides them all.
  await eventually(() => expect(all.changes).toHaveLength(2));
  await db.query(`insert into ${name} values (3, '${ANN}')`);
  await eventually(() => expect(all.changes).toHaveLength(3));
  await eventually(() => expect(ann.brief()).toEqual([1, 3].map((id) => ["INSERT", { id, owner: ANN }])));
  expect(broken.brief()).toEqual([["INSERT", { id: 3, owner: ANN }]]);
  expect(stack.logs()).toContain("rows not shown");
});

async function policyOf(name: string): Promise<string> {
  const { rows } = await db.query("select polname from pg_policy where polrelid = $1::regclass", [name]);
  return `"${rows[0].polname}"`;
}

test("a token of another user brings the other's rows, from the next change on", async () => {
  const name = await table("id int primary key, owner uuid", "for select using (owner = auth.uid())");
  // One token each: another of the same user would be confirmed as well.
  let bearer = token(ANN);
  const client = clients.open({ token: () => bearer });
  await client.realtime.setAuth();
  const channel = client.channel(uniqueName("follow"));
  const seen: Change[] = [];
  channel.on("postgres_changes", { event: "*", schema: "public", table: name }, (change) => void seen.push(change));
  const confirmed: string[] = [];
  channel.on("system", {}, ({ message }: { message: string }) => void confirmed.push(message));
  await join(channel);
  await eventually(() => expect(confirmed).toHaveLength(1));
  await db.query(`insert into ${name} values (1, '${ANN}'), (2, '${BOB}')`);
  await eventually(() => expect(seen).toHaveLength(1));
  bearer = token(BOB);
  await client.realtime.setAuth();
  await eventually(() => expect(confirmed).toHaveLength(2));
  await db.query(`insert into ${name} values (3, '${ANN}'), (4, '${BOB}')`);
  await eventually(() => expect(seen.map(({ new: row }) => "id" in row && row.id)).toEqual([1, 4]));
});

test("what was missed is shown as far as it may be seen, and so is a feed by its own topic", async () => {
  const name = await table("id int primary key, owner uuid", "for select using (owner = auth.uid())");
  const topic = `realtime:table:public.${name}`;
  const open = async (sub: string): Promise<RawSocket> => RawSocket.open(stack.url, { key: await token(sub) });
  const first = await open(ANN);
  await first.join(topic);
  await db.query(`insert into ${name} values (1, '${ANN}'), (2, '${BOB}')`);
  const [live] = await first.until("the row", 1, ({ event }) => event === "INSERT");
  const meta = live?.payload.meta as { epoch: string; seq: number };
  first.close();
  await db.query(`insert into ${name} values (3, '${ANN}'), (4, '${BOB}')`);
  await sleep(300);
  const again = await open(BOB);
  const resume = { epoch: meta.epoch, seq: meta.seq - 1 };
  const { response } = await again.join(topic, { broadcast: { resume } });
  expect(response).toMatchObject({ recovered: true });
  await again.until("the rows", 2, ({ event }) => event === "INSERT");
  await sleep(200);
  const ids = again.frames
    .filter(({ event }) => event === "INSERT")
    .map(({ payload }) => (payload.record as { id: number }).id);
  expect(ids).toEqual([2, 4]);
  again.close();
});
