// Stock Supabase clients for a test: opened against a stack, awaited, and closed together.
import { createClient, type RealtimeChannel, type SupabaseClient } from "@supabase/supabase-js";
import { vi } from "vitest";
import type { TestStack } from "./stack.ts";

/** The protocol versions that the stock client speaks; the newest client's default is the last. */
export const versions = ["1.0.0", "2.0.0"] as const;
export type Version = (typeof versions)[number];

/** Pairs of versions that meet in one channel. */
export const pairs = [
  ["1.0.0", "1.0.0"],
  ["2.0.0", "2.0.0"],
  ["1.0.0", "2.0.0"],
] as const;

/**
 * Settings of a stack in which every client sits on a gateway of its own: each gateway takes one socket, and the next
 * client is sent on to a free one.
 */
export const oneClientAGateway = { REALTIME_GATEWAYS: "64", REALTIME_GATEWAY_SOCKETS: "1" };

/** Soon enough that no test waits long for it, late enough that a server which is starting is not flooded. */
const RECONNECT_MS = 100;
const LIMIT_MS = 10_000;

export interface ClientOptions {
  readonly vsn?: Version;
  /** The anon key unless given. */
  readonly key?: string;
  /** The access token of a user who has signed in, asked for as often as the client does. */
  readonly token?: () => Promise<string>;
  /** Where the client connects, if not to the stack itself. */
  readonly url?: string;
  /** How often the client sends a heartbeat, and how long it waits for the answer, milliseconds. */
  readonly heartbeatMs?: number;
}

export class Clients {
  readonly #stack: TestStack;
  readonly #open: SupabaseClient[] = [];

  constructor(stack: TestStack) {
    this.#stack = stack;
  }

  /** A client that connects when its first channel is joined. */
  open({ vsn = "2.0.0", key = this.#stack.anonKey, url = this.#stack.url, heartbeatMs, token }: ClientOptions = {}) {
    const client = createClient(url, key, {
      ...(token && { accessToken: token }),
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
      realtime: {
        vsn,
        reconnectAfterMs: () => RECONNECT_MS,
        ...(heartbeatMs === undefined ? {} : { heartbeatIntervalMs: heartbeatMs }),
      },
    });
    this.#open.push(client);
    return client;
  }

  /** Leaves all channels and closes all sockets. */
  async close(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((client) => client.removeAllChannels()));
  }
}

/** Subscribes and waits until the channel stands. Rejects with the server's reason. */
export function join(channel: RealtimeChannel): Promise<void> {
  return new Promise((resolve, reject) => {
    channel.subscribe((status, error) => {
      if (status === "SUBSCRIBED") resolve();
      else reject(error ?? new Error(status));
    });
  });
}

/** A name that no other test has used. */
export function uniqueName(prefix: string): string {
  return `${prefix}-${crypto.randomUUID().slice(0, 8)}`;
}

/** Waits until an assertion holds; fails with its last failure. */
export function eventually(assertion: () => void | Promise<void>, limitMs = LIMIT_MS): Promise<void> {
  return vi.waitFor(assertion, { timeout: limitMs, interval: 5 });
}

/** Sends a broadcast. @returns the client's word for how it went: `ok` at once, or with `ack` when it was answered */
export function broadcast(channel: RealtimeChannel, event: string, payload: unknown): Promise<string> {
  return channel.send({ type: "broadcast", event, payload });
}
