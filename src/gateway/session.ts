// A session: one client socket and what is known of it.
import type { Claims } from "../protocol/claims.ts";
import type { Version } from "../protocol/frames.ts";
import type { Membership } from "./membership.ts";
import type { Socket } from "./ports.ts";

/** A session as it is kept. */
export interface SessionRecord {
  readonly id: string;
  readonly version: Version;
  readonly claims: Claims;
  /** Unix ms. */
  readonly connectedAt: number;
  /** It has sent a heartbeat, so it is alive as long as more of them come. Absent: never. */
  readonly heartbeats?: true;
}

export interface Session extends Omit<SessionRecord, "heartbeats"> {
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
}

/** A topic of a session: its join is under way, or it is joined. */
export type Topic =
  | { readonly state: "joining"; readonly joinRef: string | null; readonly waiting: (() => void)[] }
  | { readonly state: "joined"; readonly membership: Membership };
