// The client: one socket for all of an application's channels.
import type { ServerFrame } from "../protocol/client-frames.ts";
import { parseTopic, wireTopic } from "../protocol/topics.ts";
import { socketAddress } from "./address.ts";
import { Channel, type ChannelHost } from "./channel.ts";
import { Connection, type ConnectionStatus } from "./connection.ts";
import { RealtimeError, type RealtimeErrorCode } from "./errors.ts";
import { call } from "./listeners.ts";
import type { ChannelOptions } from "./types.ts";

export interface ClientOptions {
  /** The server, `ws://localhost:4000`; http and https do as well, with or without the path of the socket. */
  readonly url: string;
  /** A key of the server, or a token. */
  readonly apiKey: string;
  /** The token of the signed-in user; null: nobody is. Asked at every join and every heartbeat, so a new one is taken up. */
  readonly accessToken?: () => string | null | Promise<string | null>;
  /** Milliseconds between heartbeats; default what the server asks for, 30,000 unless it is set otherwise there. */
  readonly heartbeatIntervalMs?: number;
  /**
   * The longest wait before another try to connect, milliseconds; default what the server asks for, 5,000 unless it is set
   * otherwise there. The first try comes after a second at most, each further one after twice as long.
   */
  readonly reconnectDelayMs?: number;
  /** How long an answer may take, milliseconds; default 10,000. */
  readonly timeoutMs?: number;
  /** How many broadcasts of a channel may wait for the connection; default 100. */
  readonly queueSize?: number;
  /** Whether to connect at once; default true. A channel connects when it is subscribed. */
  readonly connect?: boolean;
  /** For runtimes without a WebSocket of their own. */
  readonly WebSocket?: typeof WebSocket;
  /** Hears of every failure; by default they are written to the console, breaks of the connection excepted. */
  readonly onError?: (error: RealtimeError) => void;
}

/** Of these many channels have one cause, and every further try says the same: they are told once. */
const LASTING = new Set<RealtimeErrorCode>([
  ...(["unreachable", "unauthorized", "connection_lost", "ended"] as const),
  ...(["join_refused", "no_token", "timed_out", "problem"] as const),
]);

interface Connecting {
  readonly resolve: () => void;
  readonly reject: (error: RealtimeError) => void;
}

export class RealtimeClient {
  readonly #channels = new Map<string, Channel>();
  readonly #connection: Connection;
  readonly #host: ChannelHost;
  readonly #accessToken: ClientOptions["accessToken"];
  readonly #onError: (error: RealtimeError) => void;
  readonly #statusListeners = new Set<(status: ConnectionStatus) => void>();
  #connecting: Connecting[] = [];
  /** While `accessToken` is asked, by however many joins at once. */
  #asking: Promise<string | null> | undefined;
  #token: string | null = null;
  /** What was told of since there was a connection: by every try and every channel the same. */
  readonly #told = new Set<string>();

