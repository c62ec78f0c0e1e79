// The connection: one socket that heartbeats, notices when it is dead, and comes back by itself.
import { decodeServerFrames, encodeBytes, encodeClientFrame, type ServerFrame } from "../protocol/client-frames.ts";
import { closes } from "../protocol/closes.ts";
import { diagnose } from "./address.ts";
import { Backoff } from "./backoff.ts";
import { RealtimeError } from "./errors.ts";

export interface ConnectionOptions {
  readonly address: URL;
  readonly apiKey: string;
  /** Milliseconds; undefined: as the server tells. */
  readonly heartbeatIntervalMs: number | undefined;
  readonly reconnectDelayMs: number | undefined;
  /** Milliseconds. */
  readonly timeoutMs: number;
  readonly WebSocket: typeof WebSocket;
}

/** What the connection tells. */
export interface ConnectionEvents {
  opened(): void;
  /** The socket is gone; what was asked on it is not answered any more. */
  lost(error: RealtimeError): void;
  /** A try to connect has failed. */
  failed(error: RealtimeError): void;
  /** A frame that answers nothing. */
  frame(frame: ServerFrame): void;
  /** It is time for a heartbeat, or the page came back to the foreground. */
  beat(): void;
  changed(status: ConnectionStatus): void;
}

export type ConnectionStatus = "disconnected" | "connecting" | "connected" | "waiting";

/** The answer to what was asked; undefined: none came in time. */
export type Answer = { readonly status: string; readonly response: Readonly<Record<string, unknown>> } | undefined;

interface Question {
  readonly answered: (answer: Answer) => void;
  readonly timer: ReturnType<typeof setTimeout>;
}

