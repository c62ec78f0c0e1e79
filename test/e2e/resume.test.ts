// Resuming: clients that were away get exactly what they missed, whether the network, the edge or they themselves failed.
import type { RealtimeChannel } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
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
import { TcpProxy } from "../support/proxy.ts";
import { type RawFrame, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;
let proxy: TcpProxy;

beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new Clients(stack);
  proxy = await TcpProxy.start(stack.url);
});

afterEach(() => clients.close());

afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
});

const position = z.object({ epoch: z.string(), seq: z.int() });
type Position = z.infer<typeof position>;
const joined = z.object({ position, recovered: z.boolean().optional() });
const counted = z.object({ payload: z.object({ n: z.int() }), meta: z.object({ epoch: z.string(), seq: z.int() }) });

/**
 * A stock client that resumes by itself. The client sends the object under `broadcast` again at every join, so what the
 * application writes into it is what the next join asks for: the position that the join reply tells, and then that of
 * each message as it comes.
 */
function resuming(room: string, vsn: Version, url?: string) {
  const wishes: { ack: boolean; resume?: Position } = { ack: true };
  const channel = clients
    .open({ vsn, ...(url === undefined ? {} : { url }) })
    .channel(room, { config: { broadcast: wishes } });
  const heard: number[] = [];
  const recoveries: (boolean | undefined)[] = [];
  channel.joinPush.receive("ok", (response) => {
    const reply = joined.parse(response);
    recoveries.push(reply.recovered);
    // What a resumed join missed is still to come, one by one.
    if (reply.recovered !== true) wishes.resume = reply.position;
  });
  channel.on("broadcast", { event: "*" }, (message) => {
    const { payload, meta } = counted.parse(message);
    heard.push(payload.n);
    wishes.resume = { epoch: meta.epoch, seq: meta.seq };
  });
  return { channel, heard, recoveries };
}

/** Broadcasts numbers and waits until each is durable. */
async function count(channel: RealtimeChannel, from: number, to: number): Promise<void> {
  for (let n = from; n <= to; n++) expect(await broadcast(channel, "count", { n })).toBe("ok");
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);

describe.each(versions)("a stock client of version %s", (vsn) => {
  test("gets what it missed while its network was down, each message once and in order", async () => {
    const room = uniqueName("network");
    const sender = clients.open().channel(room, { config: { broadcast: { ack: true } } });
    const receiver = resuming(room, vsn, proxy.url);
    await Promise.all([join(sender), join(receiver.channel)]);
    await count(sender, 1, 5);
    await eventually(() => expect(receiver.heard).toEqual(numbers(1, 5)));
    proxy.cut();
    await count(sender, 6, 60);
    proxy.restore();
    await eventually(() => expect(receiver.heard).toContain(60));
    await count(sender, 61, 65);
    await eventually(() => expect(receiver.heard).toContain(65));
    expect(receiver.heard).toEqual(numbers(1, 65));
    expect(receiver.recoveries).toEqual([undefined, true]);
  });

  test("AC-193: joins again by itself after the edge was killed, and has missed and doubled nothing", async () => {
    const room = uniqueName("edge");
    const sender = clients.open({ vsn }).channel(room, { config: { broadcast: { ack: true } } });
    const receiver = resuming(room, vsn, proxy.url);
    await Promise.all([join(sender), join(receiver.channel)]);
    await count(sender, 1, 20);
    await eventually(() => expect(receiver.heard).toEqual(numbers(1, 20)));
    // Down for the receiver alone, so that the sender is back and speaks before it.
    proxy.cut();
    await count(sender, 21, 30);
    await stack.killEdge();
    await eventually(() => expect(sender.state).toBe("joined"));
    await count(sender, 31, 40);
    proxy.restore();
    await eventually(() => expect(receiver.heard).toContain(40));
    await count(sender, 41, 45);
    await eventually(() => expect(receiver.heard).toContain(45));
    expect(receiver.heard).toEqual(numbers(1, 45));
    expect(receiver.recoveries).toEqual([undefined, true]);
  });
});

test("clients that do not resume join again by themselves too, and hear what comes from then on", async () => {
  const room = uniqueName("plain");
  const sender = clients.open().channel(room);
  const receivers = versions.map((vsn) => clients.open({ vsn }).channel(room));
  const heard = receivers.map((receiver) => {
    const ns: number[] = [];
    receiver.on("broadcast", { event: "*" }, (message) => void ns.push(counted.parse(message).payload.n));
    return ns;
  });
  const channels = [sender, ...receivers];
  await Promise.all(channels.map(join));
  await stack.killEdge();
  await eventually(() => expect(channels.map(({ state }) => state)).toEqual(channels.map(() => "joined")));
  await broadcast(sender, "count", { n: 1 });
  await eventually(() => expect(heard).toEqual([[1], [1]]));
});

