// The listener's door: batches that are taken, and what is refused without being kept.
import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import type { StoredMessage } from "../../src/edge/objects/rpc.ts";

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
    const [message]: StoredMessage[] = await env.CHANNEL.getByName("feed:public.t").history({
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

  test("a body that is too large is refused with 413 once it has been read, so that its sender hears it", async () => {
    const { body, asked } = chunked(new Uint8Array(1_000_000), 60);
    const response = await post(body);
    expect([response.status, await response.json()]).toEqual([413, { error: "a batch holds at most 8000000 bytes" }]);
    expect(asked()).toBeGreaterThan(60);
  });

  test("a body beyond all measure is read no further, and one whose length is told is not read at all", async () => {
    const endless = chunked(new Uint8Array(10_000_000), 100);
    expect((await post(endless.body)).status).toBe(413);
    expect(endless.asked()).toBeLessThan(40);
    const told = chunked(new Uint8Array(1_000), 100);
    expect((await post(told.body, { "content-length": "200000001" })).status).toBe(413);
    expect(told.asked()).toBeLessThan(20);
  });
});
