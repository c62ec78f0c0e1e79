// Broadcasts from the database, and what SQL changes of channels: at the clients, once, in order, whoever dies.

import { setTimeout as sleep } from "node:timers/promises";
import type { RealtimeChannel } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { admin } from "../support/admin.ts";
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
import { userToken } from "../support/tokens.ts";

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

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A broadcast as the stock client hands it over. */
interface Heard {
  readonly event: string;
  readonly payload?: unknown;
  readonly meta?: { readonly id: string; readonly replayed?: boolean };
}

interface Wish {
  readonly vsn?: Version;
  readonly isPrivate?: boolean;
  readonly replay?: { since: number; limit: number };
}

/** Joins a room. @returns what is heard in it from then on */
async function listen(room: string, { vsn = "2.0.0", isPrivate = true, replay }: Wish = {}) {
  // The service may join any private room.
  const client = clients.open({ vsn, key: isPrivate ? stack.serviceKey : stack.anonKey });
  const channel = client.channel(room, { config: { private: isPrivate, broadcast: replay ? { replay } : {} } });
  const heard: Heard[] = [];
  channel.on("broadcast", { event: "*" }, (message) => void heard.push(message));
  await join(channel);
  return { channel, heard };
}

const send = (room: string, payload: object, isPrivate = true) =>
  db.query("select realtime.send($1::jsonb, 'note', $2, $3)", [JSON.stringify(payload), room, isPrivate]);

async function register(slug: string, type: string): Promise<string> {
  const { rows } = await db.query("insert into realtime.channels (slug, name, type) values ($1, $1, $2) returning id", [
    slug,
    type,
  ]);
  return rows[0].id;
}

const payloads = (heard: readonly Heard[]): unknown[] => heard.map(({ payload }) => payload);

describe.each(versions)("version %s", (vsn) => {
  test("realtime.send reaches the room that it names, private and public apart, with the message's id", async () => {
    const room = uniqueName("send");
    const [secret, open] = await Promise.all([listen(room, { vsn }), listen(room, { vsn, isPrivate: false })]);
    await send(room, { n: 1 });
    await send(room, { n: 2 }, false);
    await eventually(() => expect([secret.heard.length, open.heard.length]).toEqual([1, 1]));
    const [heard] = secret.heard;
    expect(heard).toMatchObject({ type: "broadcast", event: "note", payload: { n: 1, id: heard?.meta?.id } });
    expect(heard?.meta?.id).toMatch(UUID);
    expect(open.heard[0]?.payload).toMatchObject({ n: 2 });
  });

  test("a trigger with broadcast_changes tells of insert, update and delete", async () => {
    const table = uniqueName("t").replaceAll("-", "_");
    await db.query(`
      create table ${table} (id int primary key, value text);
      create function tell_${table}() returns trigger language plpgsql security definer as $$
      begin
        perform realtime.broadcast_changes('${table}', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
        return null;
      end $$;
      create trigger tell after insert or update or delete on ${table} for each row execute function tell_${table}();
      grant insert on ${table} to authenticated`);
    const { heard } = await listen(table, { vsn });
    await db.query(`begin; set local role authenticated; insert into ${table} values (1, 'a'); commit`);
    await db.query(`update ${table} set value = 'b'`);
    await db.query(`delete from ${table}`);
    await eventually(() => expect(heard).toHaveLength(3));
    const [a, b] = [
      { id: 1, value: "a" },
      { id: 1, value: "b" },
    ];
    const common = { schema: "public", table, id: expect.stringMatching(UUID) };
    expect(heard.map(({ event, payload }) => [event, payload])).toEqual([
      ["INSERT", { ...common, operation: "INSERT", record: a, old_record: null }],
      ["UPDATE", { ...common, operation: "UPDATE", record: b, old_record: a }],
      ["DELETE", { ...common, operation: "DELETE", record: null, old_record: b }],
    ]);
  });

  test("what was sent before anybody came is replayed, under the ids of its rows", async () => {
    const room = uniqueName("early");
    await register(room, "private");
    for (const n of [1, 2, 3]) await send(room, { n });
    const { rows } = await db.query("select id from realtime.messages where topic = $1 order by sent_at", [room]);
    // What is committed may still be on its way: a first one comes and hears all of it, from the past or live.
    const early = await listen(room, { vsn, replay: { since: Date.now() - 60_000, limit: 25 } });
    await eventually(() => expect(early.heard).toHaveLength(3));
    const { heard } = await listen(room, { vsn, replay: { since: Date.now() - 60_000, limit: 2 } });
    await eventually(() => expect(heard).toHaveLength(2));
    expect(heard.map(({ payload, meta }) => [payload, meta?.id, meta?.replayed])).toEqual([
      [expect.objectContaining({ n: 2 }), rows[1].id, true],
      [expect.objectContaining({ n: 3 }), rows[2].id, true],
    ]);
  });
});

