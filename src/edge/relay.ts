// Messages from the database: rows of `realtime.messages`, each to the room of its topic (protocol.md §6.8).
import type { BatchHeader } from "../protocol/changes.ts";
import type { StoredBroadcast, Unsent } from "../protocol/reports.ts";
import { roomObject } from "../protocol/topics.ts";
import { forEachAtOnce } from "./at-once.ts";
import type { Env } from "./env.ts";

/**
 * Takes messages to their rooms, in order within each; answers those that are too large for theirs. `stale` when a newer
 * listener has delivered to one.
 */
export async function relayBroadcasts(
  env: Env,
  header: BatchHeader,
  broadcasts: readonly StoredBroadcast[],
): Promise<Unsent[] | "stale"> {
  const unsent: Unsent[] = [];
  let isStale = false;
  await forEachAtOnce(
    Map.groupBy(broadcasts, (broadcast) => roomObject(broadcast.topic, broadcast.private)),
    async ([room, ofRoom]) => {
      const answer = await env.CHANNEL.getByName(room).relay(header, ofRoom);
      if (answer === "stale") isStale = true;
      else unsent.push(...answer);
    },
  );
  return isStale ? "stale" : unsent;
}
