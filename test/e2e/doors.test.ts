// Doors: who may come in where, and what is said to those who may not.
import { once } from "node:events";
import { request } from "node:http";
import { SignJWT } from "jose";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
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
async function refusedUpgrade(path: string, headers: Record<string, string> = {}, method = "GET", at = stack.url) {
  const asked = request(new URL(path, at), {
    method,
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
  const { "content-type": type, "retry-after": retryAfter } = response.headers;
  return { status: response.statusCode, type, body, ...(retryAfter === undefined ? {} : { retryAfter }) };
}

const json = (error: string, status = 401): object => ({
  status,
  type: expect.stringContaining("application/json"),
  body: JSON.stringify({ error }),
});

describe.each(["/realtime/v1/websocket", "/socket/websocket", "/realtime/v1/channels/room/websocket"])("%s", (path) => {
  test("AC-207: refuses an upgrade without a key", async () => {
    expect(await refusedUpgrade(`${path}?vsn=2.0.0`)).toEqual(json("API key is missing"));
  });

  test.each(badTokens)("AC-207: refuses an upgrade with $what", async ({ make, error }) => {
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

  test.each(["POST", "PUT", "OPTIONS"])("refuses an upgrade by %s", async (method) => {
    const refused = await refusedUpgrade(`${path}?vsn=2.0.0&apikey=${stack.anonKey}`, {}, method);
    expect(refused).toEqual(json("A WebSocket is opened with GET", 400));
  });

  test("refuses more x-* headers than a session keeps, but for the key and whatever else comes", async () => {
    const many = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`x-h${n}`, "v"]));
    const error = "Too many x-* headers: at most 64, of 16000 characters together";
    const url = `${path}?vsn=2.0.0&apikey=${stack.anonKey}`;
    for (const headers of [many(65), { "x-long": "v".repeat(16_000) }]) {
      expect(await refusedUpgrade(url, headers)).toEqual(json(error, 431));
    }
    const fine = { ...many(32), other: "v".repeat(4_000), "x-api-key": "hello" };
    expect(await refusedUpgrade(url, fine)).toEqual(json("The token provided is not a valid JWT"));
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

test("AC-205 AC-217: a token with the claims of Hasura is understood: its role, and its user as the sender", async () => {
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

test.each([
  ["/health", '{"status":"ok"}'],
  ["/healthcheck", "ok"],
  ["/realtime/v1/healthcheck", "ok"],
  ["/api/ping", '{"message":"Success"}'],
  ["/realtime/v1/api/ping", '{"message":"Success"}'],
])("%s is open to all", async (path, body) => {
  const response = await fetch(`${stack.url}${path}`);
  expect([response.status, await response.text()]).toEqual([200, body]);
});

test("any version that is known, or none, opens a socket by either prefix; other parameters are ignored", async () => {
  const { anonKey } = stack;
  for (const path of ["/realtime/v1/websocket", "/socket/websocket"]) {
    for (const query of ["", "&vsn=1.0.0", "&vsn=2.0.0&log_level=info&whatever=1"]) {
      const socket = new WebSocket(`${stack.url.replace("http", "ws")}${path}?apikey=${anonKey}${query}`);
      await once(socket, "open");
      socket.close();
    }
  }
});

describe("a small server with opaque keys behind a proxy", () => {
  const settings = {
    REALTIME_ANON_KEY: "sb_publishable_of-this-test",
    REALTIME_SERVICE_KEY: "sb_secret_of-this-test",
    REALTIME_GATEWAY_SOCKETS: "1",
    REALTIME_CONNECTIONS_PER_MINUTE: "3",
    REALTIME_IP_HEADER: "x-forwarded-for",
  };
  const path = "/realtime/v1/websocket?vsn=2.0.0";
  let small: TestStack;
  beforeAll(async () => {
    small = await startStack({ env: settings });
  });
  afterAll(() => small?.stop());

  /** Opens a socket as the client of an address, by one of the two places where a key may be. */
  async function openFrom(address: string, key: string, inHeader: boolean): Promise<WebSocket> {
    const headers = { "x-forwarded-for": address, ...(inHeader ? { "x-api-key": key } : {}) };
    const query = inHeader ? "&apikey=hello" : `&apikey=${key}`;
    const socket = new WebSocket(`${small.url.replace("http", "ws")}${path}${query}`, { headers });
    await once(socket, "open");
    return socket;
  }

  async function closeAndWait(socket: WebSocket): Promise<void> {
    socket.close();
    await once(socket, "close");
  }

  test("either key opens a socket, from the query and from the header, and joins what its role may", async () => {
    for (const [key, status] of [
      [settings.REALTIME_ANON_KEY, "error"],
      [settings.REALTIME_SERVICE_KEY, "ok"],
    ] as const) {
      for (const inHeader of [false, true]) {
        const socket = await openFrom(`192.0.2.${key.length}`, key, inHeader);
        socket.send(JSON.stringify(["1", "1", "realtime:secret", "phx_join", { config: { private: true } }]));
        const [reply] = await once(socket, "message");
        expect(JSON.parse(String(reply))).toMatchObject(["1", "1", "realtime:secret", "phx_reply", { status }]);
        await closeAndWait(socket);
      }
    }
  });

  test("a full server says so in the words of Supabase, and to its operator which settings", async () => {
    const socket = await openFrom("192.0.2.101", settings.REALTIME_ANON_KEY, false);
    for (const door of [path, "/realtime/v1/channels/full/websocket?vsn=2.0.0"]) {
      const keyed = `${door}&apikey=${settings.REALTIME_ANON_KEY}`;
      if (door !== path) await once(new WebSocket(`${small.url.replace("http", "ws")}${keyed}`), "open");
      const refused = await refusedUpgrade(keyed, { "x-forwarded-for": "192.0.2.102" }, "GET", small.url);
      expect(refused).toEqual(json("Too many connected users", 429));
    }
    expect(small.logs()).toContain("REALTIME_GATEWAY_SOCKETS");
    await closeAndWait(socket);
  });

  test("an address that comes too often is refused, whether or not it was let in, and others are not", async () => {
    const from = (address: string) =>
      refusedUpgrade(`${path}&apikey=hello`, { "x-forwarded-for": `203.0.113.1, ${address}` }, "GET", small.url);
    for (const addresses of [
      ["192.0.2.201", "192.0.2.201:1", "192.0.2.201:2", "::ffff:192.0.2.201"],
      ["2001:db8::1", "2001:db8::2", "[2001:db8::3]:1", "2001:db8:0:0:ffff::"],
    ]) {
      const statuses = [];
      for (const address of addresses) statuses.push((await from(address)).status);
      expect(statuses).toEqual([401, 401, 401, 429]);
    }
    const refused = await from("192.0.2.201");
    expect(refused).toMatchObject({ body: expect.stringContaining("3 a minute (REALTIME_CONNECTIONS_PER_MINUTE)") });
    expect(Number(refused.retryAfter)).toBeGreaterThan(10);
    expect((await from("192.0.2.202")).status).toBe(401);
    // Whatever stands before it was sent by the client.
    expect((await from("203.0.113.1")).status).toBe(401);
  });
});

test("programs on this machine may connect as often as they like, whatever headers they send", async () => {
  const path = `/realtime/v1/websocket?vsn=2.0.0&apikey=hello`;
  const headers = { "x-forwarded-for": "192.0.2.1", "cf-connecting-ip": "192.0.2.1" };
  const statuses = await Promise.all(Array.from({ length: 130 }, () => refusedUpgrade(path, headers)));
  expect(new Set(statuses.map(({ status }) => status))).toEqual(new Set([401]));
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
  ["POST", "/internal/policies"],
  ["GET", "/internal/changes"],
  ["GET", "/health/more"],
])("AC-208: %s %s is 401 without a key, and with a key that is none", async (method, path) => {
  for (const headers of [{}, { authorization: "Bearer hello" }, { apikey: "hello" }]) {
    const response = await fetch(`${stack.url}${path}`, { method, headers });
    expect(response.status).toBe(401);
    const reason = path.startsWith("/admin") ? "detail" : "error";
    expect(await response.json()).toEqual(expect.objectContaining({ [reason]: expect.any(String) }));
  }
});

test.each([
  ["GET", "/admin/v1/status"],
  ["GET", "/admin/v1/channels"],
  ["POST", "/admin/v1/channels"],
  ["GET", "/admin/v1/connections"],
  ["GET", "/admin/v1/presence"],
  ["GET", "/admin/v1/nothing"],
])("AC-219: %s %s is 403 for the anon key and for a user, who are told which role is needed", async (method, path) => {
  const user = await token({ role: "authenticated", sub: "user-7", exp: now() + 60 });
  for (const key of [stack.anonKey, user]) {
    const response = await fetch(`${stack.url}${path}`, { method, headers: { authorization: `Bearer ${key}` } });
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ detail: expect.stringContaining("service_role") });
  }
});

test("the service key opens the admin API by either header", async () => {
  for (const headers of [{ authorization: `Bearer ${stack.serviceKey}` }, { apikey: stack.serviceKey }]) {
    expect((await fetch(`${stack.url}/admin/v1/channels`, { headers })).status).toBe(200);
  }
});
