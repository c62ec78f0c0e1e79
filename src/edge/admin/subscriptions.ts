// Admin API: which tables are captured.
import { Hono } from "hono";
import * as z from "zod";
import type { TableSubscription } from "../../store/subscriptions.ts";
import { body } from "./input.ts";
import type { AdminEnv } from "./ports.ts";
import { Problem } from "./problem.ts";

/** Two quoted names of at most 63 bytes, each quote doubled. */
const MAX_TARGET_LENGTH = 260;

const wish = z.strictObject({
  table: z.string().min(1).max(MAX_TARGET_LENGTH),
  events: z.array(z.string().max(20)).min(1).max(10).optional(),
  filter: z.string().min(1).max(1000).optional(),
  options: z.strictObject({ notify: z.boolean().optional() }).optional(),
});

export const subscriptions = new Hono<AdminEnv>()
  .get("/", async (c) => c.json((await c.var.ports.store.subscriptions.list()).map(subscriptionView)))
  .post("/", body(wish), async (c) => {
    const { table, ...rest } = c.req.valid("json");
    const made = await c.var.ports.store.subscriptions.subscribe(table, rest);
    if (made === undefined) throw new Problem("internal", `the database made no subscription for "${table}"`);
    return c.json(subscriptionView(made), 201);
  })
  .delete("/:target", async (c) => {
    const target = c.req.param("target");
    const ended = await c.var.ports.store.subscriptions.unsubscribe(target);
    if (ended === undefined) throw new Problem("not_found", `there is no subscription "${target}"`);
    return c.json(subscriptionView(ended));
  });

function subscriptionView({ created_at, updated_at, ...rest }: TableSubscription) {
  return { ...rest, created_at: created_at.toISOString(), updated_at: updated_at.toISOString() };
}
