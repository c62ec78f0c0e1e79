// Broadcasts over HTTP, as the stock client sends them while it has no socket (protocol.md §6.5, §6.6).
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { createMiddleware } from "hono/factory";
import * as z from "zod";
import { type Bucket, Buckets } from "../protocol/bucket.ts";
import type { Claims } from "../protocol/claims.ts";
import { exceeds, isObject, parseJson } from "../protocol/json.ts";
import { MAX_PAYLOAD_BYTES } from "../protocol/limits.ts";
import { type Persist, parsePersist } from "../protocol/persist.ts";
import { parseTopic, roomObject, wireTopic } from "../protocol/topics.ts";
import { MAX_ADDRESSES, originOf } from "./address.ts";
import { type Authenticated, authenticate } from "./authenticate.ts";
import { type Env, settingsOf } from "./env.ts";

/** Messages of one request. */
const MAX_BATCH = 100;
/** Bytes of one request: of one message, room for a payload at its limit and for white space around it. */
const MAX_SINGLE_BYTES = 2 * MAX_PAYLOAD_BYTES;
const MAX_BATCH_BYTES = 8 * MAX_PAYLOAD_BYTES;
const TOO_LARGE = "Payload size exceeds tenant limit";
const BLANK = "can't be blank";

const error = ({ input }: { input?: unknown }): string =>
  input === undefined || input === null ? BLANK : "is invalid";
