// One batch over HTTP to the edge: its bytes, its signature, and what the answer means.
import { createHmac } from "node:crypto";
import type { Table } from "./catalogue.ts";
import type { Change } from "./changes.ts";

/** How long the edge may take to answer a batch, milliseconds. */
const patience = 10_000;

/** The first line of a batch. */
export interface Header {
  v: 1;
  source: string;
  epoch: number;
  /** Counts up within an epoch; with the position in the batch it is the order of changes. */
  batch: number;
  /** The edge may have had this before: it compares ids. */
  redelivered: boolean;
  feed: string;
  tables: Record<string, Table>;
}

export type Answer =
  | { kind: "acked" }
  /** The edge has seen a newer epoch: someone else delivers. */
  | { kind: "fenced" }
  | { kind: "too-large" }
  /** The secrets differ. */
  | { kind: "unauthorized" }
  | { kind: "failed"; reason: string };

export interface Edge {
  url: string;
  secret: string;
}

/** What a change says that lost values to its size, in Supabase's words. */
const tooLarge = "Error 413: Payload Too Large";

/**
 * A change as a line of the body; `reduced` when values were left out. Images are spliced in as text: JSON allows line
 * breaks only between tokens. An image that should be there and is not was too large to capture or to carry.
 */
export function changeLine(change: Change, reduced = false): string {
  const { seq, xid, relid, op, at } = change;
  const incomplete = (change.new === null && "IU".includes(op)) || (change.old === null && "UD".includes(op));
  const errors = reduced || incomplete ? `,"errors":${JSON.stringify([tooLarge])}` : "";
  const images = image("new", change.new) + image("old", change.old);
  return `{"id":"${seq}","x":"${xid}","r":${relid},"op":"${op}","at":"${at}"${images}${errors}}`;
}

function image(name: string, json: string | null): string {
  return json === null ? "" : `,"${name}":${json.replace(/[\r\n]/g, " ")}`;
}

/** Posts one batch. Never throws: what cannot be delivered is an answer too. */
export async function postBatch(edge: Edge, header: Header, lines: string[], signal: AbortSignal): Promise<Answer> {
  const body = `${JSON.stringify(header)}\n${lines.join("\n")}\n`;
  const timestamp = Math.floor(Date.now() / 1000).toString();
  const signature = createHmac("sha256", edge.secret).update(`${timestamp}.${body}`).digest("hex");
  try {
    const response = await fetch(`${edge.url}/internal/changes`, {
      method: "POST",
      headers: {
        "content-type": "application/x-ndjson",
        "x-nself-timestamp": timestamp,
        "x-nself-signature": signature,
      },
      body,
      signal: AbortSignal.any([signal, AbortSignal.timeout(patience)]),
    });
    return await understand(response, header.batch);
  } catch (error) {
    return { kind: "failed", reason: error instanceof Error ? explain(error) : String(error) };
  }
}

async function understand(response: Response, batch: number): Promise<Answer> {
  const text = await response.text();
  if (response.status === 409) return { kind: "fenced" };
  if (response.status === 413) return { kind: "too-large" };
  if (response.status === 401) return { kind: "unauthorized" };
  if (response.status !== 200) return { kind: "failed", reason: `status ${response.status}: ${text.slice(0, 200)}` };
  // Only the batch's own number is an acknowledgement: a proxy's friendly 200 is none.
  return new RegExp(`"ack"\\s*:\\s*${batch}\\b`).test(text)
    ? { kind: "acked" }
    : { kind: "failed", reason: `status 200 without "ack": ${batch}` };
}

function explain(error: Error): string {
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}