const isMessage = ({ event }: RawFrame): boolean => event === "broadcast";
const numberOf = ({ payload }: RawFrame): number => counted.parse(payload).payload.n;

/** A channel in which the numbers up to `upTo` have been broadcast, and where it stands. */
async function counting(upTo: number): Promise<{ topic: string; sender: RawSocket; start: Position }> {
  const topic = `realtime:${uniqueName("counting")}`;
  const sender = await raw();
  const reply = await sender.join(topic, { broadcast: { ack: true } });
  const { position: start } = joined.parse(reply.response);
  for (const n of numbers(1, upTo)) await say(sender, topic, n);
  return { topic, sender, start };
}

async function say(sender: RawSocket, topic: string, n: number): Promise<void> {
  const content = { type: "broadcast", event: "count", payload: { n } };
  expect(await sender.ask(topic, "broadcast", content)).toEqual({ status: "ok", response: {} });
}

test("a join that resumes gets all after its position, marked as past, before what is live", async () => {
  const { topic, sender, start } = await counting(10);
  const socket = await raw();
  const reply = await socket.join(topic, { broadcast: { resume: { ...start, seq: 4 } } });
  const position = { ...start, seq: 10 };
  expect(reply.response).toMatchObject({ postgres_changes: [], position, recovered: true, missed: 6 });
  await say(sender, topic, 11);
  const found = await socket.until("the messages", 7, isMessage);
  expect(found.map(numberOf)).toEqual(numbers(5, 11));
  const meta = { id: expect.any(String), epoch: start.epoch, at: expect.any(Number) };
  expect(found[0]?.payload.meta).toEqual({ ...meta, replayed: true, seq: 5 });
  expect(found[6]?.payload.meta).toEqual({ ...meta, seq: 11 });
});

test("a join that resumes while others speak gets every message once, in order", async () => {
  const { topic, sender, start } = await counting(5);
  const [socket] = await Promise.all([
    (async () => {
      const late = await raw();
      await late.join(topic, { broadcast: { resume: start } });
      return late;
    })(),
    (async () => {
      for (const n of numbers(6, 60)) await say(sender, topic, n);
    })(),
  ]);
  const found = await socket.until("the messages", 60, isMessage);
  expect(found.map(numberOf)).toEqual(numbers(1, 60));
});

test.each([
  ["at the newest message has missed nothing", { seq: 3 }, true],
  ["past the newest message", { seq: 4 }, false],
  ["of another epoch", { epoch: "elsewhere", seq: 2 }, false],
])("a join that resumes %s", async (_name, given, recovered) => {
  const { topic, start } = await counting(3);
  const socket = await raw();
  const { response } = await socket.join(topic, { broadcast: { resume: { ...start, ...given } } });
  expect(response).toMatchObject({ recovered, position: { ...start, seq: 3 } });
  await socket.heartbeat();
  expect(socket.frames.filter(isMessage)).toEqual([]);
});

test("a position that is none counts as not given", async () => {
  const { topic } = await counting(1);
  const socket = await raw();
  for (const resume of ["3", { seq: 1 }, { epoch: "x", seq: -1 }, { epoch: 1, seq: 1 }, null]) {
    const { status, response } = await socket.join(topic, { broadcast: { resume } });
    expect(status).toBe("ok");
    expect(response).not.toHaveProperty("recovered");
  }
});

test("an acknowledged message makes all before it recoverable, though the edge dies at once", async () => {
  const topic = `realtime:${uniqueName("acked")}`;
  const [hasty, careful] = [await raw(), await raw()];
  await hasty.join(topic);
  const { position: start } = joined.parse((await careful.join(topic, { broadcast: { ack: true } })).response);
  for (const n of numbers(1, 5)) {
    hasty.send("1", null, topic, "broadcast", { type: "broadcast", event: "count", payload: { n } });
  }
  await careful.until("the messages", 5, isMessage);
  await say(careful, topic, 6);
  await stack.killEdge();
  const back = await raw();
  const { recovered } = joined.parse((await back.join(topic, { broadcast: { resume: start } })).response);
  expect(recovered).toBe(true);
  expect((await back.until("the messages", 6, isMessage)).map(numberOf)).toEqual(numbers(1, 6));
});

