// The ports of a gateway: what it needs of the world, small enough that a test can hold it in its hand.

import type { Claims } from "../protocol/claims.ts";
import type { JsonText } from "../protocol/json.ts";
import type { ChannelLimits, Limits, Pace } from "../protocol/limits.ts";
import type { Down, Up, Viewer } from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import type { Rights } from "../protocol/rights.ts";
import type { Timers } from "../protocol/timers.ts";
import type { BindingRecord } from "./bindings.ts";
import type { CapturedTables } from "./captured.ts";
import type { Waiting } from "./feeds.ts";
import type { SessionRecord } from "./session.ts";
import type { Tally } from "./tally.ts";
import type { Wish } from "./wishes.ts";

/** A client's socket. Neither call throws: a socket that is closing takes nothing any more. */
export interface Socket {
  /** Unix ms of the client's last frame as far as the socket knows; absent for a new one. */
  readonly seenAt?: number;
  send(frame: string | Uint8Array): void;
  close(code: number, reason: string): void;
}

/** The gateway's end of a link to a channel. */
export interface ChannelLink {
  send(message: Up): void;
  close(): void;
}

/** What the gateway wants to hear of a link it opens. */
export interface LinkEvents {
  message(message: Down): void;
  /** The link has gone, by whatever cause. Not called after the gateway has closed it itself. */
  closed(): void;
}

/** A joined topic as it is kept: everything that the next life needs to go on where this one stopped. */
export interface JoinRecord {
  readonly session: string;
  readonly topic: string;
  readonly object: string;
  readonly joinRef: string | null;
  readonly claims: Claims;
  readonly viewer?: Viewer;
  readonly rights?: Rights;
  /** Those that the channel sets for itself. */
  readonly limits?: Partial<ChannelLimits>;
  readonly self: boolean;
  readonly ack: boolean;
  readonly presenceKey: string;
  readonly presenceEnabled: boolean;
  readonly tracked: Record<string, unknown> | null;
  readonly bindings: readonly BindingRecord[];
  readonly waiting: readonly Waiting[];
  readonly refused?: readonly Wish[];
  readonly named?: Wish | null;
}

/**
 * What a gateway keeps beyond its life in memory, for when it wakes up with its sockets. Writes may be late: a gateway
 * that ends by a crash ends its sockets too, and needs nothing of it.
 */
export interface SessionStore {
  sessions(): SessionRecord[];
  putSession(session: SessionRecord): void;
  /** Forgets a session and its joins. */
  deleteSession(id: string): void;
  joins(): JoinRecord[];
  putJoin(join: JoinRecord): void;
  deleteJoin(session: string, topic: string): void;
  /** The last position delivered of each channel, by object name. */
  positions(): ReadonlyMap<string, Position>;
  putPosition(object: string, position: Position): void;
  deletePosition(object: string): void;
}

/** Literals as PostgreSQL reads them, in their order; or why it refuses one of them. */
export type Literals = { readonly json: JsonText[] } | { readonly fault: string; readonly sqlstate: string };

/** What only PostgreSQL can say of row-change subscriptions. Each call rejects when it is away. */
export interface Postgres {
  /**
   * Reads literals as values of a type of pg_catalog, `timestamptz` or `_int4`, into the JSON that a captured row would
   * hold of them; or why PostgreSQL refuses one of them.
   */
  literals(type: string, literals: readonly string[]): Promise<Literals>;
  /** What is wrong with a regular expression; undefined: nothing. */
  patternFault(pattern: string): Promise<string | undefined>;
  /**
   * The captured tables, asked for not before `notBefore` (unix ms), or a moment ago: the same object as long as nothing
   * has changed.
   */
  captured(notBefore?: number): Promise<CapturedTables>;
  /** Whether what the database sends reaches its channels now, or a moment ago. */
  isReady(): Promise<boolean>;
}

export interface GatewayPorts {
  /** This gateway's name, by which channels know its link. */
  readonly name: string;
  readonly store: SessionStore;
  readonly timers: Timers;
  readonly postgres: Postgres;
  readonly tally: Tally;
  /** A new unique id (UUID). */
  id(): string;
  /** A digest of a text that no two texts share, some 16 characters or more. */
  digest(text: string): Promise<string>;
  /** Opens a link to a channel object. Rejects when it cannot be reached. */
  openLink(object: string, events: LinkEvents): Promise<ChannelLink>;
  readonly limits: Limits;
  /** What clients are told of it. */
  readonly pace: Pace;
  /** Verifies a token. Throws an error whose `code` and `message` the client may see. */
  verify(token: string): Promise<Claims>;
  /** Resolves once every block is known here. Rejects when nobody can say: then nobody may be let in. */
  blocksKnown(): Promise<void>;
  /** Tells of something worth knowing that no client is to be told. */
  log(event: string, details: Record<string, string | number>): void;
}
