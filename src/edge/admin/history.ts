// Admin API: what is known of messages beyond themselves: events and totals, and getting rid of what is old.
import { type Context, Hono } from "hono";
import * as z from "zod";
import { type EventCursor, messageTotals } from "../../store/messages.ts";
import { cursorIn, cut, MAX_PAGE, pageFields, sizeOf } from "./cursor.ts";
import { expireMessages } from "./expiry.ts";
import { ageHours, body, channelPath, query, time } from "./input.ts";
import { archived, findChannel } from "./objects.ts";
import { operation } from "./operation.ts";
import type { AdminEnv } from "./ports.ts";

/** Counts by the hour are kept for 30 days. */
const MAX_HOURS = 720;
const DEFAULT_HOURS = 24;

const recent = z.strictObject({
  hours: z
    .string()
    .refine((text) => /^[1-9]\d*$/.test(text) && Number(text) <= MAX_HOURS, {
      error: `must be a whole number from 1 to ${MAX_HOURS}`,
    })
    .meta({ type: "integer", minimum: 1, maximum: MAX_HOURS, description: `How far back (default: ${DEFAULT_HOURS}).` })
    .optional(),
  ...pageFields(MAX_PAGE),
});
const age = z.strictObject({ hours: ageHours.optional() });

const cursorSchema = z.tuple([z.number(), z.string()]);

const event = z.object({ event_type: z.string(), count: z.number().int(), last_sent: time }).meta({ id: "EventCount" });
const listOf = {
  tag: "Messages",
  description: "Of the last hours, most frequent first; a message that is gone is counted by its hour, for 30 days.",
  answers: { 200: z.array(event) },
  commands: ["events"],
} as const;

const operations = {
  channelEvents: operation({
    ...listOf,
    id: "listChannelEvents",
    summary: "Count the events of a channel",
    problems: ["not_found"],
  }),
  events: operation({ ...listOf, id: "listEvents", summary: "Count the events of all channels" }),
  statistics: operation({
    id: "getMessageStatistics",
    tag: "Messages",
    summary: "Show the totals of a channel",
    answers: { 200: messageTotals },
    problems: ["not_found"],
    commands: ["broadcast"],
  }),
  cleanup: operation({
    id: "deleteMessages",
    tag: "Messages",
    summary: "Delete old messages of all channels",
    description: "With `hours`, whatever is older; without, what is past its own time.",
    answers: { 200: z.object({ deleted: z.number().int() }) },
    commands: ["broadcast"],
  }),
};

export const history = new Hono<AdminEnv>()
  .get("/channels/:channel/events", operations.channelEvents, channelPath, query(recent), async (c) => {
    const { ports } = c.var;
    const found = await archived(ports, await findChannel(ports, c.req.valid("param").channel));
    return c.json(await eventsOf(c, found.id, c.req.valid("query")));
  })
  .get("/events", operations.events, query(recent), async (c) => c.json(await eventsOf(c, null, c.req.valid("query"))))
  .get("/channels/:channel/messages/stats", operations.statistics, channelPath, async (c) => {
    const { ports } = c.var;
    const found = await archived(ports, await findChannel(ports, c.req.valid("param").channel));
    return c.json(await ports.store.messages.statistics(found.id));
  })
  // Hours in the body delete whatever is older; without them each message goes at its own time.
  .post("/messages/cleanup", operations.cleanup, body(age), async (c) => {
    const { ports } = c.var;
    const { hours } = c.req.valid("json");
    return c.json({ deleted: await expireMessages(ports, hours, ports.settings.REALTIME_MESSAGE_TTL) });
  });

/** A page of the events of one channel, or (null) of all. */
async function eventsOf(
  c: Context<AdminEnv>,
  channelId: string | null,
  { hours, cursor, ...paging }: z.infer<typeof recent>,
): Promise<z.infer<typeof event>[]> {
  const size = sizeOf(paging);
  const after = cursor === undefined ? undefined : startOf(cursor);
  const { messages } = c.var.ports.store;
  const counts = await messages.events(channelId, Number(hours ?? DEFAULT_HOURS), size + 1, after);
  const page = cut(c, counts, size, ({ count, event_type }) => [count, event_type]);
  return page.map(({ event_type, count, last_sent }) => ({ event_type, count, last_sent: last_sent.toISOString() }));
}

function startOf(cursor: string): EventCursor {
  const [count, event_type] = cursorIn(cursor, cursorSchema);
  return { count, event_type };
}
