// Admin API: what is known of messages beyond themselves: events and totals, and getting rid of what is old.
import { Hono } from "hono";
import * as z from "zod";
import { tuning } from "../../settings/edge.ts";
import { expireMessages } from "./expiry.ts";
import { ageHours, body, name, path, query } from "./input.ts";
import { archived, findChannel } from "./objects.ts";
import type { AdminEnv } from "./ports.ts";

/** Counts by the hour are kept for 30 days. */
const MAX_HOURS = 720;
const DEFAULT_HOURS = 24;

const channel = path(z.object({ channel: name }));
const recent = z.strictObject({ hours: hoursUpTo(MAX_HOURS).optional() });
const age = z.strictObject({ hours: ageHours.optional() });

export const history = new Hono<AdminEnv>()
  .get("/channels/:channel/events", channel, query(recent), async (c) => {
    const { ports } = c.var;
    const found = await archived(ports, await findChannel(ports, c.req.valid("param").channel));
    const counts = await ports.store.messages.events(found.id, Number(c.req.valid("query").hours ?? DEFAULT_HOURS));
    return c.json(counts.map(eventView));
  })
  .get("/events", query(recent), async (c) => {
    const counts = await c.var.ports.store.messages.events(null, Number(c.req.valid("query").hours ?? DEFAULT_HOURS));
    return c.json(counts.map(eventView));
  })
  .get("/channels/:channel/messages/stats", channel, async (c) => {
    const { ports } = c.var;
    const found = await archived(ports, await findChannel(ports, c.req.valid("param").channel));
    return c.json(await ports.store.messages.statistics(found.id));
  })
  // Hours in the body delete whatever is older; without them each message goes at its own time.
  .post("/messages/cleanup", body(age), async (c) => {
    const { hours } = c.req.valid("json");
    return c.json({ deleted: await expireMessages(c.var.ports, hours, tuning.parse(c.env).REALTIME_MESSAGE_TTL) });
  });

function hoursUpTo(most: number) {
  return z.string().refine((text) => /^[1-9]\d*$/.test(text) && Number(text) <= most, {
    error: `must be a whole number from 1 to ${most}`,
  });
}

function eventView({ event_type, count, last_sent }: { event_type: string; count: number; last_sent: Date }) {
  return { event_type, count, last_sent: last_sent.toISOString() };
}
