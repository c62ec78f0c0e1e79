// Admin API: statistics of the whole: connections, channels, messages, row changes, presence.
import { Hono } from "hono";
import * as z from "zod";
import { messageTotals } from "../../store/messages.ts";
import { openConnections } from "./connections.ts";
import { operation } from "./operation.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { countByStatus } from "./presence.ts";
import { channelCounts, fromStore, STORE_STATES } from "./status.ts";
import { secondsSince } from "./time.ts";

const BEAT_SECONDS = 60;

const count = z.number().int();
const channelTotals = z.object({ total: count, public: count, private: count, presence: count });
const statistics = z
  .object({
    store: z.enum(STORE_STATES),
    reason: z.string().nullable().meta({ description: "Why what only PostgreSQL knows is null." }),
    connections: z.object({ active: count, peak_24h: count, average_latency_ms: count.nullable() }),
    channels: channelTotals.nullable(),
    messages_24h: z.object({ sent: count, delivered: count, failed: count }),
    subscriptions: z.object({
      active: count,
      tables_monitored: count.nullable(),
      events_processed_24h: count,
      insert_subs: count.nullable(),
      update_subs: count.nullable(),
      delete_subs: count.nullable(),
      filtered_subs: count.nullable(),
    }),
    broadcasts: messageTotals.nullable(),
    presence: z.object({ users_tracked: count, online: count, heartbeats_1m: count }),
  })
  .meta({ id: "Statistics" });

const show = operation({
  id: "getStatistics",
  tag: "System",
  summary: "Show statistics of the whole",
  answers: { 200: statistics },
  commands: ["stats"],
});

export const stats = new Hono<AdminEnv>().get("/stats", show, async (c) => {
  const { ports } = c.var;
  const directory = ports.directory();
  const [open, totals, entries, stored] = await Promise.all([
    openConnections(ports),
    directory.totals(),
    directory.presence({}),
    fromStore(() => storeStats(ports)),
  ]);
  const { channels, broadcasts, tables } = stored.store === "ready" ? stored : unknown;
  const presence = countByStatus(entries);
  const beats = new Set([
    ...open.flatMap(({ users, lastSeen }) => (secondsSince(lastSeen) < BEAT_SECONDS ? users : [])),
    ...entries.flatMap(({ key, status, lastSeen }) =>
      status !== "offline" && secondsSince(lastSeen) < BEAT_SECONDS ? [key] : [],
    ),
  ]);
  const view: z.infer<typeof statistics> = {
    store: stored.store,
    reason: "reason" in stored ? stored.reason : null,
    connections: {
      active: open.length,
      peak_24h: Math.max(totals.peak, open.length),
      average_latency_ms: totals.latencyMs === null ? null : Math.round(totals.latencyMs),
    },
    channels,
    messages_24h: { sent: totals.delivered + totals.failed, delivered: totals.delivered, failed: totals.failed },
    subscriptions: {
      active: open.reduce((sum, { subscriptions }) => sum + subscriptions, 0),
      events_processed_24h: totals.changes,
      ...tables,
    },
    broadcasts,
    presence: {
      users_tracked: presence.online + presence.away + presence.offline,
      online: presence.online,
      heartbeats_1m: beats.size,
    },
  };
  return c.json(view);
});

const noTables = {
  tables_monitored: null,
  insert_subs: null,
  update_subs: null,
  delete_subs: null,
  filtered_subs: null,
};
/** What only PostgreSQL could say. */
const unknown = { channels: null, broadcasts: null, tables: noTables };

async function storeStats(ports: AdminPorts) {
  const [types, tables, subscriptions, broadcasts] = await Promise.all([
    ports.store.channels.countByType(),
    ports.store.tables.countCaptured(),
    ports.store.subscriptions.list(),
    ports.store.messages.statistics(null),
  ]);
  const subscribed = (event: string): number => subscriptions.filter(({ events }) => events.includes(event)).length;
  return {
    channels: channelCounts(types),
    broadcasts,
    tables: {
      tables_monitored: tables,
      insert_subs: subscribed("INSERT"),
      update_subs: subscribed("UPDATE"),
      delete_subs: subscribed("DELETE"),
      filtered_subs: subscriptions.filter(({ filter }) => filter !== null).length,
    },
  };
}
