// The command stats.
import type { Command } from "commander";
import { type ReadOptions, reading } from "../arguments.ts";
import { CliError } from "../errors.ts";
import { heading, line, list, show } from "../output.ts";
import { admin, answer } from "../server.ts";
import { count } from "../time.ts";

/** Adds stats. */
export function statsCommand(realtime: Command): void {
  reading(realtime.command("stats").description("show statistics of the whole")).action(stats);
}

const askStats = () => answer(admin().stats.$get());

async function stats(_json: unknown, { format }: ReadOptions): Promise<void> {
  const value = await askStats();
  const { connections, channels, messages_24h, subscriptions, broadcasts, presence } = value;
  const blocks = { connections, channels, messages_24h, subscriptions, broadcasts, presence };
  const text = () => tell(blocks);
  if (format === "json") show(format, { value, keys: [], text });
  else show(format, { value: figuresOf(blocks), keys: ["block", "figure", "value"], text });
  if (value.reason !== null && value.reason !== undefined) throw new CliError(value.reason);
}

type Stats = Awaited<ReturnType<typeof askStats>>;
type Blocks = Pick<Stats, "connections" | "channels" | "messages_24h" | "subscriptions" | "broadcasts" | "presence">;

/** A row for each number: side by side they are wider than any screen. */
function figuresOf(blocks: Blocks): { block: string; figure: string; value: number | null }[] {
  return Object.entries(blocks).flatMap(([block, figures]) =>
    Object.entries(figures ?? {}).map(([figure, value]) => ({ block, figure, value })),
  );
}

function tell({ connections, channels, messages_24h, subscriptions, broadcasts, presence }: Blocks): void {
  heading("Real-Time Statistics:");
  const latency = connections.average_latency_ms;
  block("WebSocket Connections", [
    ["Active:", count(connections.active)],
    ["Peak (24h):", count(connections.peak_24h)],
    ["Average latency:", latency === null ? "-" : `${count(latency)}ms`],
  ]);
  block("Channels", [
    ["Total:", known(channels?.total)],
    ["Public:", known(channels?.public)],
    ["Private:", known(channels?.private)],
    ["Presence:", known(channels?.presence)],
  ]);
  block("Messages (24h)", [
    ["Sent:", count(messages_24h.sent)],
    ["Delivered:", count(messages_24h.delivered)],
    ["Failed:", count(messages_24h.failed)],
  ]);
  block("Broadcasts", [
    ["Total:", known(broadcasts?.total_messages)],
    ["Last hour:", known(broadcasts?.messages_last_hour)],
    ["Last day:", known(broadcasts?.messages_last_day)],
    ["Event types:", known(broadcasts?.unique_event_types)],
    ["Senders:", known(broadcasts?.unique_senders)],
  ]);
  block("Database Subscriptions", [
    ["Active:", count(subscriptions.active)],
    ["Tables monitored:", known(subscriptions.tables_monitored)],
    ["Events processed (24h):", count(subscriptions.events_processed_24h)],
  ]);
  block("Presence", [
    ["Users tracked:", count(presence.users_tracked)],
    ["Currently online:", count(presence.online)],
    ["Heartbeats (1m):", count(presence.heartbeats_1m)],
  ]);
}

/** A number that only PostgreSQL knows. */
function known(number: number | null | undefined): string {
  return number === null || number === undefined ? "-" : count(number);
}

function block(title: string, rows: string[][]): void {
  line();
  line(`${title}:`);
  list(rows, [23]);
}
