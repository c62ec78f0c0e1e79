// The running server held to its own OpenAPI document: every operation is called, and every answer is as it says.
import { createHash } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import * as z from "zod";
import { DescribedClient, type Wish } from "../../support/described.ts";
import { RawSocket } from "../../support/raw-socket.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let api: DescribedClient;
beforeAll(async () => {
  stack = await startStack();
  const sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("create table public.described (id int primary key)");
  await sql.end();
  const response = await fetch(`${stack.url}/admin/v1/openapi.json`, { headers: { apikey: stack.serviceKey } });
  api = new DescribedClient(stack, JSON.parse(await response.text()));
});
afterAll(() => stack?.stop());

test("the reference names every operation, and needs nothing but itself", async () => {
  const known = { authorization: `Basic ${btoa(`me:${stack.serviceKey}`)}` };
  const response = await fetch(`${stack.url}/admin/v1/reference`, { headers: known });
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/html; charset=UTF-8"]);
  const page = await response.text();
  for (const id of api.operationIds) expect(page).toContain(`<article id="${id}"`);
  const hashes = [...page.matchAll(/<(?:style|script)>(.*?)<\/(?:style|script)>/gs)].map(
    ([, text = ""]) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`,
  );
  const policy = response.headers.get("content-security-policy");
  expect(policy).toBe(
    `default-src 'none'; style-src ${hashes[0]}; script-src ${hashes[1]}; ` +
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  );
  expect(page.match(/ (?:src|style|on\w+)=|href="(?!#|openapi\.json)|url\(|@import/g)).toBeNull();
  for (const path of ["reference", "openapi.json"]) {
    const first = await fetch(`${stack.url}/admin/v1/${path}`, { headers: known });
    const headers = { ...known, "if-none-match": first.headers.get("etag") ?? "" };
    expect((await fetch(`${stack.url}/admin/v1/${path}`, { headers })).status).toBe(304);
  }
});

const town = { params: { channel: "town" } };
const ann = { params: { channel: "town", user: "ann" } };

test("a browser is asked for the service key, which opens the reference and nothing else", async () => {
  const ask = (path: string, password?: string) =>
    fetch(`${stack.url}/admin/v1/${path}`, {
      headers: password === undefined ? {} : { authorization: `Basic ${btoa(`me:${password}`)}` },
    });
  for (const path of ["reference", "openapi.json"]) {
    for (const refused of [await ask(path), await ask(path, "wrong"), await ask(path, "")]) {
      expect([refused.status, refused.headers.get("www-authenticate")]).toEqual([
        401,
        expect.stringMatching(/^Basic /),
      ]);
    }
    expect((await ask(path, stack.anonKey)).status).toBe(403);
    expect((await ask(path, stack.serviceKey)).status).toBe(200);
  }
  expect((await ask("channels", stack.serviceKey)).status).toBe(401);
  for (const authorization of ["Basic A", `Basic ${btoa("me:a\nb")}`]) {
    expect((await fetch(`${stack.url}/admin/v1/reference`, { headers: { authorization } })).status).toBe(401);
  }
});

test("the document holds nothing of this server", async () => {
  const response = await fetch(`${stack.url}/admin/v1/openapi.json`, { headers: { apikey: stack.serviceKey } });
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toMatch(/^application\/json/);
  const text = await response.text();
  for (const secret of [stack.serviceKey, stack.anonKey, stack.jwtSecret, stack.url])
    expect(text).not.toContain(secret);
});

test("every operation answers as the document says", { timeout: 60_000 }, async () => {
  const socket = await RawSocket.open(stack.url, { key: stack.serviceKey });
  const steps: [string, number, Wish?][] = [
    ["initialise", 200],
    ["createChannel", 201, { body: { name: "Town", type: "private", metadata: { max_members: 2 } } }],
    ["createChannel", 200, { body: { name: "Town", type: "private" } }],
    ["createChannel", 409, { body: { name: "Town", type: "public" } }],
    ["listChannels", 200, { query: { type: "all", limit: "1" } }],
    ["putMember", 201, { ...ann, body: { role: "moderator" } }],
    ["putMember", 200, { ...ann, body: {} }],
    ["putMember", 201, { params: { channel: "town", user: "bob" }, body: {} }],
    ["putMember", 409, { params: { channel: "town", user: "cy" }, body: {} }],
    ["trackPresence", 200, { ...ann, body: { status: "away", metadata: { name: "Ann" } } }],
    ["listMembers", 200, town],
    ["sendMessage", 201, { ...town, body: { event: "e", payload: { n: 1 }, sender: "ann" } }],
    ["sendMessage", 403, { ...town, body: { event: "e", payload: 1, sender: "eve" } }],
    ["sendMessage", 413, { ...town, body: { event: "e", payload: "x".repeat(1_000_001) } }],
    ["listMessages", 200, town],
    ["listMessages", 200, { ...town, query: { since: "1700000000" } }],
    ["listMessages", 400, { ...town, query: { cursor: "none" } }],
    ["getChannel", 200, town],
    ["changeChannel", 200, { ...town, body: { metadata: { max_members: 3 } } }],
    ["listChannelEvents", 200, town],
    ["listEvents", 200, { query: { hours: "2" } }],
    ["getMessageStatistics", 200, town],
    ["deleteMessages", 200, { body: {} }],
    ["listPresence", 200, { query: { present: "true" } }],
    ["listPresence", 200, { query: { channel: "town", user: "ann" } }],
    ["countPresence", 200, { query: { channel: "town" } }],
    ["getPresenceStatistics", 200],
    ["setOffline", 200, { params: { user: "ann" } }],
    ["expirePresence", 200, { body: { seconds: 0 } }],
    ["removeMember", 200, ann],
    ["subscribeTable", 201, { body: { table: "described", events: ["INSERT"], options: { notify: false } } }],
    ["subscribeTable", 404, { body: { table: "public.nosuch" } }],
    ["subscribeTable", 400, { body: { table: "public.described", events: ["UPSERT"] } }],
    ["listSubscriptions", 200],
    ["unsubscribeTable", 200, { params: { target: "public.described" } }],
    ["unsubscribeTable", 404, { params: { target: "public.described" } }],
    ["getStatus", 200],
    ["getStatistics", 200],
    ["listConnections", 200],
    ["kickUser", 200, { params: { user: "ann" }, body: { reason: "spam" } }],
    ["banUser", 200, { params: { user: "ann" }, body: { seconds: 60 } }],
    ["banUser", 200, { params: { user: "bob" }, body: { channel: "town" } }],
    ["listBans", 200],
    ["listBans", 200, { query: { channel: "town" } }],
    ["sendMessage", 403, { ...town, body: { event: "e", payload: 1, sender: "bob" } }],
    ["unbanUser", 200, { params: { user: "ann" } }],
    ["revokeToken", 200, { body: { jti: "t-1", seconds: 60, reason: "lost" } }],
    ["disconnect", 404, { params: { connection: "none" } }],
    ["cleanUp", 200, { body: { hours: 1 } }],
    ["deleteChannel", 200, town],
    ["deleteChannel", 404, town],
    ["getChannel", 404, town],
  ];
  const answers: [string, number][] = [];
  for (const [id, , wish] of steps) answers.push([id, (await api.call(id, wish)).status]);
  expect(answers).toEqual(steps.map(([id, status]) => [id, status]));
  const { body } = await api.call("listConnections");
  const connection_id = Array.isArray(body) ? body[0]?.connection_id : undefined;
  expect(await api.call("disconnect", { params: { connection: connection_id } })).toMatchObject({ status: 200 });
  socket.close();
  await api.call("createChannel", { body: { name: "regrets" } });
  const regretted = { params: { channel: "regrets" }, body: { event: "e", payload: 1 } };
  const { body: sent } = await api.call("sendMessage", regretted);
  const { id: message } = z.object({ id: z.string() }).parse(sent);
  for (const status of [200, 404]) {
    expect(await api.call("deleteMessage", { params: { channel: "regrets", message } })).toMatchObject({ status });
  }
  const done = (id: string) => [...(api.seen.get(id) ?? [])].some((status) => status < 300);
  expect(api.operationIds.filter((id) => !done(id))).toEqual([]);
});

test("without a key, with a wrong one, or with no JSON, every operation refuses as the document says", async () => {
  for (const id of api.operationIds) {
    const params = { channel: "x", user: "x", connection: "x", target: "x" };
    expect(await api.call(id, { params, headers: { apikey: "wrong" } })).toMatchObject({ status: 401 });
    expect(await api.call(id, { params, headers: { apikey: stack.anonKey } })).toMatchObject({ status: 403 });
  }
  expect(await api.call("createChannel", { body: "{" })).toMatchObject({ status: 400 });
});

test("what there is no route for is a problem too: another path, another method", async () => {
  const headers = { apikey: stack.serviceKey };
  const ask = async (method: string, path: string) => {
    const response = await fetch(`${stack.url}/admin/v1${path}`, { method, headers });
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    const { code }: { code: string } = JSON.parse(await response.text());
    return [response.status, code, response.headers.get("allow")];
  };
  expect(await ask("GET", "/nosuch")).toEqual([404, "not_found", null]);
  expect(await ask("PUT", "/channels/x")).toEqual([405, "method_not_allowed", "GET, HEAD, PATCH, DELETE"]);
  expect(await ask("PUT", "/channels")).toEqual([405, "method_not_allowed", "GET, HEAD, POST"]);
  const head = await fetch(`${stack.url}/admin/v1/channels`, { method: "HEAD", headers });
  expect([head.status, await head.text()]).toEqual([200, ""]);
  const nobody = await fetch(`${stack.url}/admin/v1/channels`, { method: "PUT" });
  expect([nobody.status, nobody.headers.get("www-authenticate")]).toEqual([401, "Bearer"]);
});
