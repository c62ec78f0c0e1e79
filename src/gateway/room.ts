// A room: the gateway's side of one channel. Keeps the link up, loses nothing on the way, and fans out to members.
import type { Down, Joined, Joiner, PresenceDiff, Up } from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import type { Membership } from "./membership.ts";
import { Outgoing } from "./outgoing.ts";
import type { ChannelLink, GatewayPorts } from "./ports.ts";

/** Messages that come within this time of one another are sent in one turn: waking a socket costs more than a frame. */
const FLUSH_MS = 2;
/** Publishes that may be under way to the channel at once; the next one is refused. */
const MAX_UNDER_WAY = 5_000;
/** Calls that may wait for the channel at once. */
const MAX_CALLS = 5_000;
const CALL_TIMEOUT_MS = 9_000;
const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 5_000;
/** A room that nobody is in keeps its link for a while: clients leave and join again in one breath. */
const LINGER_MS = 5_000;

type Publish = Extract<Up, { t: "publish" }>;
type Call = Extract<Up, { call: number }>;
type Answer = Extract<Down, { call: number }>;
/** A call as its caller writes it: the room numbers it. */
type CallDraft = Call extends infer C ? (C extends Call ? Omit<C, "call"> : never) : never;

/** What a room tells the gateway about its members. */
export interface RoomEvents {
  /** Messages for everybody in the room, in order. */
  messages(room: Room, batch: readonly Outgoing[]): void;
  replay(room: Room, session: string, message: Outgoing): void;
  state(room: Room, session: string, state: object): void;
  diff(room: Room, diff: PresenceDiff): void;
  /** What was missed while the link was down cannot be had: members have to start anew. */
  lost(room: Room): void;
  gone(room: Room, reason: string): void;
  /** Nobody is here and the link is closed: forget the room. */
  empty(room: Room): void;
}

type LinkState =
  | { readonly state: "closed" }
  | { readonly state: "opening" }
  | { readonly state: "open"; readonly link: ChannelLink };

export class Room {
  /** The name of the channel object. */
  readonly object: string;
  readonly members = new Set<Membership>();
  /** Memberships of other channels that have row-change subscriptions on this feed. */
  readonly subscribers = new Set<Membership>();
  readonly #ports: GatewayPorts;
  readonly #events: RoomEvents;
  readonly #calls = new Map<number, { readonly up: Call; readonly answer: (down: Answer | Error) => void }>();
  readonly #underWay = new Map<string, { up: Publish; sent: boolean; stored?: (error: string | undefined) => void }>();
  #link: LinkState = { state: "closed" };
  #position: Position | undefined;
  #nextCall = 1;
  #failures = 0;
  #held: Outgoing[] = [];
  #flushDue = false;
  /** Unix ms. */
  #flushedAt = 0;

  constructor(object: string, ports: GatewayPorts, events: RoomEvents, position: Position | undefined) {
    this.object = object;
    this.#ports = ports;
    this.#events = events;
    this.#position = position;
  }

  get inUse(): boolean {
    return this.members.size > 0 || this.subscribers.size > 0 || this.#calls.size > 0;
  }

