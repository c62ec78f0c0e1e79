// Blocks where they are kept and enforced: banned users and revoked tokens, on every way in.
import { evictDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
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
  expect(await env.CHANNEL.getByName(`public:${block.id}`).history({ limit: 10, order: "newest" })).toHaveLength(2);
  await directory.unblock(block.kind, block.id);
  expect(await single()).toBe(202);
});

test("every change of the blocks has a higher revision, in the next life of the directory too", async () => {
  const revision = async () => (await directory.report("gateway", "nobody", false)).revision;
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
