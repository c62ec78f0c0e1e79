// Broadcasts over HTTP: by the stock client without a socket, and by hand.
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { Clients, eventually, join, uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;

beforeAll(async () => {
  stack = await startStack();
  clients = new Clients(stack);
});

afterEach(() => clients.close());

afterAll(() => stack?.stop());

interface Given {
  readonly key?: string | undefined;
  readonly type?: string;
  readonly prefix?: string;
}

async function post(path: string, body: string | Uint8Array<ArrayBuffer>, given: Given = {}) {
  const { key = stack.anonKey, type = "application/json", prefix = "/realtime/v1/api" } = given;
  const headers = { "content-type": type, authorization: `Bearer ${key}` };
  const response = await fetch(`${stack.url}${prefix}/broadcast${path}`, { method: "POST", body, headers });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text) };
}

const batch = (...messages: object[]): string => JSON.stringify({ messages });

test.each(["1.0.0", "2.0.0"] as const)(
  "the stock client reaches a %s subscriber by httpSend and by send",
  async (vsn) => {
    const topic = uniqueName("rest");
    const heard: unknown[] = [];
    const listener = clients.open({ vsn }).channel(topic);
    listener.on("broadcast", { event: "*" }, ({ event, payload }) => heard.push([event, payload]));
    await join(listener);
    const sender = clients.open().channel(topic);
    expect(await sender.httpSend("first", { n: 1 })).toEqual({ success: true });
    expect(await sender.send({ type: "broadcast", event: "second", payload: { n: 2 } })).toBe("ok");
    await eventually(() => {
      expect(heard).toEqual([
        ["first", { n: 1 }],
        ["second", { n: 2 }],
      ]);
    });
  },
);

test("a batch is sent in its order, by either prefix, and is in the history when it is answered", async () => {
  const slug = uniqueName("batch");
  await admin(stack, "POST", "/channels", { name: slug, type: "public" });
  const messages = [1, 2, 3].map((n) => ({ topic: slug, event: "n", payload: { n } }));
  expect(await post("", batch(...messages), { prefix: "/api" })).toEqual({ status: 202, body: null });
  const history = await admin(stack, "GET", `/channels/${slug}/messages?limit=10`);
  expect(JSON.stringify(history)).toMatch(/"n":3.*"n":2.*"n":1/s);
});

test("bytes arrive as bytes, and what is no object is wrapped in one", async () => {
  const topic = uniqueName("single");
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
  await socket.join(`realtime:${topic}`);
  expect((await post(`/${topic}/events/list`, "[1,2]")).status).toBe(202);
  await socket.until("the list", 1, ({ payload }) => JSON.stringify(payload).includes('{"_json":[1,2]}'));
  const bytes = new Uint8Array([0, 255, 7]);
  expect((await post(`/${topic}/events/raw`, bytes, { type: "application/octet-stream" })).status).toBe(202);
  await eventually(() => expect(socket.binary).toHaveLength(1));
});

test.each([
  ["no messages", "{}", { errors: { messages: ["can't be blank"] } }],
  ["no JSON", "{", { errors: { messages: ["can't be blank"] } }],
  [
    "bad messages beside a good one",
    batch({ topic: "t" }, { event: "e", payload: {} }, { topic: "t", event: "e", payload: {} }),
    {
      errors: {
        messages: [{ event: ["can't be blank"], payload: ["can't be blank"] }, { topic: ["can't be blank"] }, {}],
      },
    },
  ],
  [
    "a feed's topic",
    batch({ topic: "table:public.todos", event: "INSERT", payload: {} }),
    { errors: { messages: [{ topic: ["names no room"] }] } },
  ],
  [
    "a payload that is too large",
    batch({ topic: "t", event: "e", payload: { text: "x".repeat(1_000_001) } }),
    { errors: { messages: [{ payload: ["Payload size exceeds tenant limit"] }] } },
  ],
])("a batch with %s is refused with 422, and none of it is sent", async (_, body, errors) => {
  expect(await post("", body)).toEqual({ status: 422, body: errors });
});

test("who may not send is refused, or left out of a batch; a member's word counts", async () => {
  const slug = uniqueName("closed");
  await admin(stack, "POST", "/channels", { name: slug, type: "private" });
  expect(await post(`/${slug}/events/e?private=true`, "{}")).toEqual({
    status: 403,
    body: { message: "Unauthorized" },
  });
  // A registered channel's type decides, whatever the request says.
  expect((await post(`/${slug}/events/e`, "{}")).status).toBe(403);
  expect((await post("", batch({ topic: slug, event: "e", payload: {} }))).status).toBe(202);
  expect((await post(`/${slug}/events/e`, "{}", { key: stack.serviceKey })).status).toBe(202);
  const history = await admin(stack, "GET", `/channels/${slug}/messages?limit=10`);
  expect(JSON.stringify(history).match(/"event_type"/g)).toHaveLength(1);
});

test("without a key nothing is sent, other types are refused by name, and browsers may ask first", async () => {
  expect((await post("/t/events/e", "{}", { key: "nonsense" })).status).toBe(401);
  expect(await post("/t/events/e", "{}", { type: "text/plain" })).toEqual({
    status: 415,
    body: { error: "Unsupported Media Type. Use application/json or application/octet-stream" },
  });
  const headers = { origin: "http://app", "access-control-request-method": "POST" };
  const preflight = await fetch(`${stack.url}/realtime/v1/api/broadcast`, {
    method: "OPTIONS",
    headers: { ...headers, "access-control-request-headers": "authorization, apikey, x-client-info, traceparent" },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
  expect(preflight.headers.get("access-control-allow-headers")).toContain("x-client-info");
});
