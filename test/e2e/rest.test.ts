// Broadcasts over HTTP: by the stock client without a socket, and by hand.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { admin } from "../support/admin.ts";
import { Clients, eventually, join, uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;

beforeAll(async () => {
  // Rates as they are set by default, which programs on this machine are told of and not held to.
  stack = await startStack({ env: { REALTIME_MESSAGES_PER_MINUTE: "60" } });
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
  const { headers: _, ...answer } = await postAs({ "content-type": type, authorization: `Bearer ${key}` }, path, body, {
    prefix,
  });
  return answer;
}

/** Posts with these headers alone: text goes as bytes, which fetch does not give a type. */
async function postAs(
  headers: Record<string, string>,
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  { at = stack, prefix = "/api" } = {},
) {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const response = await fetch(`${at.url}${prefix}/broadcast${path}`, { method: "POST", body: bytes, headers });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text), headers: response.headers };
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
])("AC-218: a batch with %s is refused with 422, and none of it is sent", async (_, body, errors) => {
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

describe.each(["", "/t/events/e"])("POST /api/broadcast%s", (path) => {
  const body = (topic = "t") => (path === "" ? batch({ topic, event: "e", payload: {} }) : "{}");

  test("takes a bearer token of any spelling, else the header apikey, and never the query", async () => {
    const { anonKey, serviceKey } = stack;
    for (const headers of [
      { authorization: `bearer ${anonKey}`, apikey: "hello" },
      { authorization: `BEARER  ${anonKey}` },
      { apikey: anonKey },
      { authorization: "Basic aGVsbG8=", apikey: anonKey },
    ]) {
      expect((await postAs(headers, path, body())).status).toBe(202);
    }
    for (const headers of [{}, { apikey: "hello" }, { apikey: anonKey, authorization: "Bearer hello" }]) {
      const refused = await postAs(headers, `${path}?apikey=${serviceKey}`, body());
      expect(refused).toMatchObject({ status: 401, body: { message: "Unauthorized" } });
      expect(Object.keys(refused.body)).toEqual(["message"]);
    }
  });

  test("tells browsers of every answer, good or bad", async () => {
    const apikey = stack.anonKey;
    for (const [status, headers, content] of [
      [202, { apikey }, body()],
      [401, {}, body()],
      [422, { apikey }, "{"],
    ] as const) {
      const answer = await postAs(headers, path, content);
      expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([status, "*"]);
    }
  });

  test("lets browsers ask first, and send whatever headers they ask for", async () => {
    const asked = "authorization, apikey, x-client-info, traceparent, tracestate, baggage";
    const preflight = await fetch(`${stack.url}/realtime/v1/api/broadcast${path}`, {
      method: "OPTIONS",
      headers: {
        origin: "http://app",
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
    expect(preflight.headers.get("access-control-allow-methods")).toContain("POST");
    expect(preflight.headers.get("access-control-allow-headers")?.split(/, ?/)).toEqual(asked.split(", "));
  });

  test("says how much of the rate is used, though programs on this machine may use more", async () => {
    const statuses = [];
    for (let n = 0; n < 70; n++) statuses.push((await postAs({ apikey: stack.anonKey }, path, body())).status);
    expect(new Set(statuses)).toEqual(new Set([202]));
    const { headers } = await postAs({ apikey: stack.anonKey }, path, body());
    expect(headers.get("x-rate-limit")).toBe("60");
    expect(Number(headers.get("x-rate-limit-remaining"))).toBeLessThan(5);
    expect(Number(headers.get("x-rate-rolling"))).toBeGreaterThan(55);
  });
});

test("what stands in the path may be percent-encoded", async () => {
  const topic = 'a/b: "ä" 100%';
  const event = "é/v?";
  const socket = await RawSocket.open(stack.url, { key: stack.anonKey, vsn: "1.0.0" });
  await socket.join(`realtime:${topic}`);
  const path = `/${encodeURIComponent(topic)}/events/${encodeURIComponent(event)}`;
  expect((await post(`${path}?apikey=x&vsn=2.0.0`, '{"n":1}')).status).toBe(202);
  const [frame] = await socket.until("the message", 1, (f) => f.event === "broadcast");
  expect(frame).toMatchObject({ topic: `realtime:${topic}`, payload: { event, payload: { n: 1 } } });
  socket.close();
});

test("a body of no type is JSON, and of another type is refused by name", async () => {
  const json = '{"n":1}';
  const apikey = stack.anonKey;
  expect((await postAs({ apikey }, "/t/events/e", json)).status).toBe(202);
  expect(
    (await postAs({ apikey, "content-type": "Application/JSON; charset=utf-8" }, "/t/events/e", json)).status,
  ).toBe(202);
  for (const text of ["{", ""]) {
    const blank = { status: 422, body: { errors: { payload: ["can't be blank"] } } };
    expect(await postAs({ apikey }, "/t/events/e", text)).toMatchObject(blank);
  }
  expect(await post("/t/events/e", "{}", { type: "text/plain" })).toEqual({
    status: 415,
    body: { error: "Unsupported Media Type. Use application/json or application/octet-stream" },
  });
});

test("what is too large is refused with an answer that the sender gets to see", async () => {
  const tooLarge = { status: 422, body: { errors: { payload: ["Payload size exceeds tenant limit"] } } };
  for (const size of [1_000_001, 2_000_001, 20_000_000]) {
    expect(await post("/t/events/e", `"${"x".repeat(size)}"`)).toEqual(tooLarge);
    expect(await post("/t/events/e", new Uint8Array(size), { type: "application/octet-stream" })).toEqual(tooLarge);
  }
  // Cut off while it writes, a sender sees the answer only by chance.
  for (let n = 0; n < 5; n++) {
    expect((await post("/t/events/e", "x".repeat(5_000_000), { key: "hello" })).status).toBe(401);
    expect((await post("/t/events/e", "x".repeat(5_000_000), { type: "text/plain" })).status).toBe(415);
  }
  const large = { topic: uniqueName("large"), event: "e", payload: { text: "x".repeat(900_000) } };
  expect((await post("", batch(...Array(8).fill(large)))).status).toBe(202);
  expect((await post("", batch(...Array(20).fill(large)))).status).toBe(413);
});

test("a message is kept only where it may be: on private channels, for up to 72 h", async () => {
  const key = stack.serviceKey;
  const outcome = async (query: string) => {
    const { status, body } = await post(`/kept/events/e?${query}`, "{}", { key });
    return status === 422 ? body.errors : status;
  };
  for (const query of ["persist=true", "persist[ttl]=60", "persist%5Bttl%5D=259200", "persist=false"]) {
    expect(await outcome(`private=true&${query}`)).toBe(202);
  }
  for (const query of ["persist=1", "persist=", "persist[ttl]=0", "persist[ttl]=259201", "persist%5Bttl%5D=1.5"]) {
    expect(await outcome(`private=true&${query}`)).toEqual({ persist: [expect.stringContaining("1 to 259200")] });
  }
  expect(await outcome("persist=true")).toEqual({ persist: ["can only be used on private channels"] });
  expect(await outcome("persist=true&private=1")).toEqual({ persist: ["can only be used on private channels"] });
  expect(await outcome("persist=false")).toBe(202);
});

describe("a server behind a proxy, with opaque keys and a low rate", () => {
  const [anon, service] = ["sb_publishable_of-this-test", "sb_secret_of-this-test"];
  let small: TestStack;
  beforeAll(async () => {
    small = await startStack({
      env: {
        REALTIME_ANON_KEY: anon,
        REALTIME_SERVICE_KEY: service,
        REALTIME_MESSAGES_PER_MINUTE: "5",
        REALTIME_IP_HEADER: "x-real-ip",
      },
    });
  });
  afterAll(() => small?.stop());

  const message = { topic: "t", event: "e", payload: {} };
  const send = (address: string, apikey: string, count?: number) =>
    postAs(
      { apikey, "x-real-ip": address },
      count === undefined ? "/t/events/e" : "",
      count === undefined ? "{}" : batch(...Array(count).fill(message)),
      { at: small },
    );

  test("an address that sends too much is refused, and learns when it may go on", async () => {
    const answers = [];
    for (let n = 0; n < 6; n++) answers.push(await send("192.0.2.1", anon));
    expect(answers.map(({ status }) => status)).toEqual([202, 202, 202, 202, 202, 429]);
    expect(answers[0]?.headers.get("x-rate-limit-remaining")).toBe("4");
    expect(answers[0]?.headers.get("x-rate-rolling")).toBe("1");
    expect(answers[5]?.body).toEqual({ message: "Too many requests" });
    expect(answers[5]?.headers.get("x-rate-limit-remaining")).toBe("0");
    expect(Number(answers[5]?.headers.get("retry-after"))).toBeGreaterThan(5);
    expect(answers[5]?.headers.get("access-control-allow-origin")).toBe("*");
    expect((await send("192.0.2.2", anon)).status).toBe(202);
  });

  test("a batch counts its messages, and is sent whole or not at all", async () => {
    const reduce = { message: "Too many messages to broadcast, please reduce the batch size" };
    expect((await send("192.0.2.3", anon, 3)).status).toBe(202);
    expect(await send("192.0.2.3", anon, 3)).toMatchObject({ status: 429, body: reduce });
    expect((await send("192.0.2.3", anon, 2)).status).toBe(202);
    const never = await send("192.0.2.4", anon, 6);
    expect(never).toMatchObject({ status: 429, body: reduce });
    expect(never.headers.get("retry-after")).toBeNull();
  });

  test("what is refused for itself uses nothing up", async () => {
    for (let n = 0; n < 10; n++) {
      const refused = await postAs({ apikey: anon, "x-real-ip": "192.0.2.5" }, "/t/events/e", "{", { at: small });
      expect(refused.status).toBe(422);
    }
    expect((await send("192.0.2.5", anon, 5)).status).toBe(202);
  });

  test("the service role sends as much as it likes", async () => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => send("192.0.2.6", service)));
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(202));
    expect((await send("192.0.2.6", service, 20)).status).toBe(202);
    expect((await send("192.0.2.6", anon)).status).toBe(202);
  });
});
