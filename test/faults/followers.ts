// Followers of the torture: a client that resumes a table's feed over every fault, and a stock subscriber.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { RealtimeChannel } from "@supabase/supabase-js";
import { WebSocket } from "ws";
import { z } from "zod";
import { arrayFrame, replySchema } from "../support/raw-socket.ts";
import type { TestStack } from "../support/stack.ts";
import type { Change } from "./workload.ts";

const HEARTBEAT_MS = 5_000;
const PAUSE_MS = 100;
const JOIN_LIMIT_MS = 10_000;

const position = z.object({ epoch: z.string(), seq: z.int() });
type Position = z.infer<typeof position>;
const joined = z.object({ position, recovered: z.boolean().optional() });

const row = z.object({ stamp: z.number() });
const rowChange = z.object({
  type: z.enum(["INSERT", "UPDATE", "DELETE"]),
  record: row.optional(),
  old_record: row.optional(),
  errors: z.null(),
  meta: position,
});
const operations = { INSERT: "I", UPDATE: "U", DELETE: "D" } as const;

/** Joins the feed of a table and comes back with its last position whenever its socket or its join ends. */
export class Resuming {
  readonly table: string;
  /** What came, in its order. */
  readonly changes: Change[] = [];
  /** How often it came back. */
  returns = -1;
  /** What was not as promised: a position that did not grow, a return on which not everything could be had. */
  readonly complaints: string[] = [];
  readonly #stack: TestStack;
  readonly #topic: string;
  #position: Position | undefined;
  #socket: WebSocket | undefined;
  #stopped = false;
  #living: Promise<void>;

  constructor(stack: TestStack, table: string) {
    this.#stack = stack;
    this.table = table;
    this.#topic = `realtime:table:public.${table}`;
    this.#living = this.#live();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#socket?.terminate();
    await this.#living;
  }

  async #live(): Promise<void> {
    while (!this.#stopped) {
      await this.#connect().catch(() => undefined);
      await sleep(PAUSE_MS);
    }
  }

  /** Until the socket has closed. */
  async #connect(): Promise<void> {
    const { url, anonKey } = this.#stack;
    const ws = new WebSocket(`${url.replace(/^http/, "ws")}/realtime/v1/websocket?apikey=${anonKey}&vsn=2.0.0`);
    this.#socket = ws;
    // Without a listener an error would end the test; the close that follows is what counts.
    ws.on("error", () => undefined);
    const closed = new Promise((resolve) => ws.once("close", resolve));
    ws.on("message", (data) => this.#hear(ws, data.toString()));
    await once(ws, "open");
    this.#join(ws);
    const beat = setInterval(() => ws.send(JSON.stringify([null, "beat", "phoenix", "heartbeat", {}])), HEARTBEAT_MS);
    const late = setTimeout(() => ws.terminate(), JOIN_LIMIT_MS);
    ws.on("message", () => clearTimeout(late));
    await closed;
    clearInterval(beat);
    clearTimeout(late);
  }

  #join(ws: WebSocket): void {
    const broadcast = this.#position === undefined ? {} : { resume: this.#position };
    ws.send(JSON.stringify(["join", "join", this.#topic, "phx_join", { config: { broadcast } }]));
  }

  #hear(ws: WebSocket, text: string): void {
    const [, ref, topic, event, payload] = arrayFrame.parse(JSON.parse(text));
    if (topic !== this.#topic) return;
    if (event === "phx_reply") this.#answered(ws, ref, payload);
    // A room that cannot promise that nothing was missed says so, and a client joins again.
    else if (event === "phx_error" || event === "phx_close") ws.close();
    else if (event in operations) this.#take(payload);
  }

  #answered(ws: WebSocket, ref: string | null, payload: unknown): void {
    const { status, response } = replySchema.parse(payload);
    if (ref !== "join") return;
    if (status !== "ok") return ws.close();
    const { position: stands, recovered } = joined.parse(response);
    if (this.#position !== undefined && recovered !== true) {
      this.complaints.push(`not recovered from ${JSON.stringify(this.#position)} at ${JSON.stringify(stands)}`);
    }
    this.#position ??= stands;
    this.returns++;
  }

  #take(payload: unknown): void {
    const { type, record, old_record, meta } = rowChange.parse(payload);
    const { epoch, seq } = meta;
    const last = this.#position;
    if (last !== undefined && (last.epoch !== epoch || seq <= last.seq)) {
      this.complaints.push(`${JSON.stringify(meta)} after ${JSON.stringify(last)}`);
    }
    this.#position = { epoch, seq };
    this.changes.push({ op: operations[type], before: old_record?.stamp ?? null, after: record?.stamp ?? null });
  }
}

/** What a stock subscriber saw between one subscription and its loss. */
export interface Stretch {
  /** Unix ms: what is changed from here on must be seen. */
  readonly since: number;
  readonly seen: Change[];
}

/** Has a stock client's channel follow a table, through every return that the client makes by itself. */
export class Stock {
  readonly table: string;
  readonly stretches: Stretch[] = [];
  #current: Change[] = [];

  constructor(channel: RealtimeChannel, table: string) {
    this.table = table;
    channel.on("postgres_changes", { event: "*", schema: "public", table }, (change) => {
      const stampOf = (values: object): number | null => ("stamp" in values ? Number(values.stamp) : null);
      this.#current.push({ op: operations[change.eventType], before: stampOf(change.old), after: stampOf(change.new) });
    });
    channel.on("system", {}, ({ extension, status }: { extension: string; status: string }) => {
      if (extension === "postgres_changes" && status === "ok") {
        this.stretches.push({ since: Date.now(), seen: this.#current });
      }
    });
    channel.subscribe((status) => {
      // A new subscription begins: what it sees is a stretch of its own.
      if (status === "SUBSCRIBED") this.#current = [];
    });
  }
}
