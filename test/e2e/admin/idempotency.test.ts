// Writes that come twice with the same Idempotency-Key are done once, and have one answer.
import { once } from "node:events";
import { createServer, request } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { realtime } from "../../cli/nself.ts";
import { DescribedClient, type Wish } from "../../support/described.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let api: DescribedClient;
beforeAll(async () => {
  stack = await startStack();
  const response = await fetch(`${stack.url}/admin/v1/openapi.json`, { headers: { apikey: stack.serviceKey } });
  api = new DescribedClient(stack, JSON.parse(await response.text()));
});
afterAll(() => stack?.stop());

const send = (channel: string, key: string, payload: unknown) =>
  api.call("sendMessage", { params: { channel }, body: { event: "e", payload }, headers: { "idempotency-key": key } });
const create = (key: string, wish: object) =>
  api.call("createChannel", { body: wish, headers: { "idempotency-key": key } });
const payloads = async (channel: string) => {
  const { body } = await api.call("listMessages", { params: { channel } });
  return Array.isArray(body) ? body.map(({ payload }) => payload) : body;
};

test("a message is sent once: repeated, all at once, and after the edge has died", { timeout: 60_000 }, async () => {
  await api.call("createChannel", { body: { name: "once" } });
  const first = await send("once", "k1", 1);
  expect(first.status).toBe(201);
  expect(await send("once", "k1", 1)).toMatchObject({ status: 201, body: first.body });
  const atOnce = await Promise.all(Array.from({ length: 8 }, () => send("once", "k2", 2)));
  expect(new Set(atOnce.map(({ body }) => JSON.stringify(body))).size).toBe(1);
  await stack.killEdge();
  expect(await send("once", "k1", 1)).toMatchObject({ status: 201, body: first.body });
  expect(await payloads("once")).toEqual([2, 1]);
});

test("a key with another body is refused, and with another channel it is another key", async () => {
  for (const name of ["here", "there"]) await api.call("createChannel", { body: { name } });
  await send("here", "k", "a");
  expect(await send("here", "k", "b")).toMatchObject({ status: 422, body: { code: "key_reused" } });
  expect(await send("there", "k", "b")).toMatchObject({ status: 201 });
  expect([await payloads("here"), await payloads("there")]).toEqual([["a"], ["b"]]);
  expect(await create("c", { name: "one" })).toMatchObject({ status: 201 });
  expect(await create("c", { name: "two" })).toMatchObject({ status: 422, body: { code: "key_reused" } });
  expect(await api.call("getChannel", { params: { channel: "two" } })).toMatchObject({ status: 404 });
});

test("any other write has the answer of the first as well, which outlives the edge; a refusal is not kept", async () => {
  const made = await create("made", { name: "made" });
  expect(made).toMatchObject({ status: 201, body: { created: true } });
  await stack.killEdge();
  expect(await create("made", { name: "made" })).toMatchObject({ status: 201, body: made.body });
  // Without the key it is another request.
  expect(await api.call("createChannel", { body: { name: "made" } })).toMatchObject({ body: { created: false } });
  const remove = (): Promise<{ status: number }> =>
    api.call("deleteChannel", { params: { channel: "made" }, headers: { "idempotency-key": "gone" } });
  expect([(await remove()).status, (await remove()).status]).toEqual([200, 200]);
  const put: Wish = { params: { channel: "late", user: "ann" }, body: {}, headers: { "idempotency-key": "late" } };
  expect(await api.call("putMember", put)).toMatchObject({ status: 404 });
  await api.call("createChannel", { body: { name: "late" } });
  expect(await api.call("putMember", put)).toMatchObject({ status: 201 });
  expect(await api.call("putMember", put)).toMatchObject({ status: 201, body: { added: true } });
});

test("a key that is none is refused", async () => {
  for (const key of ["two words", "x".repeat(256)]) {
    expect(await create(key, { name: "no" })).toMatchObject({ status: 400, body: { code: "invalid_request" } });
  }
});

test("a command whose answer was lost sends it again, and it is done once", { timeout: 60_000 }, async () => {
  await api.call("createChannel", { body: { name: "lossy" } });
  const env = { NSELF_REALTIME_URL: await lossyProxy(2), NSELF_REALTIME_SERVICE_KEY: stack.serviceKey };
  const run = await realtime(null, ["broadcast", "lossy", "e", "1"], { env });
  expect(run).toMatchObject({ code: 0, stderr: "" });
  expect(await payloads("lossy")).toEqual([1]);
  const lost = { ...env, NSELF_REALTIME_URL: await lossyProxy(3) };
  expect(await realtime(null, ["broadcast", "lossy", "e", "2"], { env: lost })).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("does not answer"),
  });
});

/** Passes requests on to the server, and hangs up instead of the first so many answers. */
async function lossyProxy(losses: number): Promise<string> {
  let left = losses;
  const server = createServer((incoming, outgoing) => {
    const { method, headers, url } = incoming;
    const passed = request(new URL(url ?? "/", stack.url), { method: method ?? "GET", headers }, (answer) => {
      if (left-- > 0) {
        answer.resume().on("end", () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    incoming.pipe(passed);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return `http://127.0.0.1:${address.port}`;
}