const messages = z.array(z.object({ id: z.string(), payload: z.unknown() }));

/** What the channel of a name keeps, oldest first; nothing while the edge does not answer, or knows none. */
async function history(room: string): Promise<z.infer<typeof messages>> {
  const found = await admin(stack, "GET", `/channels/${room}/messages?limit=1000`).catch(() => []);
  return messages.parse(found).reverse();
}

test("bytes reach clients of version 2.0.0 alone", async () => {
  const room = uniqueName("bytes");
  const [young, old] = await Promise.all([listen(room), listen(room, { vsn: "1.0.0" })]);
  await db.query("select realtime.send_binary('\\x00ff10', 'blob', $1)", [room]);
  await send(room, { n: 1 });
  await eventually(() => expect([young.heard.length, old.heard.length]).toEqual([2, 1]));
  const [blob] = young.heard;
  expect(blob?.payload).toBeInstanceOf(ArrayBuffer);
  expect(blob?.payload instanceof ArrayBuffer && [...new Uint8Array(blob.payload)]).toEqual([0, 255, 16]);
  expect(blob?.meta?.id).toMatch(UUID);
  expect(old.heard[0]?.payload).toMatchObject({ n: 1 });
});

test("payloads as large as a channel may allow itself arrive, and are kept", async () => {
  const room = uniqueName("large");
  await register(room, "private");
  await db.query(
    'update realtime.channels set metadata = \'{"limits": {"payload_bytes": 10000000}}\' where slug = $1',
    [room],
  );
  const { heard } = await listen(room);
  const size = 9_900_000;
  await db.query("select realtime.send_binary(decode(repeat('e9', $1), 'hex'), 'blob', $2)", [size, room]);
  await db.query("select realtime.send(jsonb_build_object('text', repeat('x', $1)), 'text', $2)", [size, room]);
  await send(room, { n: 1 });
  await eventually(() => expect(heard.map(({ event }) => event)).toEqual(["blob", "text", "note"]), 20_000);
  const [blob, text] = payloads(heard);
  expect(blob instanceof ArrayBuffer && Buffer.from(blob).equals(Buffer.alloc(size, 0xe9))).toBe(true);
  expect(z.object({ text: z.string().length(size) }).safeParse(text).success).toBe(true);
  const late = await listen(room, { replay: { since: 0, limit: 3 } });
  await eventually(() => expect(late.heard.map(({ meta }) => meta?.id)).toEqual(heard.map(({ meta }) => meta?.id)));
}, 60_000);

test("a transaction that is rolled back sends nothing", async () => {
  const room = uniqueName("undone");
  const { heard } = await listen(room);
  await db.query("begin");
  await send(room, { n: 1 });
  await db.query("rollback");
  await send(room, { n: 2 });
  await eventually(() => expect(payloads(heard)).toEqual([expect.objectContaining({ n: 2 })]));
});

