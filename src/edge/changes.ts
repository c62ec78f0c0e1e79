// The listener's door: batches of row changes, signed, each into the feeds of its table.
import { BadBatch, type Batch, MAX_BATCH_BYTES, parseBatch } from "../protocol/changes.ts";
import { feedName, feedObject, parseFeedName } from "../protocol/topics.ts";
import { readBody } from "./body.ts";
import { type Env, settingsOf } from "./env.ts";

/** How far the listener's clock may be off, seconds; an older request may be a replayed one. */
const MAX_SKEW_S = 300;

/** Takes a batch: 200 with its number once every feed has it durably; 409 for a listener whose time is over. */
export async function receiveChanges(request: Request, env: Env): Promise<Response> {
  const bytes = await readBody(request, MAX_BATCH_BYTES);
  if (bytes === undefined) return refuse(413, `a batch holds at most ${MAX_BATCH_BYTES} bytes`);
  // Byte for byte as it was signed, so a byte order mark stays.
  const body = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes);
  const fault = await signatureFault(request.headers, body, settingsOf(env).listenerSecret);
  if (fault !== undefined) return refuse(401, fault);
  let batch: Batch;
  try {
    batch = parseBatch(body);
  } catch (error) {
    if (!(error instanceof BadBatch)) throw error;
    return refuse(error.status, error.message);
  }
  const feeds = feedsOf(batch).map((feed) => env.CHANNEL.getByName(feedObject(feed)));
  const answers = await Promise.all(feeds.map((feed) => feed.changes(batch)));
  if (answers.every((answer) => answer.taken)) return Response.json({ ack: batch.header.batch });
  return refuse(409, `a listener of a newer epoch than ${batch.header.epoch} has delivered: this one must stop`);
}

/** The table's own feed, that of its schema, and that of everything. */
function feedsOf({ header }: Batch): string[] {
  const schema = parseFeedName(header.feed)?.schema;
  return schema === undefined ? [header.feed] : [header.feed, feedName(schema, "*"), "*.*"];
}

async function signatureFault(headers: Headers, body: string, secret: string): Promise<string | undefined> {
  const timestamp = headers.get("x-nself-timestamp") ?? "";
  const signature = fromHex(headers.get("x-nself-signature") ?? "");
  if (timestamp === "" || signature === undefined) return "x-nself-timestamp and x-nself-signature are needed";
  const skew = Math.abs(Date.now() / 1000 - Number(timestamp));
  if (!(skew <= MAX_SKEW_S)) return "x-nself-timestamp is no unix time, or too far from now: check the clocks";
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), algorithm, false, ["verify"]);
  const valid = await crypto.subtle.verify("HMAC", key, signature, encoder.encode(`${timestamp}.${body}`));
  return valid
    ? undefined
    : "the signature is wrong: REALTIME_LISTENER_SECRET must be the same here and at the listener";
}

function fromHex(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[0-9a-f]{64}$/i.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

function refuse(status: number, error: string): Response {
  return Response.json({ error }, { status });
}
