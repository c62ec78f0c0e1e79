// Blocks where they are kept and enforced: banned users and revoked tokens, on every way in.
import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { blockTables, KeptBlocks } from "../../src/edge/objects/block-store.ts";
import { Directory } from "../../src/edge/objects/directory.ts";
import { Tables } from "../../src/edge/objects/tables.ts";
import type { Block } from "../../src/protocol/blocks.ts";
import { Client, openChannel, token } from "./clients.ts";

const directory = env.DIRECTORY.getByName("directory");

async function post(path: string, key: string, body: object): Promise<number> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const request = { method: "POST", headers, body: JSON.stringify(body) };
  const { status } = await exports.default.fetch(`http://edge${path}`, request);
  return status;
}

test.each([
  ["a banned user", { kind: "user", id: "ban-http" }, { sub: "ban-http" }],
  ["a revoked token", { kind: "token", id: "jti-http" }, { sub: "other", jti: "jti-http" }],
] as const)("the broadcasts of %s are refused over HTTP", async (_, block, claims) => {
  await openChannel(block.id);
  const key = await token("authenticated", claims);
  const single = () => post(`/api/broadcast/${block.id}/events/x`, key, {});
  const batch = () => post("/api/broadcast", key, { messages: [{ topic: block.id, event: "x", payload: {} }] });
  expect([await single(), await batch()]).toEqual([202, 202]);
  expect(await directory.block({ ...block, until: null, reason: null })).toBe("done");
  expect([await single(), await batch()]).toEqual([403, 403]);
  const { messages } = await env.CHANNEL.getByName(`public:${block.id}`).history({ limit: 10, order: "newest" });
  expect(messages).toHaveLength(2);
  await directory.unblock(block.kind, block.id);
  expect(await single()).toBe(202);
});

test("every change of the blocks has a higher revision, in the next life of the directory too", async () => {
  const revision = async () => (await directory.report("gateway", "nobody", false, -1))?.revision ?? 0;
  const before = await revision();
  await directory.block({ kind: "user", id: "revised", until: null, reason: null });
  const blocked = await revision();
  await evictDurableObject(directory);
  expect(await revision()).toBe(blocked);
  await directory.unblock("user", "revised");
  expect([blocked > before, (await revision()) > blocked]).toEqual([true, true]);
});

test("a revoked token of the service role opens nothing: no admin API, no broadcast, no socket", async () => {
  await openChannel("service");
  const key = await token("service_role", { jti: "jti-service", sub: "ban-service" });
  const bans = async () => {
    const { status } = await exports.default.fetch("http://edge/admin/v1/bans", { headers: { apikey: key } });
    return status;
  };
  const broadcast = () => post("/api/broadcast/service/events/x", key, {});
  const connect = () => Client.connect("/realtime/v1/websocket", "service_role", { jti: "jti-service" });
  // Users are banned, and what acts for the service is none.
  await directory.block({ kind: "user", id: "ban-service", until: null, reason: null });
  const before = await connect();
  expect([await bans(), await broadcast()]).toEqual([200, 202]);
  await directory.block({ kind: "token", id: "jti-service", until: null, reason: null });
  await vi.waitFor(() => expect(before.closedWith).toBe(4004));
  expect([await bans(), await broadcast()]).toEqual([401, 403]);
  await expect(connect()).rejects.toThrow("403");
});

/** Calls the admin API, where PostgreSQL is away. */
async function admin(method: string, path: string, body?: object): Promise<unknown> {
  const headers = { apikey: await token("service_role"), "content-type": "application/json" };
  const init = { method, headers, ...(body && { body: JSON.stringify(body) }) };
  const response = await exports.default.fetch(`http://edge/admin/v1${path}`, init);
  expect(response.status).toBe(200);
  return response.json();
}

test("a channel ban is made, listed and lifted while PostgreSQL is away, and its reason is told", async () => {
  const topic = await openChannel("away");
  const ann = await Client.connect("/realtime/v1/websocket", "authenticated", { sub: "ann-away" });
  await ann.join(topic);
  expect(await admin("PUT", "/users/ann-away/ban", { channel: "away", reason: "spam" })).toMatchObject({
    ...{ channel: "away", used: true, reason: "spam" },
  });
  const told = await ann.frame(([, , , event]) => event === "system");
  expect(told[4]).toMatchObject({ message: "You are banned from this Channel: spam" });
  await ann.frame(([, , , event]) => event === "phx_close");
  const { response } = await ann.reply(ann.send(topic, "phx_join", { config: {} }));
  expect(response).toEqual({ reason: "Unauthorized: You are banned from this Channel: spam" });
  expect(await admin("GET", "/bans?channel=away")).toMatchObject([{ id: "ann-away", until: null, reason: "spam" }]);
  expect(await admin("POST", "/users/ann-away/kick", { channel: "away" })).toMatchObject({ connections: 0 });
  expect(await admin("DELETE", "/users/ann-away/ban?channel=away")).toMatchObject({ lifted: true });
});

test("a ban from a channel that nobody uses is made, and that is said", async () => {
  expect(await admin("PUT", "/users/ann/ban", { channel: "generall" })).toMatchObject({ used: false });
  expect(await admin("PUT", "/users/ann-elsewhere/ban", {})).toMatchObject({ used: true });
});

test("the bans of a registered channel end with it, those of an open one do not", async () => {
  const room = env.CHANNEL.getByName("public:ended");
  await room.ban("ann", { until: null, reason: null });
  await room.configure(null);
  expect(Object.keys(await room.bans())).toEqual(["ann"]);
  await openChannel("ended");
  await room.configure(null);
  expect(await room.bans()).toEqual({});
  await room.ban("bob", { until: null, reason: null });
  await room.configure(null);
  expect(Object.keys(await room.bans())).toEqual(["bob"]);
});

describe("what an object has heard of the blocks", () => {
  test("is kept for its next life, however much it is, and the newest of it", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("kept-blocks"), (_, { storage }) => {
      const tables = () => new Tables(storage.sql, blockTables);
      const many = Array.from({ length: 10_000 }, (_, n): Block => {
        return { kind: "user", id: `${n} ${"\u0939".repeat(190)}`, until: n, reason: "x".repeat(100) };
      });
      expect(new KeptBlocks(tables()).list).toEqual({ revision: 0, blocks: [] });
      for (const list of [
        { revision: 7, blocks: many },
        { revision: 8, blocks: many.slice(1) },
        { revision: 9, blocks: [] },
      ]) {
        new KeptBlocks(tables()).put(list);
        expect(new KeptBlocks(tables()).list).toEqual(list);
      }
    });
  });

  test("holds from its wake on, and is not sent to it again", async () => {
    const object = env.CHANNEL.getByName("public:woken");
    const topic = await openChannel("woken");
    await directory.block({ kind: "user", id: "woken", until: null, reason: null });
    const path = "/realtime/v1/channels/woken/websocket";
    const client = await Client.connect(path);
    const report = vi.spyOn(Directory.prototype, "report");
    await evictDurableObject(object);
    await client.join(topic);
    const key = await token("authenticated", { sub: "woken" });
    const { response } = await client.reply(client.send(topic, "phx_join", { config: {}, access_token: key }));
    expect(response).toEqual({ reason: "Unauthorized: You are banned" });
    const answers = report.mock.calls.map(([, name], at) => ({ name, answer: report.mock.results[at]?.value }));
    expect(answers.filter(({ name }) => name === "public:woken")).toEqual([{ name: "public:woken", answer: null }]);
    report.mockRestore();
    client.close();
  });
});
