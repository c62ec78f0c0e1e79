// The listener's door: batches that are taken, and what is refused without being kept.
import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import type { HistoryPage } from "../../src/edge/objects/rpc.ts";

const table = { schema: "public", table: "t", generation: 1, columns: [], primaryKey: [], rls: false, readers: [] };
const header = { v: 1, source: "s", epoch: 1, batch: 1, redelivered: false, feed: "public.t", tables: { 7: table } };
const change = { id: "1", x: "1", r: 7, op: "I", at: "2026-01-01T00:00:00Z", new: { name: "Żółw" } };

async function signed(body: string): Promise<Record<string, string>> {
  const timestamp = Math.floor(Date.now() / 1000).toString();
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const secret = encoder.encode(env.REALTIME_LISTENER_SECRET);
  const key = await crypto.subtle.importKey("raw", secret, algorithm, false, ["sign"]);
  const signature = await crypto.subtle.sign("HMAC", key, encoder.encode(`${timestamp}.${body}`));
  const hex = [...new Uint8Array(signature)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { "x-nself-timestamp": timestamp, "x-nself-signature": hex };
}

/** Headers that look like a signature. */
function unsigned(): Record<string, string> {
  return { "x-nself-timestamp": String(Math.floor(Date.now() / 1000)), "x-nself-signature": "0".repeat(64) };
}

function post(body: string | ReadableStream, headers: Record<string, string> = {}): Promise<Response> {
  return exports.default.fetch("http://edge/internal/changes", { method: "POST", body, headers });
}

/** A body in chunks, whose length no header tells; counts how much of it is asked for. */
function chunked(chunk: Uint8Array, times: number): { body: ReadableStream; asked: () => number } {
  let asked = 0;
  const body = new ReadableStream({
    pull(controller) {
      if (asked++ < times) controller.enqueue(chunk);
      else controller.close();
    },
  });
  return { body, asked: () => asked };
}

describe("the listener's door", () => {
  test("a signed batch is taken, whole or in chunks that cut its characters", async () => {
    const body = `${JSON.stringify(header)}\n${JSON.stringify(change)}\n`;
    const response = await post(body, await signed(body));
    expect([response.status, await response.json()]).toEqual([200, { ack: 1 }]);
    const bytes = new TextEncoder().encode(body);
    const single = new ReadableStream({
      start(controller) {
        for (const byte of bytes) controller.enqueue(Uint8Array.of(byte));
        controller.close();
      },
    });
    expect((await post(single, await signed(body))).status).toBe(200);
    const {
      messages: [message],
    }: HistoryPage = await env.CHANNEL.getByName("feed:public.t").history({
      limit: 1,
      order: "newest",
    });
    expect(message).toMatchObject({ id: "s:1", event: "INSERT" });
  });

  test("a batch with a wrong signature is refused without a word on its content", async () => {
    const response = await post("nonsense", await signed("other nonsense"));
    expect(response.status).toBe(401);
    expect(await response.text()).toContain("REALTIME_LISTENER_SECRET");
  });

  test("a request without a signature is refused before its body is read", async () => {
    const { body, asked } = chunked(new Uint8Array(1_000), 1_000);
    expect((await post(body)).status).toBe(401);
    expect((await post("x", { ...unsigned(), "x-nself-timestamp": "1" })).status).toBe(401);
    expect(asked()).toBeLessThan(20);
  });

  test("a body that is too large is refused with 413 once it has been read, so that its sender hears it", async () => {
    const { body, asked } = chunked(new Uint8Array(1_000_000), 60);
    const response = await post(body, unsigned());
    expect([response.status, await response.json()]).toEqual([413, { error: "a batch holds at most 15000000 bytes" }]);
    expect(asked()).toBeGreaterThan(60);
  });

  test("a body beyond all measure is read no further, and one whose length is told is not read at all", async () => {
    const endless = chunked(new Uint8Array(10_000_000), 100);
    expect((await post(endless.body, unsigned())).status).toBe(413);
    expect(endless.asked()).toBeLessThan(40);
    const told = chunked(new Uint8Array(1_000), 100);
    expect((await post(told.body, { ...unsigned(), "content-length": "200000001" })).status).toBe(413);
    expect(told.asked()).toBeLessThan(20);
  });
});

describe("messages of the database", () => {
  const own = { ...table, schema: "realtime", table: "messages" };
  let batches = 0;

  interface Row {
    id?: string;
    topic?: string;
    event?: string | null;
    private?: boolean;
    payload?: unknown;
    bytes?: string | null;
  }

  async function postRows(rows: Row[], more: object = {}): Promise<{ status: number; answer: unknown }> {
    batches++;
    const first = { ...header, feed: "realtime.messages", tables: { 7: own }, source: "m", batch: batches, ...more };
    const lines = rows.map((row, index) => {
      const complete = { id: `${batches}-${index}`, topic: "t", event: "e", private: false, payload: {}, bytes: null };
      return { ...change, id: String(index), new: { ...complete, ...row } };
    });
    const body = [first, ...lines].map((line) => JSON.stringify(line)).join("\n");
    const response = await post(body, await signed(body));
    return { status: response.status, answer: await response.json() };
  }

  async function idsOf(object: string): Promise<string[]> {
    const { messages: found }: HistoryPage = await env.CHANNEL.getByName(object).history({
      limit: 100,
      order: "oldest",
    });
    return found.map(({ id }) => id);
  }

  test("each goes to the room of its topic, under its own id, in order", async () => {
    await postRows([
      { id: "1", topic: "a" },
      { id: "2", topic: "b" },
      { id: "3", topic: "a", private: true },
      { id: "4", topic: "a" },
    ]);
    expect(await idsOf("public:a")).toEqual(["1", "4"]);
    expect(await idsOf("public:b")).toEqual(["2"]);
    expect(await idsOf("private:a")).toEqual(["3"]);
  });

  test("of a batch that comes again only what is missing is taken", async () => {
    await postRows([{ id: "1", topic: "again" }]);
    const rows = ["1", "2"].map((id) => ({ id, topic: "again" }));
    const more = { redelivered: true, batch: 900 };
    for (const _ of [1, 2]) expect(await postRows(rows, more)).toMatchObject({ status: 200, answer: { ack: 900 } });
    expect(await idsOf("public:again")).toEqual(["1", "2"]);
  });

  test("a listener whose time is over is told to stop", async () => {
    await postRows([{ id: "1", topic: "fenced" }], { source: "fenced", epoch: 2 });
    expect(await postRows([{ id: "2", topic: "fenced" }], { source: "fenced", epoch: 1 })).toMatchObject({
      status: 409,
    });
    expect(await idsOf("public:fenced")).toEqual(["1"]);
  });

  test("the row says in which room of a name they belong, whatever an object remembers of its registration", async () => {
    const config = { id: crypto.randomUUID(), slug: "c", name: "c", type: "public" as const, metadata: {} };
    for (const side of ["public", "private"]) await env.CHANNEL.getByName(`${side}:c`).configure(config);
    await postRows([1, 2, 3].map((n) => ({ id: String(n), topic: "c", private: n !== 2 })));
    expect(await idsOf("private:c")).toEqual(["1", "3"]);
    expect(await idsOf("public:c")).toEqual(["2"]);
  });

  test("what nobody can be sent is answered with the reason, and the rest goes on", async () => {
    const { status, answer } = await postRows([
      { id: "no event", event: null },
      { id: "no payload", payload: null },
      { id: "no room", topic: "table:public.t" },
      { id: "nameless", topic: "" },
      { id: "too large", payload: { text: "x".repeat(1_000_000) } },
      { id: "bytes too large", payload: null, bytes: btoa("x".repeat(1_000_001)) },
      { id: "good", topic: "rest" },
    ]);
    expect(status).toBe(200);
    expect(answer).toMatchObject({
      unsent: [
        { id: "no event", reason: expect.stringContaining("no event") },
        { id: "no payload", reason: expect.stringContaining("no payload") },
        { id: "no room", reason: expect.stringContaining("names no room") },
        { id: "nameless", reason: expect.stringContaining("names no room") },
        { id: "too large", reason: expect.stringContaining("larger than 1000000 bytes") },
        { id: "bytes too large", reason: expect.stringContaining("larger than 1000000 bytes") },
      ],
    });
    expect(await idsOf("public:rest")).toEqual(["good"]);
  });

  test("a channel may allow itself a larger payload, or a smaller one", async () => {
    for (const [name, payload_bytes] of [
      ["small", 10],
      ["large", 2_000_000],
    ] as const) {
      const config = { id: name, slug: name, name, type: "public" as const, metadata: { limits: { payload_bytes } } };
      await env.CHANNEL.getByName(`public:${name}`).configure(config);
    }
    const { answer } = await postRows([
      { id: "1", topic: "small", payload: { text: "longer" } },
      { id: "2", topic: "small" },
      { id: "3", topic: "large", payload: { text: "x".repeat(1_500_000) } },
    ]);
    expect(answer).toMatchObject({
      unsent: [{ id: "1", reason: 'its payload is larger than 10 bytes (topic "small")' }],
    });
    expect([await idsOf("public:small"), await idsOf("public:large")]).toEqual([["2"], ["3"]]);
  });

  test("while PostgreSQL is away what is registered cannot be told, and comes again", async () => {
    const row = { new: { slug: "x" } };
    const first = { ...header, feed: "realtime.channels", tables: { 7: { ...own, table: "channels" } } };
    const body = `${JSON.stringify(first)}\n${JSON.stringify({ ...change, ...row })}`;
    const response = await post(body, await signed(body));
    expect([response.status, await response.text()]).toEqual([
      503,
      expect.stringContaining("reaches PostgreSQL, does not answer"),
    ]);
  });
});

describe("a channel that is told what it is registered as", () => {
  const registered = { id: "first", slug: "told", name: "told", type: "public" as const, metadata: {} };
  const room = () => env.CHANNEL.getByName("public:told");
  const kept = async (): Promise<string[]> => {
    const { messages: found }: HistoryPage = await room().history({ limit: 10, order: "oldest" });
    return found.map(({ event }) => event);
  };

  test("forgets its messages when it ends, and not again when it hears of that twice", async () => {
    await room().configure(registered);
    await room().publish({ event: "of the channel", payload: "{}" });
    await room().configure({ ...registered, metadata: { changed: true } });
    expect(await kept()).toEqual(["of the channel"]);
    await room().configure(null);
    expect(await kept()).toEqual([]);
    await room().publish({ event: "of the open room", payload: "{}" });
    await room().configure(null);
    expect(await kept()).toEqual(["of the open room"]);
  });

  test("shows nothing of the one before to a channel of the same name", async () => {
    await room().configure(registered);
    await room().publish({ event: "of the channel", payload: "{}" });
    await room().configure({ ...registered, id: "second" });
    expect(await kept()).toEqual([]);
  });
});
