// Frames: what a client says, whatever version and encoding it came in.
import type { JsonText } from "./json.ts";
import { MAX_DEPTH } from "./limits.ts";

export type Version = "1.0.0" | "2.0.0";

/** A frame from a client, of either version. `ref` and `joinRef` are echoed untouched (protocol.md §2). */
export interface ClientFrame {
  readonly joinRef: string | null;
  readonly ref: string | null;
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
}

/** A broadcast that came as a binary frame: its payload is still text, or bytes that are nobody's business. */
export class UserBroadcast {
  readonly event: string;
  readonly payload: JsonText | Uint8Array;
  /** The frame's metadata. */
  readonly metadata: Readonly<Record<string, unknown>>;
  constructor(event: string, payload: JsonText | Uint8Array, metadata: Readonly<Record<string, unknown>> = {}) {
    this.event = event;
    this.payload = payload;
    this.metadata = metadata;
  }
}

/** A frame that cannot be read. It is dropped and the socket kept (protocol.md §1.5); the reason goes to the log. */
export class MalformedFrame extends Error {
  override readonly name = "MalformedFrame";
}

/** Why a frame is refused that nobody behind the door could follow. */
export const TOO_DEEP = `the frame is nested deeper than ${MAX_DEPTH} levels`;
