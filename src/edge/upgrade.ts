// Upgrades: a client's request for a socket, authenticated here and handed to the object that will hold it.
import { TokenError, verifyToken } from "../auth/tokens.ts";
import type { SessionRecord } from "../gateway/session.ts";
import type { Version } from "../protocol/frames.ts";
import { feedObject, parseTopic, roomObject, wireTopic } from "../protocol/topics.ts";
import { type Env, settingsOf } from "./env.ts";
import { FULL, SESSION_HEADER, writeSession } from "./objects/clients.ts";
import { gatewayNames, placement } from "./placement.ts";

/** The shared socket: many channels on one socket, by way of a gateway (protocol.md §1). */
export async function sharedSocket(request: Request, env: Env): Promise<Response> {
  const session = await newSession(request, env);
  if (session instanceof Response) return session;
  const names = gatewayNames(request, settingsOf(env).gateways);
  for (const name of names) {
    const gateway = env.GATEWAY.getByName(name, placement(request));
    const response = await gateway.fetch(handOver(session));
    if (response.status !== FULL) return response;
  }
  return failure(503, "Too many connected users: every gateway is full (REALTIME_GATEWAYS, REALTIME_GATEWAY_SOCKETS)");
}

/** The direct socket: one channel, straight into its object. */
export async function directSocket(request: Request, env: Env, sub: string): Promise<Response> {
  const session = await newSession(request, env);
  if (session instanceof Response) return session;
  const topic = parseTopic(wireTopic(sub));
  if ("reason" in topic) return failure(400, topic.reason);
  const isPrivate = new URL(request.url).searchParams.get("private") === "true";
  const object = topic.kind === "feed" ? feedObject(topic.feed) : roomObject(topic.sub, isPrivate);
  const response = await env.CHANNEL.getByName(object).fetch(handOver(session));
  if (response.status !== FULL) return response;
  return failure(
    503,
    "Too many connected users: the channel holds as many direct sockets as it may (REALTIME_GATEWAY_SOCKETS)",
  );
}

/** Authenticates an upgrade request. A Response is its refusal, with the statuses and bodies of protocol.md §1.4. */
async function newSession(request: Request, env: Env): Promise<SessionRecord | Response> {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket")
    return failure(426, "This is a WebSocket endpoint");
  const query = new URL(request.url).searchParams;
  const version = versionOf(query.get("vsn"));
  if (version === undefined) return new Response(null, { status: 403 });
  const token = request.headers.get("x-api-key") ?? query.get("apikey") ?? "";
  if (token === "") return failure(401, "API key is missing");
  try {
    const claims = await verifyToken(token, settingsOf(env).keys, Date.now());
    return { id: crypto.randomUUID(), version, claims, connectedAt: Date.now(), headers: {} };
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    return failure(401, error.message.replace(/ \d+ seconds ago$/, ""));
  }
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

function failure(status: number, error: string): Response {
  return Response.json({ error }, { status });
}
