// Admin API: statistics of the whole: connections, channels, messages, row changes, presence.
import { Hono } from "hono";
import * as z from "zod";
import { messageTotals } from "../../store/messages.ts";
import { openConnections } from "./connections.ts";
import { operation } from "./operation.ts";
import type { AdminEnv } from "./ports.ts";
import { countByStatus } from "./presence.ts";
import { secondsSince } from "./time.ts";

const BEAT_SECONDS = 60;

const count = z.number().int();
const statistics = z
  .object({
    connections: z.object({ active: count, peak_24h: count, average_latency_ms: count.nullable() }),
    channels: z.object({ total: count, public: count, private: count, presence: count }),
    messages_24h: z.object({ sent: count, delivered: count, failed: count }),
    subscriptions: z.object({
      active: count,
      tables_monitored: count,
      events_processed_24h: count,
      insert_subs: count,
      update_subs: count,
      delete_subs: count,
      filtered_subs: count,
    }),
    broadcasts: messageTotals,
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
  const [open, totals, entries, types, tables, broadcasts] = await Promise.all([
    openConnections(ports),
    directory.totals(),
    directory.presence({}),
    ports.store.channels.countByType(),
    ports.store.subscriptions.list(),
    ports.store.messages.statistics(null),
  ]);
  const closed = types.private + types.direct;
  const presence = countByStatus(entries);
  const beats = new Set([
    ...open.flatMap(({ user, lastSeen }) => (user !== null && secondsSince(lastSeen) < BEAT_SECONDS ? [user] : [])),
    ...entries.flatMap(({ key, status, lastSeen }) =>
      status !== "offline" && secondsSince(lastSeen) < BEAT_SECONDS ? [key] : [],
    ),
  ]);
  const subscribed = (event: string): number => tables.filter(({ events }) => events.includes(event)).length;
  const view: z.infer<typeof statistics> = {
    connections: {
      active: open.length,
      peak_24h: Math.max(totals.peak, open.length),
      average_latency_ms: totals.latencyMs === null ? null : Math.round(totals.latencyMs),
    },
    channels: {
      total: types.public + closed + types.presence,
      public: types.public,
      private: closed,
      presence: types.presence,
    },
    messages_24h: { sent: totals.delivered + totals.failed, delivered: totals.delivered, failed: totals.failed },
    subscriptions: {
      active: open.reduce((sum, { subscriptions }) => sum + subscriptions, 0),
      tables_monitored: tables.length,
      events_processed_24h: totals.changes,
      insert_subs: subscribed("INSERT"),
      update_subs: subscribed("UPDATE"),
      delete_subs: subscribed("DELETE"),
      filtered_subs: tables.filter(({ filter }) => filter !== null).length,
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
