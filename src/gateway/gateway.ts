// A gateway: holds client sockets, speaks the wire protocol with them, and carries their channels over links.

import { Blocks } from "../protocol/blocks.ts";
import type { Claims } from "../protocol/claims.ts";
import { closes } from "../protocol/closes.ts";
import { decodeFrame, encodeFrame, encodeReply } from "../protocol/codec.ts";
import { Due } from "../protocol/due.ts";
import { reasonOf } from "../protocol/errors.ts";
import { type ClientFrame, MalformedFrame } from "../protocol/frames.ts";
import { exceeds } from "../protocol/json.ts";
import { type Limits, MAX_QUEUED_FRAMES, MAX_UNREAD_BYTES } from "../protocol/limits.ts";
import type { Viewer } from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import { allRights, noRights } from "../protocol/rights.ts";
import type { Timers } from "../protocol/timers.ts";
import { isFeedObject, isPrivateObject, parseTopic } from "../protocol/topics.ts";
import { viewerOf } from "../protocol/viewers.ts";
import { type Binding, compileBinding } from "./bindings.ts";
import { handleBroadcast } from "./broadcasts.ts";
import { refusalFor } from "./control.ts";
import { FanOut } from "./fan-out.ts";
import type { Opened, Waiting } from "./feeds.ts";
import { type Admitted, JoinRefused, join } from "./joining.ts";
import type { Membership } from "./membership.ts";
import { handleModeration } from "./moderation.ts";
import { NamedTables } from "./named-tables.ts";
import type { Frame } from "./outgoing.ts";
import type { GatewayPorts, Postgres, Socket } from "./ports.ts";
import { handlePresence } from "./presences.ts";
import { Questions } from "./questions.ts";
import { membershipRates, sessionRates } from "./rates.ts";
import { tellWhenReady } from "./readiness.ts";
import { Room, type RoomEvents } from "./room.ts";
import { type Joining, recordOf, type Session, type SessionRecord } from "./session.ts";
import { newTokens, reauthorize, refreshToken } from "./standing.ts";
import { SWEEP_MS, secondsLate, sweep, watchExpiry } from "./sweep.ts";
import type { Stored } from "./under-way.ts";
import { echoWishes } from "./wishes.ts";

export class Gateway implements RoomEvents {
  readonly sessions = new Map<string, Session>();
  readonly blocks = new Blocks();
  readonly #rooms = new Map<string, Room>();
  readonly #fanOut: FanOut;
  /** Who has been told that a filter of theirs takes too long. */
  readonly #toldUndecided = new WeakSet<Membership>();
  readonly timers: Timers;
  /** When to sweep next. */
  readonly due: Due;
  readonly postgres: Postgres;
  readonly namedTables = new NamedTables(this);
  readonly #ports: GatewayPorts;

