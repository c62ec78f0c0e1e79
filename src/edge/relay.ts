// Messages from the database: rows of `realtime.messages`, each to the room of its topic (protocol.md §6.8).
import type { BatchHeader } from "../protocol/changes.ts";
import type { StoredBroadcast } from "../protocol/reports.ts";
import { roomObject } from "../protocol/topics.ts";
import { forEachAtOnce } from "./at-once.ts";
import type { Env } from "./env.ts";

/** Takes messages to their rooms, in order within each topic. False when a newer listener has delivered to one. */
export async function relayBroadcasts(
  env: Env,
  header: BatchHeader,
  broadcasts: readonly StoredBroadcast[],
): Promise<boolean> {
  let current = true;
  await forEachAtOnce(
    Map.groupBy(broadcasts, ({ topic }) => topic),
    async ([topic, ofTopic]) => {
      // Both rooms of a name may turn out to be one, so their messages go one after the other.
      for (const run of runsOf(ofTopic)) current = (await relay(env, header, topic, run)) && current;
    },
  );
  return current;
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
async function relay(env: Env, header: BatchHeader, topic: string, run: StoredBroadcast[]): Promise<boolean> {
  const isPrivate = run[0]?.private ?? true;
  for (const side of [isPrivate, !isPrivate]) {
    const answer = await env.CHANNEL.getByName(roomObject(topic, side)).relay(header, run);
    if (answer !== "moved") return answer === "taken";
  }
  throw new Error(`both rooms of ${JSON.stringify(topic)} say that it is the other: its registration has just changed`);
}
