// Admin API: which tables are captured.
import { Hono } from "hono";
import * as z from "zod";
import type { TableSubscription } from "../../store/subscriptions.ts";
import { MAX_PAGE, pageFields, pageOf } from "./cursor.ts";
import { body, path, query, time } from "./input.ts";
import { operation } from "./operation.ts";
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
const target = path(
  z.object({
    target: z.string().min(1).max(MAX_TARGET_LENGTH).meta({ description: "The table, or the subscription's id." }),
  }),
);

const subscription = z
  .object({
    id: z.guid(),
    table_name: z.string(),
    events: z.array(z.string()),
    filter: z.string().nullable(),
    options: z.object({ notify: z.boolean().optional() }),
    created_at: time,
    updated_at: time,
  })
  .meta({ id: "Subscription" });

const ended = subscription
  .extend({
    still_captured_by: z
      .string()
      .nullable()
      .meta({ description: "The subscription of the whole schema that captures the table all the same; null: none." }),
  })
  .meta({ id: "EndedSubscription" });

const operations = {
  list: operation({
    id: "listSubscriptions",
    tag: "Row changes",
    summary: "List the captured tables, newest first",
    answers: { 200: z.array(subscription) },
    commands: ["subscriptions"],
  }),
  subscribe: operation({
    id: "subscribeTable",
    tag: "Row changes",
    summary: "Capture the row changes of a table",
    description: "A subscription that is there is replaced: its events, filter and options.",
    answers: { 201: subscription },
    problems: ["statement_refused", "not_found", "conflict"],
    commands: ["subscribe"],
  }),
  unsubscribe: operation({
    id: "unsubscribeTable",
    tag: "Row changes",
    summary: "End the capture of a table",
    answers: { 200: ended },
    problems: ["statement_refused", "not_found", "conflict"],
    commands: ["unsubscribe"],
  }),
};

export const subscriptions = new Hono<AdminEnv>()
  .get("/", operations.list, query(z.strictObject(pageFields(MAX_PAGE))), async (c) => {
    const found = await c.var.ports.store.subscriptions.list();
    const place = ({ created_at, table_name }: TableSubscription) => [-created_at.getTime(), table_name];
    return c.json(pageOf(c, found, c.req.valid("query"), place).map(subscriptionView));
  })
  .post("/", operations.subscribe, body(wish), async (c) => {
    const { table, ...rest } = c.req.valid("json");
    const made = await c.var.ports.store.subscriptions.subscribe(table, rest);
    if (made === undefined) throw new Problem("internal", `the database made no subscription for "${table}"`);
    return c.json(subscriptionView(made), 201);
  })
  .delete("/:target", operations.unsubscribe, target, async (c) => {
    const { target } = c.req.valid("param");
    const { subscriptions } = c.var.ports.store;
    const found = await subscriptions.unsubscribe(target);
    if (found === undefined) throw new Problem("not_found", `there is no subscription "${target}"`);
    const whole = (await subscriptions.list()).find(({ table_name }) => isWholeSchemaOf(table_name, found.table_name));
    return c.json({ ...subscriptionView(found), still_captured_by: whole?.table_name ?? null });
  });

function isWholeSchemaOf(name: string, table: string): boolean {
  return name !== table && name.endsWith(".*") && table.startsWith(name.slice(0, -1));
}

function subscriptionView({ created_at, updated_at, ...rest }: TableSubscription): z.infer<typeof subscription> {
  return { ...rest, created_at: created_at.toISOString(), updated_at: updated_at.toISOString() };
}
