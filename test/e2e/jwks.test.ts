// Tokens by key sets against a real stack: keys that were given, keys that are published, and what becomes of both.
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { eventually, uniqueName } from "../support/clients.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

/** Waits until an assertion holds, for longer than the server waits before it fetches keys for an unknown kid again. */
const afterCooldown = (assertion: () => Promise<void>) => vi.waitFor(assertion, { timeout: 20_000, interval: 500 });
const ISSUER = "https://auth.example.com";
const EXP = Math.floor(Date.now() / 1000) + 3_600;

const makePair = async (alg: string, kid: string) => {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { alg, kid, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" }, privateKey };
};
type Pair = Awaited<ReturnType<typeof makePair>>;

function token({ alg, kid, privateKey }: Pair, claims: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT({ role: "authenticated", sub: kid, iss: ISSUER, exp: EXP, ...claims })
    .setProtectedHeader({ alg, kid, typ: "JWT" })
    .sign(privateKey);
}

/** An auth server that publishes its keys, as fast and as well as a test wants it to. */
class Publisher {
  keys: JWK[] = [];
  requests = 0;
  answer = (response: ServerResponse): void => {
    response.setHeader("content-type", "application/json").end(JSON.stringify({ keys: this.keys }));
  };
  readonly #server = createServer((_, response) => {
    this.requests += 1;
    this.answer(response);
  });

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    const { port } = this.#server.address() as AddressInfo;
    return `http://127.0.0.1:${port}/.well-known/jwks.json`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

let publisher: Publisher;
let stack: TestStack;
let given: Pair;
const secret = Buffer.from("the secret of one kid, of 64 characters so that it does for all.");

async function start(): Promise<void> {
  given = await makePair("ES256", "given");
  publisher = new Publisher();
  const oct = { kty: "oct", kid: "shared", k: secret.toString("base64url") };
  stack = await startStack({
    env: {
      REALTIME_JWKS: JSON.stringify({ keys: [given.jwk, oct] }),
      REALTIME_JWKS_URL: await publisher.listen(),
      REALTIME_JWT_CLAIMS: JSON.stringify({ iss: ISSUER }),
    },
  });
}

async function stop(): Promise<void> {
  publisher?.close();
  await stack?.stop();
}

/** Opens a socket with a token. @returns "open", or the text of the refusal */
async function tryToken(key: string): Promise<string> {
  const url = `${stack.url}/realtime/v1/websocket?vsn=2.0.0&apikey=${key}`;
  const socket = new WebSocket(url.replace("http", "ws"));
  const { promise, resolve } = Promise.withResolvers<string>();
  socket.on("open", () => resolve("open"));
  socket.on("error", ({ message }) => resolve(message));
  socket.on("unexpected-response", async (_, response) => {
    let body = "";
    for await (const chunk of response) body += chunk;
    resolve(JSON.parse(body).error);
  });
  const outcome = await promise;
  socket.terminate();
  return outcome;
}

const unknownKid = (kid: string): string =>
  `Failed to generate JWT signer for key ID (kid) "${kid}", check your JWT secret or JWKS configuration`;

