// Broadcasts over HTTP, as the stock client sends them while it has no socket (protocol.md §6.5, §6.6).
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import * as z from "zod";
import type { Claims } from "../protocol/claims.ts";
import { exceeds, isDeeper, isObject, parseJson } from "../protocol/json.ts";
import { MAX_DEPTH } from "../protocol/limits.ts";
import { MAX_PERSIST_TTL_S, type Persist, parsePersist } from "../protocol/persist.ts";
import { parseTopic, roomObject, wireTopic } from "../protocol/topics.ts";
import { type Counted, limitMessages, RATE_HEADERS, spend, tooMany } from "./allowance.ts";
import { authenticate } from "./authenticate.ts";
import { readBody } from "./body.ts";
import { type Env, settingsOf } from "./env.ts";
import type { Sender, Unposted } from "./objects/rpc.ts";

/** Messages of one request. */
const MAX_BATCH = 100;
/** Bytes of one request, in payloads at their limit: of one message, there is room for white space around it. */
const SINGLE_PAYLOADS = 2;
const BATCH_PAYLOADS = 8;
const TOO_LARGE = "Payload size exceeds tenant limit";
const TOO_DEEP = `is nested deeper than ${MAX_DEPTH} levels`;
const BLANK = "can't be blank";
/** Headers that policies do not see: credentials, and what differs from one request of a sender to the next. */
const HIDDEN_HEADERS = new Set([
  ...["authorization", "apikey", "x-api-key", "cookie"],
  ...["content-length", "content-type", "traceparent", "tracestate", "baggage", "cf-ray", "x-request-id"],
]);

const error = ({ input }: { input?: unknown }): string =>
  input === undefined || input === null ? BLANK : "is invalid";
// A refinement: zod's own length check throws on an object that has a `length`.
const filled = z.string({ error }).refine((text) => text !== "", BLANK);
const messageSchema = z.object({
  topic: filled,
  event: filled,
  payload: z.record(z.string(), z.unknown(), { error }),
  private: z.boolean({ error }).default(false),
});

interface Outgoing {
  readonly sub: string;
  readonly event: string;
  /** JSON text, or the bytes of a binary broadcast. */
  readonly payload: string | Uint8Array;
  readonly private: boolean;
  readonly persist?: Persist | undefined;
}

const decoder = new TextDecoder();

export const broadcasts = new Hono<Counted>();

// Everything that may be asked of a browser's client is allowed: it is the key that counts.
broadcasts.use(cors({ origin: "*", exposeHeaders: [...RATE_HEADERS, "retry-after"] }));

// Who is refused before the body is read is to see why, too.
broadcasts.use(async (c, next) => {
  await next();
  if (!c.req.raw.bodyUsed) await readBody(c.req.raw, 0);
});

broadcasts.use(async (c, next) => {
  const claims = await authenticate(c.req.raw.headers, c.env);
  if (typeof claims === "string") return c.json({ message: "Unauthorized" }, 401);
  c.set("claims", claims);
  await next();
  return undefined;
});

broadcasts.use(limitMessages);

/** Several messages, all valid or none sent. One that its sender may not send is left out, as at Supabase. */
broadcasts.post("/", async (c) => {
  const most = settingsOf(c.env).limits.payloadBytes;
  const bytes = await readBody(c.req.raw, BATCH_PAYLOADS * most);
  if (bytes === undefined) return c.json({ message: `A batch holds at most ${BATCH_PAYLOADS * most} bytes` }, 413);
  const text = decoder.decode(bytes);
  if (isDeeper(text, MAX_DEPTH)) return c.json({ errors: { messages: [TOO_DEEP] } }, 422);
  const body = parseJson(text);
  const given = isObject(body) && Array.isArray(body.messages) ? body.messages : [];
  if (given.length === 0) return c.json({ errors: { messages: [BLANK] } }, 422);
  const reduce = "Too many messages to broadcast, please reduce the batch size";
  if (given.length > MAX_BATCH) return c.json({ message: reduce }, 429);
  const faults = given.map((message) => faultsOf(message, most));
  if (faults.some((fault) => Object.keys(fault).length > 0)) return c.json({ errors: { messages: faults } }, 422);
  if (!spend(c, given.length)) return tooMany(c, reduce, given.length);
  const batch = z.array(messageSchema).parse(given);
  const sender = senderOf(c.var.claims, c.req.raw.headers);
  const outcomes = await sendAll(c.env, sender, batch);
  if (outcomes.has("blocked")) return c.json({ message: "Unauthorized" }, 403);
  return outcomes.has("unavailable") ? unavailable(c) : c.body(null, 202);
});