test("a thousand messages of one transaction to ten rooms arrive in order in each", async () => {
  const prefix = uniqueName("many");
  const client = clients.open({ key: stack.serviceKey });
  const heard = Array.from({ length: 10 }, (): unknown[] => []);
  await Promise.all(
    heard.map((seen, index) => {
      const channel = client.channel(`${prefix}-${index}`, { config: { private: true } });
      channel.on("broadcast", { event: "*" }, ({ payload }) => void seen.push(payload.n));
      return join(channel);
    }),
  );
  await db.query(`do $$ begin for n in 0..999 loop
    perform realtime.send(jsonb_build_object('n', n), 'e', '${prefix}-' || n % 10); end loop; end $$`);
  await eventually(() => expect(heard.map(({ length }) => length)).toEqual(Array(10).fill(100)));
  expect(heard).toEqual(heard.map((_, index) => Array.from({ length: 100 }, (_, n) => n * 10 + index)));
});

test("whatever dies while messages are sent, each arrives once, in order", async () => {
  const room = uniqueName("faults");
  let sent = 0;
  let over = false;
  const sending = (async () => {
    while (!over) {
      await send(room, { n: sent++ }, false);
      await sleep(4);
    }
  })();
  await sleep(200);
  await stack.killListener();
  await sleep(200);
  await stack.killEdge();
  await sleep(200);
  await stack.killListener();
  await stack.killEdge();
  over = true;
  await sending;
  await eventually(async () => expect(numbers(await history(room))).toContain(sent - 1), 20_000);
  const kept = numbers(await history(room));
  const first = sent - kept.length;
  expect(kept).toEqual(Array.from({ length: kept.length }, (_, index) => first + index));
  expect(kept.length).toBe(Math.min(sent, 1000));
}, 90_000);

const numbered = z.object({ payload: z.object({ n: z.int() }) });
const numbers = (kept: z.infer<typeof messages>): number[] => kept.map((message) => numbered.parse(message).payload.n);

test("what a channel is registered as goes before what a message says", async () => {
  const room = uniqueName("registered");
  const id = await register(room, "private");
  const { heard } = await listen(room);
  const insert = `insert into realtime.messages (topic, channel_id, event, payload, private) values
    ($1, $2, 'e', '{"n": 1}', false), ($1, $2, 'e', '{"n": 2}', true), ($1, $2, 'e', '{"n": 3}', false)`;
  await db.query(insert, [room, id]);
  await eventually(() => expect(payloads(heard)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]));
});

/** What the server says to a channel from now on. */
function systemMessages(channel: RealtimeChannel): string[] {
  const seen: string[] = [];
  channel.on("system", {}, ({ message }: { message: string }) => void seen.push(message));
  return seen;
}

