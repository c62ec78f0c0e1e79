// Binary frames of protocol 2.0.0: kind 3 from clients, kind 4 to them (protocol.md §2.3).
import { type ClientFrame, MalformedFrame, TOO_DEEP, UserBroadcast } from "./frames.ts";
import { isDeeper, isObject, type JsonText, parseJson } from "./json.ts";
import { MAX_DEPTH } from "./limits.ts";

const USER_BROADCAST_PUSH = 3;
const USER_BROADCAST = 4;
const ENCODING_BINARY = 0;
const ENCODING_JSON = 1;
const PUSH_HEADER = 7;
const BROADCAST_HEADER = 5;
const MAX_FIELD = 255;

const encoder = new TextEncoder();
// Fatal: bytes that are no UTF-8 are a malformed frame, not a text with holes.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes a kind 3 frame, the only binary frame that clients send. Throws MalformedFrame. */
export function decodeUserBroadcast(bytes: Uint8Array): ClientFrame {
  const [kind, joinRefLength, refLength, topicLength, eventLength, metadataLength, encoding] = bytes;
  if (kind !== USER_BROADCAST_PUSH) throw new MalformedFrame(`binary frames of kind ${kind} are not understood`);
  if (
    joinRefLength === undefined ||
    refLength === undefined ||
    topicLength === undefined ||
    eventLength === undefined ||
    metadataLength === undefined ||
    encoding === undefined
  ) {
    throw new MalformedFrame("the binary frame ends inside its header");
  }
  let offset = PUSH_HEADER;
  const field = (length: number): string => {
    const end = offset + length;
    if (end > bytes.length) throw new MalformedFrame("the binary frame is shorter than its header says");
    const text = decode(bytes.subarray(offset, end));
    offset = end;
    return text;
  };
  const joinRef = field(joinRefLength);
  const ref = field(refLength);
  const topic = field(topicLength);
  const event = field(eventLength);
  const metadata = metadataLength === 0 ? {} : parseJson(field(metadataLength));
  const rest = bytes.subarray(offset);
  const payload = encoding === ENCODING_BINARY ? rest.slice() : jsonOf(rest);
  return {
    joinRef: joinRef === "" ? null : joinRef,
    ref: ref === "" ? null : ref,
    topic,
    event: "broadcast",
    payload: new UserBroadcast(event, payload, isObject(metadata) ? metadata : {}),
  };
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new MalformedFrame("the binary frame holds text that is not UTF-8");
  }
}

function jsonOf(bytes: Uint8Array): JsonText {
  const text = bytes.length === 0 ? "{}" : decode(bytes);
  if (parseJson(text) === undefined) throw new MalformedFrame("the payload of the binary frame is not JSON");
  if (isDeeper(text, MAX_DEPTH)) throw new MalformedFrame(TOO_DEEP);
  return text;
}

/**
 * Encodes a kind 4 frame. Undefined when topic, event or metadata pass 255 bytes: its length fields hold no more, and
 * the caller falls back to a text frame where it can.
 */
export function encodeUserBroadcast(
  topic: string,
  event: string,
  metadata: JsonText,
  payload: JsonText | Uint8Array,
): Uint8Array | undefined {
  const fields = [topic, event, metadata].map((text) => encoder.encode(text));
  if (fields.some((field) => field.length > MAX_FIELD)) return undefined;
  const data = typeof payload === "string" ? encoder.encode(payload) : payload;
  const frame = new Uint8Array(BROADCAST_HEADER + fields.reduce((sum, field) => sum + field.length, data.length));
  frame.set([
    USER_BROADCAST,
    ...fields.map((field) => field.length),
    typeof payload === "string" ? ENCODING_JSON : ENCODING_BINARY,
  ]);
  let offset = BROADCAST_HEADER;
  for (const part of [...fields, data]) {
    frame.set(part, offset);
    offset += part.length;
  }
  return frame;
}
