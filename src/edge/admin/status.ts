// Admin API: the state of the whole, and making it ready.
import { Hono } from "hono";
import * as z from "zod";
import { limitsFrom } from "../../settings/edge.ts";
import type { ChannelType } from "../../store/channels.ts";
import { NoDatabase, StoreNotReady, StoreUnavailable } from "../../store/database.ts";
import type { ListenerState } from "../../store/listener.ts";
import { register } from "./channels.ts";
import { openConnections } from "./connections.ts";
import { operation } from "./operation.ts";
import type { AdminEnv, AdminPorts } from "./ports.ts";

const DEFAULT_CHANNEL = "general";

const count = z.number().int();
/** What PostgreSQL can be: `none` by choice. */
export const STORE_STATES = ["ready", "none", "not_initialised", "unavailable"] as const;
const common = z.object({
  enabled: z.boolean(),
  connections: count,
  active_subscriptions: count.meta({ description: "To row changes, of clients that are connected." }),
  limits: z.object({
    messages_per_minute: count,
    presence_calls_per_minute: count,
    max_payload_bytes: count,
    max_channels_per_connection: count,
    max_connections: count,
    max_connections_per_gateway: count,
    heartbeat_seconds: count,
    reconnect_ms: count,
    idle_seconds: count,
    message_ttl_seconds: count,
  }),
});
const parked = z.object({
  feed: z.string(),
  changes: count,
  refused: count,
  since: z.string(),
  reason: z.string().nullable(),
});
const state = z
  .discriminatedUnion("store", [
    common.extend({
      store: z.literal("ready"),
      channels: z.object({ total: count, public: count, private: count, presence: count }),
      tables_monitored: count.meta({ description: "Tables whose row changes are captured." }),
      row_changes: z.object({
        listener: z.string(),
        outbox_bytes: count,
        outbox_limit: count,
        capturing: z.boolean(),
        stopped_at: z.string().nullable(),
        parked: z.array(parked),
        alarms: z.array(z.string()).meta({ description: "What is wrong, in words." }),
      }),
    }),
    common.extend({ store: z.literal("none") }),
    common.extend({ store: z.enum(["not_initialised", "unavailable"]), reason: z.string() }),
  ])
  .meta({ id: "Status" });

const operations = {
  show: operation({
    id: "getStatus",
    tag: "System",
    summary: "Show the state of the system",
    description: "That PostgreSQL is away or empty is part of the state, not a failure to tell it.",
    answers: { 200: state },
    commands: ["status"],
  }),
  init: operation({
    id: "initialise",
    tag: "System",
    summary: "Make the default channel; may be repeated",
    description: "The schema of the database is made by the command before it calls this.",
    answers: { 200: z.object({ channel: z.string(), created: z.boolean(), table: z.string().nullable() }) },
    commands: ["init"],
  }),
};

export const status = new Hono<AdminEnv>()
  .get("/status", operations.show, async (c) => {
    const { ports } = c.var;
    const { settings } = ports;
    const [connections, stored] = await Promise.all([openConnections(ports), storeStatus(ports)]);
    const view: z.infer<typeof state> = {
      ...stored,
      enabled: settings.REALTIME_ENABLED,
      connections: connections.length,
      active_subscriptions: connections.reduce((sum, { subscriptions }) => sum + subscriptions, 0),
      limits: {
        messages_per_minute: settings.REALTIME_MESSAGES_PER_MINUTE,
        presence_calls_per_minute: settings.REALTIME_PRESENCE_PER_MINUTE,
        max_payload_bytes: settings.REALTIME_MAX_PAYLOAD,
        max_channels_per_connection: settings.REALTIME_MAX_CHANNELS,
        max_connections: settings.REALTIME_MAX_CONNECTIONS,
        max_connections_per_gateway: settings.REALTIME_GATEWAY_SOCKETS,
        heartbeat_seconds: settings.REALTIME_HEARTBEAT_INTERVAL,
        reconnect_ms: settings.REALTIME_RECONNECT_DELAY,
        idle_seconds: limitsFrom(settings).idleMs / 1_000,
        message_ttl_seconds: settings.REALTIME_MESSAGE_TTL,
      },
    };
    return c.json(view);
  })
  .post("/init", operations.init, async (c) => {
    const { ports } = c.var;
    // Whatever was made of the default channel since the first time is left alone.
    const there = await ports.store.channels.findSlug(DEFAULT_CHANNEL);
    if (there === undefined) await register(ports, { name: DEFAULT_CHANNEL }, false);
    const table = await ports.store.tables.example();
    return c.json({ channel: DEFAULT_CHANNEL, created: there === undefined, table: table ?? null });
  });

/** What PostgreSQL says; that it is away or empty is part of the state, not a failure to tell it. */
export async function fromStore<Answer extends object>(ask: () => Promise<Answer>) {
  try {
    return { store: "ready" as const, ...(await ask()) };
  } catch (error) {
    if (error instanceof NoDatabase) return { store: "none" as const };
    if (error instanceof StoreNotReady) return { store: "not_initialised" as const, reason: error.message };
    if (error instanceof StoreUnavailable) return { store: "unavailable" as const, reason: error.message };
    throw error;
  }
}

function storeStatus(ports: AdminPorts) {
  return fromStore(async () => {
    const [types, tables, listener] = await Promise.all([
      ports.store.channels.countByType(),
      ports.store.tables.countCaptured(),
      ports.store.listener.state(),
    ]);
    return { channels: channelCounts(types), tables_monitored: tables, row_changes: rowChanges(listener) };
  });
}

/** A direct channel is a private one for two: the three kinds that users know add up to the total. */
export function channelCounts({ public: open, presence, ...types }: Record<ChannelType, number>) {
  const closed = types.private + types.direct;
  return { total: open + closed + presence, public: open, private: closed, presence };
}

/** From this part of its limit on the outbox is told to be too large. */
const ALARM_FROM = 0.5;

/** The state of row changes, with what is wrong with it in words. */
function rowChanges({ leading, report, outbox_bytes, outbox_limit, capturing, stopped_at, parked }: ListenerState) {
  const percent = Math.round((outbox_bytes / outbox_limit) * 100);
  const alarms: string[] = [];
  if (!leading) alarms.push("no listener runs: row changes wait in the outbox");
  if (!capturing) {
    alarms.push("the outbox is full: row changes are not captured until what waits in it is delivered");
  } else if (outbox_bytes >= outbox_limit * ALARM_FROM) {
    alarms.push(`the outbox is ${percent} % full: at its limit row changes are no longer captured`);
  }
  if (report.edgeFailing)
    alarms.push(`the listener cannot deliver ${report.edgeFailing.feed}: ${report.edgeFailing.reason}`);
  for (const { feed, changes, refused, reason } of parked) {
    if (changes > 0) alarms.push(`${changes} changes of ${feed} are parked until the edge takes them`);
    if (refused > 0) {
      alarms.push(
        `${refused} changes of ${feed} are refused (${reason}): realtime.retry_refused() or realtime.drop_refused()`,
      );
    }
  }
  if (report.polling) alarms.push(`row changes are polled for: ${report.polling}`);
  return {
    listener: leading ? (report.state ?? "leading") : "away",
    outbox_bytes,
    outbox_limit,
    capturing,
    stopped_at,
    parked,
    alarms,
  };
}
