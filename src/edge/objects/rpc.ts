// What the objects offer over RPC: control only (admin API, row changes, wake-ups), never the path of a socket's message.

import type { Ban } from "../../channel/ports.ts";
import type { Kicked } from "../../gateway/control.ts";
import type { Block, BlockList } from "../../protocol/blocks.ts";
import type { ProblemCode } from "../../protocol/errors.ts";
import type { Joiner } from "../../protocol/link.ts";
import type { Persist } from "../../protocol/persist.ts";
import type { Position } from "../../protocol/positions.ts";

/** A row of `realtime.channels` as the objects cache it. */
export interface ChannelConfig {
  id: string;
  slug: string;
  name: string;
  type: "public" | "private" | "presence" | "direct";
  metadata: Record<string, unknown>;
}

/** A message as the history shows it, payload parsed. `at` is unix milliseconds. */
export interface StoredMessage {
  id: string;
  position: Position;
  at: number;
  event: string;
  payload: unknown;
  sender: string | null;
}

/** `after` is the number of the message after which a page begins, in its order. */
export interface HistoryQuery {
  order: "newest" | "oldest";
  limit: number;
  since?: number;
  after?: number;
}

/** Messages of the ring, of at most `limit` and of about 8 MB; `more`: there are others behind them. */
export interface HistoryPage {
  messages: StoredMessage[];
  more: boolean;
}

export const PRESENCE_STATUSES = ["online", "away", "offline"] as const;
export type PresenceStatus = (typeof PRESENCE_STATUSES)[number];

/** One member of a channel's presence: a key (user id) with the newest of its metas. `lastSeen` is unix ms. */
export interface PresenceEntry {
  key: string;
  channel: string;
  status: PresenceStatus;
  metadata: Record<string, unknown>;
  lastSeen: number;
}

/** The object of a channel, and a key in it. */
export type PresencePlace = readonly [object: string, key: string];

export interface PresenceQuery {
  limit: number;
  user?: string | undefined;
  present?: boolean | undefined;
  /** A page begins after this place. */
  after?: PresencePlace | undefined;
}

/** One open client socket. Times are unix milliseconds. */
export interface ConnectionEntry {
  id: string;
  /** Who opened it, then those who joined its channels with tokens of their own. */
  users: string[];
  role: string;
  channels: string[];
  gateway: string;
  connectedAt: number;
  lastSeen: number;
  /** Live row-change subscriptions it holds: feeds joined and `postgres_changes` entries of its channels. */
  subscriptions: number;
}

/** A write that is to be done once: its key, and the request that it was given for. */
export interface Once {
  key: string;
  request: string;
}

/** Of the last 24 hours. `latencyMs` is the average; null: nothing was measured. */
export interface Totals {
  peak: number;
  delivered: number;
  failed: number;
  latencyMs: number | null;
  changes: number;
}

/** Who sends without a socket, and what the policies of a private channel are asked with. */
export type Sender = Required<Omit<Joiner, "session" | "viewer">>;

/** Who asks for something to be done to a channel. */
export type Moderator = Pick<Joiner, "role" | "user">;

/** Why it was not done. */
export interface Unmoderated {
  code: ProblemCode;
  reason: string;
}

/** A message that was sent. */
export interface Published {
  id: string;
  position: Position;
}

/** A broadcast over HTTP: `payload` is JSON text or bytes. */
export interface PostedMessage {
  event: string;
  payload: string | Uint8Array;
  persist?: Persist | undefined;
}

/**
 * Why a broadcast was not sent: its sender is `banned` from this channel, or `blocked` everywhere. `moved` says in which
 * room of the name it belongs.
 */
export interface Unposted {
  reason: "blocked" | "banned" | "unauthorized" | "rls_policy_error" | "payload_size_exceeded" | "unavailable";
  moved?: "public" | "private";
}

/** An object that holds client sockets: a gateway, or a channel by its direct ones. */
export interface HolderRpc {
  /** The client sockets that this object holds itself. */
  connections(): Promise<ConnectionEntry[]>;
  /** Closes the sockets that nothing was heard of for so many ms; answers how many. */
  closeSilent(ms: number): Promise<number>;
  /** Ends one socket; false: it is not here. */
  disconnect(connection: string): Promise<boolean>;
  /** Ends a user's sockets and puts them out of what they joined on others', or puts them out of one channel (by its slug). */
  kick(user: string, channel: string | undefined, reason: string): Promise<Kicked>;
  /** Gives back to the directory the places that no socket has. */
  giveBack(): Promise<void>;
  /** Takes the blocks that stand now, and ends whatever they forbid. */
  enforce(blocks: BlockList): Promise<void>;
}

