// Limits: who is over one is told, may go on in a moment, and nobody else notices.

import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { broadcast, Clients, eventually, join, uniqueName } from "../support/clients.ts";
import { type RawFrame, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

/** Sent at once; one more comes back every 600 ms. */
const MESSAGES = 100;
const PRESENCE = 5;
const CHANNELS = 4;

let stack: TestStack;
let clients: Clients;
let db: pg.Client;

beforeAll(async () => {
  stack = await startStack({
    env: {
      REALTIME_MESSAGES_PER_MINUTE: String(MESSAGES),
      REALTIME_PRESENCE_PER_MINUTE: String(PRESENCE),
      REALTIME_JOINS_PER_MINUTE: "30",
      REALTIME_MAX_CHANNELS: String(CHANNELS),
      REALTIME_MAX_PAYLOAD: "2000",
      REALTIME_MAX_PRESENCE: "200",
      REALTIME_MAX_REPLAY: "3",
      REALTIME_MAX_FRAME: "20000",
    },
  });
  clients = new Clients(stack);
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
});

afterEach(() => clients.close());

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

const opened = (key = stack.anonKey): Promise<RawSocket> => RawSocket.open(stack.url, { key });
const systemOf = ({ event }: RawFrame): boolean => event === "system";
const message = (n: number): object => ({ type: "broadcast", event: "x", payload: { n } });

describe("messages of a connection", () => {
  test("over the limit are each refused to who asks for acks, the channel goes on, and others are not touched", async () => {
    const topic = uniqueName("busy");
    const [loud, quiet] = [clients.open(), clients.open()];
    const speaking = loud.channel(topic, { config: { broadcast: { ack: true } } });
    const heard: number[] = [];
    const listening = quiet.channel(topic, { config: { broadcast: { ack: true, self: true } } });
    listening.on("broadcast", { event: "*" }, ({ payload }) => heard.push(payload.n));
    await Promise.all([join(speaking), join(listening)]);
    const answers = await Promise.all(Array.from({ length: MESSAGES + 20 }, (_, n) => broadcast(speaking, "x", { n })));
    expect(answers.slice(0, MESSAGES)).toEqual(Array(MESSAGES).fill("ok"));
    expect(answers.slice(MESSAGES)).toContain("error");
    const sent = answers.filter((answer) => answer === "ok").length;
    await eventually(() => expect(heard).toHaveLength(sent));
    expect(await broadcast(listening, "x", { n: -1 })).toBe("ok");
    expect(speaking.state).toBe("joined");
    await eventually(async () => expect(await broadcast(speaking, "x", { n: -2 })).toBe("ok"));
  });

  test("are told of by one system message a second to who does not ask, with what to do", async () => {
    const socket = await opened();
    const topic = `realtime:${uniqueName("busy")}`;
    await socket.join(topic);
    for (let n = 0; n < MESSAGES + 50; n++) socket.send("1", null, topic, "broadcast", message(n));
    await socket.heartbeat();
    const told = socket.frames.filter(systemOf);
    expect(told.length).toBeGreaterThan(0);
    expect(told.length).toBeLessThan(5);
    expect(told[0]?.payload).toMatchObject({ extension: "broadcast", status: "error" });
    expect(told[0]?.payload.message).toMatch(
      /^Too many messages: at most 100 a minute \(REALTIME_MESSAGES_PER_MINUTE\), go on in \d+ s$/,
    );
    socket.close();
  });

  test("count over all its channels, and those of a server do not count", async () => {
    const socket = await opened();
    const topics = [uniqueName("a"), uniqueName("b")].map((name) => `realtime:${name}`);
    for (const topic of topics) await socket.join(topic, { broadcast: { ack: true } });
    for (let n = 0; n < MESSAGES; n++)
      socket.send("1", String(1_000 + n), topics[n % 2] ?? "", "broadcast", message(n));
    const [first = ""] = topics;
    expect(await socket.ask(first, "broadcast", message(0))).toEqual({
      status: "error",
      response: { error: "too_many_messages" },
    });

    const server = await opened(stack.serviceKey);
    await server.join(first, { broadcast: { ack: true } });
    const replies = await Promise.all(
      Array.from({ length: MESSAGES + 50 }, (_, n) => server.ask(first, "broadcast", message(n))),
    );
    expect(replies.every(({ status }) => status === "ok")).toBe(true);
    for (const each of [socket, server]) each.close();
  });
});

describe("a registered channel", () => {
  test("may have limits of its own, and changes them for who is in it", async () => {
    const slug = uniqueName("games");
    const limits = { messages_per_minute: 3, payload_bytes: 3_000, presence_per_minute: 1, presence_bytes: 20 };
    await admin(stack, "POST", "/channels", { name: slug, type: "public", metadata: { limits } });
    const socket = await opened();
    const topic = `realtime:${slug}`;
    await socket.join(topic, { broadcast: { ack: true } });
    const large = { type: "broadcast", event: "x", payload: "x".repeat(2_500) };
    const say = async (content: object): Promise<unknown> => (await socket.ask(topic, "broadcast", content)).status;
    expect([await say(large), await say(message(1)), await say(message(2)), await say(message(3))]).toEqual([
      ...["ok", "ok", "ok"],
      "error",
    ]);
    const track = (payload: object) => socket.ask(topic, "presence", { type: "presence", event: "track", payload });
    expect((await track({ n: "x".repeat(50) })).response).toEqual({ reason: "Track message size exceeded" });
    expect((await track({ n: 2 })).response.reason).toMatch(/^Client presence rate limit exceeded: at most 1 calls/);

    const metadata = { limits: { messages_per_minute: 1_000 } };
    await admin(stack, "POST", "/channels", { name: slug, type: "public", metadata, update: true });
    await eventually(async () => expect(await say(message(4))).toBe("ok"));
    socket.close();
  });
});

describe("presence calls", () => {
  test("over the limit are refused by reply, and the channel stays", async () => {
    const channel = clients.open().channel(uniqueName("here"), { config: { presence: { key: "ann" } } });
    await join(channel);
    const answers: string[] = [];
    for (let n = 0; n < PRESENCE + 1; n++) answers.push(await channel.track({ n }));
    expect(answers).toEqual([...Array(PRESENCE).fill("ok"), "error"]);
    expect(channel.state).toBe("joined");
  });

  test("with too large a payload are refused", async () => {
    const channel = clients.open().channel(uniqueName("here"));
    await join(channel);
    expect(await channel.track({ text: "x".repeat(300) })).toBe("error");
    expect(channel.state).toBe("joined");
  });
});

describe("a socket", () => {
  test("joins as many channels as it may, and another one once it has left one", async () => {
    const socket = await opened();
    const topics = Array.from({ length: CHANNELS + 1 }, () => `realtime:${uniqueName("many")}`);
    const [first = "", last = ""] = [topics[0], topics.at(-1)];
    for (const topic of topics.slice(0, CHANNELS)) expect((await socket.join(topic)).status).toBe("ok");
    const refusal = { status: "error", response: { reason: "ChannelRateLimitReached: Too many channels" } };
    expect(await socket.join(last)).toEqual(refusal);
    await socket.ask(first, "phx_leave", {});
    expect((await socket.join(last)).status).toBe("ok");
    socket.close();
  });

  test("that joins too often is refused and stays open", async () => {
    const socket = await opened();
    const topic = `realtime:${uniqueName("storm")}`;
    for (let n = 0; n < 30; n++) expect((await socket.join(topic)).status).toBe("ok");
    expect(await socket.join(topic)).toEqual({
      status: "error",
      response: { reason: "ClientJoinRateLimitReached: Too many joins per second" },
    });
    // What it had joined it keeps.
    expect((await socket.ask(topic, "presence", { type: "presence", event: "untrack" })).status).toBe("ok");
    socket.close();
  });

  test("whose frame is too large is closed with 1009", async () => {
    const socket = await opened();
    socket.sendRaw("x".repeat(20_001));
    expect((await socket.closed).code).toBe(1009);
  });
});

test("a replay delivers no more than it may", async () => {
  const topic = uniqueName("past");
  const sender = clients.open({ key: stack.serviceKey }).channel(topic, { config: { broadcast: { ack: true } } });
  await join(sender);
  for (let n = 0; n < 6; n++) await broadcast(sender, "x", { n });
  const socket = await opened();
  await socket.join(`realtime:${topic}`, { broadcast: { replay: { since: 0, limit: 25 } } });
  await socket.heartbeat();
  const replayed = socket.frames.filter(({ event }) => event === "broadcast").map(({ payload }) => payload.payload);
  expect(replayed).toEqual([{ n: 3 }, { n: 4 }, { n: 5 }]);
  socket.close();
});
