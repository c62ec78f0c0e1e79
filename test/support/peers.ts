// Peers: unmodified Supabase clients over every way in that they have, so that one test can be run on each.
import { createClient, type RealtimeChannel, RealtimeClient } from "@supabase/supabase-js";
import { createClient as createLegacyClient } from "supabase-js-legacy";
import type { TestStack } from "./stack.ts";
import { userToken } from "./tokens.ts";

/** Releases, protocols and sockets. The legacy release is of 2025, when 1.0.0 was all that a client spoke by default. */
export const ways = ["newest 2.0.0", "newest 1.0.0", "legacy 1.0.0", "newest, direct"] as const;
export type Way = (typeof ways)[number];

/** Ways whose clients speak 2.0.0, which alone has frames for bytes. */
export const takesBytes = (way: Way): boolean => way === "newest 2.0.0" || way === "newest, direct";

/** Soon enough that no test waits long for it. */
const RECONNECT_MS = 100;

export interface PeerOptions {
  /** The anon key unless given. */
  readonly key?: string;
  /** Called for a token as the client would ask its auth for one. */
  readonly accessToken?: () => Promise<string>;
  /** The room that a direct socket is opened for. */
  readonly room?: string;
  readonly isPrivate?: boolean;
  /** Where the client connects, if not to the stack itself. */
  readonly url?: string;
  readonly heartbeatIntervalMs?: number;
}

export class Peers {
  readonly #stack: TestStack;
  readonly #open: RealtimeClient[] = [];

  constructor(stack: TestStack) {
    this.#stack = stack;
  }

  /** A client that connects when its first channel is joined. */
  open(way: Way, options: PeerOptions = {}): RealtimeClient {
    const { key = this.#stack.anonKey, url = this.#stack.url, accessToken } = options;
    const { heartbeatIntervalMs = 25_000, room = "", isPrivate = false } = options;
    const realtime = { reconnectAfterMs: () => RECONNECT_MS, heartbeatIntervalMs };
    const auth = { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false };
    const token = accessToken === undefined ? {} : { accessToken };
    const client = ((): RealtimeClient => {
      switch (way) {
        case "newest 2.0.0":
          return createClient(url, key, { auth, realtime, ...token }).realtime;
        case "newest 1.0.0":
          return createClient(url, key, { auth, realtime: { ...realtime, vsn: "1.0.0" }, ...token }).realtime;
        case "legacy 1.0.0":
          return createLegacyClient(url, key, { auth, realtime, ...token }).realtime;
        case "newest, direct": {
          const params = { apikey: key, private: String(isPrivate) };
          const endpoint = `${url}/realtime/v1/channels/${encodeURIComponent(room)}`;
          return new RealtimeClient(endpoint, { params, ...realtime, ...token });
        }
      }
    })();
    this.#open.push(client);
    return client;
  }

  /** A channel of a client of its own. */
  channel(
    way: Way,
    room: string,
    config: Parameters<RealtimeClient["channel"]>[1],
    options: PeerOptions = {},
  ): RealtimeChannel {
    return this.open(way, { room, isPrivate: config?.config?.private ?? false, ...options }).channel(room, config);
  }

  /** A user's token of the stack's own secret, good for `seconds`. */
  token(seconds = 600, claims: Record<string, unknown> = {}): Promise<string> {
    const sub = "7d3f1c52-0000-4000-8000-000000000001";
    return userToken(this.#stack, { sub, ...claims }, Math.floor(Date.now() / 1000) + seconds);
  }

  /** Leaves all channels and closes all sockets. */
  async close(): Promise<void> {
    await Promise.all(this.#open.splice(0).map((client) => client.removeAllChannels()));
  }
}
