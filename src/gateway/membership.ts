// A membership: one session in one channel, with what it asked for when it joined.

import type { Claims } from "../protocol/claims.ts";
import type { ChannelLimits } from "../protocol/limits.ts";
import type { Joiner, Viewer } from "../protocol/link.ts";
import type { Rights } from "../protocol/rights.ts";
import { isFeedObject, isPrivateObject } from "../protocol/topics.ts";
import type { Binding } from "./bindings.ts";
import type { Waiting } from "./feeds.ts";
import type { SessionRates } from "./rates.ts";
import type { Room } from "./room.ts";
import type { Session } from "./session.ts";
import type { Tokens } from "./standing.ts";

export interface Membership {
  readonly session: Session;
  /** The wire topic under which the client knows the channel. */
  readonly topic: string;
  readonly joinRef: string | null;
  readonly room: Room;
  /** The claims of the join's own token: they may differ from the session's. */
  claims: Claims;
  /** What the policies of tables judge it by. */
  viewer: Viewer;
  /** What it may do here, and how much. */
  rights: Rights;
  limits: Partial<ChannelLimits>;
  rates: Pick<SessionRates, "messages" | "presence">;
  /** The tokens that come on the open channel. */
  readonly tokens: Tokens;
  /** Counts the judgements asked for: only the newest counts. */
  turn: number;
  readonly self: boolean;
  readonly ack: boolean;
  readonly presenceKey: string;
  /** Wants presence: asked for at the join, or tracked since. */
  presenceEnabled: boolean;
  /** What it tracks: told again to a channel that may have let it go. */
  tracked: Record<string, unknown> | null;
  /** The row-change subscriptions that stand, and those that may yet. */
  bindings: readonly Binding[];
  waiting: readonly Waiting[];
}

/**
 * A session as the channel of an object is to judge it. Policies are asked of a private one, and see all claims; those of
 * tables are asked of a feed.
 */
export function joinerOf({ session, claims, viewer }: Subscriber, object: string): Joiner {
  const { role, user, all } = claims;
  const joiner = { session: session.id, role, user };
  if (isFeedObject(object)) return { ...joiner, viewer };
  return isPrivateObject(object) ? { ...joiner, principal: { claims: all, headers: session.headers } } : joiner;
}

/** Who joins: a session, as what. */
export type Subscriber = Pick<Membership, "session" | "claims" | "viewer">;
