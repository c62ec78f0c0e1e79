// Admin API: cleaning up. Each kind goes by itself in time; this has it go now, and says how many there were.
import { Hono } from "hono";
import * as z from "zod";
import { tuning } from "../../settings/edge.ts";
import { askHolders } from "./connections.ts";
import { expireMessages } from "./expiry.ts";
import { ageHours, body } from "./input.ts";
import type { AdminEnv } from "./ports.ts";

/** A connection that nothing was heard of for so long is gone (contract C52). */
const STALE_MS = 300_000;

export const cleanup = new Hono<AdminEnv>().post(
  "/",
  body(z.strictObject({ hours: ageHours.optional() })),
  async (c) => {
    const { ports } = c.var;
    const { hours } = c.req.valid("json");
    const { REALTIME_MESSAGE_TTL: ttl, REALTIME_PRESENCE_TIMEOUT: silence } = tuning.parse(c.env);
    const [closed, messages, presence, subscriptions] = await Promise.all([
      askHolders(ports, (holder) => holder.closeSilent(STALE_MS)),
      expireMessages(ports, hours, ttl),
      ports.directory().expirePresence(silence * 1_000),
      ports.store.subscriptions.removeOrphans(),
    ]);
    return c.json({
      stale_connections: closed.answers.reduce((sum, count) => sum + count, 0),
      old_messages: messages,
      expired_presence: presence,
      orphaned_subscriptions: subscriptions,
    });
  },
);