/** One message; the body is its payload, JSON or bytes. */
broadcasts.post("/:topic/events/:event", async (c) => {
  const { topic: sub, event } = c.req.param();
  const type = typeOf(c.req.raw);
  if (type === undefined) {
    return c.json({ error: "Unsupported Media Type. Use application/json or application/octet-stream" }, 415);
  }
  const most = settingsOf(c.env).limits.payloadBytes;
  const bytes = await readBody(c.req.raw, SINGLE_PAYLOADS * most);
  const payload = bytes === undefined || type === "binary" ? bytes : jsonPayload(bytes);
  if (payload === null) return c.json({ errors: { payload: [BLANK] } }, 422);
  if (payload === undefined || exceeds(payload, most)) return c.json({ errors: { payload: [TOO_LARGE] } }, 422);
  if (typeof payload === "string" && isDeeper(payload, MAX_DEPTH)) {
    return c.json({ errors: { payload: [TOO_DEEP] } }, 422);
  }
  const fault = topicFault(sub);
  if (fault !== undefined) return c.json({ errors: { topic: [fault] } }, 422);
  const isPrivate = c.req.query("private") === "true";
  const persist = persistOf(new URL(c.req.url).searchParams);
  if (persist === "invalid") {
    const error = `ttl must be a whole number of seconds from 1 to ${MAX_PERSIST_TTL_S}`;
    return c.json({ errors: { persist: [error] } }, 422);
  }
  if (persist !== undefined && !isPrivate) {
    return c.json({ errors: { persist: ["can only be used on private channels"] } }, 422);
  }
  if (!spend(c, 1)) return tooMany(c, "Too many requests");
  const sender = senderOf(c.var.claims, c.req.raw.headers);
  switch (await send(c.env, sender, { sub, event, payload, private: isPrivate, persist })) {
    case "sent":
      return c.body(null, 202);
    case "blocked":
    case "banned":
    case "unauthorized":
      return c.json({ message: "Unauthorized" }, 403);
    case "rls_policy_error":
      return c.json({ message: "RLS policy error" }, 422);
    case "payload_size_exceeded":
      return c.json({ errors: { payload: [TOO_LARGE] } }, 422);
    case "unavailable":
      return unavailable(c);
  }
});

broadcasts.onError((error, c) => {
  console.error(JSON.stringify({ event: "broadcast failed", path: c.req.path, reason: String(error) }));
  return c.json({ message: "RPC error" }, 500);
});

/** Without an answer from PostgreSQL nobody's right to send to a private channel is known. */
function unavailable(c: Context<Counted>): Response {
  return c.json({ message: "Tenant database unavailable" }, 422);
}

function faultsOf(message: unknown, most: number): Record<string, string[]> {
  const result = messageSchema.safeParse(isObject(message) ? message : {});
  if (!result.success) {
    return Object.fromEntries(result.error.issues.map(({ path, message }) => [String(path[0]), [message]]));
  }
  const fault = topicFault(result.data.topic);
  if (fault !== undefined) return { topic: [fault] };
  return exceeds(JSON.stringify(result.data.payload), most) ? { payload: [TOO_LARGE] } : {};
}

/** Why nothing can be broadcast on a topic. Feeds carry row changes only. */
function topicFault(sub: string): string | undefined {
  const topic = parseTopic(wireTopic(sub));
  if ("reason" in topic) return topic.reason;
  return topic.kind === "room" ? undefined : "names no room";
}

/** What the body of one message is; no type at all, or an empty one, means JSON. */
function typeOf(request: Request): "json" | "binary" | undefined {
  const type = (request.headers.get("content-type") || "application/json").split(";")[0]?.trim().toLowerCase();
  if (type === "application/octet-stream") return "binary";
  return type === "application/json" ? "json" : undefined;
}

/** The JSON text of a payload; null: it is none. Clients read it as an object, so anything else is wrapped in one. */
function jsonPayload(bytes: Uint8Array): string | null {
  const text = decoder.decode(bytes);
  const value = parseJson(text);
  if (value === undefined) return null;
  return isObject(value) ? text : `{"_json":${text}}`;
}

/** The option `persist` of a query: `persist=true`, or `persist[ttl]=60`. */
function persistOf(query: URLSearchParams): Persist | undefined | "invalid" {
  const ttl = query.get("persist[ttl]");
  if (ttl !== null) return parsePersist({ ttl });
  const text = query.get("persist");
  return parsePersist(text === "true" ? true : text === "false" ? false : text);
}

/** Sends a batch, each topic's messages in their order; answers what became of them. */
async function sendAll(
  env: Env,
  sender: Sender,
  batch: readonly z.infer<typeof messageSchema>[],
): Promise<ReadonlySet<Outcome>> {
  const topics = Map.groupBy(batch, (message) => roomObject(message.topic, message.private));
  const outcomes = await Promise.all(
    [...topics.values()].map(async (topic) => {
      const outcomes: Outcome[] = [];
      for (const { topic: sub, event, payload, private: isPrivate } of topic) {
        const message = { sub, event, payload: JSON.stringify(payload), private: isPrivate };
        outcomes.push(await send(env, sender, message));
      }
      return outcomes;
    }),
  );
  return new Set(outcomes.flat());
}

type Outcome = "sent" | Unposted["reason"];

/** A registered channel's type decides where a message goes, whatever the request says. */
async function send(env: Env, sender: Sender, message: Outgoing): Promise<Outcome> {
  const { sub, event, payload, private: isPrivate, persist } = message;
  const post = (asPrivate: boolean) =>
    env.CHANNEL.getByName(roomObject(sub, asPrivate)).post(sender, { event, payload, persist });
  let refusal = await post(isPrivate);
  if (refusal?.moved !== undefined) refusal = await post(refusal.moved === "private");
  return refusal?.reason ?? "sent";
}

function senderOf({ role, user, all }: Claims, headers: Headers): Sender {
  const shown = [...headers].filter(([name]) => !HIDDEN_HEADERS.has(name));
  return { role, user, principal: { claims: all, headers: Object.fromEntries(shown) } };
}