const messageSchema = z.object({
  topic: z.string({ error }).min(1, BLANK),
  event: z.string({ error }).min(1, BLANK),
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

/** What a sender may still send. Whoever is not limited is counted all the same, and reads it in the answer. */
interface Allowance {
  readonly bucket: Bucket;
  readonly limited: boolean;
}

type Sender = Authenticated & { Variables: { allowance: Allowance | undefined } };

/** How much each address has sent. Each isolate counts for itself, as it does for connections (`upgrade.ts`). */
const messages = new Buckets(MAX_ADDRESSES);

const RATE_HEADERS = ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"];

export const broadcasts = new Hono<Sender>();

// Everything that may be asked of a browser's client is allowed: it is the key that counts.
broadcasts.use(cors({ origin: "*", exposeHeaders: [...RATE_HEADERS, "retry-after"] }));

broadcasts.use(
  createMiddleware<Sender>(async (c, next) => {
    const claims = await authenticate(c.req.raw.headers, c.env);
    if (typeof claims === "string") return c.json({ message: "Unauthorized" }, 401);
    c.set("claims", claims);
    await next();
    return undefined;
  }),
);

broadcasts.use(
  createMiddleware<Sender>(async (c, next) => {
    const allowance = allowanceOf(c.req.raw, c.env, c.var.claims);
    c.set("allowance", allowance);
    if (allowance === undefined) return next();
    const { bucket, limited } = allowance;
    if (limited && bucket.left(Date.now()) === 0) c.res = tooMany(c, "Too many requests");
    else await next();
    // All in messages of the last minute.
    const left = bucket.left(Date.now());
    const figures = [bucket.perMinute - left, bucket.perMinute, left];
    for (const [at, name] of RATE_HEADERS.entries()) c.header(name, String(figures[at]));
  }),
);

function allowanceOf(request: Request, env: Env, { role }: Claims): Allowance | undefined {
  const { messagesPerMinute, ipHeader } = settingsOf(env);
  if (messagesPerMinute === 0) return undefined;
  const origin = originOf(request, ipHeader) ?? { network: "unknown", local: true };
  const isService = role === "service_role";
  // A server and the browsers beside it, behind one address, do not use up each other's.
  const key = isService ? `service ${origin.network}` : origin.network;
  const bucket = messages.of(key, messagesPerMinute, Date.now());
  return { bucket, limited: !isService && !origin.local };
}

/** False: the sender may not send as many messages now. */
function spend({ var: { allowance } }: Context<Sender>, count: number): boolean {
  return allowance === undefined || allowance.bucket.take(Date.now(), count) || !allowance.limited;
}

/** The refusal of so many messages, with the time after which they may be sent, if ever. */
function tooMany(c: Context<Sender>, message: string, count = 1): Response {
  const waitMs = c.var.allowance?.bucket.waitMs(Date.now(), count) ?? 0;
  const headers = Number.isFinite(waitMs) ? { "retry-after": String(Math.ceil(waitMs / 1000)) } : undefined;
  return c.json({ message }, 429, headers);
}

/** Several messages, all valid or none sent. One that its sender may not send is left out, as at Supabase. */
broadcasts.post(
  "/",
  bodyLimit({
    maxSize: MAX_BATCH_BYTES,
    onError: (c) => c.json({ message: `A batch holds at most ${MAX_BATCH_BYTES} bytes` }, 413),
  }),
  async (c) => {
    const body = parseJson(await c.req.text());
    const given = isObject(body) && Array.isArray(body.messages) ? body.messages : [];
    if (given.length === 0) return c.json({ errors: { messages: [BLANK] } }, 422);
    const reduce = "Too many messages to broadcast, please reduce the batch size";
    if (given.length > MAX_BATCH) return c.json({ message: reduce }, 429);
    const faults = given.map(faultsOf);
    if (faults.some((fault) => Object.keys(fault).length > 0)) return c.json({ errors: { messages: faults } }, 422);
    if (!spend(c, given.length)) return tooMany(c, reduce, given.length);
    const batch = z.array(messageSchema).parse(given);
    return (await sendAll(c.env, c.var.claims, batch)) ? c.body(null, 202) : unavailable(c);
  },
);

/** One message; the body is its payload, JSON or bytes. */
broadcasts.post(
  "/:topic/events/:event",
  bodyLimit({ maxSize: MAX_SINGLE_BYTES, onError: (c) => c.json({ errors: { payload: [TOO_LARGE] } }, 422) }),
  async (c) => {
    const payload = await payloadOf(c.req.raw);
    if (payload === "unsupported") {
      return c.json({ error: "Unsupported Media Type. Use application/json or application/octet-stream" }, 415);
    }
    if (payload === undefined) return c.json({ errors: { payload: [BLANK] } }, 422);
    if (tooLarge(payload)) return c.json({ errors: { payload: [TOO_LARGE] } }, 422);
    const { topic: sub, event } = c.req.param();
    const fault = topicFault(sub);
    if (fault !== undefined) return c.json({ errors: { topic: [fault] } }, 422);
    const isPrivate = c.req.query("private") === "true";
    const persist = persistOf(new URL(c.req.url).searchParams);
    if (persist === "invalid") {
      return c.json({ errors: { persist: ["ttl must be a whole number of seconds from 1 to 259200"] } }, 422);
    }
    if (persist !== undefined && !isPrivate) {
      return c.json({ errors: { persist: ["can only be used on private channels"] } }, 422);
    }
    if (!spend(c, 1)) return tooMany(c, "Too many requests");
    const outcome = await send(c.env, c.var.claims, { sub, event, payload, private: isPrivate, persist });
    if (outcome === "unavailable") return unavailable(c);
    return outcome === "sent" ? c.body(null, 202) : c.json({ message: "Unauthorized" }, 403);
  },
);

broadcasts.onError((error, c) => {
  console.error(JSON.stringify({ event: "broadcast failed", path: c.req.path, reason: String(error) }));
  return c.json({ message: "RPC error" }, 500);
});

/** Without an answer from PostgreSQL nobody's right to send to a private channel is known. */
function unavailable(c: Context<Sender>): Response {
  return c.json({ message: "Tenant database unavailable" }, 422);
}

function faultsOf(message: unknown): Record<string, string[]> {
  const result = messageSchema.safeParse(isObject(message) ? message : {});
  if (!result.success) {
    return Object.fromEntries(result.error.issues.map(({ path, message }) => [String(path[0]), [message]]));
  }
  const fault = topicFault(result.data.topic);
  if (fault !== undefined) return { topic: [fault] };
  return exceeds(JSON.stringify(result.data.payload), MAX_PAYLOAD_BYTES) ? { payload: [TOO_LARGE] } : {};
}

/** Why nothing can be broadcast on a topic. Feeds carry row changes only. */
function topicFault(sub: string): string | undefined {
  const topic = parseTopic(wireTopic(sub));
  if ("reason" in topic) return topic.reason;
  return topic.kind === "room" ? undefined : "names no room";
}

async function payloadOf(request: Request): Promise<string | Uint8Array | undefined | "unsupported"> {
  // None, or an empty one, as fetch sends it for a body of bytes.
  const type = (request.headers.get("content-type") || "application/json").split(";")[0]?.trim().toLowerCase();
  if (type === "application/octet-stream") return new Uint8Array(await request.arrayBuffer());
  if (type !== "application/json") return "unsupported";
  const text = await request.text();
  const value = parseJson(text);
  if (value === undefined) return undefined;
  // Clients read the payload of a broadcast as an object, so anything else is wrapped in one.
  return isObject(value) ? text : `{"_json":${text}}`;
}

function tooLarge(payload: string | Uint8Array): boolean {
  return typeof payload === "string" ? exceeds(payload, MAX_PAYLOAD_BYTES) : payload.length > MAX_PAYLOAD_BYTES;
}

/** The option `persist` of a query: `persist=true`, or `persist[ttl]=60`. */
function persistOf(query: URLSearchParams): Persist | undefined | "invalid" {
  const ttl = query.get("persist[ttl]");
  if (ttl !== null) return parsePersist({ ttl });
  const text = query.get("persist");
  return parsePersist(text === "true" ? true : text === "false" ? false : text);
}

/** Sends a batch, each topic's messages in their order. False: somebody's right to send could not be looked up. */
async function sendAll(env: Env, claims: Claims, batch: readonly z.infer<typeof messageSchema>[]): Promise<boolean> {
  const topics = Map.groupBy(batch, (message) => roomObject(message.topic, message.private));
  const outcomes = await Promise.all(
    [...topics.values()].map(async (topic) => {
      const outcomes: Outcome[] = [];
      for (const { topic: sub, event, payload, private: isPrivate } of topic) {
        const message = { sub, event, payload: JSON.stringify(payload), private: isPrivate };
        outcomes.push(await send(env, claims, message));
      }
      return outcomes;
    }),
  );
  return !outcomes.flat().includes("unavailable");
}

type Outcome = "sent" | "refused" | "unavailable";

/** A registered channel's type decides where a message goes, whatever the request says. */
async function send(env: Env, { role, user }: Claims, message: Outgoing): Promise<Outcome> {
  const { sub, event, payload, private: isPrivate, persist } = message;
  const post = (asPrivate: boolean) =>
    env.CHANNEL.getByName(roomObject(sub, asPrivate)).post({ role, user }, { event, payload, persist });
  let refusal = await post(isPrivate);
  if (refusal?.moved !== undefined) refusal = await post(refusal.moved === "private");
  if (refusal === null) return "sent";
  return refusal.reason.startsWith("UnableToConnectToProject") ? "unavailable" : "refused";
}
