// The command cleanup: what is old or left over goes.
import { type Command, InvalidArgumentError } from "commander";
import { type ReadOptions, reading } from "../arguments.ts";
import { show, success } from "../output.ts";
import { admin, answer } from "../server.ts";
import { count } from "../time.ts";

/** Adds cleanup. */
export function cleanupCommand(realtime: Command): void {
  reading(
    realtime
      .command("cleanup")
      .description("remove stale connections, old messages, expired presence and orphaned subscriptions")
      .argument("[hours]", "age from which messages are old (default: REALTIME_MESSAGE_TTL)", (value) =>
        value === "json" ? value : wholeHours(value),
      )
      .option("--retention <hours>", "the same", wholeHours),
  ).action(cleanup);
}

function wholeHours(value: string): string {
  if (/^\d{1,6}$/.test(value)) return value;
  throw new InvalidArgumentError("It must be a whole number of hours.");
}

async function cleanup(
  given: string | undefined,
  _json: unknown,
  { format, retention }: ReadOptions & { retention?: string },
): Promise<void> {
  const hours = given ?? retention;
  const value = await answer(admin().cleanup.$post({ json: hours === undefined ? {} : { hours: Number(hours) } }));
  show(format, {
    value,
    keys: ["stale_connections", "old_messages", "expired_presence", "orphaned_subscriptions"],
    text: () => {
      success(`Stale connections: ${count(value.stale_connections)}`);
      success(`Old messages: ${count(value.old_messages)}`);
      success(`Expired presence: ${count(value.expired_presence)}`);
      success(`Orphaned subscriptions: ${count(value.orphaned_subscriptions)}`);
    },
  });
}
