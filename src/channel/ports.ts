// The ports of a channel: what it needs of the world, small enough that a test can hold it in its hand.

import type { ChannelLimits } from "../protocol/limits.ts";
import type { Body, Down, Joiner, Message, Viewer } from "../protocol/link.ts";
import type { Rights } from "../protocol/rights.ts";
import type { Table } from "../protocol/tables.ts";
import type { Timers } from "../protocol/timers.ts";
import type { PolicyQuestion } from "../protocol/viewers.ts";
import type { Parcel } from "./parcel.ts";

/** The channel's end of a link to one gateway. `gateway` names it; two links of one name do not stand at once. */
export interface Link {
  readonly gateway: string;
  send(message: Down): void;
  /** Sends what goes down every link, encoded at most once for all of them. */
  deliver(parcel: Parcel): void;
  close(code: number, reason: string): void;
}

/** A row of the ring: messages `first` to `last`, the newest sent `at` unix ms. `body` is the ring's own encoding. */
export interface RingRow {
  readonly slot: number;
  readonly first: number;
  readonly last: number;
  readonly at: number;
  readonly body: string;
}

/** A tracked member as it is kept: `session` and `gateway` are null for one tracked without a socket. */
export interface MemberRow {
  readonly ref: string;
  readonly key: string;
  /** The user behind it, null for an anonymous session. */
  readonly user: string | null;
  readonly session: string | null;
  readonly gateway: string | null;
  /** The tracked payload with its `phx_ref`s, as JSON text. */
  readonly meta: string;
  /** Unix ms of the last sign of life. */
  readonly seenAt: number;
}

/** A user's last sight in this channel. */
export interface SightRow {
  readonly user: string;
  readonly metadata: string;
  readonly seenAt: number;
}

/** What a channel keeps beyond its life in memory. What is sent after a write leaves only once the write is durable. */
export interface ChannelStore {
  /** Small named values: epoch, reservation, floor, registration. */
  get(key: string): string | undefined;
  set(key: string, value: string): void;
  /** All ring rows without their bodies, in order of `first`. */
  ringIndex(): Omit<RingRow, "body">[];
  ringBody(slot: number): string | undefined;
  putRing(row: RingRow): void;
  members(): MemberRow[];
  putMember(row: MemberRow): void;
  deleteMember(ref: string): void;
  sights(): SightRow[];
  /** The last sight of one user. */
  sight(user: string): SightRow | undefined;
  hasSights(): boolean;
  /** Keeps the newest sight of a user, and the newest 10,000 of all. */
  putSight(row: SightRow): void;
  /** Forgets ring, members and sights; named values stay. */
  clear(): void;
}

export interface ChannelPorts {
  readonly store: ChannelStore;
  readonly timers: Timers;
  /** A new unique id (UUID). */
  id(): string;
  /** A user tracked without a socket is offline after this long without a sign of life. */
  readonly presenceTimeoutMs: number;
  /** How long a message can be had. */
  readonly messageTtlMs: number;
  /** Most messages that a replay by time delivers, unless the channel says otherwise. */
  readonly maxReplay: number;
  /** Who may do what; answers from what is cached wherever it can. */
  readonly access: ChannelAccess;
  readonly archive: Archive;
  readonly policies: Policies;
}

/**
 * By key, the positions of the images that a viewer may see; who is not there may see none. `left` are keys of those for
 * whom there was no time. `outdated`: the policies read more columns than the images hold. `late`: not in time, or not at
 * all, which among several viewers can be the fault of one.
 */
export type PolicyAnswer =
  | { readonly visible: ReadonlyMap<string, readonly number[]>; readonly left: readonly string[] }
  | "outdated"
  | "late";

/** The policies of tables. */
export interface Policies {
  /** Rejects when PostgreSQL is away. */
  ask(question: PolicyQuestion): Promise<PolicyAnswer>;
  /** Notes that rows were not shown to viewers who might have seen them. */
  unjudged(table: string, viewers: readonly Viewer[], reason: string): void;
}

/** Where messages are kept beyond the ring. */
export interface Archive {
  /** Keeps a message for so many seconds. False when that could not be done. */
  persist(message: { id: string; name: string; body: Body }, seconds: number): Promise<boolean>;
  /** Keeps messages of a registered channel, each once by its id. Rejects when PostgreSQL does not answer. */
  keep(messages: readonly Message[]): Promise<void>;
}

export type ChannelType = "public" | "private" | "presence" | "direct";

/** What a registered channel is, as far as it matters to who joins. */
export interface Registration {
  readonly type: ChannelType;
  readonly limits: Partial<ChannelLimits>;
}

/** A user's ban from one channel. */
export interface Ban {
  /** Unix ms; null: for good. */
  readonly until: number | null;
  readonly reason: string | null;
}

/** What only PostgreSQL knows. Each throws when PostgreSQL is needed and away: the caller fails closed. */
export interface ChannelAccess {
  /** How the name is registered; null for an open channel. */
  registration(): Promise<Registration | null>;
  /** The registration as it was last heard of, in this life or an earlier one. */
  known(): Registration | null;
  /** What somebody may do in this private room, not as it was known before `notBefore` (unix ms). */
  rights(joiner: Joiner, notBefore: number): Promise<Rights>;
  /**
   * What somebody may do in this presence channel: everything for its members, and for who becomes one by `entering`,
   * nothing for others.
   */
  membership(joiner: Joiner, entering: boolean): Promise<Rights>;
  /** What keeps a user out of this channel; undefined: nothing. */
  banOf(user: string | null): Ban | undefined;
  /** Has the rights of these users, or of everybody, asked for anew. */
  forgetRights(users?: readonly string[]): void;
  /** The table of this feed; null when nobody captures it. */
  table(): Promise<Table | null>;
}
