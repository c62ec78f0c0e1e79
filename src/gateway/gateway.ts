// A gateway: holds client sockets, speaks the wire protocol with them, and carries their channels over links.

import { Blocks } from "../protocol/blocks.ts";
import type { Claims } from "../protocol/claims.ts";
import { closes } from "../protocol/closes.ts";
import { decodeFrame, encodeFrame, encodeReply } from "../protocol/codec.ts";
import { Due } from "../protocol/due.ts";
import { reasonOf } from "../protocol/errors.ts";
import { type ClientFrame, MalformedFrame } from "../protocol/frames.ts";
import { exceeds } from "../protocol/json.ts";
import { type Limits, MAX_QUEUED_FRAMES, MAX_UNREAD_BYTES, type Pace } from "../protocol/limits.ts";
import type { Viewer } from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import type { Timers } from "../protocol/timers.ts";
import { isPrivateObject } from "../protocol/topics.ts";
import { viewerOf } from "../protocol/viewers.ts";
import { handleBroadcast } from "./broadcasts.ts";
import { refusalFor } from "./control.ts";
import { FanOut } from "./fan-out.ts";
import type { Waiting } from "./feeds.ts";
import { handleJoin, JoinRefused } from "./joining.ts";
import type { Membership } from "./membership.ts";
import { Memberships } from "./memberships.ts";
import { handleModeration } from "./moderation.ts";
import { NamedTables } from "./named-tables.ts";
import type { Frame } from "./outgoing.ts";
import type { GatewayPorts, Postgres, Socket } from "./ports.ts";
import { handlePresence } from "./presences.ts";
import { Questions } from "./questions.ts";
import { sessionRates } from "./rates.ts";
import { Room, type RoomEvents } from "./room.ts";
import { recordOf, type Session, type SessionRecord } from "./session.ts";
import { reauthorize, refreshToken } from "./standing.ts";
import { SWEEP_MS, secondsLate, sweep } from "./sweep.ts";
import type { Stored } from "./under-way.ts";

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
  readonly memberships: Memberships;
  readonly namedTables = new NamedTables(this);
  readonly #ports: GatewayPorts;

  constructor(ports: GatewayPorts) {
    this.#ports = ports;
    this.timers = ports.timers;
    this.due = new Due(ports.timers);
    this.postgres = ports.postgres;
    this.memberships = new Memberships(this, ports.store);
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
    const unjudged = this.memberships.restore(positions);
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
      this.log("malformed frame", { session: id, reason: error.message });
    }
  }

  #dispatch(session: Session, frame: ClientFrame, length: number): void {
    if (frame.topic === "phoenix" && frame.event === "heartbeat") return this.#heartbeat(session, frame);
    if (frame.event === "phx_join") return handleJoin(this, session, frame);
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
        this.memberships.leave(membership);
        this.reply(membership.session, frame, "ok", {});
        // The Swift client has left only when it hears this; to the others the reply is enough.
        return this.memberships.tellOver(membership, "phx_close", {});
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

  get pace(): Pace {
    return this.#ports.pace;
  }

  log(event: string, details: Record<string, string | number>): void {
    this.#ports.log(event, details);
  }

  async claimsOf(session: Session, token: string | undefined): Promise<Claims> {
    const claims = token === undefined ? this.#unexpired(session.claims) : await this.#ports.verify(token);
    await this.#ports.blocksKnown().catch((error: unknown) => {
      this.log("blocks not known", { session: session.id, reason: String(error) });
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

  /** What is due no sooner than the next sweep is seen to by it. */
  wakeFor(waiting: readonly Waiting[]): void {
    for (const { retryAt } of waiting) if (retryAt < this.timers.now() + SWEEP_MS) this.wakeAt(retryAt);
  }

  wakeAt(time: number): void {
    this.due.wish(time);
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
    for (const topic of [...session.topics.values()])
      if (topic.state === "joined") this.memberships.leave(topic.membership);
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
      this.memberships.drop(membership, "phx_error", { reason: "messages were lost, join again" });
    }
  }

  gone(room: Room, reason: string, rejoin: boolean): void {
    for (const membership of [...room.members.values()]) {
      if (rejoin) this.memberships.drop(membership, "phx_error", { reason });
      else this.memberships.putOut(membership, reason);
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

function lengthOf(data: string | ArrayBuffer): number {
  return typeof data === "string" ? data.length : data.byteLength;
}
