// A client without a client: frames as they go over the wire, for what the stock client never sends.
import { once } from "node:events";
import { WebSocket } from "ws";
import { z } from "zod";
import { eventually, type Version } from "./clients.ts";

const payload = z.record(z.string(), z.unknown());
export const arrayFrame = z.tuple([z.string().nullable(), z.string().nullable(), z.string(), z.string(), payload]);
const objectFrame = z.strictObject({ topic: z.string(), event: z.string(), payload, ref: z.string().nullable() });

/** A text frame from the server. Version 1.0.0 has no join_ref. */
export interface RawFrame {
  readonly joinRef: string | null | undefined;
  readonly ref: string | null;
  readonly topic: string;
  readonly event: string;
  readonly payload: Record<string, unknown>;
}

export interface Reply {
  readonly status: unknown;
  readonly response: Record<string, unknown>;
}

export const replySchema = z.object({ status: z.unknown(), response: payload });

export interface RawOptions {
  readonly vsn?: Version;
  readonly key: string;
  /** Path of the socket. */
  readonly path?: string;
  /** Further query parameters. */
  readonly query?: Readonly<Record<string, string>>;
}

/** Whether text is several frames as one. A frame of 2.0.0 is a list too, whose first part is no frame. */
export function isPack(value: unknown): value is unknown[] {
  return Array.isArray(value) && typeof value[0] === "object" && value[0] !== null;
}

export class RawSocket {
  /** Text frames, in the order in which they came. */
  readonly frames: RawFrame[] = [];
  /** The same frames as they were written. */
  readonly texts: string[] = [];
  /** Binary frames likewise. */
  readonly binary: Buffer[] = [];
  /** Code and reason, once the socket has closed. */
  readonly closed: Promise<{ code: number; reason: string }>;
  readonly #ws: WebSocket;
  readonly #vsn: Version;
  #ref = 0;

  private constructor(ws: WebSocket, vsn: Version) {
    this.#ws = ws;
    this.#vsn = vsn;
    this.closed = new Promise((resolve) => {
      ws.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
    });
    ws.on("error", () => {});
    ws.on("message", (data: Buffer, isBinary) => {
      if (isBinary) this.binary.push(data);
      else {
        this.texts.push(data.toString());
        const value: unknown = JSON.parse(data.toString());
        for (const frame of isPack(value) ? value : [value]) this.frames.push(this.#decode(frame));
      }
    });
  }

  /** Opens a socket of the edge at `url` (http). Rejects when the upgrade is refused. */
  static async open(
    url: string,
    { vsn = "2.0.0", key, path = "/realtime/v1/websocket", query = {} }: RawOptions,
  ): Promise<RawSocket> {
    const target = new URL(path, url.replace(/^http/, "ws"));
    target.search = new URLSearchParams({ apikey: key, vsn, ...query }).toString();
    const ws = new WebSocket(target);
    const socket = new RawSocket(ws, vsn);
    await once(ws, "open");
    return socket;
  }

  #decode(value: unknown): RawFrame {
    if (this.#vsn === "1.0.0") return { joinRef: undefined, ...objectFrame.parse(value) };
    const [joinRef, ref, topic, event, content] = arrayFrame.parse(value);
    return { joinRef, ref, topic, event, payload: content };
  }

  /** Sends data as it is. */
  sendRaw(data: string | Uint8Array): void {
    this.#ws.send(data);
  }

  /** Sends a frame. */
  send(joinRef: string | null, ref: string | null, topic: string, event: string, content: unknown): void {
    this.sendRaw(
      JSON.stringify(
        this.#vsn === "1.0.0"
          ? { topic, event, payload: content, ref, join_ref: joinRef }
          : [joinRef, ref, topic, event, content],
      ),
    );
  }

  /** Sends a frame with a fresh ref and waits for the reply to it. */
  async ask(topic: string, event: string, content: unknown, joinRef: string | null = null): Promise<Reply> {
    const ref = String(++this.#ref);
    this.send(event === "phx_join" ? ref : joinRef, ref, topic, event, content);
    return this.replyTo(ref);
  }

  /** Joins with a config. @returns the reply */
  join(topic: string, config: Record<string, unknown> = {}): Promise<Reply> {
    return this.ask(topic, "phx_join", { config });
  }

  /** Waits for the reply to a ref. */
  async replyTo(ref: string): Promise<Reply> {
    const [frame] = await this.until(`the reply to ${ref}`, 1, (f) => f.event === "phx_reply" && f.ref === ref);
    return replySchema.parse(frame?.payload);
  }

  /** Waits until `count` frames fit. @returns all that fit */
  async until(what: string, count: number, fits: (frame: RawFrame) => boolean): Promise<RawFrame[]> {
    await eventually(() => {
      const found = this.frames.filter(fits).length;
      if (found < count) throw new Error(`${found} of ${count}: ${what}`);
    });
    return this.frames.filter(fits);
  }

  /**
   * Waits for an answer to a heartbeat: whatever the server had to say to what was sent before on this gateway has
   * arrived then.
   */
  async heartbeat(): Promise<void> {
    await this.ask("phoenix", "heartbeat", {});
  }

  close(): void {
    this.#ws.close();
  }
}

export interface PushFields {
  readonly joinRef?: string;
  readonly ref?: string;
  readonly topic: string;
  readonly event: string;
  readonly metadata?: string;
  /** 0: the payload is bytes; anything else: JSON text. */
  readonly encoding: number;
}

/** A kind 3 frame with all its fields (protocol.md §2.3). Each is cut at the 255 bytes that its length can say. */
export function pushFrame(
  { joinRef = "", ref = "", topic, event, metadata = "", encoding }: PushFields,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const fields = [joinRef, ref, topic, event, metadata].map((text) => encoder.encode(text).subarray(0, 255));
  return Uint8Array.from([
    3,
    ...fields.map(({ length }) => length),
    encoding,
    ...fields.flatMap((f) => [...f]),
    ...payload,
  ]);
}

/** A kind 3 frame: a broadcast as the stock 2.0.0 client sends it. `encoding` 1 is JSON, 0 opaque bytes. */
export function binaryBroadcast(topic: string, event: string, content: Uint8Array, encoding: 0 | 1): Uint8Array {
  return pushFrame({ topic, event, encoding }, content);
}
