// Lists in pages: whoever follows the cursor sees each row once, in the order of the list, and the CLI does follow it.
import pg from "pg";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { realtime } from "../../cli/nself.ts";
import { DescribedClient, type Wish } from "../../support/described.ts";
import { RawSocket } from "../../support/raw-socket.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let api: DescribedClient;
let sql: pg.Client;
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  const response = await fetch(`${stack.url}/admin/v1/openapi.json`, { headers: { apikey: stack.serviceKey } });
  api = new DescribedClient(stack, JSON.parse(await response.text()));
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
});

type Row = Record<string, unknown>;

/** The pages of a list, of so many rows each. */
async function pages(id: string, limit: number, wish: Wish = {}): Promise<Row[][]> {
  const found: Row[][] = [];
  let cursor: string | null = null;
  do {
    const query = { ...wish.query, limit: String(limit), ...(cursor === null ? {} : { cursor }) };
    const { status, headers, body } = await api.call(id, { ...wish, query });
    expect(status).toBe(200);
    found.push(Array.isArray(body) ? body : []);
    cursor = headers.get("realtime-next-cursor");
  } while (cursor !== null);
  return found;
}

const sizes = (found: Row[][]) => found.map((page) => page.length);
const column = (found: Row[][], name: string) => found.flat().map((row) => row[name]);
const nself = async (...args: string[]): Promise<Row[]> =>
  JSON.parse((await realtime(stack, [...args, "--json"])).stdout);

test("channels, members and events come in pages, without an empty one at the end", async () => {
  for (let n = 0; n < 6; n++) await api.call("createChannel", { body: { name: `c${n}` } });
  // Several of one moment are told apart.
  await sql.query("update realtime.channels set created_at = date_trunc('second', created_at) where slug like 'c%'");
  const params = { channel: "c0" };
  for (let n = 0; n < 5; n++) await api.call("putMember", { params: { ...params, user: `u${n}` }, body: {} });
  for (const event of ["a", "a", "a", "b", "c", "d", "d"]) {
    await api.call("sendMessage", { params, body: { event, payload: {} } });
  }
  const channels = await pages("listChannels", 3);
  const all = await pages("listChannels", 1_000);
  expect(channels.flat()).toEqual(all.flat());
  expect(sizes(channels)).toEqual([3, 3]);
  expect(sizes(await pages("listMembers", 2, { params }))).toEqual([2, 2, 1]);
  expect(new Set(column(await pages("listMembers", 2, { params }), "user_id")).size).toBe(5);
  const events = await pages("listChannelEvents", 2, { params });
  expect(sizes(events)).toEqual([2, 2]);
  expect(column(events, "event_type")).toEqual(["a", "d", "b", "c"]);
});

test("the CLI shows all members of a channel that has more than a page of them", { timeout: 60_000 }, async () => {
  await api.call("createChannel", { body: { name: "crowd" } });
  await sql.query(
    `insert into realtime.channel_members (channel_id, user_id, joined_at)
     select c.id, 'user-' || n, now() - n * interval '1 second'
     from realtime.channels c, generate_series(1, 10050) n where c.slug = 'crowd'`,
  );
  const members = await nself("channel", "members", "crowd");
  expect(members.map(({ user_id }) => user_id)).toEqual(Array.from({ length: 10_050 }, (_, n) => `user-${n + 1}`));
});

test("messages come in pages both ways, those of one moment included, and replay shows them all", async () => {
  const params = { channel: "long" };
  await api.call("createChannel", { body: { name: "long" } });
  for (let n = 0; n < 5; n++) await api.call("sendMessage", { params, body: { event: "live", payload: n } });
  await sql.query(
    `insert into realtime.messages (channel_id, topic, event_type, event, payload, sent_at, skip_broadcast)
     select c.id, c.slug, 'kept', 'kept', to_jsonb(n), date_trunc('second', now()) - (n / 7) * interval '1 microsecond'
       - interval '1 minute', true
     from realtime.channels c, generate_series(1, 2500) n where c.slug = 'long'`,
  );
  const newest = await pages("listMessages", 700, { params });
  expect(sizes(newest)).toEqual([700, 700, 700, 405]);
  expect(column(newest, "payload").slice(0, 5)).toEqual([4, 3, 2, 1, 0]);
  const oldest = await pages("listMessages", 1_000, { params, query: { since: "1700000000" } });
  expect(sizes(oldest)).toEqual([1_000, 1_000, 505]);
  expect(column(oldest, "id")).toEqual(column(newest, "id").reverse());
  expect(new Set(column(oldest, "id")).size).toBe(2_505);
  const replayed = await nself("replay", "long", "1700000000");
  expect(replayed.map(({ id }) => id)).toEqual(column(oldest, "id"));
  expect((await nself("messages", "long", "60")).map(({ id }) => id)).toEqual(column(newest, "id").slice(0, 60));
});