  constructor(ports: GatewayPorts) {
    this.#ports = ports;
    this.timers = ports.timers;
    this.due = new Due(ports.timers);
    this.postgres = ports.postgres;
    this.#fanOut = new FanOut(
      (session, frame) => this.send(session, frame),
      (membership) => this.#undecided(membership),
      ports.timers,
      ports.tally,
    );
  }

  /** Takes over a new socket. */
  open(record: SessionRecord, socket: Socket): void {
    this.sessions.set(record.id, this.#session(record, socket));
    this.#ports.store.putSession(record);
    this.#ports.tally.connected(this.sessions.size);
    this.due.by(this.now() + SWEEP_MS);
  }

  #session(record: SessionRecord, socket: Socket): Session {
    const now = this.now();
    const rates = sessionRates(this.limits, record.claims.role, now);
    return {
      headers: {},
      ...record,
      socket,
      topics: new Map(),
      lastSeen: socket.seenAt ?? now,
      unread: 0,
      queued: 0,
      rates,
      questions: new Questions(this.postgres),
    };
  }

  /**
   * Goes on where the last life stopped: `sockets` are those that outlived it, by session id. Every channel is asked for
   * what was sent in between.
   */
  restore(sockets: ReadonlyMap<string, Socket>): void {
    const { store } = this.#ports;
    const positions = store.positions();
    const records = store.sessions();
    for (const record of records) {
      const socket = sockets.get(record.id);
      if (socket === undefined) store.deleteSession(record.id);
      else this.sessions.set(record.id, this.#session(record, socket));
    }
    for (const [id, socket] of sockets) {
      if (!this.sessions.has(id)) socket.close(closes.restarting.code, closes.restarting.reason);
    }
    const unjudged = new Set<Room>();
    for (const record of store.joins()) {
      const session = this.sessions.get(record.session);
      if (session === undefined) continue;
      const bindings = record.bindings.map(compileBinding);
      for (const { feed } of record.bindings) this.room(feed, positions.get(feed));
      const room = this.room(record.object, positions.get(record.object));
      // A join of an earlier deploy is judged again where it must be.
      const {
        rights = isPrivateObject(record.object) ? noRights : allRights,
        limits = {},
        viewer = nobody(record.claims.role),
        refused = [],
        named = null,
      } = record;
      if (record.rights === undefined) unjudged.add(room);
      const parts = { ...record, session, room, bindings, viewer, rights, limits, refused, named };
      this.#enter(this.#membership(parts));
    }
    if (records.length > 0) this.#ports.tally.connected(this.sessions.size);
    // A position that nobody holds on to would have a later member hear the past as if it were live.
    for (const object of positions.keys()) if (!this.#rooms.has(object)) store.deletePosition(object);
    for (const room of this.#rooms.values()) room.open();
    for (const room of unjudged) this.reauthorize(room);
  }

  /** The room of a channel object, made when it is first asked for; `position` is where a last life stopped. */
  room(object: string, position?: Position): Room {
    let room = this.#rooms.get(object);
    if (room === undefined) {
      room = new Room(object, this.#ports, this.#fanOut, this, position);
      this.#rooms.set(object, room);
    }
    return room;
  }

  /** Takes a frame from a client. */
  receive(id: string, data: string | ArrayBuffer): void {
    const session = this.sessions.get(id);
    if (session === undefined) return;
    session.lastSeen = this.now();
    session.unread = 0;
    const most = this.limits.frameBytes;
    const tooLarge = typeof data === "string" ? exceeds(data, most) : data.byteLength > most;
    if (tooLarge) return this.end(session, closes.frameTooLarge);
    try {
      this.#dispatch(session, decodeFrame(session.version, data), lengthOf(data));
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error;
      this.#ports.log("malformed frame", { session: id, reason: error.message });
    }
  }

  #dispatch(session: Session, frame: ClientFrame, length: number): void {
    if (frame.topic === "phoenix" && frame.event === "heartbeat") return this.#heartbeat(session, frame);
    if (frame.event === "phx_join") return this.#join(session, frame);
    const topic = session.topics.get(frame.topic);
    if (topic?.state === "joined") return this.#toMember(topic.membership, frame);
    if (topic?.state === "joining") {
      // A join that is left before its answer is over at once: no answer to it is awaited any more.
      const isOver = frame.event === "phx_leave" && (frame.joinRef === null || frame.joinRef === topic.joinRef);
      if (!isOver) return this.#queue(session, topic.waiting, frame, length);
      session.topics.delete(frame.topic);
    }
    if (frame.event === "phx_leave") return this.reply(session, frame, "ok", {});
    this.reply(session, frame, "error", { reason: "unmatched topic" });
  }

  #heartbeat(session: Session, frame: ClientFrame): void {
    if (session.heartbeats === undefined) {
      session.heartbeats = true;
      this.#ports.store.putSession(recordOf(session));
    }
    this.reply(session, frame, "ok", {});
  }

  /** Keeps a frame until the join of its topic is answered. */
  #queue(session: Session, waiting: (() => void)[], frame: ClientFrame, length: number): void {
    if (waiting.length >= MAX_QUEUED_FRAMES || session.queued + length > this.limits.frameBytes) {
      const reason = reasonOf("TooManyFrames", "Too many frames before the join was answered");
      return this.reply(session, frame, "error", { reason });
    }
    session.queued += length;
    waiting.push(() => {
      session.queued -= length;
      this.#dispatch(session, frame, length);
    });
  }

  #toMember(membership: Membership, frame: ClientFrame): void {
    switch (frame.event) {
      case "broadcast":
        return handleBroadcast(this, membership, frame);
      case "presence":
        return handlePresence(this, membership, frame);
      case "moderate":
        return handleModeration(this, membership, frame);
      case "access_token":
        return refreshToken(this, membership, frame);
      case "phx_leave":
        // A leave of an earlier life of this topic is over already (protocol.md §3.8).
        if (frame.joinRef !== null && frame.joinRef !== membership.joinRef) return;
        this.#leave(membership);
        this.reply(membership.session, frame, "ok", {});
        // The Swift client has left only when it hears this; to the others the reply is enough.
        return this.#over(membership, "phx_close", {});
      default:
        // Unknown events are not answered (protocol.md §10).
        return;
    }
  }

  newId(): string {
    return this.#ports.id();
  }

  /** Unix ms. */
  now(): number {
    return this.#ports.timers.now();
  }

  get limits(): Limits {
    return this.#ports.limits;
  }

  async claimsOf(session: Session, token: string | undefined): Promise<Claims> {
    const claims = token === undefined ? this.#unexpired(session.claims) : await this.#ports.verify(token);
    await this.#ports.blocksKnown().catch((error: unknown) => {
      this.#ports.log("blocks not known", { session: session.id, reason: String(error) });
      throw new JoinRefused(reasonOf("RealtimeRestarting", "Realtime is restarting, please standby"));
    });
    const refusal = this.refusalOf(claims);
    if (refusal !== undefined) throw new JoinRefused(reasonOf("Unauthorized", refusal));
    return claims;
  }

  #unexpired(claims: Claims): Claims {
    const late = secondsLate(claims, this.now());
    if (late < 0) return claims;
    throw new JoinRefused(reasonOf("InvalidJWTToken", `Token has expired ${Math.round(late)} seconds ago`));
  }

  /** What stands against the bearer of these claims; undefined: nothing. */
  refusalOf(claims: Claims): string | undefined {
    const block = this.blocks.of(claims, this.now());
    return block && refusalFor(block);
  }

  viewerOf(claims: Claims): Promise<Viewer> {
    return viewerOf(claims, this.#ports.digest);
  }

  #join(session: Session, frame: ClientFrame): void {
    const topic = parseTopic(frame.topic);
    if ("reason" in topic) return this.reply(session, frame, "error", topic);
    if (!session.rates.joins.take(this.now())) {
      const reason = reasonOf("ClientJoinRateLimitReached", "Too many joins per second");
      return this.reply(session, frame, "error", { reason });
    }
    const before = session.topics.get(frame.topic);
    if (before?.state === "joined") this.#leave(before.membership);
    if (session.topics.size >= this.limits.channels) {
      const reason = reasonOf("ChannelRateLimitReached", "Too many channels");
      return this.reply(session, frame, "error", { reason });
    }
    const joining: Joining = { state: "joining", joinRef: frame.joinRef, waiting: [], kicked: new Map() };
    session.topics.set(frame.topic, joining);
    // A client that has left, or joined again, meanwhile gets no answer to this join any more.
    const current = (): boolean => session.topics.get(frame.topic) === joining && this.sessions.has(session.id);
    join(this, session, frame, topic, (admitted) => {
      const { claims, room } = admitted;
      // They may have been banned or kicked meanwhile.
      const refusal = this.refusalOf(claims) ?? joining.kicked.get(claims.user ?? "");
      if (current() && refusal === undefined) this.#admit(session, frame, admitted);
      // Nothing to undo at the channel, where the session may be a member by another join.
      else room.release();
      return refusal;
    })
      .catch((error: unknown) => {
        if (!current()) return;
        session.topics.delete(frame.topic);
        this.reply(session, frame, "error", { reason: this.#reasonOf(error) });
      })
      .finally(() => {
        if (this.sessions.has(session.id)) for (const run of joining.waiting) run();
      });
  }

  #reasonOf(error: unknown): string {
    if (error instanceof JoinRefused) return error.message;
    if (error instanceof Error && "code" in error) return `${error.code}: ${error.message}`;
    this.#ports.log("join crashed", { reason: String(error) });
    return "Unknown Error on Channel";
  }

  #admit(session: Session, frame: ClientFrame, admitted: Admitted): void {
    const { room, request, claims, viewer, presenceKey, opened, named, joined } = admitted;
    const { self, ack, presenceEnabled } = request;
    const { ok: _ok, rights = allRights, limits = {}, table: _table, ...standing } = joined;
    const membership = this.#membership({
      ...{ session, room, claims, viewer, rights, limits, self, ack, presenceKey, presenceEnabled },
      topic: frame.topic,
      joinRef: frame.joinRef,
      tracked: null,
      bindings: [],
      waiting: [],
      refused: [],
      named,
    });
    this.#enter(membership);
    const { heartbeatMs, reconnectMs } = this.#ports.pace;
    const pace = { heartbeat_ms: heartbeatMs, reconnect_ms: reconnectMs };
    this.reply(session, frame, "ok", { postgres_changes: echoWishes(request.postgresChanges), ...standing, ...pace });
    this.opened(membership, opened);
    void this.namedTables.joined(membership);
    if (request.replicationReady) tellWhenReady(this, membership);
  }

  /** Takes up what has come of subscriptions, and tells the client. */
  opened(membership: Membership, { bindings, problems, waiting, refused }: Opened): void {
    membership.bindings = [...membership.bindings, ...bindings];
    membership.waiting = [...membership.waiting, ...waiting];
    membership.refused = [...membership.refused, ...refused];
    for (const binding of bindings) this.#subscribe(membership, binding);
    this.keep(membership);
    this.wakeFor(waiting);
    for (const message of problems) this.system(membership, "postgres_changes", "error", message);
    if (bindings.some(({ record }) => !record.bare)) {
      this.system(membership, "postgres_changes", "ok", "Subscribed to PostgreSQL");
    }
  }

  #membership(parts: Omit<Membership, "rates" | "tokens" | "turn">): Membership {
    const { session, limits, claims } = parts;
    return {
      ...parts,
      rates: membershipRates(session.rates, limits, claims.role, this.now()),
      tokens: newTokens(this.now()),
      turn: 0,
    };
  }

  /** What is due no sooner than the next sweep is seen to by it. */
  wakeFor(waiting: readonly Waiting[]): void {
    for (const { retryAt } of waiting) if (retryAt < this.timers.now() + SWEEP_MS) this.wakeAt(retryAt);
  }

  wakeAt(time: number): void {
    this.due.wish(time);
  }

  #subscribe(membership: Membership, binding: Binding): void {
    const feedRoom = this.room(binding.record.feed);
    feedRoom.views(membership.viewer);
    feedRoom.subscriptions.add(membership, binding);
    feedRoom.entered();
  }

  #enter(membership: Membership): void {
    membership.session.topics.set(membership.topic, { state: "joined", membership });
    membership.room.members.set(membership.session.id, membership);
    if (isFeedObject(membership.room.object)) membership.room.views(membership.viewer);
    membership.room.entered();
    for (const binding of membership.bindings) this.#subscribe(membership, binding);
    watchExpiry(this, membership);
  }

  /** Writes a membership down for the gateway's next life. */
  keep({ session, room, bindings, rates: _rates, tokens: _tokens, turn: _turn, ...wishes }: Membership): void {
    const records = bindings.map(({ record }) => record);
    this.#ports.store.putJoin({ ...wishes, session: session.id, object: room.object, bindings: records });
  }

  #leave(membership: Membership): void {
    const { session, topic, room } = membership;
    session.topics.delete(topic);
    this.#ports.store.deleteJoin(session.id, topic);
    if (room.members.get(session.id) === membership) room.members.delete(session.id);
    room.leave(session.id);
    this.retain(membership, []);
  }

  /** Has only these of a membership's subscriptions stand. */
  retain(membership: Membership, kept: readonly Binding[]): void {
    const feeds = new Set(membership.bindings.map(({ record }) => this.room(record.feed)));
    for (const feed of feeds) feed.subscriptions.delete(membership);
    membership.bindings = kept;
    for (const binding of kept) this.#subscribe(membership, binding);
    for (const feed of feeds) feed.release();
  }

  /** Whether a membership is still the one of its topic: it may have ended while an answer was under way. */
  stands(membership: Membership): boolean {
    const topic = membership.session.topics.get(membership.topic);
    return topic?.state === "joined" && topic.membership === membership;
  }

  /** Puts a member out for good, saying why. */
  putOut(membership: Membership, reason: string): void {
    this.system(membership, "system", "error", reason);
    this.drop(membership, "phx_close", {});
  }

  /** Puts a member out whose token has expired: the client joins again with whatever token it holds by then. */
  expired(membership: Membership, message: string): void {
    this.system(membership, "system", "error", message);
    this.drop(membership, "phx_error", { reason: "token expired" });
  }

  /** Ends a membership from the server's side: `phx_error` has the client join again, `phx_close` does not. */
  drop(membership: Membership, event: "phx_error" | "phx_close", payload: object): void {
    this.#leave(membership);
    this.#over(membership, event, payload);
  }

  /** Tells that a membership is over: its own join_ref in both places, or clients ignore the frame (protocol.md §10). */
  #over({ session, joinRef, topic }: Membership, event: "phx_error" | "phx_close", payload: object): void {
    this.send(session, encodeFrame(session.version, joinRef, joinRef, topic, event, JSON.stringify(payload)));
  }

  #undecided(membership: Membership): void {
    if (this.#toldUndecided.has(membership)) return;
    this.#toldUndecided.add(membership);
    const reason = "A change was left out: its texts are too long for the patterns of this table's subscriptions.";
    const remedy = "Use shorter patterns, fewer of them, or other filters beside them";
    this.system(membership, "postgres_changes", "error", `${reason} ${remedy}`);
  }

  reply(session: Session, frame: ClientFrame, status: "ok" | "error", response: object): void {
    this.send(session, encodeReply(session.version, frame, status, response));
  }

  /** Answers a broadcast that asked for an ack. One that was kept in the database is told its id (protocol.md §6.9). */
  stored(session: Session, frame: ClientFrame, { id, persisted, error }: Parameters<Stored>[0]): void {
    if (error === undefined) this.reply(session, frame, "ok", persisted ? { id } : {});
    else this.reply(session, frame, "error", { error });
  }

  /** Sends a system message on a channel (protocol.md §4). */
  system({ session, joinRef, topic }: Membership, extension: string, status: "ok" | "error", message: string): void {
    const payload = JSON.stringify({ extension, status, message, channel: topic.slice("realtime:".length) });
    this.send(session, encodeFrame(session.version, joinRef, null, topic, "system", payload));
  }

  /** Sends a frame. False: it had to be closed instead. */
  send(session: Session, frame: Frame): boolean {
    session.unread += frame.length;
    if (session.unread > MAX_UNREAD_BYTES) {
      this.end(session, closes.tooSlow);
      return false;
    }
    session.socket.send(frame);
    return true;
  }

  /** Ends a socket, saying why. */
  end(session: Session, { code, reason }: { code: number; reason: string }): void {
    session.socket.close(code, reason);
    this.closed(session.id);
  }

  /** A socket has closed: its memberships end. */
  closed(id: string): void {
    const session = this.sessions.get(id);
    if (session === undefined) return;
    this.sessions.delete(id);
    this.#ports.tally.connected(this.sessions.size);
    for (const topic of [...session.topics.values()]) if (topic.state === "joined") this.#leave(topic.membership);
    session.topics.clear();
    this.#ports.store.deleteSession(id);
  }

  /** See `sweep`. Of alarms that ring for others nothing comes. */
  alarm(): void {
    if (!this.due.take()) return;
    sweep(this);
    if (this.sessions.size > 0) this.due.by(this.now() + SWEEP_MS);
  }

  // What rooms tell.

  lost(room: Room): void {
    for (const membership of new Set([...room.members.values(), ...room.subscriptions.memberships()])) {
      this.drop(membership, "phx_error", { reason: "messages were lost, join again" });
    }
  }

  gone(room: Room, reason: string, rejoin: boolean): void {
    for (const membership of [...room.members.values()]) {
      if (rejoin) this.drop(membership, "phx_error", { reason });
      else this.putOut(membership, reason);
    }
  }

  reauthorize(room: Room, users?: readonly string[]): void {
    void reauthorize(this, room, users);
  }

  /** Policies have changed: asks anew what everybody in a private room may do. */
  reauthorizeAll(): void {
    for (const room of this.#rooms.values()) if (isPrivateObject(room.object)) this.reauthorize(room);
  }

  /** Has feeds let go of viewers that nobody here is any more. */
  forgetViewers(): void {
    for (const room of this.#rooms.values()) room.forgetViewers();
  }

  empty(room: Room): void {
    if (this.#rooms.get(room.object) !== room) return;
    this.#rooms.delete(room.object);
    this.#ports.store.deletePosition(room.object);
  }
}

/** A viewer without claims: of a join of an earlier deploy no more is known. */
function nobody(role: string): Viewer {
  return { key: `role ${role}`, role, claims: {} };
}

function lengthOf(data: string | ArrayBuffer): number {
  return typeof data === "string" ? data.length : data.byteLength;
}
