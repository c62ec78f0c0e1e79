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

async function stats(_json: unknown, { format }: ReadOptions): Promise<void> {
  const value = await answer(admin().stats.$get());
  const { connections, channels, messages_24h: messages, subscriptions, broadcasts, presence } = value;
  show(format, {
    value,
    keys: ["connections", "channels", "messages_24h", "subscriptions", "broadcasts", "presence"],
    text: () => {
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
        ["Sent:", count(messages.sent)],
        ["Delivered:", count(messages.delivered)],
        ["Failed:", count(messages.failed)],
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
    },
  });
  if (value.reason !== null && value.reason !== undefined) throw new CliError(value.reason);
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
