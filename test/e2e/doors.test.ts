// Doors: who may come in where, and what is said to those who may not.
import { once } from "node:events";
import { request } from "node:http";
import { SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { uniqueName, type Version, versions } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
const sockets: RawSocket[] = [];

beforeAll(async () => {
  stack = await startStack();
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

afterAll(async () => {
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

  test("is to be joined again when its token is renewed by one that has expired", async () => {
    const socket = await open(stack.anonKey, vsn);
    const topic = `realtime:${uniqueName("renewed")}`;
    await socket.join(topic);
    socket.send("1", "2", topic, "access_token", { access_token: await token({ role: "anon", exp: now() + 60 }) });
    await socket.heartbeat();
    expect(socket.frames.map(({ event }) => event)).not.toContain("phx_close");
    socket.send("1", "3", topic, "access_token", { access_token: await token({ role: "anon", exp: now() - 5 }) });
    await socket.until("the close", 1, ({ event }) => event === "phx_error");
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