test("what was sent and not yet durable when the edge died is never passed off as recovered", async () => {
  const topic = `realtime:${uniqueName("hasty")}`;
  const [sender, receiver] = [await raw(), await raw()];
  await sender.join(topic);
  const { position: start } = joined.parse((await receiver.join(topic)).response);
  for (const n of numbers(1, 50)) {
    sender.send("1", null, topic, "broadcast", { type: "broadcast", event: "count", payload: { n } });
  }
  await receiver.until("the messages", 50, isMessage);
  await stack.killEdge();
  const back = await raw();
  const { recovered } = joined.parse((await back.join(topic, { broadcast: { resume: start } })).response);
  await back.heartbeat();
  const replayed = back.frames.filter(isMessage).map(numberOf);
  // Durable meanwhile: then all of them. Not durable: then none, and the client is told.
  expect(replayed).toEqual(recovered ? numbers(1, 50) : []);
  const { position: now } = joined.parse((await (await raw()).join(topic)).response);
  expect(now.epoch === start.epoch && now.seq < 50).toBe(false);
});

test("AC-236: a replay by time delivers the newest messages since then, oldest first, and stops at its limit", async () => {
  const { topic, sender } = await counting(3);
  const [third] = await past(topic, 0, 1);
  const since = z.object({ meta: z.object({ at: z.int() }) }).parse(third?.payload).meta.at + 1;
  await eventually(() => expect(Date.now()).toBeGreaterThan(since));
  for (const n of numbers(4, 9)) await say(sender, topic, n);
  expect((await past(topic, since, 25)).map(numberOf)).toEqual(numbers(4, 9));
  expect((await past(topic, since, 2)).map(numberOf)).toEqual([8, 9]);
  expect((await past(topic, 0, 25)).map(numberOf)).toEqual(numbers(1, 9));
  expect(await past(topic, Date.now() + 60_000, 25)).toEqual([]);
});

test("a replay by time delivers at most 25 messages", async () => {
  const { topic } = await counting(30);
  expect((await past(topic, 0, 1_000)).map(numberOf)).toEqual(numbers(6, 30));
});

/** What a join with replay gets of the past. */
async function past(topic: string, since: number, limit: number): Promise<RawFrame[]> {
  const socket = await raw();
  await socket.join(topic, { broadcast: { replay: { since, limit } } });
  await socket.heartbeat();
  return socket.frames.filter(isMessage);
}

test("the stock client's replay works on a private channel", async () => {
  const room = uniqueName("replay");
  const key = stack.serviceKey;
  const sender = clients.open({ key }).channel(room, { config: { private: true, broadcast: { ack: true } } });
  await join(sender);
  await count(sender, 1, 3);
  const replay = { since: Date.now() - 60_000, limit: 2 };
  const late = clients.open({ key }).channel(room, { config: { private: true, broadcast: { replay } } });
  const heard: object[] = [];
  late.on("broadcast", { event: "count" }, ({ payload, meta }) => void heard.push({ ...payload, ...meta }));
  await join(late);
  await eventually(() =>
    expect(heard).toEqual([
      expect.objectContaining({ n: 2, replayed: true }),
      expect.objectContaining({ n: 3, replayed: true }),
    ]),
  );
});

test("a feed is resumed like any channel, also over the death of the edge", async () => {
  const table = uniqueName("phones").replaceAll("-", "_");
  const db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  try {
    await db.query(`create table ${table} (n int primary key)`);
    await db.query("select realtime.subscribe($1)", [table]);
    const topic = `realtime:table:public.${table}`;
    const phone = await raw();
    const { position: start } = joined.parse((await phone.join(topic)).response);
    for (const n of [1, 2, 3]) await db.query(`insert into ${table} values (${n})`);
    await phone.until("three rows", 3, ({ event }) => event === "INSERT");
    phone.close();
    await stack.killEdge();
    await db.query(`insert into ${table} values (4)`);
    const rows = z.object({ record: z.object({ n: z.int() }) });
    const awake = await raw();
    const { response } = await awake.join(topic, { broadcast: { resume: { ...start, seq: start.seq + 1 } } });
    expect(response).toMatchObject({ recovered: true });
    const found = await awake.until("what the phone slept through", 3, ({ event }) => event === "INSERT");
    expect(found.map(({ payload }) => rows.parse(payload).record.n)).toEqual([2, 3, 4]);
  } finally {
    await db.end();
  }
});

function raw(): Promise<RawSocket> {
  return RawSocket.open(stack.url, { key: stack.anonKey });
}
