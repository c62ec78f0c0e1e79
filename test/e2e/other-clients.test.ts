// Other clients: what the Supabase clients of other languages send, frame for frame, and what they need to hear.
import pg from "pg";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { eventually, uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { userToken } from "../support/tokens.ts";

let stack: TestStack;
let db: pg.Client;
const sockets: RawSocket[] = [];

beforeAll(async () => {
  stack = await startStack();
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  await db.query("create table todos_of_clients (id int primary key, task text)");
  await db.query("select realtime.subscribe('todos_of_clients')");
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

/** A 1.0.0 socket, which all of these speak unless told otherwise. */
async function open(query: Record<string, string> = {}): Promise<RawSocket> {
  const socket = await RawSocket.open(stack.url, { vsn: "1.0.0", key: stack.anonKey, query });
  sockets.push(socket);
  return socket;
}

const newTopic = (): string => `realtime:${uniqueName("client")}`;

function newToken(): Promise<string> {
  return userToken(stack, { sub: "u-1" });
}

/** A neighbour in the channel, to be heard and to hear. */
async function neighbourIn(topic: string): Promise<RawSocket> {
  const neighbour = await open();
  await neighbour.join(topic, { broadcast: { ack: true }, presence: { key: "neighbour", enabled: true } });
  return neighbour;
}

const changes = [{ event: "*", schema: "public", table: "todos_of_clients" }];
let rows = 0;

/** Commits a row, and waits until the socket has it. */
async function expectRow(socket: RawSocket, topic: string, ids: unknown[]): Promise<void> {
  const id = ++rows;
  await db.query("insert into todos_of_clients values ($1, 'a')", [id]);
  const [frame] = await socket.until("the row", 1, ({ event }) => event === "postgres_changes");
  expect(frame).toMatchObject({
    topic,
    ref: null,
    payload: { ids, data: { type: "INSERT", record: { id, task: "a" } } },
  });
}

// supabase-py: src/realtime/src/realtime/_async/{client,channel,push}.py, message.py. Keys in the model's order, both refs
// always there; pushes must have `ref: null`, or the model refuses them; heartbeats have no ref.
test("Python", async () => {
  const [socket, topic] = [await open(), newTopic()];
  const send = (event: string, payload: object, ref: string | null, to = topic): void =>
    socket.sendRaw(JSON.stringify({ event, payload, topic: to, ref, join_ref: null }));
  send("heartbeat", {}, null, "phoenix");
  await socket.until("the heartbeat's answer", 1, ({ ref, topic: from }) => ref === null && from === "phoenix");
  const config = {
    broadcast: { ack: true, self: false },
    presence: { key: "", enabled: true },
    private: false,
    postgres_changes: changes,
  };
  send("phx_join", { config, access_token: stack.anonKey }, "1");
  const { status, response } = await socket.replyTo("1");
  expect([status, response]).toEqual([
    "ok",
    expect.objectContaining({ postgres_changes: [{ ...changes[0], id: expect.any(Number) }] }),
  ]);
  const neighbour = await neighbourIn(topic);
  send("broadcast", { type: "broadcast", event: "cursor", payload: { x: 1 } }, "2");
  expect((await socket.replyTo("2")).status).toBe("ok");
  await neighbour.until("the broadcast", 1, ({ event }) => event === "broadcast");
  send("presence", { event: "track", payload: { user: "py" } }, "3");
  await socket.until("the presence", 1, ({ event }) => event === "presence_diff");
  send("access_token", { access_token: await newToken() }, "4");
  await expectRow(socket, topic, [expect.any(Number)]);
  send("phx_leave", {}, "5");
  expect((await socket.replyTo("5")).status).toBe("ok");
  const pushes = socket.frames.filter(({ event }) => !["phx_reply", "phx_close"].includes(event));
  expect(pushes.every(({ ref }) => ref === null)).toBe(true);
});

// supabase-flutter: packages/realtime_client/lib/src/{message,push,realtime_client,realtime_channel}.dart. `join_ref` is
// left out where there is none; joins carry a version; presence has no `type`; a null filter is a missing one.
test("Dart", async () => {
  const [socket, topic] = [await open({ log_level: "info" }), newTopic()];
  const send = (event: string, payload: object, ref: string, joinRef?: string): void =>
    socket.sendRaw(JSON.stringify({ topic, event, payload, ref, join_ref: joinRef }));
  const config = {
    broadcast: { ack: true, self: true },
    presence: { key: "dart", enabled: true },
    postgres_changes: changes,
    private: false,
  };
  send("phx_join", { config, access_token: stack.anonKey, version: "realtime-dart/2.5.1" }, "1", "1");
  expect((await socket.replyTo("1")).status).toBe("ok");
  await socket.until(
    "the state",
    1,
    ({ event, payload }) => event === "presence_state" && Object.keys(payload).length === 0,
  );
  send("presence", { event: "track", payload: { user: "dart" }, type: "presence" }, "2", "1");
  expect((await socket.replyTo("2")).status).toBe("ok");
  send("broadcast", { type: "broadcast", event: "x", payload: { n: 1 } }, "3", "1");
  expect((await socket.replyTo("3")).status).toBe("ok");
  await socket.until("its own broadcast", 1, ({ event, payload }) => event === "broadcast" && payload.event === "x");
  socket.sendRaw('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"4"}');
  expect((await socket.replyTo("4")).status).toBe("ok");
  await expectRow(socket, topic, [expect.any(Number)]);
  send("presence", { event: "untrack", type: "presence" }, "5", "1");
  expect((await socket.replyTo("5")).status).toBe("ok");
  send("phx_leave", {}, "6", "1");
  expect((await socket.replyTo("6")).status).toBe("ok");
});

// supabase-swift: Sources/Realtime/{RealtimeChannelV2,RealtimeClientV2,RealtimeJoinConfig,PushV2}.swift. A channel is joined
// when a reply has `postgres_changes`, and left only when `phx_close` comes: without it `unsubscribe()` never returns.
test("Swift", async () => {
  const [socket, topic] = [await open(), newTopic()];
  const send = (event: string, payload: object, ref: string): void =>
    socket.sendRaw(JSON.stringify({ join_ref: "1", ref, topic, event, payload }));
  const config = {
    broadcast: { ack: false, self: false, replication_ready: false },
    presence: { key: "", enabled: true },
    postgres_changes: changes,
    private: false,
  };
  send("phx_join", { config, version: "realtime-swift/2.30.0" }, "1");
  const { response } = await socket.replyTo("1");
  expect(response.postgres_changes).toEqual([{ ...changes[0], id: expect.any(Number) }]);
  const neighbour = await neighbourIn(topic);
  send("broadcast", { type: "broadcast", event: "x", payload: { n: 1 } }, "2");
  await neighbour.until("the broadcast", 1, ({ event }) => event === "broadcast");
  send("presence", { type: "presence", event: "track", payload: { user: "swift" } }, "3");
  await neighbour.until("the presence", 1, ({ event }) => event === "presence_diff");
  socket.sendRaw('{"join_ref":null,"ref":"4","topic":"phoenix","event":"heartbeat","payload":{}}');
  expect((await socket.replyTo("4")).status).toBe("ok");
  send("access_token", { access_token: null }, "5");
  await expectRow(socket, topic, [expect.any(Number)]);
  send("phx_leave", {}, "6");
  await socket.until("the close", 1, ({ event, ref }) => event === "phx_close" && ref === "1");
});

// supabase-kt: Realtime/src/commonMain/…/{RealtimeChannelImpl,RealtimeImpl,RealtimeMessage}.kt and event/. Messages have no
// join_ref, joins and leaves no ref either; a join is answered by any reply with `postgres_changes`, whatever its ref.
test("Kotlin", async () => {
  const [socket, topic] = [await open(), newTopic()];
  const send = (event: string, payload: object, ref: string | null): void =>
    socket.sendRaw(JSON.stringify({ topic, event, payload, ref }));
  const config = {
    broadcast: { ack: false, self: true },
    presence: { key: "kt", enabled: true },
    postgres_changes: changes,
  };
  send("phx_join", { config, access_token: await newToken() }, null);
  const [joined] = await socket.until("the reply", 1, ({ event, ref }) => event === "phx_reply" && ref === null);
  expect(joined?.payload).toMatchObject({ status: "ok", response: { postgres_changes: [{ id: expect.any(Number) }] } });
  send("broadcast", { type: "broadcast", event: "x", payload: { n: 1 } }, "1");
  await socket.until("its own broadcast", 1, ({ event }) => event === "broadcast");
  send("presence", { type: "presence", event: "track", payload: { user: "kt" } }, "2");
  await socket.until("its own presence", 1, ({ event }) => event === "presence_diff");
  socket.sendRaw('{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"3"}');
  expect((await socket.replyTo("3")).status).toBe("ok");
  send("access_token", { access_token: await newToken() }, "4");
  await expectRow(socket, topic, [expect.any(Number)]);
  send("phx_leave", {}, null);
  await socket.until("the answer to the leave", 2, ({ event, ref }) => event === "phx_reply" && ref === null);
});

// realtime-csharp: Realtime/{RealtimeSocket,RealtimeChannel}.cs, Socket/SocketRequest.cs. The key is there twice, refs are
// UUIDs, a heartbeat that measures latency has a null payload, what is not given is null.
test("C#", async () => {
  const [socket, topic] = [await open({ token: stack.anonKey }), newTopic()];
  const [joinRef, ping] = [crypto.randomUUID(), crypto.randomUUID()];
  const send = (event: string, payload: object | null, ref: string, to = topic): void =>
    socket.sendRaw(JSON.stringify({ type: null, topic: to, event, payload, ref, join_ref: joinRef }));
  send("heartbeat", null, ping, "phoenix");
  expect((await socket.replyTo(ping)).status).toBe("ok");
  const config = { broadcast: { self: true, ack: true }, presence: { key: "cs" }, postgres_changes: changes };
  send("phx_join", { config, access_token: stack.anonKey }, joinRef);
  expect((await socket.replyTo(joinRef)).status).toBe("ok");
  send("broadcast", { type: "broadcast", event: "x", payload: { n: 1 } }, "b");
  expect((await socket.replyTo("b")).status).toBe("ok");
  await eventually(() => expect(socket.frames.some(({ event }) => event === "broadcast")).toBe(true));
  await expectRow(socket, topic, [expect.any(Number)]);
});
