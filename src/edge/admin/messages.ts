// Admin API: messages of a channel: broadcast, the newest, and those since a time.
import { Hono } from "hono";
import * as z from "zod";
import { exceeds } from "../../protocol/json.ts";
import { tuning } from "../../settings/edge.ts";
import type { ArchivedMessage } from "../../store/messages.ts";
import { deleteMessage } from "../acts.ts";
import type { StoredMessage, Unposted } from "../objects/rpc.ts";
import { body, MAX_NAME_LENGTH, name, path, query } from "./input.ts";
import { archived, configOf, findChannel, findRoom } from "./objects.ts";
import type { AdminEnv } from "./ports.ts";
import { Problem } from "./problem.ts";
import { parseTime } from "./time.ts";

/** Answer header that says what a reference stood for: `registered`, or `open`. */
export const CHANNEL_HEADER = "realtime-channel";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1000;
/** Most messages of one answer to `since`; whoever gets this many asks again from the time of the last. */
const MAX_SINCE = 10_000;

const message = z.strictObject({ event: name, payload: z.unknown(), sender: name.optional() });

const range = z.strictObject({
  limit: z
    .string()
    .refine((text) => /^[1-9]\d*$/.test(text) && Number(text) <= MAX_LIMIT, {
      error: `must be a whole number from 1 to ${MAX_LIMIT}`,
    })
    .optional(),
  since: z.string().max(MAX_NAME_LENGTH).optional(),
});

export const messages = new Hono<AdminEnv>()
  .post("/:channel/messages", body(message), async (c) => {
    const { ports } = c.var;
    const { event, payload, sender } = c.req.valid("json");
    const text = JSON.stringify(payload);
    const most = tuning.parse(c.env).REALTIME_MAX_PAYLOAD;
    if (exceeds(text, most)) {
      throw new Problem(
        "too_large",
        `payload: larger than the limit of ${most / 1_000_000} MB of JSON (REALTIME_MAX_PAYLOAD)`,
      );
    }
    const { registered, object } = await findRoom(ports, c.req.param("channel"));
    const draft = { event, payload: text, ...(sender === undefined ? {} : { sender }) };
    const sent = await object.publish(draft, registered && configOf(registered));
    if ("reason" in sent) throw unpublished(sent, sender, registered?.slug ?? c.req.param("channel"));
    c.header(CHANNEL_HEADER, registered === undefined ? "open" : "registered");
    return c.json({ id: sent.id, position: sent.position }, 201);
  })
  .get("/:channel/messages", query(range), async (c) => {
    const { ports } = c.var;
    const { limit, since } = c.req.valid("query");
    const after = since === undefined ? undefined : timeOf(since);
    const { registered, object } = await findRoom(ports, c.req.param("channel"));
    c.header(CHANNEL_HEADER, registered === undefined ? "open" : "registered");
    if (registered !== undefined) {
      await archived(ports, registered);
      const { id } = registered;
      const ttl = tuning.parse(c.env).REALTIME_MESSAGE_TTL;
      const kept =
        after === undefined
          ? await ports.store.messages.newest(id, ttl, Number(limit ?? DEFAULT_LIMIT))
          : await ports.store.messages.since(id, ttl, after, Number(limit ?? MAX_SINCE));
      return c.json(kept.map(archivedView));
    }
    const found =
      after === undefined
        ? await object.history({ limit: Number(limit ?? DEFAULT_LIMIT), order: "newest" })
        : await object.history({ limit: Number(limit ?? MAX_SINCE), order: "oldest", since: after });
    return c.json(found.map(messageView));
  })
  .delete("/:channel/messages/:message", path(z.object({ channel: name, message: z.guid() })), async (c) => {
    const { ports } = c.var;
    const { channel, message } = c.req.valid("param");
    const { outcome } = await deleteMessage(ports, await findChannel(ports, channel), message);
    return c.json(outcome);
  });

/** The problem of a message that its sender may not send. */
function unpublished({ reason }: Unposted, sender: string | undefined, channel: string): Problem {
  switch (reason) {
    case "blocked":
      return new Problem("banned", `sender: "${sender}" is banned`);
    case "banned":
      return new Problem("banned", `sender: "${sender}" is banned from the channel "${channel}"`);
    case "unauthorized":
      return new Problem("not_a_member", `sender: "${sender}" is not a member of the channel "${channel}"`);
    case "rls_policy_error":
      return new Problem("conflict", `a policy on realtime.messages raised an error for the sender "${sender}"`);
    default:
      return new Problem("store_unavailable", `PostgreSQL does not answer: whether "${sender}" may send is not known`);
  }
}

function timeOf(since: string): number {
  const at = parseTime(since);
  if (at !== undefined) return at;
  throw new Problem(
    "invalid_request",
    `since: "${since}" is no time: write ISO 8601 (2026-01-30T00:00:00Z), unix seconds (10 digits) or milliseconds (13)`,
  );
}

function archivedView({ id, event_type, payload, sender_id, sent_at }: ArchivedMessage) {
  const event = event_type ?? "";
  return { id, event_type: event, payload: payload ?? null, sender_id, sent_at: sent_at.toISOString() };
}

function messageView({ id, event, payload, sender, at }: StoredMessage) {
  return { id, event_type: event, payload: payload ?? null, sender_id: sender, sent_at: new Date(at).toISOString() };
}