describe("channels changed by SQL", () => {
  test("an open room whose name becomes private is over within a second", async () => {
    const room = uniqueName("closing");
    const eve = await RawSocket.open(stack.url, { key: stack.anonKey });
    await eve.join(`realtime:${room}`);
    await register(room, "private");
    const registeredAt = Date.now();
    await eve.until("being put out", 1, ({ event }) => event === "phx_close" || event === "phx_error");
    expect(Date.now() - registeredAt).toBeLessThan(1_000);
    expect((await eve.join(`realtime:${room}`)).status).toBe("error");
  });

  test("a channel that is deleted is over for who is in it; so is the old name of one that is renamed", async () => {
    for (const change of [
      "delete from realtime.channels where slug = $1",
      "update realtime.channels set slug = $1 || '-new' where slug = $1",
    ]) {
      const room = uniqueName("ending");
      await register(room, "public");
      const { channel } = await listen(room, { isPrivate: false });
      const seen = systemMessages(channel);
      await db.query(change, [room]);
      await eventually(() => expect(channel.state).toBe("closed"), 1_000);
      expect(seen).toEqual(["The channel was deleted"]);
    }
  });

  test("being told what it knows already disturbs nobody, and no message is forgotten", async () => {
    const room = uniqueName("steady");
    await admin(stack, "POST", "/channels", { name: room, type: "public" });
    const { channel, heard } = await listen(room, { isPrivate: false });
    const seen = systemMessages(channel);
    await admin(stack, "POST", `/channels/${room}/messages`, { event: "e", payload: { n: 1 } });
    await db.query("update realtime.channels set metadata = '{\"a\": 1}' where slug = $1", [room]);
    // Another channel's report, which goes the same way, says when that one has been heard.
    const other = uniqueName("other");
    const eve = await RawSocket.open(stack.url, { key: stack.anonKey });
    await eve.join(`realtime:${other}`);
    await register(other, "private");
    await eve.until("being put out", 1, ({ event }) => event === "phx_close" || event === "phx_error");
    await broadcast(channel, "e", { n: 2 });
    await eventually(async () => expect(numbers(await history(room))).toEqual([1, 2]));
    expect([payloads(heard), seen]).toEqual([[{ n: 1 }], []]);
  });

  test("truncation ends every channel", async () => {
    const room = uniqueName("truncated");
    await register(room, "public");
    const { channel } = await listen(room, { isPrivate: false });
    await db.query("truncate realtime.channels cascade");
    await eventually(() => expect(channel.state).toBe("closed"), 1_000);
  });
});

function tokenOf(user: string): Promise<string> {
  return userToken(stack, { sub: user });
}

describe("members changed by SQL", () => {
  test("who becomes a member may come in within a second", async () => {
    const room = uniqueName("club");
    const id = await register(room, "private");
    const ann = await RawSocket.open(stack.url, { key: await tokenOf("ann") });
    expect((await ann.join(`realtime:${room}`)).status).toBe("error");
    await db.query("insert into realtime.channel_members (channel_id, user_id) values ($1, 'ann')", [id]);
    await eventually(async () => expect((await ann.join(`realtime:${room}`)).status).toBe("ok"), 1_000);
  });

  test("who is no member any more is put out within a second, and others stay", async () => {
    const room = uniqueName("club");
    const id = await register(room, "private");
    await db.query("insert into realtime.channel_members (channel_id, user_id) values ($1, 'ann'), ($1, 'bob')", [id]);
    const [ann, bob] = await Promise.all(
      ["ann", "bob"].map(async (user) => RawSocket.open(stack.url, { key: await tokenOf(user) })),
    );
    for (const socket of [ann, bob]) expect((await socket?.join(`realtime:${room}`))?.status).toBe("ok");
    await db.query("delete from realtime.channel_members where channel_id = $1 and user_id = 'ann'", [id]);
    const deletedAt = Date.now();
    await ann?.until("being put out", 1, ({ event }) => event === "phx_close");
    expect(Date.now() - deletedAt).toBeLessThan(1_000);
    await send(room, { n: 1 });
    await bob?.until("the message", 1, ({ event }) => event === "broadcast");
    expect(ann?.frames.some(({ event }) => event === "broadcast")).toBe(false);
  });
});

test("a policy that lets nobody in any more puts out who is in, within three seconds", async () => {
  const room = uniqueName("policy");
  await db.query(
    `create policy "${room}" on realtime.messages for select to authenticated using (realtime.topic() = '${room}')`,
  );
  const ann = await RawSocket.open(stack.url, { key: await tokenOf("ann") });
  expect((await ann.join(`realtime:${room}`, { private: true })).status).toBe("ok");
  // Policies are looked at every two seconds: one that comes and goes in between is not seen at all.
  await sleep(2_500);
  await db.query(`drop policy "${room}" on realtime.messages`);
  const droppedAt = Date.now();
  await ann.until("being put out", 1, ({ event }) => event === "phx_close");
  expect(Date.now() - droppedAt).toBeLessThan(3_000);
});
