// The listener's door: batches of row changes, each into the feeds of its table, and what our own tables report.
import { BadBatch, type Batch, type BatchHeader, openBatch, parseChanges } from "../protocol/changes.ts";
import { parseBroadcasts, parseMembers, parseSlugs, type Unsent } from "../protocol/reports.ts";
import { feedName, feedObject, parseFeedName } from "../protocol/topics.ts";
import { StoreNotReady, StoreUnavailable } from "../store/database.ts";
import type { Env } from "./env.ts";
import { configureChannels, reauthorizeMembers } from "./registrations.ts";
import { relayBroadcasts } from "./relay.ts";
import { readSigned, refuse } from "./signed.ts";

/** What became of a batch that is not bad: taken, durably, or `stale`: its listener's time is over. */
type Outcome = { readonly taken: true; readonly unsent?: readonly Unsent[] } | "stale";

/**
 * Takes a batch: 200 with its number once all of it is durable or done; 409 for a listener whose time is over, 503 when
 * PostgreSQL must be asked and does not answer.
 */
export async function receiveChanges(request: Request, env: Env): Promise<Response> {
  const body = await readSigned(request, env);
  if (body instanceof Response) return body;
  try {
    const { header, lines } = openBatch(body);
    const outcome = await deliver(env, header, lines);
    if (outcome !== "stale") return Response.json({ ack: header.batch, unsent: outcome.unsent });
    return refuse(409, `a listener of a newer epoch than ${header.epoch} has delivered: this one must stop`);
  } catch (error) {
    if (error instanceof BadBatch) return refuse(error.status, error.message);
    if (error instanceof StoreUnavailable || error instanceof StoreNotReady) return refuse(503, error.message);
    throw error;
  }
}

async function deliver(env: Env, header: BatchHeader, lines: readonly string[]): Promise<Outcome> {
  switch (header.feed) {
    case "realtime.messages": {
      const { broadcasts, unsent } = parseBroadcasts(lines);
      const answer = await relayBroadcasts(env, header, broadcasts);
      return answer === "stale" ? "stale" : { taken: true, unsent: [...unsent, ...answer] };
    }
    case "realtime.channels":
      await configureChannels(env, parseSlugs(lines));
      return { taken: true };
    case "realtime.channel_members":
      await reauthorizeMembers(env, parseMembers(lines));
      return { taken: true };
  }
  const batch = { header, changes: parseChanges(header, lines) };
  const answers = await Promise.all([
    take(env, header.feed, batch),
    ...wildcardsOf(header).map((feed) => takeIfHeard(env, feed, batch)),
  ]);
  return answers.every((isTaken) => isTaken) ? { taken: true } : "stale";
}

async function take(env: Env, feed: string, batch: Batch): Promise<boolean> {
  const answer = await env.CHANNEL.getByName(feedObject(feed)).changes(batch);
  if ("away" in answer) throw new StoreUnavailable(answer.away, {});
  return answer.taken;
}

/** Few listen to whole schemas, and a batch is large. */
async function takeIfHeard(env: Env, feed: string, batch: Batch): Promise<boolean> {
  const skips = await env.CHANNEL.getByName(feedObject(feed)).skips(batch.header);
  return skips === false ? take(env, feed, batch) : skips === true;
}

/** The feeds of a table's schema, and of everything. */
function wildcardsOf({ feed }: BatchHeader): string[] {
  const schema = parseFeedName(feed)?.schema;
  return schema === undefined ? [] : [feedName(schema, "*"), "*.*"];
}
