// The command cleanup: what is old or left over goes.
import { type Command, InvalidArgumentError } from "commander";
import { confirm, type ReadOptions, reading } from "../arguments.ts";
import { line, show, success } from "../output.ts";
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
      .option("--retention <hours>", "the same", wholeHours)
      .option("-y, --yes", "do not ask, as at a terminal for hours fewer than REALTIME_MESSAGE_TTL"),
  ).action(cleanup);
}

function wholeHours(value: string): string {
  if (/^\d{1,6}$/.test(value)) return value;
  throw new InvalidArgumentError("It must be a whole number of hours.");
}

async function cleanup(
  given: string | undefined,
  _json: unknown,
  { format, retention, yes }: ReadOptions & { retention?: string; yes?: true },
): Promise<void> {
  const hours = given ?? retention;
  if (hours !== undefined && !yes && !(await agreed(Number(hours)))) return;
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

/**
 * Whether messages older than so many hours may go. Whoever is at a terminal is asked where they would be kept for longer;
 * a script has nobody to ask, and means it.
 */
export async function agreed(hours: number): Promise<boolean> {
  if (!process.stdin.isTTY) return true;
  const { message_ttl_seconds: ttl } = (await answer(admin().status.$get())).limits;
  if (hours * 3_600 >= ttl) return true;
  const kept = `They are kept for ${count(ttl)} s (REALTIME_MESSAGE_TTL).`;
  if (await confirm(`Delete the messages of all channels that are older than ${count(hours)} h? ${kept}`)) return true;
  line("Deletion cancelled");
  return false;
}
