// Frames as a client writes and reads them, protocol 2.0.0: the other side of codec.ts and binary.ts. Depends on nothing.

const USER_BROADCAST_PUSH = 3;
const USER_BROADCAST = 4;
const ENCODING_BINARY = 0;
const PUSH_HEADER = 7;
const BROADCAST_HEADER = 5;
const MAX_FIELD = 255;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A frame from the server. */
export interface ServerFrame {
  readonly joinRef: string | null;
  readonly ref: string | null;
  readonly topic: string;
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Encodes a frame whose payload is JSON. */
export function encodeClientFrame(
  joinRef: string | null,
  ref: string,
  topic: string,
  event: string,
  payload: object,
): string {
  return JSON.stringify([joinRef, ref, topic, event, payload]);
}

/** Encodes a broadcast of bytes (protocol.md §2.3). Undefined when topic or event pass 255 bytes: its lengths hold no more. */
export function encodeBytes(
  joinRef: string | null,
  ref: string,
  topic: string,
  event: string,
  bytes: Uint8Array,
): ArrayBuffer | undefined {
  const fields = [joinRef ?? "", ref, topic, event].map((text) => encoder.encode(text));
  if (fields.some(({ length }) => length > MAX_FIELD)) return undefined;
  const frame = new Uint8Array(PUSH_HEADER + fields.reduce((sum, { length }) => sum + length, bytes.length));
  // No metadata.
  frame.set([USER_BROADCAST_PUSH, ...fields.map(({ length }) => length), 0, ENCODING_BINARY]);
  let offset = PUSH_HEADER;
  for (const part of [...fields, bytes]) {
    frame.set(part, offset);
    offset += part.length;
  }
  return frame.buffer;
}

/**
 * Decodes what came over a socket that was opened with `packed=true`: one frame, or a list of them. Those of a kind that is
 * not known here are left out: later servers may have more.
 */
export function decodeServerFrames(data: string | ArrayBuffer): ServerFrame[] {
  if (typeof data !== "string") return [decodeBytes(new Uint8Array(data))].filter((frame) => frame !== undefined);
  const content = parsed(data);
  if (!Array.isArray(content)) return [];
  // A frame is a list too, but its first part is none.
  const frames: unknown[] = Array.isArray(content[0]) ? content : [content];
  return frames.map(decodeText).filter((frame) => frame !== undefined);
}

function decodeText(frame: unknown): ServerFrame | undefined {
  if (!Array.isArray(frame)) return undefined;
  const [joinRef, ref, topic, event, payload]: unknown[] = frame;
  if (typeof topic !== "string" || typeof event !== "string" || !isRecord(payload)) return undefined;
  return { joinRef: textOrNull(joinRef), ref: textOrNull(ref), topic, event, payload };
}

function decodeBytes(bytes: Uint8Array): ServerFrame | undefined {
  const [kind, topicLength = 0, eventLength = 0, metaLength = 0, encoding] = bytes;
  if (kind !== USER_BROADCAST) return undefined;
  let offset = BROADCAST_HEADER;
  const field = (length: number): string => {
    offset += length;
    return decoder.decode(bytes.subarray(offset - length, offset));
  };
  const topic = field(topicLength);
  const event = field(eventLength);
  const meta = metaLength === 0 ? {} : parsed(field(metaLength));
  const rest = bytes.slice(offset);
  const payload = encoding === ENCODING_BINARY ? rest : parsed(decoder.decode(rest));
  return {
    ...{ joinRef: null, ref: null, topic },
    event: "broadcast",
    payload: { type: "broadcast", event, payload, meta },
  };
}

/** Undefined for what is no JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

/** Narrows a value to a JSON object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
