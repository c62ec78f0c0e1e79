// The listener's door: batches of row changes, each into the feeds of its table, and what our own tables report.
import { BadBatch, type BatchHeader, openBatch } from "../protocol/changes.ts";
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
    const outcome = await deliver(env, body, header, lines);
    if (outcome !== "stale") return Response.json({ ack: header.batch, unsent: outcome.unsent });
    return refuse(409, `a listener of a newer epoch than ${header.epoch} has delivered: this one must stop`);
  } catch (error) {
    if (error instanceof BadBatch) return refuse(error.status, error.message);
    if (error instanceof StoreUnavailable || error instanceof StoreNotReady) return refuse(503, error.message);
    throw error;
  }
}

async function deliver(env: Env, body: string, header: BatchHeader, lines: readonly string[]): Promise<Outcome> {
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
  const answers = await Promise.all([
    take(env, header.feed, body),
    ...wildcardsOf(header).map((feed) => takeIfHeard(env, feed, header, body)),
  ]);
  return answers.every((isTaken) => isTaken) ? { taken: true } : "stale";
}

/** The object gets the batch as it came: one text is copied between objects faster than what stands in it. */
async function take(env: Env, feed: string, body: string): Promise<boolean> {
  const answer = await env.CHANNEL.getByName(feedObject(feed)).changes(body);
  if ("away" in answer) throw new StoreUnavailable(answer.away, {});
  if ("bad" in answer) throw new BadBatch(answer.bad, answer.status);
  return answer.taken;
}

/** Few listen to whole schemas, and a batch is large. */
async function takeIfHeard(env: Env, feed: string, header: BatchHeader, body: string): Promise<boolean> {
  const skips = await env.CHANNEL.getByName(feedObject(feed)).skips(header);
  return skips === false ? take(env, feed, body) : skips === true;
}

/** The feeds of a table's schema, and of everything. */
function wildcardsOf({ feed }: BatchHeader): string[] {
  const schema = parseFeedName(feed)?.schema;
  return schema === undefined ? [] : [feedName(schema, "*"), "*.*"];
}
