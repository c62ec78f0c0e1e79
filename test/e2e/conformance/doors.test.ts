// Doors as a Supabase gateway has them: other addresses, opaque keys, and what HTTP answers word for word (protocol.md §1, §6.5, §6.6).
import { RealtimeClient } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { broadcast, eventually, join, uniqueName, versions } from "../../support/clients.ts";
import { Peers } from "../../support/peers.ts";
import { RawSocket } from "../../support/raw-socket.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

const anonKey = "sb_publishable_of_the_conformance_tests";
const serviceKey = "sb_secret_of_the_conformance_tests";

let stack: TestStack;
let peers: Peers;

beforeAll(async () => {
  stack = await startStack({ env: { REALTIME_ANON_KEY: anonKey, REALTIME_SERVICE_KEY: serviceKey } });
  peers = new Peers(stack);
});

afterEach(() => peers.close());
afterAll(() => stack?.stop());

describe.each(versions)("opaque keys over version %s", (vsn) => {
  const way = vsn === "1.0.0" ? "newest 1.0.0" : "newest 2.0.0";

  test("open the socket as anon and as service_role, and are no token that would change it", async () => {
    const room = uniqueName("opaque");
    const config = { config: { private: true } };
    await expect(join(peers.channel(way, room, config, { key: anonKey }))).rejects.toThrow(/^Unauthorized: /);
    await join(peers.channel(way, room, config, { key: serviceKey }));
    await join(peers.channel(way, room, undefined, { key: anonKey, accessToken: async () => anonKey }));
  });

  test("speak over HTTP, by the client's own headers", async () => {
    const room = uniqueName("opaque");
    const listener = peers.channel(way, room, undefined, { key: anonKey });
    const heard: unknown[] = [];
    listener.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
    await join(listener);
    const speaker = peers.channel(way, room, undefined, { key: anonKey });
    expect(await speaker.httpSend("x", { n: 1 })).toEqual({ success: true });
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));
  });
});

test("a stand-alone client finds the server under /socket, as it is there without a gateway", async () => {
  const room = uniqueName("standalone");
  const client = new RealtimeClient(`${stack.url}/socket`, { params: { apikey: anonKey } });
  const channel = client.channel(room, { config: { broadcast: { self: true } } });
  const heard: unknown[] = [];
  channel.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
  await join(channel);
  await broadcast(channel, "x", { n: 1 });
  expect(await channel.httpSend("x", { n: 2 })).toEqual({ success: true });
  await eventually(() => expect(heard).toEqual([{ n: 1 }, { n: 2 }]));
  await client.removeAllChannels();
});

test("a socket without a version speaks 1.0.0, and what is in the query beside is ignored", async () => {
  for (const query of [
    { log_level: "info", eventsPerSecond: "10" },
    { token: "x", log_level: "loud" },
  ]) {
    const socket = await RawSocket.open(stack.url, { key: anonKey, vsn: "1.0.0", query });
    expect((await socket.join(`realtime:${uniqueName("query")}`)).status).toBe("ok");
    socket.close();
  }
});

describe("health", () => {
  test.each(["/realtime/v1/api/ping", "/api/ping"])("%s", async (path) => {
    const response = await fetch(`${stack.url}${path}`);
    expect([response.status, await response.json()]).toEqual([200, { message: "Success" }]);
  });

  test("/healthcheck", async () => {
    const response = await fetch(`${stack.url}/healthcheck`);
    expect([response.status, await response.text()]).toEqual([200, "ok"]);
  });
});

interface Given {
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body: string;
}

async function post({ path = "", headers = { apikey: anonKey }, body }: Given) {
  const url = `${stack.url}/realtime/v1/api/broadcast${path}`;
  const response = await fetch(url, {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : JSON.parse(text), headers: response.headers };
}

const message = { topic: "room", event: "x", payload: {} };
const batch = (...messages: unknown[]): string => JSON.stringify({ messages });

describe("broadcasts over HTTP", () => {
  test("the header Authorization wins, its scheme in any case; apikey stands alone; the query is not asked", async () => {
    const accepted = [
      { apikey: anonKey },
      { authorization: `bearer ${anonKey}` },
      { authorization: `BEARER ${serviceKey}`, apikey: "nonsense" },
    ];
    for (const headers of accepted) expect((await post({ headers, body: batch(message) })).status).toBe(202);
    for (const headers of [{}, { authorization: "Bearer nonsense", apikey: anonKey }]) {
      const answer = await post({ path: `?apikey=${anonKey}&vsn=2.0.0`, headers, body: batch(message) });
      expect([answer.status, answer.body]).toEqual([401, expect.objectContaining({ message: "Unauthorized" })]);
    }
  });

  test("any origin may read the answer, and ask first with any header", async () => {
    const { headers } = await post({ body: batch(message) });
    expect(headers.get("access-control-allow-origin")).toBe("*");
    const asked = "authorization, apikey, content-type, x-client-info, traceparent, tracestate, baggage";
    const preflight = await fetch(`${stack.url}/realtime/v1/api/broadcast/room/events/x`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": asked,
      },
    });
    expect(preflight.ok).toBe(true);
    for (const name of asked.split(", "))
      expect(preflight.headers.get("access-control-allow-headers")?.toLowerCase()).toContain(name);
  });

  test("a single message without a content type is JSON", async () => {
    const response = await fetch(`${stack.url}/realtime/v1/api/broadcast/room/events/x`, {
      method: "POST",
      body: new TextEncoder().encode('{"x":1}'),
      headers: { apikey: anonKey },
    });
    expect([response.status, await response.text()]).toEqual([202, ""]);
  });

  test.each([
    ["a length that is no length", batch({ ...message, topic: { length: { toString: 1 } } })],
    ["a list for a topic", batch({ ...message, topic: [] })],
    ["text for a message", batch("hello")],
    ["null for a message", batch(null)],
    ["text for a payload", batch({ ...message, payload: "x" })],
  ])("%s is refused with 422 and a reason", async (_name, body) => {
    const answer = await post({ body });
    expect([answer.status, answer.body]).toEqual([422, { errors: { messages: [expect.any(Object)] } }]);
  });

  test("AC-218: what is nested too deep is refused with 422", async () => {
    const nest = `${"[".repeat(7_000)}${"]".repeat(7_000)}`;
    expect((await post({ body: `{"messages":[{"topic":"room","event":"x","payload":{"a":${nest}}}]}` })).status).toBe(
      422,
    );
    expect((await post({ path: "/room/events/x", body: `{"a":${nest}}` })).status).toBe(422);
  });
});
