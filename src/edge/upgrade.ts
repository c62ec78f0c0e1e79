// Upgrades: a client's request for a socket, authenticated here and handed to the object that will hold it.
import { TokenError, verifyToken } from "../auth/tokens.ts";
import type { SessionRecord } from "../gateway/session.ts";
import { Bucket, Buckets } from "../protocol/bucket.ts";
import type { Version } from "../protocol/frames.ts";
import { feedObject, parseTopic, roomObject, wireTopic } from "../protocol/topics.ts";
import { MAX_ADDRESSES, originOf } from "./address.ts";
import { type Env, settingsOf } from "./env.ts";
import { FULL, SESSION_HEADER, writeSession } from "./objects/clients.ts";
import { gatewayNames, placement } from "./placement.ts";

/** Most `x-*` headers that a session keeps, and the length of all their names and values. */
const MAX_HEADERS = 64;
const MAX_HEADERS_LENGTH = 16_000;

/*
 * How often each address has come, in the isolate's memory, so that a request that is refused costs next to nothing. On
 * Cloudflare a location runs several isolates, each of which counts for itself: an address may get several times its
 * rate there, and all of it again in another location. That does against a client that reconnects in a loop. One count
 * for all would be a request to an object for each connection, the very cost that the limit is there to avoid; who needs
 * it exact puts a rate limiting rule of the platform in front.
 */
const connections = new Buckets(MAX_ADDRESSES);
/** A full server says so once a minute, not to everybody in the log. */
const fullLog = new Bucket(1, 0);

/** The shared socket: many channels on one socket, by way of a gateway (protocol.md §1). */
export function sharedSocket(request: Request, env: Env): Promise<Response> {
  return open(request, env, async (session) => {
    for (const name of gatewayNames(request, settingsOf(env).gateways)) {
      const gateway = env.GATEWAY.getByName(name, placement(request));
      const response = await gateway.fetch(handOver(session));
      if (response.status !== FULL) return response;
    }
    return full("every gateway is full: REALTIME_GATEWAYS, REALTIME_GATEWAY_SOCKETS");
  });
}

/** The direct socket: one channel, straight into its object. */
export function directSocket(request: Request, env: Env, sub: string): Promise<Response> {
  return open(request, env, async (session) => {
    const topic = parseTopic(wireTopic(sub));
    if ("reason" in topic) return failure(400, topic.reason);
    const isPrivate = new URL(request.url).searchParams.get("private") === "true";
    const object = topic.kind === "feed" ? feedObject(topic.feed) : roomObject(topic.sub, isPrivate);
    const response = await env.CHANNEL.getByName(object).fetch(handOver(session));
    if (response.status !== FULL) return response;
    return full(`${object} holds as many direct sockets as it may: REALTIME_GATEWAY_SOCKETS`);
  });
}

/** Opens a socket for a request that may have one. Refusals have the statuses and bodies of protocol.md §1.4. */
async function open(
  request: Request,
  env: Env,
  connect: (session: SessionRecord) => Promise<Response>,
): Promise<Response> {
  try {
    const session = tooOften(request, env) ?? (await newSession(request, env));
    return session instanceof Response ? session : await connect(session);
  } catch (error) {
    console.error(JSON.stringify({ event: "socket not opened", reason: String(error) }));
    return failure(500, "Error connecting to Realtime");
  }
}

/** The refusal of an address that comes too often, whether or not it is let in when it comes. */
function tooOften(request: Request, env: Env): Response | undefined {
  const { connectionsPerMinute, ipHeader } = settingsOf(env);
  const origin = connectionsPerMinute === 0 ? undefined : originOf(request, ipHeader);
  if (origin === undefined || origin.local) return undefined;
  const now = Date.now();
  const bucket = connections.of(origin.network, connectionsPerMinute, now);
  if (bucket.take(now)) return undefined;
  const seconds = Math.ceil(bucket.waitMs(now) / 1000);
  const limit = `${connectionsPerMinute} a minute (REALTIME_CONNECTIONS_PER_MINUTE)`;
  return failure(429, `Too many connections from your address: ${limit}`, { "retry-after": String(seconds) });
}

/** Authenticates an upgrade request. A Response is its refusal. */
async function newSession(request: Request, env: Env): Promise<SessionRecord | Response> {
  if (request.method !== "GET") return failure(400, "A WebSocket is opened with GET");
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return failure(426, "This is a WebSocket endpoint", { upgrade: "websocket" });
  }
  const query = new URL(request.url).searchParams;
  const version = versionOf(query.get("vsn"));
  if (version === undefined) return new Response(null, { status: 403 });
  const token = request.headers.get("x-api-key") ?? query.get("apikey") ?? "";
  if (token === "") return failure(401, "API key is missing");
  const headers = headersToKeep(request.headers);
  if (headers === undefined) {
    return failure(431, `Too many x-* headers: at most ${MAX_HEADERS}, of ${MAX_HEADERS_LENGTH} characters together`);
  }
  try {
    const claims = await verifyToken(token, settingsOf(env).keys, Date.now());
    const packed = query.get("packed") === "true" ? { packed: true as const } : {};
    return { id: crypto.randomUUID(), version, claims, connectedAt: Date.now(), headers, ...packed };
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return failure(401, error.message.replace(/ \d+ seconds ago$/, ""));
  }
}

/** The headers that policies may read. Undefined: too many, and a policy must not be shown a part of them. */
function headersToKeep(headers: Headers): Record<string, string> | undefined {
  const kept = [...headers].filter(
    ([name]) => name.startsWith("x-") && name !== "x-api-key" && !name.startsWith("x-nself-"),
  );
  const length = kept.reduce((sum, [name, value]) => sum + name.length + value.length, 0);
  return kept.length > MAX_HEADERS || length > MAX_HEADERS_LENGTH ? undefined : Object.fromEntries(kept);
}

function versionOf(vsn: string | null): Version | undefined {
  if (vsn === null || vsn === "1.0.0") return "1.0.0";
  return vsn === "2.0.0" ? vsn : undefined;
}

function handOver(session: SessionRecord): Request {
  return new Request("http://object/socket", {
    headers: { upgrade: "websocket", [SESSION_HEADER]: writeSession(session) },
  });
}

/** The client learns that there are too many, whoever runs the server which setting says so. */
function full(reason: string): Response {
  if (fullLog.take(Date.now())) console.warn(JSON.stringify({ event: "full", reason }));
  return failure(429, "Too many connected users");
}

function failure(status: number, error: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error }, { status, headers });
}
