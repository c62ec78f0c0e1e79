// Client sockets of an object, whichever kind it is: a gateway core over the object's sockets and SQLite.
import { verifyToken } from "../../auth/tokens.ts";
import { refusalFor } from "../../gateway/control.ts";
import { Gateway } from "../../gateway/gateway.ts";
import type { ChannelLink, LinkEvents, Socket } from "../../gateway/ports.ts";
import type { SessionRecord } from "../../gateway/session.ts";
import type { Tally } from "../../gateway/tally.ts";
import { toBase64 } from "../../protocol/base64.ts";
import type { Timers } from "../../protocol/timers.ts";
import { parseTopic } from "../../protocol/topics.ts";
import { type Env, settingsOf } from "../env.ts";
import { askPostgres } from "./postgres.ts";
import type { ConnectionEntry } from "./rpc.ts";
import { SqliteSessionStore } from "./session-store.ts";
import { attach, clientSocket, openSockets } from "./sockets.ts";
import type { Tables } from "./tables.ts";

/** Header in which the Worker hands over the session that it has authenticated. It never comes from outside. */
export const SESSION_HEADER = "x-nself-session";

/** A session as that header carries it. Claims may hold any character, a header ASCII alone. */
export function writeSession(session: SessionRecord): string {
  return encodeURIComponent(JSON.stringify(session));
}

function readSession(header: string): SessionRecord {
  return JSON.parse(decodeURIComponent(header));
}

/** Status of an object that takes no more sockets; of a gateway, the Worker asks the next one. */
export const FULL = 503;
/** Status where no object may take one: as many are open everywhere as may be. */
export const NO_PLACE = 429;

export function noPlace(): Response {
  return new Response(null, { status: NO_PLACE });
}

interface Parts {
  /** The gateway's name, by which channels know its links. */
  readonly name: string;
  readonly timers: Timers;
  readonly tables: Tables;
  readonly tally: Tally;
  /** The channel that lives in the same object, if one does. */
  readonly own?: string;
  blocksKnown(): Promise<void>;
  openLink(object: string, events: LinkEvents): Promise<ChannelLink>;
}

/** The gateway core of an object. Sockets that outlived its last life in memory go on where they were. */
export function makeGateway(
  ctx: DurableObjectState,
  env: Env,
  { name, timers, tables, tally, own, blocksKnown, openLink }: Parts,
): Gateway {
  const gateway = new Gateway({
    name,
    timers,
    tally,
    store: new SqliteSessionStore(tables, timers, own),
    postgres: askPostgres(env),
    id: () => crypto.randomUUID(),
    digest,
    blocksKnown,
    openLink,
    limits: settingsOf(env).limits,
    pace: settingsOf(env).pace,
    verify: (token) => verifyToken(token, settingsOf(env).keys, Date.now()),
    log: (event, details) => console.warn(JSON.stringify({ event, gateway: name, ...details })),
  });
  const sockets = new Map<string, Socket>();
  for (const [ws, attachment] of openSockets(ctx)) {
    if ("session" in attachment) sockets.set(attachment.session, clientSocket(ws, attachment));
  }
  gateway.restore(sockets);
  return gateway;
}

/** The first 132 bits of SHA-256, base64url. */
async function digest(text: string): Promise<string> {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return toBase64(bytes).slice(0, 22).replaceAll("+", "-").replaceAll("/", "_");
}

/** Takes over a client's upgrade request, which carries the session that the Worker has authenticated. */
export function acceptClient(ctx: DurableObjectState, env: Env, gateway: Gateway, request: Request): Response {
  if (gateway.sessions.size >= settingsOf(env).gatewaySockets) return new Response(null, { status: FULL });
  const record = readSession(request.headers.get(SESSION_HEADER) ?? "null");
  const block = gateway.blocks.of(record.claims, Date.now());
  if (block !== undefined) return Response.json({ error: refusalFor(block) }, { status: 403 });
  const { 0: client, 1: server } = new WebSocketPair();
  ctx.acceptWebSocket(server);
  const attachment = { session: record.id, seenAt: Date.now() };
  attach(server, attachment);
  gateway.open(record, clientSocket(server, attachment));
  const { role, user } = record.claims;
  console.log(JSON.stringify({ event: "connected", connection: record.id, role, user }));
  return new Response(null, { status: 101, webSocket: client });
}

/** A client's socket has ended. */
export function clientClosed(gateway: Gateway, connection: string, code: number): void {
  gateway.closed(connection);
  console.log(JSON.stringify({ event: "disconnected", connection, code }));
}

/** The open sockets of a gateway, for the admin API. */
export function connectionsOf(gateway: Gateway, name: string): ConnectionEntry[] {
  return [...gateway.sessions.values()].map(({ id, claims, topics, connectedAt, lastSeen }) => {
    const joined = [...topics.values()].flatMap((topic) => (topic.state === "joined" ? [topic.membership] : []));
    const feeds = joined.filter(({ room }) => room.object.startsWith("feed:")).length;
    const users = [claims, ...joined.map((membership) => membership.claims)].flatMap(({ user }) => user ?? []);
    return {
      id,
      users: [...new Set(users)],
      role: claims.role,
      channels: joined.map(({ topic }) => subOf(topic)),
      gateway: name,
      connectedAt,
      lastSeen,
      subscriptions: joined.reduce((sum, { bindings }) => sum + bindings.length, feeds),
    };
  });
}

function subOf(topic: string): string {
  const parsed = parseTopic(topic);
  return "sub" in parsed ? parsed.sub : topic;
}