  /** Throws RealtimeError when the options make no sense. */
  constructor(options: ClientOptions) {
    const { accessToken, onError = warn, queueSize = 100, timeoutMs = 10_000 } = options;
    const { apiKey, heartbeatIntervalMs, reconnectDelayMs } = options;
    const transport = options.WebSocket ?? globalThis.WebSocket;
    if (transport === undefined) {
      throw new RealtimeError("invalid_options", "This runtime has no WebSocket: give one in the options");
    }
    this.#accessToken = accessToken;
    this.#onError = onError;
    this.#connection = new Connection(
      {
        ...{ apiKey, heartbeatIntervalMs, reconnectDelayMs, timeoutMs },
        address: socketAddress(options.url, apiKey),
        WebSocket: transport,
      },
      {
        opened: () => this.#opened(),
        lost: (error) => this.#lost(error),
        failed: (error) => this.#failed(error),
        frame: (frame) => this.#receive(frame),
        beat: () => void this.#refresh(),
        changed: (status) => this.#changed(status),
      },
    );
    const knownToken = (): string | null => this.#token;
    this.#host = {
      ...{ id: crypto.randomUUID(), connection: this.#connection, queueSize, timeoutMs },
      token: () => this.#askToken(),
      get knownToken() {
        return knownToken();
      },
      report: (error) => this.#report(error),
      adopt: (channel) => this.#adopt(channel),
    };
    if (options.connect !== false) this.#connection.connect();
  }

  /** How the connection is. `waiting`: it is tried again in a while. */
  get status(): ConnectionStatus {
    return this.#connection.status;
  }

  /** Calls back whenever `status` changes. @returns a function that ends that */
  onStatus(callback: (status: ConnectionStatus) => void): () => void {
    this.#statusListeners.add(callback);
    return () => void this.#statusListeners.delete(callback);
  }

  /**
   * Connects. Resolves when there is a socket; rejects with RealtimeError when this try fails, though others follow by
   * themselves (unless its code is `ended`).
   */
  connect(): Promise<void> {
    if (this.status === "connected") return Promise.resolve();
    const connected = new Promise<void>((resolve, reject) => {
      this.#connecting.push({ resolve, reject });
    });
    // Who does not await it is told by onError.
    connected.catch(() => {});
    this.#connection.connect();
    return connected;
  }

  /** Closes the socket and stays so until `connect()`. Channels stay subscribed; what waits to be sent is given up. */
  disconnect(): void {
    this.#connection.disconnect();
  }

  /**
   * The channel of a name: `general`, or `realtime:table:public.users` for the row changes of a table. The same channel
   * whenever the name is the same. Throws RealtimeError for a name that is none, and for options other than it was made with.
   */
  channel(name: string, options?: ChannelOptions): Channel {
    const topic = name.startsWith(wireTopic("")) ? name : wireTopic(name);
    const found = this.#channels.get(topic);
    if (found !== undefined) {
      if (options === undefined || found.isLike(options)) return found;
      throw new RealtimeError("invalid_options", `The channel "${name}" is there with other options: remove it first`);
    }
    const parsed = parseTopic(topic);
    if ("reason" in parsed)
      throw new RealtimeError("invalid_options", `No channel is called "${name}": ${parsed.reason}`);
    const channel = new Channel(topic, options ?? {}, this.#host);
    this.#channels.set(topic, channel);
    return channel;
  }

  /** Leaves a channel and forgets it. */
  removeChannel(channel: Channel): void {
    channel.unsubscribe();
    if (this.#channels.get(channel.topic) === channel) this.#channels.delete(channel.topic);
  }

  /** Takes a channel back that was removed and is subscribed again. */
  #adopt(channel: Channel): void {
    const other = this.#channels.get(channel.topic) ?? channel;
    if (other !== channel) {
      throw new RealtimeError(
        "invalid_options",
        `${channel.topic} was removed, and there is another one now: use that`,
      );
    }
    this.#channels.set(channel.topic, channel);
  }

  /** Takes up a new token now: the user signed in or out, say. Without an argument `accessToken` is asked. */
  async setAuth(token?: string | null): Promise<void> {
    if (token === undefined) await this.#refresh();
    else this.#take(token);
  }

  #opened(): void {
    this.#told.clear();
    for (const { resolve } of this.#connecting.splice(0)) resolve();
    for (const channel of this.#channels.values()) channel.opened();
  }

  #lost(error: RealtimeError): void {
    const isOver = this.status === "disconnected";
    for (const channel of this.#channels.values()) {
      channel.lost(error);
      if (isOver) channel.abandon(error);
    }
    if (isOver) for (const { reject } of this.#connecting.splice(0)) reject(error);
    this.#report(error);
  }

  #failed(error: RealtimeError): void {
    for (const { reject } of this.#connecting.splice(0)) reject(error);
    this.#report(error);
  }

  #receive(frame: ServerFrame): void {
    this.#channels.get(frame.topic)?.receive(frame);
  }

  #changed(status: ConnectionStatus): void {
    for (const callback of this.#statusListeners) call(callback, status);
  }

  #report(error: RealtimeError): void {
    // That was on purpose.
    if (error.code === "left") return;
    if (LASTING.has(error.code)) {
      if (this.#told.has(error.message)) return;
      this.#told.add(error.message);
    }
    call(this.#onError, error);
  }

  async #refresh(): Promise<void> {
    try {
      await this.#askToken();
    } catch (error) {
      if (error instanceof RealtimeError) this.#report(error);
    }
  }

  #take(token: string | null): void {
    this.#token = token;
    for (const channel of this.#channels.values()) channel.refresh();
  }

  #askToken(): Promise<string | null> {
    const ask = this.#accessToken;
    if (ask === undefined) return Promise.resolve(this.#token);
    this.#asking ??= (async () => {
      try {
        const token = await ask();
        if (token !== this.#token) this.#take(token);
        return token;
      } catch (error) {
        throw new RealtimeError("no_token", `accessToken failed: ${error instanceof Error ? error.message : error}`);
      } finally {
        this.#asking = undefined;
      }
    })();
    return this.#asking;
  }
}

/** A break is mended without anybody's help: who wants to hear of it uses `onError` or `onStatus`. */
function warn(error: RealtimeError): void {
  if (error.code !== "connection_lost") console.warn(String(error));
}
