// Commands on what was sent: events, and what `broadcast` says of a channel or deletes.
import type { Command } from "commander";
import { positive, type ReadOptions, reading, text } from "../arguments.ts";
import { type Format, heading, line, list, show, success } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";
import { count } from "../time.ts";
import { agreed } from "./cleanup.ts";

const DEFAULT_HOURS = "24";

/** Adds events. */
export function eventsCommand(realtime: Command): void {
  reading(
    realtime
      .command("events")
      .description("count the events of the last hours, most frequent first")
      .argument("[channel]", "slug, id or name (default: all channels)", text)
      .argument("[hours]", `how far back, at most 720 (default: ${DEFAULT_HOURS})`, (value) =>
        value === "json" ? value : positive(value),
      ),
  ).action(events);
}

async function events(
  channel: string | undefined,
  hours: string | undefined,
  _json: unknown,
  { format }: ReadOptions,
): Promise<void> {
  const api = admin();
  const recent = hours === undefined ? {} : { hours };
  const value = await rows((page) => {
    const query = { ...page, ...recent };
    return channel === undefined
      ? api.events.$get({ query })
      : api.channels[":channel"].events.$get({ param: { channel: segment(channel) }, query });
  });
  show(format, {
    value,
    keys: ["event_type", "count", "last_sent"],
    text: () => {
      heading(`Event Types (last ${hours ?? DEFAULT_HOURS}h):`);
      line();
      list(
        value.map((row) => [row.event_type, `${count(row.count)} events`]),
        [20],
      );
    },
  });
}

/** Shows the totals of a channel. */
export async function showStatistics(channel: string, format: Format): Promise<void> {
  const param = { channel: segment(channel) };
  const value = await answer(admin().channels[":channel"].messages.stats.$get({ param }));
  show(format, {
    value,
    keys: ["total_messages", "messages_last_hour", "messages_last_day", "unique_event_types", "unique_senders"],
    text: () => {
      heading(`Broadcasts (${channel}):`);
      line();
      list(
        [
          ["Total messages:", count(value.total_messages)],
          ["Last hour:", count(value.messages_last_hour)],
          ["Last day:", count(value.messages_last_day)],
          ["Event types:", count(value.unique_event_types)],
          ["Senders:", count(value.unique_senders)],
        ],
        [15],
      );
    },
  });
}

/** Deletes the messages of all channels that are older than so many hours, at a terminal once that is agreed to. */
export async function deleteOlder(hours: number, yes = false): Promise<void> {
  if (!yes && !(await agreed(hours))) return;
  const { deleted } = await answer(admin().messages.cleanup.$post({ json: { hours } }));
  success(`Messages deleted: ${count(deleted)}`);
}