/** Until the server tells: its own defaults (contract of `REALTIME_HEARTBEAT_INTERVAL` and `REALTIME_RECONNECT_DELAY`). */
const HEARTBEAT_MS = 30_000;
const RECONNECT_MS = 5_000;
/** The first try after a break comes about this soon, unless it has to come sooner. */
const FIRST_RECONNECT_MS = 1_000;
/** The server cuts off who hears 64 MB and says nothing: it takes that for a client that does not keep up. */
const MAX_UNANSWERED = 8_000_000;
/** How long a socket has to stand for its loss to count as the first failure. */
const STOOD_MS = 5_000;
/** Of so many tries in vain one is explained: to find out is a request of its own. */
const EXPLAIN_EVERY = 10;

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #backoff: Backoff;
  readonly #questions = new Map<string, Question>();
  #socket: WebSocket | undefined;
  #status: ConnectionStatus = "disconnected";
  #retry: ReturnType<typeof setTimeout> | undefined;
  #heart: ReturnType<typeof setInterval> | undefined;
  #heartbeatMs: number;
  #openedAt = 0;
  #heardAt = 0;
  /** Length of what was heard since the last heartbeat. */
  #unanswered = 0;
  #ref = 0;
  /** Tries in vain since the last socket. */
  #vain = 0;

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options;
    this.#events = events;
    this.#heartbeatMs = options.heartbeatIntervalMs ?? HEARTBEAT_MS;
    this.#backoff = new Backoff(FIRST_RECONNECT_MS, options.reconnectDelayMs ?? RECONNECT_MS);
  }

  /** Takes the pace that the server asks for, where the application has none of its own. Milliseconds. */
  keepPace(heartbeatMs: unknown, reconnectMs: unknown): void {
    const { heartbeatIntervalMs, reconnectDelayMs } = this.#options;
    if (reconnectDelayMs === undefined && isSpan(reconnectMs)) this.#backoff.most = reconnectMs;
    if (heartbeatIntervalMs !== undefined || !isSpan(heartbeatMs) || heartbeatMs === this.#heartbeatMs) return;
    this.#heartbeatMs = heartbeatMs;
    if (this.#status === "connected") this.#startHeart();
  }

  get status(): ConnectionStatus {
    return this.#status;
  }

  #become(status: ConnectionStatus): void {
    this.#status = status;
    this.#events.changed(status);
  }

  /** Connects now, and says why if that fails. */
  connect(): void {
    this.#vain = 0;
    this.#open();
  }

  #open(): void {
    if (this.#status === "connected" || this.#status === "connecting") return;
    clearTimeout(this.#retry);
    this.#become("connecting");
    const socket = new this.#options.WebSocket(this.#options.address.href);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    // A server that takes the connection and never answers must not hold it up for ever.
    const limit = setTimeout(() => this.#ended(socket, "it did not answer"), this.#options.timeoutMs);
    socket.onopen = () => {
      clearTimeout(limit);
      if (socket === this.#socket) this.#opened();
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#received(data);
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(limit);
      this.#ended(socket, reason === "" ? `code ${code}` : reason, code);
    };
    // A close follows; some runtimes report an error that nobody listens to as uncaught.
    socket.onerror = () => {};
    watchPage(this);
  }

  /** Closes the socket and stays so. */
  disconnect(): void {
    unwatchPage(this);
    clearTimeout(this.#retry);
    if (this.#status === "disconnected") return;
    this.#become("disconnected");
    this.#drop();
    this.#events.lost(new RealtimeError("left", "The client was disconnected"));
  }

  /** The network or the page is back: no reason to wait any longer, and every reason to see whether the socket lives. */
  awake(): void {
    if (this.#status === "waiting") this.#open();
    else if (this.#status === "connected") this.#beat();
  }

  /**
   * Sends a frame and has `answered` called once: with the reply, with undefined when none came in time, or never when the
   * socket is lost before. @returns the frame's ref, or undefined: there is no open socket
   */
  ask(
    topic: string,
    event: string,
    payload: object,
    joinRef: string | null | "own",
    answered: (answer: Answer) => void,
  ): string | undefined {
    const ref = this.#nextRef();
    const frame = encodeClientFrame(joinRef === "own" ? ref : joinRef, ref, topic, event, payload);
    return this.#send(frame) ? this.#await(ref, answered) : undefined;
  }

  /** The same for a broadcast of bytes. Throws RealtimeError where topic or event are too long for that. */
  askBytes(
    topic: string,
    event: string,
    bytes: Uint8Array,
    joinRef: string,
    answered: (answer: Answer) => void,
  ): string | undefined {
    const ref = this.#nextRef();
    const frame = encodeBytes(joinRef, ref, topic, event, bytes);
    if (frame === undefined) throw new RealtimeError("rejected", "Topic and event of bytes hold 255 bytes each");
    return this.#send(frame) ? this.#await(ref, answered) : undefined;
  }

  #nextRef(): string {
    this.#ref++;
    return String(this.#ref);
  }

  #send(frame: string | ArrayBuffer): boolean {
    if (this.#status !== "connected") return false;
    this.#socket?.send(frame);
    return true;
  }

  #await(ref: string, answered: (answer: Answer) => void): string {
    const timer = setTimeout(() => {
      this.#questions.delete(ref);
      answered(undefined);
    }, this.#options.timeoutMs);
    this.#questions.set(ref, { answered, timer });
    return ref;
  }

  #opened(): void {
    this.#become("connected");
    this.#vain = 0;
    this.#openedAt = Date.now();
    this.#startHeart();
    this.#events.opened();
  }

  #startHeart(): void {
    clearInterval(this.#heart);
    this.#heart = setInterval(() => this.#beat(), this.#heartbeatMs);
  }

  #beat(): void {
    this.#unanswered = 0;
    this.#events.beat();
    const socket = this.#socket;
    const askedAt = Date.now();
    this.ask("phoenix", "heartbeat", {}, null, (answer) => {
      // Behind much else the reply may come late, but then that else was heard.
      const isDead = answer === undefined && this.#heardAt < askedAt;
      if (isDead && socket !== undefined) this.#ended(socket, "it does not answer any more");
    });
  }

  #received(data: unknown): void {
    this.#heardAt = Date.now();
    this.#unanswered += lengthOf(data);
    if (this.#unanswered > MAX_UNANSWERED) this.#beat();
    if (typeof data !== "string" && !(data instanceof ArrayBuffer)) return;
    for (const frame of decodeServerFrames(data)) this.#take(frame);
  }

  #take(frame: ServerFrame): void {
    const question = frame.event === "phx_reply" ? this.#questions.get(frame.ref ?? "") : undefined;
    if (question === undefined) return this.#events.frame(frame);
    this.#questions.delete(frame.ref ?? "");
    clearTimeout(question.timer);
    const { status, response } = frame.payload;
    const told = typeof response === "object" && response !== null ? { ...response } : {};
    question.answered({ status: String(status), response: told });
  }

  #ended(socket: WebSocket, why: string, code = 0): void {
    if (socket !== this.#socket) return;
    const stood = this.#status === "connected";
    const close = Object.values(closes).find((one) => one.code === code);
    if (close !== undefined && !close.reconnect) {
      unwatchPage(this);
      this.#become("disconnected");
      this.#drop();
      const error = new RealtimeError("ended", `The server ended the connection: ${close.reason}`, close.reason);
      return this.#events.lost(error);
    }
    if (stood && Date.now() - this.#openedAt >= STOOD_MS) this.#backoff.reset();
    this.#become("waiting");
    this.#retry = setTimeout(() => this.#open(), this.#backoff.next());
    this.#drop();
    if (stood) this.#events.lost(new RealtimeError("connection_lost", `The connection was lost: ${why}`));
    else this.#explain();
  }

  /** Tells why no socket could be opened, not after every try in vain. */
  #explain(): void {
    this.#vain++;
    if (this.#vain % EXPLAIN_EVERY !== 1) return;
    const { address, apiKey, timeoutMs } = this.#options;
    void diagnose(address, apiKey, timeoutMs).then((error) => {
      if (this.#status === "waiting" || this.#status === "connecting") this.#events.failed(error);
    });
  }

  /** Lets go of the socket, whether or not its other end still hears that. */
  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    clearInterval(this.#heart);
    for (const { timer } of this.#questions.values()) clearTimeout(timer);
    this.#questions.clear();
    socket?.close(1000);
  }
}

function lengthOf(data: unknown): number {
  if (typeof data === "string") return data.length;
  return data instanceof ArrayBuffer ? data.byteLength : 0;
}

function isSpan(value: unknown): value is number {
  return typeof value === "number" && value > 0;
}

/** Only browsers have pages that sleep and tell when the network is back. */
const wakers = [
  ["document", "visibilitychange"],
  ["window", "online"],
] as const;
const watching = new Set<Connection>();

function wake(): void {
  for (const connection of watching) connection.awake();
}

function watchPage(connection: Connection): void {
  watching.add(connection);
  // Listening twice to the same is listening once.
  for (const [name, event] of wakers) {
    const page: unknown = Reflect.get(globalThis, name);
    if (page instanceof EventTarget) page.addEventListener(event, wake);
  }
}

function unwatchPage(connection: Connection): void {
  watching.delete(connection);
  if (watching.size > 0) return;
  for (const [name, event] of wakers) {
    const page: unknown = Reflect.get(globalThis, name);
    if (page instanceof EventTarget) page.removeEventListener(event, wake);
  }
}
