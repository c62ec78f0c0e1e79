// Admin API: cleaning up. Each kind goes by itself in time; this has it go now, and says how many there were.
import { Hono } from "hono";
import * as z from "zod";
import { askHolders } from "./connections.ts";
import { expireMessages } from "./expiry.ts";
import { ageHours, body } from "./input.ts";
import { operation } from "./operation.ts";
import type { AdminEnv } from "./ports.ts";

/** A connection that nothing was heard of for so long is gone (contract C52). */
const STALE_MS = 300_000;

const cleaned = z
  .object({
    stale_connections: z.number().int(),
    old_messages: z.number().int(),
    expired_presence: z.number().int(),
    orphaned_subscriptions: z.number().int(),
  })
  .meta({ id: "Cleaned" });

export const cleanup = new Hono<AdminEnv>().post(
  "/",
  operation({
    id: "cleanUp",
    tag: "System",
    summary: "Remove stale connections, old messages, expired presence and orphaned subscriptions",
    answers: { 200: cleaned },
    commands: ["cleanup"],
  }),
  body(z.strictObject({ hours: ageHours.optional() })),
  async (c) => {
    const { ports } = c.var;
    const { hours } = c.req.valid("json");
    const { REALTIME_MESSAGE_TTL: ttl, REALTIME_PRESENCE_TIMEOUT: silence } = ports.settings;
    const [closed, messages, presence, subscriptions] = await Promise.all([
      askHolders(ports, (holder) => holder.closeSilent(STALE_MS)),
      expireMessages(ports, hours, ttl),
      ports.directory().expirePresence(silence * 1_000),
      ports.store.subscriptions.removeOrphans(),
    ]);
    const view: z.infer<typeof cleaned> = {
      stale_connections: closed.answers.reduce((sum, count) => sum + count, 0),
      old_messages: messages,
      expired_presence: presence,
      orphaned_subscriptions: subscriptions,
    };
    return c.json(view);
  },
);
