// Memberships: how they begin, are kept for the gateway's next life and taken up there, and end.
import { encodeFrame } from "../protocol/codec.ts";
import type { Viewer } from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import { allRights, noRights } from "../protocol/rights.ts";
import { isFeedObject, isPrivateObject } from "../protocol/topics.ts";
import { type Binding, compileBinding } from "./bindings.ts";
import type { Opened } from "./feeds.ts";
import type { Gateway } from "./gateway.ts";
import type { Membership } from "./membership.ts";
import type { SessionStore } from "./ports.ts";
import { membershipRates } from "./rates.ts";
import type { Room } from "./room.ts";
import { newTokens } from "./standing.ts";
import { watchExpiry } from "./sweep.ts";

/** What a membership begins with: the rest is the same for all. */
type Beginning = Omit<Membership, "rates" | "tokens" | "turn">;

export class Memberships {
  readonly #gateway: Gateway;
  readonly #store: SessionStore;

  constructor(gateway: Gateway, store: SessionStore) {
    this.#gateway = gateway;
    this.#store = store;
  }

  /**
   * Takes up those that an earlier life has kept, of sessions that are here; `positions` are where it stopped, by object.
   * Answers the rooms in which somebody has to be judged again.
   */
  restore(positions: ReadonlyMap<string, Position>): ReadonlySet<Room> {
    const gateway = this.#gateway;
    const unjudged = new Set<Room>();
    for (const record of this.#store.joins()) {
      const session = gateway.sessions.get(record.session);
      if (session === undefined) continue;
      const bindings = record.bindings.map(compileBinding);
      for (const { feed } of record.bindings) gateway.room(feed, positions.get(feed));
      const room = gateway.room(record.object, positions.get(record.object));
      // A join of an earlier deploy is judged again where it must be.
      const {
        rights = isPrivateObject(record.object) ? noRights : allRights,
        limits = {},
        viewer = nobody(record.claims.role),
        refused = [],
        named = null,
      } = record;
      if (record.rights === undefined) unjudged.add(room);
      this.enter({ ...record, session, room, bindings, viewer, rights, limits, refused, named });
    }
    return unjudged;
  }

  /** Begins a membership. */
  enter(beginning: Beginning): Membership {
    const { session, topic, room, viewer, limits, claims } = beginning;
    const now = this.#gateway.now();
    const rates = membershipRates(session.rates, limits, claims.role, now);
    const membership: Membership = { ...beginning, rates, tokens: newTokens(now), turn: 0 };
    session.topics.set(topic, { state: "joined", membership });
    room.members.set(session.id, membership);
    if (isFeedObject(room.object)) room.views(viewer);
    room.entered();
    for (const binding of membership.bindings) this.#subscribe(membership, binding);
    watchExpiry(this.#gateway, membership);
    return membership;
  }

  #subscribe(membership: Membership, binding: Binding): void {
    const feedRoom = this.#gateway.room(binding.record.feed);
    feedRoom.views(membership.viewer);
    feedRoom.subscriptions.add(membership, binding);
    feedRoom.entered();
  }

  /** Takes up what has come of subscriptions, and tells the client. */
  opened(membership: Membership, { bindings, problems, waiting, refused }: Opened): void {
    const gateway = this.#gateway;
    membership.bindings = [...membership.bindings, ...bindings];
    membership.waiting = [...membership.waiting, ...waiting];
    membership.refused = [...membership.refused, ...refused];
    for (const binding of bindings) this.#subscribe(membership, binding);
    this.keep(membership);
    gateway.wakeFor(waiting);
    for (const message of problems) gateway.system(membership, "postgres_changes", "error", message);
    if (bindings.some(({ record }) => !record.bare)) {
      gateway.system(membership, "postgres_changes", "ok", "Subscribed to PostgreSQL");
    }
  }

  /** Has only these of a membership's subscriptions stand. */
  retain(membership: Membership, kept: readonly Binding[]): void {
    const feeds = new Set(membership.bindings.map(({ record }) => this.#gateway.room(record.feed)));
    for (const feed of feeds) feed.subscriptions.delete(membership);
    membership.bindings = kept;
    for (const binding of kept) this.#subscribe(membership, binding);
    for (const feed of feeds) feed.release();
  }

  /** Writes a membership down for the gateway's next life. */
  keep({ session, room, bindings, rates: _rates, tokens: _tokens, turn: _turn, ...wishes }: Membership): void {
    const records = bindings.map(({ record }) => record);
    this.#store.putJoin({ ...wishes, session: session.id, object: room.object, bindings: records });
  }

  /** Whether a membership is still the one of its topic: it may have ended while an answer was under way. */
  stands(membership: Membership): boolean {
    const topic = membership.session.topics.get(membership.topic);
    return topic?.state === "joined" && topic.membership === membership;
  }

  /** Ends a membership, and tells the channel. */
  leave(membership: Membership): void {
    const { session, topic, room } = membership;
    session.topics.delete(topic);
    this.#store.deleteJoin(session.id, topic);
    if (room.members.get(session.id) === membership) room.members.delete(session.id);
    room.leave(session.id);
    this.retain(membership, []);
  }

  /** Tells the client that it is over: its own join_ref in both places, or clients ignore the frame (protocol.md §10). */
  tellOver({ session, joinRef, topic }: Membership, event: "phx_error" | "phx_close", payload: object): void {
    const frame = encodeFrame(session.version, joinRef, joinRef, topic, event, JSON.stringify(payload));
    this.#gateway.send(session, frame);
  }

  /** Ends a membership from the server's side: `phx_error` has the client join again, `phx_close` does not. */
  drop(membership: Membership, event: "phx_error" | "phx_close", payload: object): void {
    this.leave(membership);
    this.tellOver(membership, event, payload);
  }

  /** Puts a member out for good, saying why. */
  putOut(membership: Membership, reason: string): void {
    this.#gateway.system(membership, "system", "error", reason);
    this.drop(membership, "phx_close", {});
  }

  /** Puts a member out whose token has expired: the client joins again with whatever token it holds by then. */
  expired(membership: Membership, message: string): void {
    this.#gateway.system(membership, "system", "error", message);
    this.drop(membership, "phx_error", { reason: "token expired" });
  }
}

/** A viewer without claims: of a join of an earlier deploy no more is known. */
function nobody(role: string): Viewer {
  return { key: `role ${role}`, role, claims: {} };
}
