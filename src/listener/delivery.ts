// What goes to the edge over HTTP: its bytes, its signature, and what the answer means.
import { createHmac } from "node:crypto";
import * as z from "zod";
import { type JsonText, mapMembers, parseJson, utf8Length } from "../protocol/json.ts";
import type { Table } from "./catalogue.ts";
import type { Change } from "./changes.ts";
import { post, type Reply } from "./post.ts";

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
  /** Taken. `unsent` are messages that nobody can be sent, and why. */
  | { kind: "acked"; unsent: Unsent[] }
  /** The edge has seen a newer epoch: someone else delivers. */
  | { kind: "fenced" }
  | { kind: "too-large" }
  /** It is bad, and will be the next time. */
  | { kind: "refused"; reason: string }
  /** The secrets differ. */
  | { kind: "unauthorized" }
  | { kind: "failed"; reason: string };

const acknowledgement = z.object({
  ack: z.number(),
  unsent: z.array(z.object({ id: z.string(), reason: z.string() })).default([]),
});

export type Unsent = z.infer<typeof acknowledgement>["unsent"][number];

export interface Edge {
  url: string;
  secret: string;
}

/** What a change says that lost values to its size, in Supabase's words. */
const tooLarge = "Error 413: Payload Too Large";

/**
 * A change as a line of the body, with `last` where it ends its transaction on its feed. Images are spliced in as text:
 * JSON allows line breaks only between tokens. They come last, so that the edge finds their end. An image that should be
 * there and is not was too large to capture or to carry.
 */
export function changeLine(change: Change, { last = false } = {}): string {
  const { seq, xid, relid, op, at } = change;
  const incomplete = (change.new === null && "IU".includes(op)) || (change.old === null && "UD".includes(op));
  const error = change.error ?? (incomplete ? tooLarge : undefined);
  const errors = error === undefined ? "" : `,"errors":${JSON.stringify([error])}`;
  const images = image("new", change.new) + image("old", change.old);
  const end = last ? ',"last":true' : "";
  return `{"id":"${seq}","x":"${xid}"${end},"r":${relid},"op":"${op}","at":"${at}"${errors}${images}}`;
}

/** The change without its values of more than `bytes` bytes of JSON; those that stay keep every digit. */
export function shrink(change: Change, bytes: number): Change {
  const small = (images: JsonText | null): JsonText | null =>
    images === null ? null : mapMembers(images, (_, value) => (utf8Length(value) <= bytes ? value : undefined));
  return { ...change, new: small(change.new), old: small(change.old), error: tooLarge };
}

function image(name: string, json: string | null): string {
  return json === null ? "" : `,"${name}":${json.replace(/[\r\n]/g, " ")}`;
}

/** Posts one batch. Never throws: what cannot be delivered is an answer too. */
export async function postBatch(edge: Edge, header: Header, lines: string[], signal: AbortSignal): Promise<Answer> {
  const body = `${JSON.stringify(header)}\n${lines.join("\n")}\n`;
  const response = await send(edge, "changes", body, signal);
  return "failure" in response ? { kind: "failed", reason: response.failure } : understand(response, header.batch);
}

/** Tells the edge that the policies on realtime.messages have changed. Never throws: answers why it failed, or null. */
export async function postPolicies(edge: Edge, digest: string, signal: AbortSignal): Promise<string | null> {
  const response = await send(edge, "policies", JSON.stringify({ digest }), signal);
  if ("failure" in response) return response.failure;
  return response.status === 200 ? null : failure(response);
}

/** Whether the edge answers at all. Never throws. */
export async function edgeAnswers(edge: Edge, signal: AbortSignal): Promise<boolean> {
  try {
    const response = await fetch(`${edge.url}/health`, {
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(2_000)]),
    });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

async function send(
  edge: Edge,
  door: "changes" | "policies",
  body: string,
  signal: AbortSignal,
): Promise<Reply | { failure: string }> {
  const timestamp = Math.floor(Date.now() / 1000).toString();
  const headers = {
    "content-type": door === "changes" ? "application/x-ndjson" : "application/json",
    "x-nself-timestamp": timestamp,
    "x-nself-signature": createHmac("sha256", edge.secret).update(`${timestamp}.${body}`).digest("hex"),
  };
  try {
    return await post(new URL(`${edge.url}/internal/${door}`), headers, body, { patience, signal });
  } catch (error) {
    return { failure: explain(error) };
  }
}

function understand(response: Reply, batch: number): Answer {
  const { status, text } = response;
  if (status === 409) return { kind: "fenced" };
  if (status === 413) return { kind: "too-large" };
  if (status === 400) return { kind: "refused", reason: failure(response) };
  if (status === 401) return { kind: "unauthorized" };
  if (status !== 200) return { kind: "failed", reason: failure(response) };
  // Only the batch's own number is an acknowledgement: a proxy's friendly 200 is none.
  const result = acknowledgement.safeParse(parseJson(text));
  return result.data?.ack === batch
    ? { kind: "acked", unsent: result.data.unsent }
    : { kind: "failed", reason: `status 200 without "ack": ${batch}` };
}

function failure({ status, text }: Reply): string {
  return `status ${status}: ${text.slice(0, 200)}`;
}

/** Where a name has several addresses and none answers, the error has no message of its own. */
function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message || ("code" in error ? String(error.code) : error.name);
}
