// Admin API: statistics of the whole: connections, channels, messages, row changes, presence.
import { Hono } from "hono";
import { openConnections } from "./connections.ts";
import type { AdminEnv } from "./ports.ts";
import { countByStatus } from "./presence.ts";
import { secondsSince } from "./time.ts";

const BEAT_SECONDS = 60;

export const stats = new Hono<AdminEnv>().get("/stats", async (c) => {
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
  return c.json({
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
  });
});
