// Following a topic: one socket that comes back by itself and resumes where it was.
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { defaultPace, type Pace } from "../protocol/limits.ts";
import type { Position } from "../protocol/positions.ts";
import { CliError } from "./errors.ts";
import { parseExact } from "./exact-json.ts";
import type { Server } from "./server.ts";

/** Longest wait for the answer to a join; PostgreSQL may have to be asked. */
const JOIN_TIMEOUT_MS = 15_000;
/** Before the first try to connect again; the next ones wait twice as long each, up to what the server has told. */
const FIRST_DELAY_MS = 1_000;
/** So that not all who lost a server come back at the same moment: this much of a delay is left to chance. */
const JITTER = 0.2;

/** A message of the topic, its payload as it came. */
export interface Followed {
  event: string;
  payload: Record<string, unknown>;
}

export interface Follower {
  /** The topic is joined, for the first time. */
  joined(): void;
  message(message: Followed): void;
  /** Something that the user should know: the connection was lost, or what was missed is not known. */
  notice(text: string): void;
}

const position = z.object({ epoch: z.string(), seq: z.number() });
const reply = z.object({
  status: z.string(),
  response: z.looseObject({
    reason: z.string().optional(),
    position: position.optional(),
    recovered: z.boolean().optional(),
    heartbeat_ms: z.number().positive().default(defaultPace.heartbeatMs),
    reconnect_ms: z.number().positive().default(defaultPace.reconnectMs),
  }),
});
const frame = z.tuple([
  z.string().nullable(),
  z.string().nullable(),
  z.string(),
  z.string(),
  z.record(z.string(), z.unknown()),
]);
const meta = z.object({ seq: z.number(), epoch: z.string().optional() });

/**
 * Follows a topic until `signal` aborts. A lost connection is opened again, and what was said meanwhile is delivered.
 * Throws CliError when the server cannot be reached the first time, or refuses the join.
 */
export async function follow(server: Server, topic: string, follower: Follower, signal: AbortSignal): Promise<void> {
  const url = `${server.url.replace(/^http/, "ws")}/realtime/v1/websocket?${new URLSearchParams({ apikey: server.serviceKey, vsn: "2.0.0" })}`;
  let last: Position | undefined;
  let pace = defaultPace;
  let tries = 0;
  while (!signal.aborted) {
    const session = new Session(topic, last, follower);
    const end = await session.run(new WebSocket(url), signal);
    if (signal.aborted) return;
    last = session.position ?? last;
    if (last === undefined) throw new CliError(`the server at ${server.url} cannot be followed: ${end}`);
    if (session.position !== undefined) {
      tries = 0;
      pace = session.pace;
    }
    follower.notice(`${end}; connecting again`);
    await sleep(delayOf(tries, pace), undefined, { signal }).catch(() => undefined);
    tries++;
  }
}

/** How long to wait after so many tries in vain, ms. */
function delayOf(tries: number, { reconnectMs }: Pace): number {
  const delay = Math.min(FIRST_DELAY_MS * 2 ** tries, reconnectMs);
  return delay * (1 + JITTER * (Math.random() - 0.5));
}

/** One socket's life on the topic: joins, tells what comes, beats. */
class Session {
  /** Where the topic stands; undefined until joined. */
  position: Position | undefined;
  /** What the server told with the join. */
  pace = defaultPace;
  readonly #topic: string;
  readonly #resume: Position | undefined;
  readonly #follower: Follower;
  #ref = 1;
  /** A beat that is not answered before the next one means that nobody is there. */
  #unanswered = false;
  #beat: NodeJS.Timeout | undefined;

  constructor(topic: string, resume: Position | undefined, follower: Follower) {
    this.#topic = topic;
    this.#resume = resume;
    this.#follower = follower;
  }

  /** Runs until the socket ends, and answers why it did. */
  run(socket: WebSocket, signal: AbortSignal): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const late = setTimeout(() => resolve("no answer to the join"), JOIN_TIMEOUT_MS);
    const abort = () => resolve("ended");
    signal.addEventListener("abort", abort);
    socket.addEventListener("open", () => this.#join(socket));
    socket.addEventListener("error", () => resolve("the connection failed"));
    socket.addEventListener("close", ({ code, reason }) =>
      resolve(`the connection closed (${code}${reason && ` ${reason}`})`),
    );
    socket.addEventListener("message", ({ data }) => {
      try {
        const end = typeof data === "string" ? this.#take(data) : undefined;
        if (end !== undefined) resolve(end);
        if (this.position === undefined) return;
        clearTimeout(late);
        this.#beat ??= setInterval(() => this.#sendBeat(socket, resolve), this.pace.heartbeatMs);
      } catch (error) {
        reject(error);
      }
    });
    return promise.finally(() => {
      clearTimeout(late);
      clearInterval(this.#beat);
      signal.removeEventListener("abort", abort);
      socket.close();
    });
  }

  #sendBeat(socket: WebSocket, end: (why: string) => void): void {
    if (this.#unanswered) return end("no answer to a heartbeat");
    this.#unanswered = true;
    this.#send(socket, null, "phoenix", "heartbeat", {});
  }

  #join(socket: WebSocket): void {
    const broadcast = { ack: false, self: false, ...(this.#resume === undefined ? {} : { resume: this.#resume }) };
    const config = { broadcast, presence: { key: "", enabled: false }, postgres_changes: [], private: false };
    this.#send(socket, "1", this.#topic, "phx_join", { config });
  }

  #send(socket: WebSocket, joinRef: string | null, topic: string, event: string, payload: unknown): void {
    socket.send(JSON.stringify([joinRef, String(this.#ref++), topic, event, payload]));
  }

  /** Takes a frame; answers why the session is over, if it is. */
  #take(data: string): string | undefined {
    const [joinRef, , topic, event, payload] = frame.parse(parseExact(data));
    if (topic === "phoenix") this.#unanswered = false;
    if (topic !== this.#topic) return undefined;
    if (event === "phx_reply")
      return joinRef === "1" && this.position === undefined ? this.#joined(payload) : undefined;
    if (event === "phx_error" || event === "phx_close") return "the channel was closed by the server";
    const stamped = meta.safeParse(payload.meta).data;
    // Presence and system events have no place in the sequence, and are not what is followed.
    if (stamped === undefined || this.position === undefined) return undefined;
    this.position = { epoch: stamped.epoch ?? this.position.epoch, seq: stamped.seq };
    this.#follower.message({ event, payload });
    return undefined;
  }

  #joined(payload: unknown): string | undefined {
    const { status, response } = reply.parse(payload);
    if (status !== "ok") {
      const reason = response.reason ?? "no reason given";
      if (this.#resume === undefined) {
        const [code] = reason.split(":");
        throw new CliError(`the server refused to join ${this.#topic}: ${reason}`, { code });
      }
      return `the server refused to join again: ${reason}`;
    }
    if (response.position === undefined)
      throw new CliError("the server gives no positions: it is a realtime server of another kind");
    this.pace = { heartbeatMs: response.heartbeat_ms, reconnectMs: response.reconnect_ms };
    // What was missed comes after this reply and before anything new: until it is here, the old place is where we are.
    this.position = response.recovered === true && this.#resume !== undefined ? this.#resume : response.position;
    if (this.#resume === undefined) this.#follower.joined();
    else if (response.recovered !== true)
      this.#follower.notice("connected again; what happened meanwhile may be missing");
    return undefined;
  }
}
