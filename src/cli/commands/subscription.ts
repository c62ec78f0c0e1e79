// Commands on captured tables: subscribe, unsubscribe, subscriptions.
import type { Command } from "commander";
import { type ReadOptions, reading, text } from "../arguments.ts";
import { heading, line, list, progress, show, success, warning } from "../output.ts";
import { admin, answer, rows, segment } from "../server.ts";

/** Adds subscribe, unsubscribe and subscriptions. */
export function subscriptionCommands(realtime: Command): void {
  realtime
    .command("subscribe")
    .description("capture the row changes of a table; again: replaces its events, filter and options")
    .argument("<table>", "schema.table, table (of schema public) or 'schema.*'", text)
    .argument("[events]", "INSERT, UPDATE, DELETE, separated by commas (default: all three)", text)
    .argument("[filter]", "rows to capture, such as \"status = 'open'\" (default: all)", text)
    .option("--filter <condition>", "the same, where all events are wanted", text)
    .option("--no-notify", "do not re-send changes to sessions that LISTEN in the database")
    .action(subscribe);
  realtime
    .command("unsubscribe")
    .description("end the capture of a table")
    .argument("<table>", "the table, or the id that subscribe printed", text)
    .action(unsubscribe);
  reading(realtime.command("subscriptions").description("list the captured tables, newest first")).action(
    subscriptions,
  );
}

async function subscribe(
  table: string,
  events: string | undefined,
  filterArgument: string | undefined,
  options: { filter?: string; notify: boolean },
): Promise<void> {
  const filter = options.filter ?? filterArgument;
  progress(`Subscribing to ${table}...`);
  const wish = {
    table,
    ...(events === undefined ? {} : { events: events.split(",").map((event) => event.trim()) }),
    ...(filter === undefined ? {} : { filter }),
    ...(options.notify ? {} : { options: { notify: false } }),
  };
  const made = await answer(admin().subscriptions.$post({ json: wish }));
  success(`Subscribed to ${made.table_name} (${made.events.join(", ")})`);
  line(made.id);
}

async function unsubscribe(table: string): Promise<void> {
  const ended = await answer(admin().subscriptions[":target"].$delete({ param: { target: segment(table) } }));
  success(`Subscription removed: ${ended.table_name}`);
  if (ended.still_captured_by !== null) warning(`it is still captured by ${ended.still_captured_by}`);
}

async function subscriptions(_json: unknown, { format }: ReadOptions): Promise<void> {
  const { subscriptions } = admin();
  const value = await rows((query) => subscriptions.$get({ query }));
  show(format, {
    value,
    keys: ["id", "table_name", "events", "filter", "options", "created_at", "updated_at"],
    text: () => {
      heading("Active Database Subscriptions:");
      line();
      list(
        value.map(({ table_name, events, filter, options }) => [
          table_name,
          events.join(", "),
          [filter ?? "", options.notify === false ? "(no NOTIFY)" : ""].filter(Boolean).join(" "),
        ]),
        [24, 22],
      );
    },
  });
}
