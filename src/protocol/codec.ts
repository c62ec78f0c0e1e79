// The codec: frames of protocol versions 1.0.0 and 2.0.0, decoded and encoded (protocol.md §2).
import { decodeUserBroadcast } from "./binary.ts";
import { type ClientFrame, MalformedFrame, TOO_DEEP, type Version } from "./frames.ts";
import { isDeeper, type JsonText, parseJson } from "./json.ts";
import { MAX_DEPTH } from "./limits.ts";

/** Decodes a frame. Throws MalformedFrame. */
export function decodeFrame(version: Version, data: string | ArrayBuffer): ClientFrame {
  if (typeof data !== "string") return decodeUserBroadcast(new Uint8Array(data));
  const value = parseJson(data);
  if (value === undefined) throw new MalformedFrame("the frame is not JSON");
  if (isDeeper(data, MAX_DEPTH)) throw new MalformedFrame(TOO_DEEP);
  return version === "1.0.0" ? fromObject(value) : fromArray(value);
}

function fromArray(value: unknown): ClientFrame {
  if (!Array.isArray(value) || value.length < 5) {
    throw new MalformedFrame("the frame is not [join_ref, ref, topic, event, payload]");
  }
  return frame(value[0], value[1], value[2], value[3], value[4]);
}

function fromObject(value: unknown): ClientFrame {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new MalformedFrame("the frame is not an object");
  }
  const fields: Record<string, unknown> = { ...value };
  for (const key of ["topic", "event", "payload", "ref"]) {
    if (!(key in fields)) throw new MalformedFrame(`the frame has no "${key}"`);
  }
  return frame(fields.join_ref, fields.ref, fields.topic, fields.event, fields.payload);
}

function frame(joinRef: unknown, ref: unknown, topic: unknown, event: unknown, payload: unknown): ClientFrame {
  if (typeof topic !== "string" || typeof event !== "string") {
    throw new MalformedFrame("topic and event must be strings");
  }
  return { joinRef: refOf(joinRef, "join_ref"), ref: refOf(ref, "ref"), topic, event, payload };
}

function refOf(value: unknown, name: string): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === "string") return value;
  // Some clients count in numbers; a string is what every one of them can match.
  if (typeof value === "number") return String(value);
  throw new MalformedFrame(`${name} must be a string`);
}

/** Encodes a frame for a client; `payload` is JSON text. Version 1.0.0 has no join_ref (protocol.md §2.1). */
export function encodeFrame(
  version: Version,
  joinRef: string | null,
  ref: string | null,
  topic: string,
  event: string,
  payload: JsonText,
): string {
  return version === "1.0.0"
    ? `{"topic":${JSON.stringify(topic)},"event":${JSON.stringify(event)},"payload":${payload},"ref":${JSON.stringify(ref)}}`
    : `[${JSON.stringify(joinRef)},${JSON.stringify(ref)},${JSON.stringify(topic)},${JSON.stringify(event)},${payload}]`;
}

/** The frame of a reply to `ref` (protocol.md §2.2). `response` is always an object: clients read its keys unasked. */
export function encodeReply(
  version: Version,
  to: { readonly joinRef: string | null; readonly ref: string | null; readonly topic: string },
  status: "ok" | "error",
  response: object,
): string {
  const payload = JSON.stringify({ status, response });
  return encodeFrame(version, to.joinRef, to.ref, to.topic, "phx_reply", payload);
}
