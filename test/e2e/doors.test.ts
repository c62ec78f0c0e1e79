// Doors: who may come in where, and what is said to those who may not.
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { SignJWT } from "jose";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { uniqueName, type Version, versions } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

const LISTENER_SECRET = "the listener's secret in these tests";

let stack: TestStack;
let db: pg.Client;
const sockets: RawSocket[] = [];

beforeAll(async () => {
  stack = await startStack({ env: { REALTIME_LISTENER_SECRET: LISTENER_SECRET } });
  db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

afterAll(async () => {
  await db?.end();
  await stack?.stop();
});

async function open(key: string, vsn: Version = "2.0.0"): Promise<RawSocket> {
  const socket = await RawSocket.open(stack.url, { key, vsn });
  sockets.push(socket);
  return socket;
}

const now = (): number => Math.floor(Date.now() / 1000);

/** A token of the stack's own secret, unless another is given. */
function token(claims: Record<string, unknown>, secret = stack.jwtSecret, alg = "HS256"): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg, typ: "JWT" }).sign(new TextEncoder().encode(secret));
}

function unsigned(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "none", typ: "JWT" })}.${part(claims)}.`;
}

interface Bad {
  readonly what: string;
  readonly make: () => string | Promise<string>;
  readonly code: string;
  /** As the refusal of an upgrade says it. */
  readonly error: string;
  /** As the refusal of a join says it, if that differs. */
  readonly reason?: RegExp;
}

const badTokens: Bad[] = [
  {
    what: "no token at all, but a word",
    make: () => "hello",
    code: "MalformedJWT",
    error: "The token provided is not a valid JWT",
  },
  {
    what: "a token signed with another secret",
    make: () => token({ role: "anon", exp: now() + 60 }, "another secret, long enough for HS256"),
    code: "JwtSignatureError",
    error: "Failed to validate JWT signature",
  },
  {
    what: "a token without a signature, alg none",
    make: () => unsigned({ role: "service_role", exp: now() + 60 }),
    code: "JwtSignerError",
    error: "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
  },
  {
    what: "an expired token",
    make: () => token({ role: "anon", exp: now() - 5 }),
    code: "InvalidJWTToken",
    error: "Token has expired",
    reason: /^InvalidJWTToken: Token has expired \d+ seconds ago$/,
  },
  {
    what: "a token without an expiry",
    make: () => token({ role: "anon" }),
    code: "InvalidJWTToken",
    error: "Fields `role` and `exp` are required in JWT",
  },
  {
    what: "a token without a role",
    make: () => token({ exp: now() + 60 }),
    code: "InvalidJWTToken",
    error: "Fields `role` and `exp` are required in JWT",
  },
  {
    what: "a token whose expiry is no number",
    make: () => token({ role: "anon", exp: "tomorrow" }),
    code: "InvalidJWTToken",
    error: "Token expiration time is invalid",
  },
];

/** Asks for an upgrade that must be refused. */
async function refusedUpgrade(path: string, headers: Record<string, string> = {}) {
  const asked = request(new URL(path, stack.url), {
    headers: {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      ...headers,
    },
  });
  asked.on("upgrade", (_response, socket) => socket.destroy(new Error("the upgrade was not refused")));
  asked.end();
  const [response] = await once(asked, "response");
  let body = "";
  for await (const chunk of response) body += chunk;
  return { status: response.statusCode, type: response.headers["content-type"], body };
}

const json = (error: string): object => ({
  status: 401,
  type: expect.stringContaining("application/json"),
  body: JSON.stringify({ error }),
});

describe.each(["/realtime/v1/websocket", "/socket/websocket", "/realtime/v1/channels/room/websocket"])("%s", (path) => {
  test("refuses an upgrade without a key", async () => {
    expect(await refusedUpgrade(`${path}?vsn=2.0.0`)).toEqual(json("API key is missing"));
  });

  test.each(badTokens)("refuses an upgrade with $what", async ({ make, error }) => {
    const key = encodeURIComponent(await make());
    expect(await refusedUpgrade(`${path}?vsn=2.0.0&apikey=${key}`)).toEqual(json(error));
  });

  test("judges the header x-api-key before the query", async () => {
    const refused = await refusedUpgrade(`${path}?vsn=2.0.0&apikey=${stack.anonKey}`, { "x-api-key": "hello" });
    expect(refused).toEqual(json("The token provided is not a valid JWT"));
  });

  test("refuses an unknown protocol version with 403 and no body", async () => {
    expect(await refusedUpgrade(`${path}?vsn=3.0.0&apikey=${stack.anonKey}`)).toMatchObject({ status: 403, body: "" });
  });

  test("says that it is for sockets to a plain request", async () => {
    const response = await fetch(`${stack.url}${path}?apikey=${stack.anonKey}`);
    expect(response.status).toBe(426);
    expect(await response.json()).toEqual({ error: "This is a WebSocket endpoint" });
  });
});

describe.each(versions)("a join over version %s", (vsn) => {
  test.each(badTokens)("with $what is refused with code and reason", async ({ make, code, error, reason }) => {
    const socket = await open(stack.anonKey, vsn);
    const topic = `realtime:${uniqueName("token")}`;
    const reply = await socket.ask(topic, "phx_join", { config: {}, access_token: await make() });
    expect(reply).toEqual({
      status: "error",
      response: { reason: reason === undefined ? `${code}: ${error}` : expect.stringMatching(reason) },
    });
  });

  test("is judged by its own token, not by the key of the socket", async () => {
    const config = { private: true };
    const service = await token({ role: "service_role", exp: now() + 60 });
    const socket = await open(stack.anonKey, vsn);
    const topic = `realtime:${uniqueName("own")}`;
    expect((await socket.ask(topic, "phx_join", { config })).status).toBe("error");
    expect((await socket.ask(topic, "phx_join", { config, access_token: service })).status).toBe("ok");
    expect((await socket.ask(topic, "phx_join", { config, access_token: "sb_publishable_x" })).status).toBe("error");
  });

  test("is ended when its token is renewed by one that is not valid", async () => {
    const socket = await open(stack.anonKey, vsn);
    const topic = `realtime:${uniqueName("renewed")}`;
    await socket.join(topic);
    socket.send("1", "2", topic, "access_token", { access_token: await token({ role: "anon", exp: now() + 60 }) });
    await socket.heartbeat();
    expect(socket.frames.map(({ event }) => event)).not.toContain("phx_close");
    socket.send("1", "3", topic, "access_token", { access_token: await token({ role: "anon", exp: now() - 5 }) });
    await socket.until("the close", 1, ({ event }) => event === "phx_close");
    const [system] = await socket.until("the reason", 1, ({ event }) => event === "system");
    expect(system?.payload).toMatchObject({
      extension: "system",
      status: "error",
      message: expect.stringMatching(/^Token has expired \d+ seconds ago$/),
    });
  });
});

test("a token with the claims of Hasura is understood: its role, and its user as the sender", async () => {
  const hasura = {
    "https://hasura.io/jwt/claims": { "x-hasura-user-id": "user-7", "x-hasura-default-role": "service_role" },
  };
  const [speaker, hearer] = await Promise.all([
    token({ ...hasura, exp: now() + 60 }).then((key) => open(key)),
    open(stack.serviceKey),
  ]);
  const topic = `realtime:${uniqueName("hasura")}`;
  const config = { private: true };
  for (const socket of [speaker, hearer]) expect((await socket.join(topic, config)).status).toBe("ok");
  speaker.send("1", null, topic, "broadcast", { type: "broadcast", event: "x", payload: {} });
  const [frame] = await hearer.until("the message", 1, ({ event }) => event === "broadcast");
  expect(frame?.payload.meta).toMatchObject({ sender: "user-7" });
});

test("health is open to all", async () => {
  const response = await fetch(`${stack.url}/health`);
  expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
});

test.each([
  ["GET", "/"],
  ["GET", "/metrics"],
  ["GET", "/admin/v1/status"],
  ["GET", "/admin/v1/channels"],
  ["POST", "/admin/v1/channels"],
  ["DELETE", "/admin/v1/channels/general"],
  ["GET", "/admin/v1/connections"],
  ["GET", "/admin/v1/nothing"],
  ["POST", "/internal/changes"],
  ["GET", "/internal/changes"],
  ["POST", "/api/broadcast"],
  ["GET", "/health/more"],
])("%s %s is 401 without a key, and with a key that is none", async (method, path) => {
  for (const headers of [{}, { authorization: "Bearer hello" }, { apikey: "hello" }]) {
    const response = await fetch(`${stack.url}${path}`, { method, headers });
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual(expect.objectContaining({ error: expect.any(String) }));
  }
});

test.each([
  ["GET", "/admin/v1/status"],
  ["GET", "/admin/v1/channels"],
  ["POST", "/admin/v1/channels"],
  ["GET", "/admin/v1/nothing"],
])("%s %s is 403 for the anon key and for a user, who are told which role is needed", async (method, path) => {
  const user = await token({ role: "authenticated", sub: "user-7", exp: now() + 60 });
  for (const key of [stack.anonKey, user]) {
    const response = await fetch(`${stack.url}${path}`, { method, headers: { authorization: `Bearer ${key}` } });
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ error: expect.stringContaining("service_role") });
  }
});

test("the service key opens the admin API by either header", async () => {
  for (const headers of [{ authorization: `Bearer ${stack.serviceKey}` }, { apikey: stack.serviceKey }]) {
    expect((await fetch(`${stack.url}/admin/v1/channels`, { headers })).status).toBe(200);
  }
});

describe("the listener's door", () => {
  const feed = "public.posted";
  const RELID = 16_384;

  beforeAll(async () => {
    await db.query("create table posted (n int primary key)");
    await db.query("select realtime.subscribe('posted')");
  });

  function header(more: Record<string, unknown> = {}): string {
    const columns = [{ name: "n", type: "int4" }];
    const table = { schema: "public", table: "posted", generation: 1, columns, primaryKey: ["n"] };
    return JSON.stringify({
      ...{ v: 1, source: "test", epoch: 1_000, batch: 1, redelivered: false, feed },
      tables: { [RELID]: { ...table, rls: false, readers: ["anon"] } },
      ...more,
    });
  }

  function change(id: number, more: Record<string, unknown> = {}): string {
    const at = "2026-01-01T00:00:00.000Z";
    return JSON.stringify({ id: String(id), x: "1", r: RELID, op: "I", at, new: { n: id }, ...more });
  }

  function sign(body: string, timestamp = String(now()), secret = LISTENER_SECRET): Record<string, string> {
    const signature = createHmac("sha256", secret).update(`${timestamp}.${body}`).digest("hex");
    return { "x-nself-timestamp": timestamp, "x-nself-signature": signature };
  }

  async function post(body: string, headers: Record<string, string> = sign(body)) {
    const response = await fetch(`${stack.url}/internal/changes`, { method: "POST", body, headers });
    return { status: response.status, answer: await response.json() };
  }

  const body = (...lines: string[]): string => `${lines.join("\n")}\n`;
  const good = body(header(), change(1));

  test.each([
    ["without a signature", () => ({}), "x-nself-timestamp and x-nself-signature are needed"],
    ["signed with another secret", () => sign(good, String(now()), "another secret"), /signature is wrong/],
    ["signed for another body", () => sign(body(header(), change(2))), /signature is wrong/],
    ["signed an hour ago", () => sign(good, String(now() - 3_600)), /x-nself-timestamp/],
    ["whose timestamp is no number", () => sign(good, "noon"), /x-nself-timestamp/],
    ["whose signature is no hex", () => ({ ...sign(good), "x-nself-signature": "zz" }), /x-nself-signature/],
    ["with a service key instead", () => ({ authorization: `Bearer ${stack.serviceKey}` }), /x-nself-signature/],
  ])("refuses a batch %s with 401", async (_name, headers, error) => {
    expect(await post(good, headers())).toEqual({ status: 401, answer: { error: expect.stringMatching(error) } });
  });

  test.each([
    ["that is empty", () => "", /header/],
    ["whose header is not JSON", () => body("{", change(1)), /line 1/],
    ["of an unknown version", () => body(header({ v: 2 }), change(1)), /line 1.*\bv\b/],
    ["whose header has no source", () => body(header({ source: undefined }), change(1)), /line 1.*source/],
    ["for a feed whose name is none", () => body(header({ feed: "posted" }), change(1)), /line 1.*feed/],
    ["with a line that is not JSON", () => body(header(), change(1), "{"), /line 3/],
    ["with an unknown operation", () => body(header(), change(1, { op: "X" })), /line 2.*op/],
    [
      "with a change of a table that the header does not describe",
      () => body(header(), change(1, { r: 1 })),
      /line 2.*table 1/,
    ],
    ["whose new row is no object", () => body(header(), change(1, { new: [1] })), /line 2.*new/],
  ])("refuses a batch %s with 400, naming the line", async (_name, make, error) => {
    expect(await post(make())).toEqual({ status: 400, answer: { error: expect.stringMatching(error) } });
  });

  test("refuses a batch over its limits with 413", async () => {
    const large = body(header(), change(1, { new: { text: "x".repeat(8_000_000) } }));
    const long = body(header(), ...Array.from({ length: 1_001 }, (_, n) => change(n)));
    for (const given of [large, long]) {
      expect(await post(given)).toEqual({ status: 413, answer: { error: expect.stringMatching(/at most/) } });
    }
  });

  test("takes a batch that comes again, wholly or in part, and delivers each change once", async () => {
    const socket = await open(stack.anonKey);
    await socket.join("realtime:table:public.posted");
    const source = uniqueName("source");
    const first = body(header({ source, batch: 7 }), change(1), change(2));
    const again = body(header({ source, batch: 7, redelivered: true }), change(1), change(2));
    const more = body(header({ source, batch: 8, redelivered: true }), change(2), change(3));
    for (const given of [first, again, more]) expect((await post(given)).status).toBe(200);
    expect((await post(again)).answer).toEqual({ ack: 7 });
    const inserts = await socket.until("the changes", 3, ({ event }) => event === "INSERT");
    await socket.heartbeat();
    expect(inserts.map(({ payload }) => payload.record)).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    expect(socket.frames.filter(({ event }) => event === "INSERT")).toHaveLength(3);
  });
});