  /** Asks the channel to let a session in. `answer` runs in the turn of the reply, before any later message. */
  join(
    joiner: Joiner,
    wishes: Pick<Extract<Up, { t: "join" }>, "presence" | "replay" | "resume">,
    answer: (result: Joined) => void,
  ): void {
    this.#call({ t: "join", joiner, ...wishes }, (down) => {
      if (down instanceof Error) answer({ ok: false, reason: down.message });
      else if (down.t === "joined") answer(down.result);
    });
  }

  /** Tells the channel that a session has left, and lets the link go when it was the last. */
  leave(session: string): void {
    if (this.#link.state === "open") this.#link.link.send({ t: "leave", session });
    this.release();
  }

  /** Has the link closed in a while if nobody is here by then. */
  release(): void {
    if (this.inUse) return;
    this.#ports.timers.after(LINGER_MS, () => {
      if (this.inUse) return;
      if (this.#underWay.size > 0) return this.release();
      if (this.#link.state === "open") this.#link.link.close();
      this.#link = { state: "closed" };
      this.#events.empty(this);
    });
  }

  /**
   * Sends a message to the channel: at least once, and the channel takes it once. False when too many are under way.
   * With `stored` the channel answers when it has it durably.
   */
  publish(draft: Omit<Publish, "t" | "ack" | "again">, stored?: (error: string | undefined) => void): boolean {
    if (this.#underWay.size >= MAX_UNDER_WAY) return false;
    const up: Publish = { t: "publish", ...draft, ack: stored !== undefined, again: false };
    const sent = this.#link.state === "open";
    this.#underWay.set(up.id, { up, sent, ...(stored === undefined ? {} : { stored }) });
    if (this.#link.state === "open") this.#link.link.send(up);
    else this.open();
    return true;
  }

  /** Tracks or untracks presence; `done` runs after the diff has gone out. */
  presence(
    change: Omit<Extract<Up, { t: "track" }>, "call"> | Omit<Extract<Up, { t: "untrack" }>, "call">,
    done: (error: string | undefined) => void,
  ): void {
    this.#call(change, (down) =>
      done(down instanceof Error ? down.message : down.t === "done" ? down.error : undefined),
    );
  }

  #call(draft: CallDraft, answer: (down: Answer | Error) => void): void {
    if (this.#calls.size >= MAX_CALLS)
      return answer(new Error("RealtimeRestarting: Realtime is restarting, please standby"));
    const call = this.#nextCall++;
    const up: Call = { ...draft, call };
    const cancel = this.#ports.timers.after(CALL_TIMEOUT_MS, () => {
      this.#calls.delete(call);
      answer(new Error("TimeoutOnRpcCall: Node request timeout"));
    });
    this.#calls.set(call, {
      up,
      answer: (down) => {
        cancel();
        answer(down);
      },
    });
    if (this.#link.state === "open") this.#link.link.send(up);
    else this.open();
  }

  /** Opens the link unless it is open or opening. */
  open(): void {
    if (this.#link.state !== "closed") return;
    this.#link = { state: "opening" };
    const events = {
      message: (down: Down) => this.#receive(down),
      closed: () => this.#closed(),
    };
    this.#ports.openLink(this.object, events).then(
      (link) => this.#opened(link),
      (error: unknown) => {
        this.#ports.log("link failed", { channel: this.object, reason: String(error) });
        this.#closed();
      },
    );
  }

  #opened(link: ChannelLink): void {
    if (this.#link.state !== "opening") return link.close();
    this.#link = { state: "open", link };
    const sessions = [...this.members].map(({ session }) => session.id);
    const since = sessions.length > 0 || this.subscribers.size > 0 ? this.#position : undefined;
    link.send({ t: "hello", gateway: this.#ports.name, sessions, ...(since === undefined ? {} : { since }) });
    for (const { up } of this.#calls.values()) link.send(up);
    for (const entry of this.#underWay.values()) {
      link.send(entry.sent ? { ...entry.up, again: true } : entry.up);
      entry.sent = true;
    }
  }

  #closed(): void {
    this.#link = { state: "closed" };
    if (!this.inUse && this.#underWay.size === 0) return this.#events.empty(this);
    const delay = this.#failures === 0 ? 0 : Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_MAX_MS);
    this.#failures++;
    this.#ports.timers.after(delay * (0.5 + Math.random() / 2), () => this.open());
  }

  #receive(down: Down): void {
    switch (down.t) {
      case "message":
        return this.#deliver(down);
      case "replay":
        return this.#events.replay(this, down.session, new Outgoing(down, this.#position?.epoch ?? ""));
      case "joined":
      case "done":
        return this.#answer(down);
      case "stored":
        return this.#settle(down.id, down.error);
      case "state":
        return this.#events.state(this, down.session, down.state);
      case "diff":
        this.flush();
        return this.#events.diff(this, { joins: down.joins, leaves: down.leaves });
      case "welcome":
        this.#failures = 0;
        this.#setPosition(down.position);
        if (!down.recovered) this.#events.lost(this);
        return;
      case "gone":
        this.flush();
        return this.#events.gone(this, down.reason);
    }
  }

  #answer(down: Answer): void {
    this.flush();
    const call = this.#calls.get(down.call);
    this.#calls.delete(down.call);
    call?.answer(down);
    if (down.t === "joined") this.release();
  }

  #settle(id: string, error: string | undefined): void {
    this.flush();
    const entry = this.#underWay.get(id);
    this.#underWay.delete(id);
    entry?.stored?.(error);
  }

  #deliver(message: Extract<Down, { t: "message" }>): void {
    const { epoch, seq } = this.#position ?? { epoch: "", seq: 0 };
    if (message.seq <= seq) return;
    this.#setPosition({ epoch, seq: message.seq });
    // The echo of our own publish says that the channel has it, unless its sender waits to hear that it is stored.
    if (this.#underWay.size > 0 && this.#underWay.get(message.id)?.stored === undefined)
      this.#underWay.delete(message.id);
    this.#held.push(new Outgoing(message, epoch));
    if (this.#flushDue) return;
    // No timer for the first message after quiet: it goes at once, and a timer costs as much as a delivery.
    const wait = this.#flushedAt + FLUSH_MS - this.#ports.timers.now();
    if (wait <= 0) return this.flush();
    this.#flushDue = true;
    this.#ports.timers.after(wait, () => {
      this.#flushDue = false;
      this.flush();
    });
  }

  /** Sends what is held. To be called before anything that must not overtake it. */
  flush(): void {
    if (this.#held.length === 0) return;
    const batch = this.#held;
    this.#held = [];
    this.#flushedAt = this.#ports.timers.now();
    this.#events.messages(this, batch);
  }

  #setPosition(position: Position): void {
    this.#position = position;
    if (this.members.size > 0 || this.subscribers.size > 0) this.#ports.store.putPosition(this.object, position);
  }

  get position(): Position | undefined {
    return this.#position;
  }
}
