// Admin API: statistics of the whole: connections, channels, messages, row changes, presence.
import { Hono } from "hono";
import { openConnections } from "./connections.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";
import { countByStatus } from "./presence.ts";
import { channelCounts, fromStore } from "./status.ts";
import { secondsSince } from "./time.ts";

const BEAT_SECONDS = 60;

export const stats = new Hono<AdminEnv>().get("/stats", async (c) => {
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
    ...open.flatMap(({ user, lastSeen }) => (user !== null && secondsSince(lastSeen) < BEAT_SECONDS ? [user] : [])),
    ...entries.flatMap(({ key, status, lastSeen }) =>
      status !== "offline" && secondsSince(lastSeen) < BEAT_SECONDS ? [key] : [],
    ),
  ]);
  return c.json({
    store: stored.store,
    reason: stored.store === "ready" ? null : stored.reason,
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
  });
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
  const [types, subscriptions, broadcasts] = await Promise.all([
    ports.store.channels.countByType(),
    ports.store.subscriptions.list(),
    ports.store.messages.statistics(null),
  ]);
  const subscribed = (event: string): number => subscriptions.filter(({ events }) => events.includes(event)).length;
  return {
    channels: channelCounts(types),
    broadcasts,
    tables: {
      tables_monitored: subscriptions.length,
      insert_subs: subscribed("INSERT"),
      update_subs: subscribed("UPDATE"),
      delete_subs: subscribed("DELETE"),
      filtered_subs: subscriptions.filter(({ filter }) => filter !== null).length,
    },
  };
}
