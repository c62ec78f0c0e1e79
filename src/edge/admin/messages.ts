// Admin API: messages of a channel: broadcast, the newest, and those since a time.
import { Hono } from "hono";
import * as z from "zod";
import { exceeds } from "../../protocol/json.ts";
import { type ArchivedMessage, type MessagePage, messagePlace } from "../../store/messages.ts";
import { deleteMessage } from "../acts.ts";
import type { StoredMessage, Unposted } from "../objects/rpc.ts";
import { cursorIn, pageFields, tellNext } from "./cursor.ts";
import { idempotency, onceOf, refuseReuse } from "./idempotency.ts";
import { body, channelPath, MAX_NAME_LENGTH, name, path, query, reference, time, userId } from "./input.ts";
import { archived, configOf, findChannel, findRoom } from "./objects.ts";
import { operation } from "./operation.ts";
import type { AdminEnv } from "./ports.ts";
import { Problem } from "./problem.ts";
import { parseTime } from "./time.ts";

/** Answer header that says what a reference stood for: `registered`, or `open`. */
export const CHANNEL_HEADER = "realtime-channel";

const DEFAULT_LIMIT = 50;
const MAX_LIMIT = 1000;

const message = z.strictObject({
  event: name,
  payload: z.unknown().meta({ description: "Any JSON, of at most 1 MB." }),
  sender: userId.optional(),
});

const range = z.strictObject({
  since: z
    .string()
    .max(MAX_NAME_LENGTH)
    .meta({
      description:
        "Oldest first from this time on: ISO 8601, unix seconds (10 digits) or milliseconds (13). Left out: newest first.",
    })
    .optional(),
  ...pageFields(MAX_LIMIT, `${DEFAULT_LIMIT}, or ${MAX_LIMIT} with \`since\``),
});

const sent = z
  .object({ id: z.guid(), position: z.object({ epoch: z.string(), seq: z.number().int() }) })
  .meta({ id: "SentMessage" });
const shown = z
  .object({
    id: z.guid(),
    event_type: z.string(),
    payload: z.unknown(),
    sender_id: z.string().nullable(),
    sent_at: time,
  })
  .meta({ id: "Message" });
const ringPlace = z.tuple([z.number().int()]);
const headers = { [CHANNEL_HEADER]: "What the reference stood for: `registered`, or `open`." };

const messagePath = path(z.object({ channel: reference, message: z.guid() }));

const operations = {
  send: operation({
    id: "sendMessage",
    tag: "Messages",
    summary: "Send a message to everybody on a channel",
    answers: { 201: sent },
    headers,
    problems: ["not_found", "not_a_member", "banned", "conflict"],
    commands: ["broadcast"],
  }),
  remove: operation({
    id: "deleteMessage",
    tag: "Messages",
    summary: "Delete a message: from the lists, every replay and the channel's ring",
    answers: { 200: z.object({ id: z.string() }) },
    problems: ["not_found"],
    commands: [],
  }),
  list: operation({
    id: "listMessages",
    tag: "Messages",
    summary: "Show the newest messages of a channel, or those since a time",
    description: `Newest first ${DEFAULT_LIMIT} of them, or from \`since\` on, oldest first; a page ends early at about 8 MB.`,
    answers: { 200: z.array(shown) },
    headers,
    problems: ["not_found"],
    commands: ["messages", "replay"],
  }),
};

export const messages = new Hono<AdminEnv>()
  .post("/:channel/messages", operations.send, channelPath, body(message), async (c) => {
    const { ports } = c.var;
    const { event, payload, sender } = c.req.valid("json");
    const text = JSON.stringify(payload);
    const most = ports.settings.REALTIME_MAX_PAYLOAD;
    if (exceeds(text, most)) {
      throw new Problem(
        "too_large",
        `payload: larger than the limit of ${most / 1_000_000} MB of JSON (REALTIME_MAX_PAYLOAD)`,
      );
    }
    const { channel } = c.req.valid("param");
    const { registered, object } = await findRoom(ports, channel);
    const draft = { event, payload: text, ...(sender === undefined ? {} : { sender }) };
    const published = await object.publish(draft, registered && configOf(registered), await onceOf(c));
    if (published === "key_reused") refuseReuse();
    if ("reason" in published) throw unpublished(published, sender, registered?.slug ?? channel);
    c.header(CHANNEL_HEADER, registered === undefined ? "open" : "registered");
    const view: z.infer<typeof sent> = { id: published.id, position: published.position };
    return c.json(view, 201);
  })
  .get("/:channel/messages", operations.list, channelPath, query(range), async (c) => {
    const { ports } = c.var;
    const { limit, since: from, cursor } = c.req.valid("query");
    const since = from === undefined ? undefined : timeOf(from);
    const page = {
      order: since === undefined ? "newest" : "oldest",
      limit: Number(limit ?? (since === undefined ? DEFAULT_LIMIT : MAX_LIMIT)),
      ...(since === undefined ? {} : { since }),
    } satisfies MessagePage;
    const { registered, object } = await findRoom(ports, c.req.valid("param").channel);
    c.header(CHANNEL_HEADER, registered === undefined ? "open" : "registered");
    if (registered !== undefined) {
      await archived(ports, registered);
      const { id } = registered;
      const ttl = ports.settings.REALTIME_MESSAGE_TTL;
      const after = cursor === undefined ? undefined : cursorIn(cursor, messagePlace);
      const kept = await ports.store.messages.page(id, ttl, { ...page, after });
      if (kept.next !== undefined) tellNext(c, kept.next);
      return c.json(kept.messages.map(archivedView));
    }
    const after = cursor === undefined ? {} : { after: cursorIn(cursor, ringPlace)[0] };
    const { messages, more } = await object.history({ ...page, ...after });
    const last = messages.at(-1);
    if (more && last !== undefined) tellNext(c, [last.position.seq]);
    return c.json(messages.map(messageView));
  })
  .delete("/:channel/messages/:message", operations.remove, idempotency, messagePath, async (c) => {
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

function archivedView(kept: ArchivedMessage): z.infer<typeof shown> {
  const { id, event_type, payload, sender_id, sent_at } = kept;
  const event = event_type ?? "";
  return { id, event_type: event, payload: payload ?? null, sender_id, sent_at: sent_at.toISOString() };
}

function messageView({ id, event, payload, sender, at }: StoredMessage): z.infer<typeof shown> {
  return { id, event_type: event, payload: payload ?? null, sender_id: sender, sent_at: new Date(at).toISOString() };
}
