// The direct socket: one channel, straight into its object, and the same channel as seen through gateways.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { broadcast, Clients, eventually, join, uniqueName, type Version, versions } from "../support/clients.ts";
import { binaryBroadcast, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;

beforeAll(async () => {
  stack = await startStack({ env: { REALTIME_GATEWAYS: "2", REALTIME_GATEWAY_SOCKETS: "2" } });
  clients = new Clients(stack);
});

afterEach(() => clients.close());
afterAll(() => stack?.stop());

interface Options {
  readonly vsn?: Version;
  readonly key?: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly prefix?: string;
}

/** A socket straight to the channel of a room. */
function direct(
  room: string,
  { key = stack.anonKey, prefix = "/realtime/v1", ...rest }: Options = {},
): Promise<RawSocket> {
  return RawSocket.open(stack.url, { key, path: `${prefix}/channels/${encodeURIComponent(room)}/websocket`, ...rest });
}

const message = (n: number): object => ({ type: "broadcast", event: "count", payload: { n } });
const isBroadcast = ({ event }: { event: string }): boolean => event === "broadcast";

describe.each(versions)("version %s", (vsn) => {
  test("a direct client and a stock client hear and see each other", async () => {
    const room = uniqueName("both ways");
    const topic = `realtime:${room}`;
    const socket = await direct(room, { vsn });
    const stock = clients.open({ vsn }).channel(room, { config: { presence: { key: "stock" } } });
    const heard: unknown[] = [];
    stock.on("broadcast", { event: "count" }, ({ payload }) => void heard.push(payload));
    stock.on("presence", { event: "sync" }, () => {});
    await Promise.all([
      socket.join(topic, { broadcast: { ack: true }, presence: { key: "direct", enabled: true } }),
      join(stock),
    ]);
    expect(await socket.ask(topic, "broadcast", message(1))).toEqual({ status: "ok", response: {} });
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));
    await socket.ask(topic, "presence", { event: "track", payload: { via: "direct" } });
    await eventually(() => expect(stock.presenceState()).toMatchObject({ direct: [{ via: "direct" }] }));
    await stock.track({ via: "gateway" });
    await socket.until("both diffs", 2, ({ event }) => event === "presence_diff");
    await broadcast(stock, "count", { n: 2 });
    await eventually(() => expect(socket.frames.filter(isBroadcast).length + socket.binary.length).toBe(1));
    socket.close();
    await eventually(() => expect(Object.keys(stock.presenceState())).toEqual(["stock"]));
  });

  test("two direct clients of one channel hear each other, and neither itself", async () => {
    const room = uniqueName("direct");
    const [a, b] = await Promise.all([direct(room, { vsn }), direct(room, { vsn, prefix: "/socket" })]);
    const topic = `realtime:${room}`;
    await Promise.all([a.join(topic), b.join(topic)]);
    a.send("1", null, topic, "broadcast", message(1));
    b.send("1", null, topic, "broadcast", message(2));
    expect((await b.until("a's message", 1, isBroadcast))[0]?.payload).toMatchObject(message(1));
    expect((await a.until("b's message", 1, isBroadcast))[0]?.payload).toMatchObject(message(2));
    await Promise.all([a.heartbeat(), b.heartbeat()]);
    expect([a, b].map(({ frames }) => frames.filter(isBroadcast).length)).toEqual([1, 1]);
  });

  test("a direct client that resumes after the edge was killed has missed nothing", async () => {
    const room = uniqueName("resume");
    const topic = `realtime:${room}`;
    const first = await direct(room, { vsn });
    const { response } = await first.join(topic, { broadcast: { ack: true } });
    for (const n of [1, 2, 3]) await first.ask(topic, "broadcast", message(n));
    await stack.killEdge();
    const second = await direct(room, { vsn });
    const reply = await second.join(topic, { broadcast: { resume: response.position } });
    expect(reply.response).toMatchObject({ recovered: true });
    const found = await second.until("what was said", 3, isBroadcast);
    expect(found.map(({ payload }) => payload)).toMatchObject([message(1), message(2), message(3)]);
  });
});

test("bytes pass between direct clients", async () => {
  const room = uniqueName("bytes");
  const topic = `realtime:${room}`;
  const [a, b] = await Promise.all([direct(room), direct(room)]);
  await Promise.all([a.join(topic), b.join(topic)]);
  a.sendRaw(binaryBroadcast(topic, "x", new Uint8Array([0, 255, 7]), 0));
  await eventually(() => expect(b.binary).toHaveLength(1));
  expect([...(b.binary[0] ?? [])].slice(-3)).toEqual([0, 255, 7]);
});

test("a direct socket may join further channels", async () => {
  const [here, there] = [uniqueName("here"), uniqueName("there")];
  const [a, b] = await Promise.all([direct(here), direct(there)]);
  expect((await a.join(`realtime:${there}`)).status).toBe("ok");
  await b.join(`realtime:${there}`);
  a.send("1", null, `realtime:${there}`, "broadcast", message(1));
  await b.until("the message", 1, isBroadcast);
});

test("the private room is refused to the anon key there as well", async () => {
  const room = uniqueName("private");
  const topic = `realtime:${room}`;
  const config = { private: true };
  const socket = await direct(room, { query: { private: "true" } });
  expect(await socket.join(topic, config)).toEqual({
    status: "error",
    response: { reason: `Unauthorized: You do not have permissions to read from this Channel topic: ${room}` },
  });
  const service = await direct(room, { key: stack.serviceKey, query: { private: "true" } });
  expect((await service.join(topic, config)).status).toBe("ok");
});

test("a client beyond the last gateway's last place is told so, and the direct way is open", async () => {
  const open = (): Promise<RawSocket> => RawSocket.open(stack.url, { key: stack.anonKey });
  const held = await Promise.all([open(), open(), open(), open()]);
  await expect(open()).rejects.toThrow("429");
  const room = uniqueName("full");
  const socket = await direct(room);
  expect((await socket.join(`realtime:${room}`)).status).toBe("ok");
  held[0]?.close();
  await eventually(async () => (await open()).close());
  for (const one of held) one.close();
});