describe("one server", () => {
  /** A token of a key that is published at first. */
  let published: string;

  beforeAll(start);
  afterAll(stop);

  test("its own keys have the claims that every token must have", async () => {
    expect(await tryToken(stack.anonKey)).toBe("open");
    expect(await tryToken(await token(given))).toBe("open");
    expect(await tryToken(await token(given, { iss: "https://other.example.com" }))).toContain('"iss"');
    // Nothing that was given has to be looked for.
    expect(publisher.requests).toBe(0);
  });

  test("a secret of a kid counts, and else the shared one", async () => {
    const sign = (kid: string, key: Uint8Array): Promise<string> =>
      new SignJWT({ role: "anon", iss: ISSUER, exp: EXP }).setProtectedHeader({ alg: "HS256", kid }).sign(key);
    const shared = new TextEncoder().encode(stack.jwtSecret);
    expect(await tryToken(await sign("shared", secret))).toBe("open");
    expect(await tryToken(await sign("shared", shared))).toBe("Failed to validate JWT signature");
    expect(await tryToken(await sign("of no key", shared))).toBe("open");
    expect(publisher.requests).toBe(0);
  });

  test("published keys of every algorithm are fetched once, when the first of them is needed", async () => {
    const algorithms = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"];
    const pairs = await Promise.all(algorithms.map((alg) => makePair(alg, `published ${alg}`)));
    publisher.keys = pairs.map(({ jwk }) => jwk);
    const tokens = await Promise.all(pairs.map((pair) => token(pair)));
    published = tokens[0] ?? "";
    const outcomes = await Promise.all(tokens.map((key) => tryToken(key)));
    expect(outcomes).toEqual(algorithms.map(() => "open"));
    expect(publisher.requests).toBe(1);
  });

  test("a kid of no key is named by every door, and does not have the keys fetched each time", async () => {
    const stranger = await token(await makePair("ES256", "stranger"));
    const before = publisher.requests;
    expect(await tryToken(stranger)).toBe(unknownKid("stranger"));
    const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
    const topic = `realtime:${uniqueName("kid")}`;
    const refused = await socket.ask(topic, "phx_join", { config: {}, access_token: stranger });
    expect(refused).toEqual({ status: "error", response: { reason: `JwtSignerError: ${unknownKid("stranger")}` } });
    await socket.join(topic);
    socket.send("1", "9", topic, "access_token", { access_token: stranger });
    const [system] = await socket.until("the reason", 1, ({ event }) => event === "system");
    expect(system?.payload).toMatchObject({ status: "error", message: unknownKid("stranger") });
    socket.close();
    const url = `${stack.url}/admin/v1/status`;
    const response = await fetch(url, { headers: { authorization: `Bearer ${stranger}` } });
    expect([response.status, await response.json()]).toMatchObject([401, { detail: unknownKid("stranger") }]);
    expect(publisher.requests - before).toBeLessThanOrEqual(1);
  });

  test("a new key is fetched when a token needs it, and a failed fetch takes no key away", async () => {
    const fresh = await makePair("ES256", "fresh");
    const answer = publisher.answer;
    publisher.answer = (response) => response.writeHead(500).end("no");
    const freshToken = await token(fresh);
    const before = publisher.requests;
    await afterCooldown(async () => {
      expect(await tryToken(freshToken)).toBe(unknownKid("fresh"));
      expect(publisher.requests).toBeGreaterThan(before);
    });
    await eventually(() => expect(stack.logs()).toContain("REALTIME_JWKS_URL"));
    expect(await tryToken(published)).toBe("open");
    publisher.answer = answer;
    publisher.keys = [fresh.jwk];
    await afterCooldown(async () => expect(await tryToken(freshToken)).toBe("open"));
    expect(await tryToken(published)).toContain("published RS256");
  }, 60_000);
});

describe("a slow publisher", () => {
  beforeAll(start);
  afterAll(stop);

  test("is asked once by all, and answers them even if the one who asked first has gone away", async () => {
    const pair = await makePair("ES256", "slow");
    publisher.keys = [pair.jwk];
    const held: ServerResponse[] = [];
    const answer = publisher.answer;
    publisher.answer = (response) => void held.push(response);
    const key = await token(pair);
    const first = connect(Number(new URL(stack.url).port), "127.0.0.1");
    first.write(`POST /api/broadcast HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\ncontent-length: 0\r\n\r\n`);
    await eventually(() => expect(held).toHaveLength(1));
    const others = [tryToken(key), tryToken(key), tryToken(key)];
    // One that waits inside an object, not in the Worker.
    const socket = await RawSocket.open(stack.url, { key: stack.anonKey });
    const joined = socket.ask(`realtime:${uniqueName("slow")}`, "phx_join", { config: {}, access_token: key });
    first.resetAndDestroy();
    await socket.heartbeat();
    const [response] = held;
    if (response === undefined) throw new Error("nobody asked");
    answer(response);
    expect(await Promise.all(others)).toEqual(["open", "open", "open"]);
    expect((await joined).status).toBe("ok");
    expect(publisher.requests).toBe(1);
    socket.close();
  });
});
