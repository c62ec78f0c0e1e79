// The doors from inside: what an object is told of a request, and what is answered while PostgreSQL is away.
import { runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import { app } from "../../src/edge/app.ts";
import { Client, openChannel, token } from "./clients.ts";

test("a session has the x-* headers of its upgrade, but neither the key nor what the edge says to itself", async () => {
  const headers = {
    upgrade: "websocket",
    "X-Region": "north",
    "x-nself-session": "forged",
    "x-api-key": await token("service_role"),
    cookie: "a=b",
  };
  const response = await exports.default.fetch("http://edge/realtime/v1/channels/headers/websocket", { headers });
  expect(response.status).toBe(101);
  response.webSocket?.accept();
  await runInDurableObject(env.CHANNEL.getByName("public:headers"), (_, { storage }) =>
    vi.waitFor(
      () => {
        const [row] = storage.sql.exec<{ record: string }>("SELECT record FROM sessions").toArray();
        const record = JSON.parse(row?.record ?? "{}");
        expect(record).toMatchObject({ claims: { role: "service_role" }, headers: { "x-region": "north" } });
        expect(Object.keys(record.headers)).toEqual(["x-region"]);
      },
      { timeout: 5_000 },
    ),
  );
  response.webSocket?.close();
});

test("without PostgreSQL a broadcast to a private channel is not said to be sent, alone or in a batch", async () => {
  const headers = { authorization: `Bearer ${await token("anon")}`, "content-type": "application/json" };
  const post = (path: string, body: object) =>
    exports.default.fetch(`http://edge/api/broadcast${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const message = { topic: "away", event: "e", payload: {} };
  for (const response of [
    await post("/away/events/e?private=true", {}),
    await post("", { messages: [message, { ...message, private: true }] }),
  ]) {
    expect([response.status, await response.json()]).toEqual([422, { message: "Tenant database unavailable" }]);
  }
  expect((await post("", { messages: [message] })).status).toBe(202);
});

test("without PostgreSQL nobody moderates, by socket or over HTTP", async () => {
  const topic = await openChannel("unruly");
  const client = await Client.connect("/realtime/v1/websocket", "authenticated", { sub: "ann" });
  await client.join(topic);
  const { status, response } = await client.reply(client.send(topic, "moderate", { event: "delete_channel" }));
  expect([status, response.reason]).toEqual(["error", expect.stringContaining("reaches PostgreSQL, does not answer")]);
  const headers = { authorization: `Bearer ${await token("authenticated", { sub: "ann" })}` };
  const body = JSON.stringify({ event: "delete_channel" });
  const answer = await exports.default.fetch("http://edge/api/moderate/unruly", { method: "POST", headers, body });
  expect(answer.status).toBe(503);
  expect(client.frames.some(([, , , event]) => event === "phx_close")).toBe(false);
  client.close();
});

test("AC-208: every route but those of health is refused without credentials", async () => {
  const alive = /^(\/realtime\/v1)?\/(health|healthcheck|api\/ping)$/;
  const routes = app.routes.filter(({ path }) => !alive.test(path));
  const asked = routes.map(({ method, path }) => ({
    method: method === "ALL" ? "GET" : method,
    path: path.replaceAll(/:\w+/g, "x").replace("*", "x"),
  }));
  expect(asked.length).toBeGreaterThan(40);
  for (const { method, path } of asked) {
    const response = await exports.default.fetch(`http://edge${path}`, { method, headers: { upgrade: "websocket" } });
    expect([method, path, response.status]).toEqual([method, path, 401]);
  }
});
