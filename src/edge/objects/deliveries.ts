// Deliveries: what a listener brings to a channel, row changes and messages of the database, and what it is answered.
import type { Channel } from "../../channel/channel.ts";
import type { ChannelAccess } from "../../channel/ports.ts";
import type { Tally } from "../../gateway/tally.ts";
import { BadBatch, type BatchHeader, openBatch, parseChanges } from "../../protocol/changes.ts";
import { exceeds } from "../../protocol/json.ts";
import { type StoredBroadcast, type Unsent, unsent } from "../../protocol/reports.ts";
import { StoreNotReady, StoreUnavailable } from "../../store/database.ts";
import { type Env, settingsOf } from "../env.ts";

/** What became of a batch: taken, or not, its listener's time being over; refused as bad; or PostgreSQL is away. */
export type BatchAnswer = { taken: boolean } | { bad: string; status: 400 | 413 } | { away: string };

/** Takes the body of a batch of row changes into a feed. */
export async function takeChanges(core: Channel, tally: Tally, body: string): Promise<BatchAnswer> {
  try {
    const { header, lines } = openBatch(body);
    const taken = await core.changes({ header, changes: parseChanges(header, lines) });
    if (taken === "stale") return { taken: false };
    // A change comes to its table's own feed and to those of whole schemas: it is counted once.
    if (!core.name.sub.endsWith(".*")) tally.changed(taken);
    return { taken: true };
  } catch (error) {
    if (error instanceof BadBatch) return { bad: error.message, status: error.status };
    // Nobody can say now who may see it.
    if (error instanceof StoreUnavailable || error instanceof StoreNotReady) return { away: error.message };
    throw error;
  }
}

/**
 * Takes messages that were inserted into `realtime.messages`, in their order, each once, and answers those that are too
 * large. `stale`: a newer listener has delivered before. The row says in which room they belong, by what the channel was
 * registered as when they were inserted: what is remembered here may be older.
 */
export async function takeBroadcasts(
  env: Env,
  core: Channel,
  access: ChannelAccess,
  header: BatchHeader,
  broadcasts: readonly StoredBroadcast[],
): Promise<Unsent[] | "stale"> {
  const registration = await access.registration().catch(() => null);
  const most = registration?.limits.payloadBytes ?? settingsOf(env).limits.payloadBytes;
  const large = new Set(broadcasts.filter(({ payload }) => exceeds(payload, most)));
  const fitting = broadcasts.filter((broadcast) => !large.has(broadcast));
  if (!core.relay(header, fitting)) return "stale";
  return [...large].map((broadcast) => unsent(broadcast, `its payload is larger than ${most} bytes`));
}