test("a page of large messages ends early, and nothing is left out", { timeout: 60_000 }, async () => {
  const payload = "x".repeat(900_000);
  for (const name of ["large", "open"]) {
    if (name === "large") await api.call("createChannel", { body: { name } });
    else await useOpenChannel(name);
    const params = { channel: name };
    for (let n = 0; n < 20; n++) await api.call("sendMessage", { params, body: { event: `e${n}`, payload } });
    const events = Array.from({ length: 20 }, (_, n) => `e${n}`);
    const newest = await pages("listMessages", 1_000, { params });
    const oldest = await pages("listMessages", 1_000, { params, query: { since: "1700000000" } });
    expect({ name, sizes: sizes(newest) }).toEqual({ name, sizes: [9, 9, 2] });
    expect(column(newest, "event_type")).toEqual([...events].reverse());
    expect(column(oldest, "event_type")).toEqual(events);
    expect((await nself("replay", name, "1700000000")).map(({ event_type }) => event_type)).toEqual(events);
  }
});

test("an open channel's messages come in pages both ways", async () => {
  await useOpenChannel("square");
  const params = { channel: "square" };
  for (let n = 0; n < 7; n++) await api.call("sendMessage", { params, body: { event: "e", payload: n } });
  expect(column(await pages("listMessages", 3, { params }), "payload")).toEqual([6, 5, 4, 3, 2, 1, 0]);
  const since = { params, query: { since: "1700000000" } };
  expect(sizes(await pages("listMessages", 3, since))).toEqual([3, 3, 1]);
  expect(column(await pages("listMessages", 3, since), "payload")).toEqual([0, 1, 2, 3, 4, 5, 6]);
});

test("presence, connections and bans come in pages", async () => {
  for (const name of ["north", "south"]) {
    await api.call("createChannel", { body: { name } });
    for (const user of ["ann", "bob", "cy"]) {
      const status = user === "cy" ? "offline" : "online";
      await api.call("trackPresence", { params: { channel: name, user }, body: { status } });
    }
  }
  const places = (found: Row[][]) => found.flat().map(({ channel, user_id }) => `${channel} ${user_id}`);
  const everybody = ["north ann", "north bob", "north cy", "south ann", "south bob", "south cy"];
  for (const limit of [1, 2, 4, 6]) expect(places(await pages("listPresence", limit))).toEqual(everybody);
  expect(sizes(await pages("listPresence", 3))).toEqual([3, 3]);
  const present = await pages("listPresence", 3, { query: { present: "true" } });
  expect(places(present)).toEqual(everybody.filter((place) => !place.endsWith("cy")));
  expect(places(await pages("listPresence", 1, { query: { user: "bob" } }))).toEqual(["north bob", "south bob"]);
  expect(sizes(await pages("listPresence", 2, { query: { channel: "north" } }))).toEqual([2, 1]);
  const sockets = await Promise.all(Array.from({ length: 5 }, () => RawSocket.open(stack.url, { key: stack.anonKey })));
  onTestFinished(() => {
    for (const socket of sockets) socket.close();
  });
  const connections = await pages("listConnections", 2);
  expect(connections.flat()).toHaveLength(5);
  expect(new Set(column(connections, "connection_id")).size).toBe(5);
  const times = column(connections, "connected_at").map(String);
  expect(times).toEqual(times.toSorted().reverse());
  for (const user of ["x", "y", "z"]) await api.call("banUser", { params: { user }, body: {} });
  expect(column(await pages("listBans", 2), "id")).toEqual(["x", "y", "z"]);
});

/** An open channel is there once somebody has joined it; what is said there keeps it. */
async function useOpenChannel(name: string): Promise<void> {
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  await socket.join(`realtime:${name}`);
  onTestFinished(() => socket.close());
}
