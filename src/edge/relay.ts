// Messages from the database: rows of `realtime.messages`, each to the room of its topic (protocol.md §6.8).
import type { BatchHeader } from "../protocol/changes.ts";
import type { StoredBroadcast, Unsent } from "../protocol/reports.ts";
import { roomObject } from "../protocol/topics.ts";
import { forEachAtOnce } from "./at-once.ts";
import type { Env } from "./env.ts";

/**
 * Takes messages to their rooms, in order within each topic; answers those that are too large for theirs. `stale` when
 * a newer listener has delivered to one.
 */
export async function relayBroadcasts(
  env: Env,
  header: BatchHeader,
  broadcasts: readonly StoredBroadcast[],
): Promise<Unsent[] | "stale"> {
  const unsent: Unsent[] = [];
  let isStale = false;
  await forEachAtOnce(
    Map.groupBy(broadcasts, ({ topic }) => topic),
    async ([topic, ofTopic]) => {
      // Both rooms of a name may turn out to be one, so their messages go one after the other.
      for (const run of runsOf(ofTopic)) {
        const answer = await relay(env, header, topic, run);
        if (answer === "stale") isStale = true;
        else unsent.push(...answer);
      }
    },
  );
  return isStale ? "stale" : unsent;
}

/** Neighbours that say the same of their room. */
function runsOf(broadcasts: readonly StoredBroadcast[]): StoredBroadcast[][] {
  const runs: StoredBroadcast[][] = [];
  for (const broadcast of broadcasts) {
    const run = runs.at(-1);
    if (run?.[0]?.private === broadcast.private) run.push(broadcast);
    else runs.push([broadcast]);
  }
  return runs;
}

/** What a channel is registered as goes before what the row says. */
async function relay(
  env: Env,
  header: BatchHeader,
  topic: string,
  run: StoredBroadcast[],
): Promise<Unsent[] | "stale"> {
  const isPrivate = run[0]?.private ?? true;
  for (const side of [isPrivate, !isPrivate]) {
    const answer = await env.CHANNEL.getByName(roomObject(topic, side)).relay(header, run);
    if (answer !== "moved") return answer;
  }
  throw new Error(`both rooms of ${JSON.stringify(topic)} say that it is the other: its registration has just changed`);
}
