// Frames: joining, leaving and joining again as clients really do it, and what no client should send.
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { broadcast, Clients, eventually, join, uniqueName, type Version, versions } from "../support/clients.ts";
import { binaryBroadcast, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;
const sockets: RawSocket[] = [];

// One gateway for all: what one client does wrong happens where its neighbours live.
beforeAll(async () => {
  stack = await startStack({ env: { REALTIME_GATEWAYS: "1" } });
  clients = new Clients(stack);
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.close();
  await clients.close();
});

afterAll(() => stack?.stop());

async function raw(vsn: Version = "2.0.0"): Promise<RawSocket> {
  const socket = await RawSocket.open(stack.url, { vsn, key: stack.anonKey });
  sockets.push(socket);
  return socket;
}

const room = (): string => `realtime:${uniqueName("room")}`;
const message = (n: number): object => ({ type: "broadcast", event: "count", payload: { n } });
const ok = { status: "ok", response: {} };

describe.each(versions)("version %s", (vsn) => {
  test("a reply carries the ref of its question, and the join_ref where the version has one", async () => {
    const [socket, topic] = [await raw(vsn), room()];
    socket.send("j-1", "r-1", topic, "phx_join", { config: {} });
    await socket.replyTo("r-1");
    const joinRef = vsn === "2.0.0" ? "j-1" : undefined;
    expect(socket.frames[0]).toMatchObject({ joinRef, ref: "r-1", topic, event: "phx_reply" });
  });

  test("a join without a config stands, and answers with no subscriptions and its position", async () => {
    const [socket, topic] = [await raw(vsn), room()];
    const position = { epoch: expect.any(String), seq: 0 };
    for (const payload of [
      {},
      { config: {} },
      { config: "all" },
      { config: { broadcast: 1, presence: [], private: "maybe" } },
    ]) {
      expect(await socket.ask(topic, "phx_join", payload)).toEqual({
        status: "ok",
        response: { postgres_changes: [], position, heartbeat_ms: 30_000, reconnect_ms: 5_000 },
      });
    }
  });

  test.each([
    ["realtime:", "TopicNameRequired: You must provide a topic name"],
    ["room", "unmatched topic"],
    [`realtime:${"x".repeat(300)}`, expect.stringMatching(/^TopicTooLong: /)],
  ])("a join of %s is refused with the reason", async (topic, reason) => {
    const socket = await raw(vsn);
    expect(await socket.join(topic)).toEqual({ status: "error", response: { reason } });
  });

  test("topics may hold any characters", async () => {
    const [speaker, hearer] = [await raw(vsn), await raw(vsn)];
    const topic = `realtime:${uniqueName("a b/c:d?é🎈%2F")}`;
    await Promise.all([speaker.join(topic), hearer.join(topic)]);
    await speaker.ask("phoenix", "heartbeat", {});
    speaker.send(null, null, topic, "broadcast", message(1));
    const [frame] = await hearer.until("the message", 1, ({ event }) => event === "broadcast");
    expect(frame).toMatchObject({ topic, payload: message(1) });
  });

  test("a second join of a topic takes the first one's place", async () => {
    const [speaker, socket, topic] = [await raw(vsn), await raw(vsn), room()];
    await speaker.join(topic);
    await socket.join(topic);
    expect((await socket.join(topic, { broadcast: { self: true } })).status).toBe("ok");
    speaker.send(null, null, topic, "broadcast", message(1));
    await socket.until("the message", 1, ({ event }) => event === "broadcast");
    await socket.heartbeat();
    expect(socket.frames.filter(({ event }) => event === "broadcast")).toHaveLength(1);
  });

  test("leave and join in one breath, over and over, ends joined and hears each message once", async () => {
    const [speaker, socket, topic] = [await raw(vsn), await raw(vsn), room()];
    await speaker.join(topic, { broadcast: { ack: true } });
    for (let n = 1; n <= 20; n++) {
      socket.send(`j${n}`, `j${n}`, topic, "phx_join", { config: {} });
      socket.send(`j${n}`, `l${n}`, topic, "phx_leave", {});
    }
    socket.send("last", "last", topic, "phx_join", { config: {} });
    expect((await socket.replyTo("last")).status).toBe("ok");
    await speaker.ask(topic, "broadcast", message(1));
    await socket.until("the message", 1, ({ event }) => event === "broadcast");
    await socket.heartbeat();
    expect(socket.frames.filter(({ event }) => event === "broadcast")).toHaveLength(1);
  });

  test("a channel that was left hears nothing any more, and answers that it is not joined", async () => {
    const [speaker, socket, topic] = [await raw(vsn), await raw(vsn), room()];
    await Promise.all([speaker.join(topic, { broadcast: { ack: true } }), socket.join(topic)]);
    expect(await socket.ask(topic, "phx_leave", {})).toEqual(ok);
    expect(await speaker.ask(topic, "broadcast", message(1))).toEqual(ok);
    await socket.heartbeat();
    expect(socket.frames.filter(({ event }) => event === "broadcast")).toEqual([]);
    expect(await socket.ask(topic, "phx_leave", {})).toEqual(ok);
    expect(await socket.ask(topic, "broadcast", message(2))).toEqual({
      status: "error",
      response: { reason: "unmatched topic" },
    });
  });

  test("a stale or missing join_ref is forgiven, except for a leave", async () => {
    const [hearer, socket, topic] = [await raw(vsn), await raw(vsn), room()];
    await hearer.join(topic);
    socket.send("5", "5", topic, "phx_join", { config: { broadcast: { ack: true } } });
    await socket.replyTo("5");
    socket.send("4", "stale leave", topic, "phx_leave", {});
    for (const [n, joinRef] of [null, "4", "5"].entries()) {
      expect(await socket.ask(topic, "broadcast", message(n), joinRef)).toEqual(ok);
    }
    expect(socket.frames.some(({ ref }) => ref === "stale leave")).toBe(false);
    await hearer.until("the messages", 3, ({ event }) => event === "broadcast");
    expect(await socket.ask(topic, "phx_leave", {}, null)).toEqual(ok);
  });

  test("heartbeats are answered while a join waits for PostgreSQL; what is sent to its topic waits too, up to a limit", async () => {
    const [socket, topic] = [await raw(vsn), room()];
    const db = new pg.Client({ connectionString: stack.databaseUrl });
    await db.connect();
    // Whether a name is registered is asked at its first join.
    await db.query("begin; lock table realtime.channels in access exclusive mode");
    socket.send("1", "join", topic, "phx_join", { config: { broadcast: { ack: true } } });
    for (let n = 1; n <= 101; n++) socket.send("1", `early ${n}`, topic, "broadcast", message(n));
    expect(await socket.ask("phoenix", "heartbeat", {})).toEqual(ok);
    const reason = expect.stringMatching(/^TooManyFrames: /);
    expect(await socket.replyTo("early 101")).toEqual({ status: "error", response: { reason } });
    expect(socket.frames).toHaveLength(2);
    await db.end();
    expect(await socket.replyTo("early 100")).toEqual(ok);
    const waited = Array.from({ length: 100 }, (_, n) => `early ${n + 1}`);
    expect(socket.frames.slice(2).map(({ ref }) => ref)).toEqual(["join", ...waited]);
  });

  test("a heartbeat without a ref is answered without one; another event of phoenix is not understood", async () => {
    const socket = await raw(vsn);
    socket.send(null, null, "phoenix", "heartbeat", {});
    await socket.until("the answer", 1, ({ ref, event }) => ref === null && event === "phx_reply");
    expect(await socket.ask("phoenix", "dance", {})).toEqual({
      status: "error",
      response: { reason: "unmatched topic" },
    });
  });

  test("an unknown event on a joined channel is not answered, and harms nothing", async () => {
    const [socket, topic] = [await raw(vsn), room()];
    await socket.join(topic);
    socket.send("1", "odd", topic, "dance", { wildly: true });
    await socket.heartbeat();
    expect(socket.frames.some(({ ref }) => ref === "odd")).toBe(false);
  });

  test("a socket holds 100 channels, and says so when asked for one more", async () => {
    const socket = await raw(vsn);
    const topics = Array.from({ length: 100 }, room);
    expect((await Promise.all(topics.map((topic) => socket.join(topic)))).every(({ status }) => status === "ok")).toBe(
      true,
    );
    expect(await socket.join(room())).toEqual({
      status: "error",
      response: { reason: "ChannelRateLimitReached: Too many channels" },
    });
    await socket.ask(topics[0] ?? "", "phx_leave", {});
    expect((await socket.join(room())).status).toBe("ok");
  });

  test.each([
    ["nothing", ""],
    ["no JSON", "{"],
    ["a number", "7"],
    ["null", "null"],
    ["an empty list", "[]"],
    ["an empty object", "{}"],
    ["a list that is too short", '["1","2","realtime:x","phx_join"]'],
    ["a topic that is no text", '[null,"2",{},"phx_join",{}]'],
    ["an object whose event is no text", '{"topic":"realtime:x","event":1,"payload":{},"ref":"1"}'],
    ["refs that are objects", '[{},{},"realtime:x","phx_join",{}]'],
    ["deep nesting", `${"[".repeat(50_000)}${"]".repeat(50_000)}`],
    ["a prototype for a topic", '["1","2","__proto__","broadcast",{"event":"x"}]'],
    ["no bytes", new Uint8Array(0)],
    ["one byte", new Uint8Array([3])],
    ["a binary push, kind 0", new Uint8Array([0, 0, 0, 1, 1, 65, 66])],
    ["an unknown kind", new Uint8Array([77, 1, 2, 3])],
    ["a binary broadcast that ends early", new Uint8Array([3, 1, 1, 200, 5, 0, 1, 49, 50])],
    ["a binary broadcast whose text is not UTF-8", new Uint8Array([3, 0, 0, 2, 1, 0, 1, 0xff, 0xfe, 65, 123, 125])],
    ["a binary broadcast whose payload is not JSON", binaryBroadcast("realtime:x", "x", new Uint8Array([123]), 1)],
  ])("%s as a frame is dropped: the socket that sent it and its neighbour go on", async (_name, data) => {
    const topic = room();
    const [culprit, neighbour] = await Promise.all([raw(vsn), raw(vsn)]);
    await Promise.all([culprit.join(topic), neighbour.join(topic)]);
    culprit.sendRaw(data);
    culprit.send(null, null, topic, "broadcast", message(1));
    await neighbour.until("the message", 1, ({ event }) => event === "broadcast");
    await culprit.heartbeat();
    await neighbour.heartbeat();
  });

  test.each([
    ["null", null],
    ["a text", "hello"],
    ["a list", [1]],
    ["an object without an event", { payload: {} }],
    ["an object whose event is a number", { event: 1 }],
  ])("%s as a broadcast payload is refused to its sender and reaches nobody", async (_name, content) => {
    const topic = room();
    const [sender, neighbour] = await Promise.all([raw(vsn), raw(vsn)]);
    await Promise.all([sender.join(topic, { broadcast: { ack: true } }), neighbour.join(topic)]);
    expect(await sender.ask(topic, "broadcast", content)).toEqual({
      status: "error",
      response: { error: "invalid_payload" },
    });
    await sender.ask(topic, "broadcast", message(1));
    const found = await neighbour.until("the message", 1, ({ event }) => event === "broadcast");
    expect(found).toHaveLength(1);
    expect(found[0]?.payload).toMatchObject(message(1));
  });
});

test("a frame of 5 MB and a byte closes the socket that sent it with 1009, and no other", async () => {
  const topic = room();
  const [culprit, neighbour, speaker] = await Promise.all([raw(), raw(), raw()]);
  await Promise.all([culprit, neighbour, speaker].map((socket) => socket.join(topic)));
  culprit.sendRaw("x".repeat(5_000_001));
  expect((await culprit.closed).code).toBe(1009);
  speaker.send(null, null, topic, "broadcast", message(1));
  await neighbour.until("the message", 1, ({ event }) => event === "broadcast");
});

test("a frame of 5 MB in characters of two bytes is too large as well", async () => {
  const culprit = await raw();
  culprit.sendRaw("é".repeat(2_500_001));
  expect((await culprit.closed).code).toBe(1009);
});

test("a client that says goodbye is answered, and its presence ends", async () => {
  const [leaver, watcher, topic] = [await raw(), await raw(), room()];
  await watcher.join(topic, { presence: { enabled: true } });
  await leaver.join(topic, { presence: { key: "ann" } });
  await leaver.ask(topic, "presence", { event: "track", payload: {} });
  leaver.close();
  expect([1000, 1005]).toContain((await leaver.closed).code);
  await watcher.until("join and leave", 2, ({ event }) => event === "presence_diff");
});

test("two stock clients of both versions on one gateway hear each other", async () => {
  const name = uniqueName("same");
  const [old, modern] = [clients.open({ vsn: "1.0.0" }).channel(name), clients.open().channel(name)];
  const heard: unknown[] = [];
  for (const channel of [old, modern]) {
    channel.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
    await join(channel);
  }
  await broadcast(old, "x", { from: "old" });
  await eventually(() => expect(heard).toEqual([{ from: "old" }]));
  await broadcast(modern, "x", { from: "modern" });
  await eventually(() => expect(heard).toEqual([{ from: "old" }, { from: "modern" }]));
});