/** Channel object, named `public:<sub-topic>`, `private:<sub-topic>` or `feed:<schema>.<table>` (protocol/topics.ts). */
export interface ChannelRpc extends HolderRpc {
  /**
   * Sends a message to everybody joined and into the ring; answers once it is durable there. `payload` is JSON text. With
   * a `sender` it is sent only if that user might send it. The object need not have heard yet of a channel that is
   * registered.
   */
  publish(
    message: { event: string; payload: string; sender?: string },
    registered?: ChannelConfig,
    once?: Once,
  ): Promise<Published | Unposted | "key_reused">;
  /** Messages of the ring: the newest (order "newest"), or the first since a time in unix ms (order "oldest"). */
  history(query: HistoryQuery): Promise<HistoryPage>;
  /** Erases a message in the ring, if it is there and (with `sender`) this user's; answers whether it was. */
  erase(id: string, sender?: string): Promise<boolean>;
  /** Forgets what was sent before a time (unix ms): nobody is to have it any more. */
  forget(before: number): Promise<void>;
  /** Does what somebody asks to be done to the channel, if they may. Null: it is done. */
  moderate(by: Moderator, act: unknown): Promise<Unmoderated | null>;
  /** Has all that a registered channel has said so far in the database. False: that is away. */
  archive(registered: ChannelConfig): Promise<boolean>;
  /** Tracks a user without a socket. `metadata` absent keeps what was there. False: not offline, their socket is open. */
  track(entry: { user: string; status: PresenceStatus; metadata?: Record<string, unknown> }): Promise<boolean>;
  /** Keeps a user out of this room. False: there are too many bans. */
  ban(user: string, ban: Ban): Promise<boolean>;
  /** False: they were not banned. */
  unban(user: string): Promise<boolean>;
  /** Who is banned here. */
  bans(): Promise<Record<string, Ban>>;
  /** Marks those offline who were tracked without a socket and have been silent for so many ms; answers how many. */
  expirePresence(ms: number): Promise<number>;
  /** Everybody tracked here, by socket or by API, offline ones with their last sight included. */
  presence(): Promise<PresenceEntry[]>;
  /**
   * Replaces the cached registration; null: the channel was deleted (sockets are told and dropped, ring emptied). To be
   * told the same again changes nothing.
   */
  configure(config: ChannelConfig | null): Promise<void>;
  /** These members of the channel, or any of them, have changed: who is in is judged anew. */
  reauthorize(users?: readonly string[]): Promise<void>;
  /** Policies have changed: so is everybody whose socket this object holds. */
  policiesChanged(): Promise<void>;
  /** Sends a message for somebody without a socket. Null: it was sent, and is durable. */
  post(sender: Sender, message: PostedMessage): Promise<Unposted | null>;
}

/** Gateway object, named `<location>-<shard>`. */
export interface GatewayRpc extends HolderRpc {
  /** Policies have changed: everybody in a private channel is judged anew. */
  policiesChanged(): Promise<void>;
}

/** Directory object: one, named `directory`. Knows who lives; is told in batches; is never on a message's path. */
export interface DirectoryRpc {
  /** Names of the gateway objects (and of channel objects with direct sockets) that hold client sockets. */
  holders(): Promise<{ gateways: string[]; channels: string[] }>;
  /** Presence of all channels, for one user or for everybody. */
  presence(query: { user?: string }): Promise<PresenceEntry[]>;
  /** The same in pages, by channels and users; `present`: without those who are offline. */
  presencePage(query: PresenceQuery): Promise<{ entries: PresenceEntry[]; next: PresencePlace | undefined }>;
  /** See ChannelRpc, for all channels. */
  expirePresence(ms: number): Promise<number>;
  /** Marks a user offline in every channel where they are tracked without a socket; answers in how many. */
  setOffline(user: string): Promise<number>;
  /** What objects have counted in the last 24 hours. */
  totals(): Promise<Totals>;
  /** Blocks a user or a token everywhere. `unreached`: it stands, but an object that holds sockets was not told. */
  block(block: Block): Promise<"done" | "full" | "unreached">;
  /** Lifts a block. False: there was none. */
  unblock(kind: Block["kind"], id: string): Promise<boolean>;
  /** Whether a token, by its `jti`, counts no more. */
  isRevoked(jti: string): Promise<boolean>;
  /** The blocks that stand. */
  blocks(): Promise<Block[]>;
  /** Takes up a write; or what was answered to it before, or why it may not be done. */
  begin(once: Once): Promise<{ answer: string } | "new" | "under_way" | "key_reused">;
  /** Keeps what a write that was taken up has come to; null: to nothing, it may be sent again. */
  finish(once: Once, answer: string | null): Promise<void>;
}
