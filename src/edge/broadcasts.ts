// Broadcasts over HTTP, as the stock client sends them while it has no socket (protocol.md §6.5, §6.6).

import type { Context } from "hono";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import * as z from "zod";
import type { Claims } from "../protocol/claims.ts";
import { exceeds, isObject, parseJson } from "../protocol/json.ts";
import { mostOf } from "../protocol/limits.ts";
import { parseTopic, roomObject, wireTopic } from "../protocol/topics.ts";
import { requireRole } from "./authenticate.ts";
import { type Env, settingsOf } from "./env.ts";

/** Messages of one request. */
const MAX_BATCH = 100;
/** Room for one payload at its limit, written with escapes, and for what surrounds it. */
const MAX_BODY_BYTES = 2 * mostOf.payloadBytes;
const TOO_LARGE = "Payload size exceeds tenant limit";
const BLANK = "can't be blank";

const messageSchema = z.object({
  topic: z.string(BLANK).min(1, BLANK),
  event: z.string(BLANK).min(1, BLANK),
  payload: z.record(z.string(), z.unknown(), BLANK),
  private: z.boolean().default(false),
});

interface Outgoing {
  readonly sub: string;
  readonly event: string;
  /** JSON text, or the bytes of a binary broadcast. */
  readonly payload: string | Uint8Array;
  readonly private: boolean;
}

export const broadcasts = new Hono<{ Bindings: Env; Variables: { claims: Claims } }>();

broadcasts.use(cors({ origin: "*" }), bodyLimit({ maxSize: MAX_BODY_BYTES, onError }), requireRole());

/** Several messages, all valid or none sent. One that its sender may not send is left out, as at Supabase. */
broadcasts.post("/", async (c) => {
  const body = parseJson(await c.req.text());
  const given = isObject(body) && Array.isArray(body.messages) ? body.messages : [];
  if (given.length === 0) return c.json({ errors: { messages: [BLANK] } }, 422);
  if (given.length > MAX_BATCH) {
    return c.json({ message: "Too many messages to broadcast, please reduce the batch size" }, 429);
  }
  const most = settingsOf(c.env).limits.payloadBytes;
  const faults = given.map((message) => faultsOf(message, most));
  if (faults.some((fault) => Object.keys(fault).length > 0)) return c.json({ errors: { messages: faults } }, 422);
  for (const { topic, event, payload, private: isPrivate } of z.array(messageSchema).parse(given)) {
    await send(c.env, c.var.claims, { sub: topic, event, payload: JSON.stringify(payload), private: isPrivate });
  }
  return c.body(null, 202);
});

/** One message; the body is its payload, JSON or bytes. */
broadcasts.post("/:topic/events/:event", async (c) => {
  const payload = await payloadOf(c.req.raw);
  if (payload === "unsupported") {
    return c.json({ error: "Unsupported Media Type. Use application/json or application/octet-stream" }, 415);
  }
  if (payload === undefined) return c.json({ errors: { payload: [BLANK] } }, 422);
  if (tooLarge(payload, settingsOf(c.env).limits.payloadBytes))
    return c.json({ errors: { payload: [TOO_LARGE] } }, 422);
  const { topic, event } = c.req.param();
  if (!isRoom(topic)) return c.json({ errors: { topic: ["names no room"] } }, 422);
  const sent = await send(c.env, c.var.claims, {
    sub: topic,
    event,
    payload,
    private: c.req.query("private") === "true",
  });
  return sent ? c.body(null, 202) : c.json({ message: "Unauthorized" }, 403);
});

function onError(c: Context): Response {
  return c.json({ errors: { payload: [TOO_LARGE] } }, 422);
}

function faultsOf(message: unknown, most: number): Record<string, string[]> {
  const result = messageSchema.safeParse(message);
  if (!result.success) {
    return Object.fromEntries(result.error.issues.map(({ path, message }) => [String(path[0] ?? "topic"), [message]]));
  }
  if (!isRoom(result.data.topic)) return { topic: ["names no room"] };
  return exceeds(JSON.stringify(result.data.payload), most) ? { payload: [TOO_LARGE] } : {};
}

/** Feeds carry row changes only: nothing is broadcast on them. */
function isRoom(sub: string): boolean {
  const topic = parseTopic(wireTopic(sub));
  return "kind" in topic && topic.kind === "room";
}

async function payloadOf(request: Request): Promise<string | Uint8Array | undefined | "unsupported"> {
  const type = (request.headers.get("content-type") ?? "application/json").split(";")[0]?.trim().toLowerCase();
  if (type === "application/octet-stream") return new Uint8Array(await request.arrayBuffer());
  if (type !== "application/json") return "unsupported";
  const text = await request.text();
  const value = parseJson(text);
  if (value === undefined) return undefined;
  // Clients read the payload of a broadcast as an object, so anything else is wrapped in one.
  return isObject(value) ? text : `{"_json":${text}}`;
}

function tooLarge(payload: string | Uint8Array, most: number): boolean {
  return typeof payload === "string" ? exceeds(payload, most) : payload.length > most;
}

/** False when the sender may not send there. A registered channel's type decides, whatever the request says. */
async function send(
  env: Env,
  { role, user, all }: Claims,
  { sub, event, payload, private: isPrivate }: Outgoing,
): Promise<boolean> {
  const post = (asPrivate: boolean) => {
    const channel = env.CHANNEL.getByName(roomObject(sub, asPrivate));
    return channel.post({ role, user, principal: { claims: all, headers: {} } }, { event, payload });
  };
  const refusal = await post(isPrivate);
  if (refusal?.moved === undefined) return refusal === null;
  return (await post(refusal.moved === "private")) === null;
}
