// A session: one client socket and what is known of it.
import type { Claims } from "../protocol/claims.ts";
import type { Version } from "../protocol/frames.ts";
import type { Membership } from "./membership.ts";
import type { Socket } from "./ports.ts";
import type { Questions } from "./questions.ts";
import type { SessionRates } from "./rates.ts";

/** A session as it is kept. */
export interface SessionRecord {
  readonly id: string;
  readonly version: Version;
  readonly claims: Claims;
  /** Unix ms. */
  readonly connectedAt: number;
  /** The `x-*` headers of the upgrade, which policies may read (protocol.md §1.2). */
  readonly headers?: Readonly<Record<string, string>>;
  /** Its client takes several frames as one, a JSON list of them. */
  readonly packed?: true;
  /** It has sent a heartbeat, so it is alive as long as more of them come. Absent: never. */
  readonly heartbeats?: true;
}

export interface Session extends Omit<SessionRecord, "heartbeats"> {
  readonly headers: Readonly<Record<string, string>>;
  heartbeats?: true;
  readonly socket: Socket;
  /** By wire topic. */
  readonly topics: Map<string, Topic>;
  /** Unix ms of the last frame from the client. */
  lastSeen: number;
  /** Length of all frames sent since then. */
  unread: number;
  /** Length of all frames that wait for a join. */
  queued: number;
  readonly rates: SessionRates;
  /** What its subscriptions ask PostgreSQL. */
  readonly questions: Questions;
}

/** A session as it is to be kept. */
export function recordOf({ id, version, claims, connectedAt, headers, packed, heartbeats }: Session): SessionRecord {
  return { id, version, claims, connectedAt, headers, ...(packed && { packed }), ...(heartbeats && { heartbeats }) };
}

/** A topic of a session: its join is under way, or it is joined. */
export type Topic = Joining | { readonly state: "joined"; readonly membership: Membership };

export interface Joining {
  readonly state: "joining";
  readonly joinRef: string | null;
  /** Frames that came for the topic, to be handled when the join is answered. */
  readonly waiting: (() => void)[];
  /** Users who are not to get in by this join, and why: whose it is shows when its token is verified. */
  readonly kicked: Map<string, string>;
}
