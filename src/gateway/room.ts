// A room: the gateway's side of one channel. Keeps the link up, loses nothing on the way, and gathers what comes.
import type {
  Admission,
  Down,
  Joined,
  Joiner,
  Message,
  PresenceDiff,
  PresenceState,
  Up,
  Viewer,
} from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import { type Answer, type CallDraft, Calls } from "./calls.ts";
import type { Membership } from "./membership.ts";
import { Outgoing } from "./outgoing.ts";
import type { ChannelLink, GatewayPorts } from "./ports.ts";
import { Subscriptions } from "./subscriptions.ts";
import { type PublishDraft, type Stored, UnderWay } from "./under-way.ts";
import { Viewers } from "./viewers.ts";

/** Messages that come within this time of one another are sent in one turn: waking a socket costs more than a frame. */
const FLUSH_MS = 2;
const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 5_000;
/** A room that nobody is in keeps its link for a while: clients leave and join again in one breath. */
const LINGER_MS = 5_000;
/** The number of calls whose answer nobody waits for. */
const UNANSWERED = 0;

/** What a room has for its members. */
export interface Deliveries {
  /** Messages for everybody in the room, in order. */
  messages(room: Room, batch: readonly Outgoing[]): void;
  replay(room: Room, session: string, message: Outgoing): void;
  /** The state of presence, for one session or (null) for everybody here. */
  state(room: Room, session: string | null, state: PresenceState): void;
  diff(room: Room, diff: PresenceDiff): void;
}

/** What becomes of a room's members, and of itself. */
export interface RoomEvents {
  /** What was missed while the link was down cannot be had: members have to start anew. */
  lost(room: Room): void;
  gone(room: Room, reason: string, rejoin: boolean): void;
  /** The rights of these users, or of everybody, may have changed here. */
  reauthorize(room: Room, users: readonly string[] | undefined): void;
  /** Nobody is here and the link is closed for good: forget the room. */
  empty(room: Room): void;
}

type LinkState =
  | { readonly state: "closed" }
  | { readonly state: "opening" }
  | { readonly state: "open"; readonly link: ChannelLink }
  /** The link broke, and a timer will open it again. */
  | { readonly state: "waiting" }
  /** Nobody needs the room any more; whoever joins the channel next gets another one. */
  | { readonly state: "gone" };

export class Room {
  /** The name of the channel object. */
  readonly object: string;
  /** By session. */
  readonly members = new Map<string, Membership>();
  /** Memberships of other channels that have row-change subscriptions on this feed. */
  readonly subscriptions = new Subscriptions();
  readonly #ports: GatewayPorts;
  readonly #deliveries: Deliveries;
  readonly #events: RoomEvents;
  readonly #calls: Calls;
  readonly #underWay = new UnderWay();
  readonly #viewers = new Viewers();
  #link: LinkState = { state: "closed" };
  #greeted = false;
  #caughtUp = false;
  #position: Position | undefined;
  #holds = 0;
  #cancelLinger: (() => void) | undefined;
  #failures = 0;
  #held: Outgoing[] = [];
  #flushDue = false;
  /** Unix ms. */
  #flushedAt = 0;

  /** `position` is where a last life stopped, if there was one. */
  constructor(
    object: string,
    ports: GatewayPorts,
    deliveries: Deliveries,
    events: RoomEvents,
    position: Position | undefined,
  ) {
    this.object = object;
    this.#ports = ports;
    this.#deliveries = deliveries;
    this.#events = events;
    this.#calls = new Calls(ports.timers);
    this.#position = position;
    this.#greeted = position !== undefined;
  }

  /** False while what was missed on the way is being made up for: those messages are older than their way is long. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  get #hasMembers(): boolean {
    return this.members.size > 0 || this.subscriptions.size > 0;
  }

  get #inUse(): boolean {
    return this.#hasMembers || this.#holds > 0 || this.#calls.size > 0 || this.#underWay.size > 0;
  }

  /** Keeps the room while somebody is about to come in. Answers how to let it go. */
  hold(): () => void {
    this.#holds++;
    return () => {
      this.#holds--;
      this.release();
    };
  }

  /** Asks the channel to let a session in. `answer` runs in the turn of the reply, before any later message. */
  join(
    joiner: Joiner,
    wishes: Pick<Extract<Up, { t: "join" }>, "presence" | "replay" | "resume">,
    answer: (result: Joined) => void,
  ): void {
    if (joiner.viewer !== undefined) this.#viewers.add(joiner.viewer, this.#ports.timers.now());
    this.#call({ t: "join", joiner, ...wishes }, (down) => {
      if (down instanceof Error) answer({ ok: false, reason: down.message });
      else if (down.t === "joined") answer(down.result);
    });
  }

  /** Somebody here sees this feed as this viewer. The feed knows, by a join or a hello, or is told. */
  views(viewer: Viewer): void {
    if (this.#viewers.add(viewer, this.#ports.timers.now())) this.#tellViewers();
  }

  #tellViewers(): void {
    if (this.#link.state === "open") this.#link.link.send({ t: "viewers", viewers: this.#viewers.list() });
  }

  /** Tells the feed which viewers nobody is here any more. */
  forgetViewers(): void {
    if (this.#viewers.size === 0) return;
    const memberships = [...this.members.values(), ...this.subscriptions.memberships()];
    const keys = this.#viewers.forget(new Set(memberships.map(({ viewer }) => viewer.key)), this.#ports.timers.now());
    if (keys.length > 0 && this.#link.state === "open") this.#link.link.send({ t: "unview", keys });
  }

  /** Somebody has come in: from here on the next life has to know where this one stands. */
  entered(): void {
    if (this.#position !== undefined) this.#ports.store.putPosition(this.object, this.#position);
  }

  /** Asks the channel what a member may do now. */
  admit(
    question: Pick<Extract<Up, { t: "admit" }>, "joiner" | "notBefore" | "presence">,
    answer: (result: Admission) => void,
  ): void {
    this.#call({ t: "admit", ...question }, (down) => {
      if (down instanceof Error) answer({ ok: false, reason: down.message });
      else if (down.t === "admitted") answer(down.result);
    });
  }

  /** Tells the channel that a session has left, and lets the link go when it was the last. */
  leave(session: string): void {
    this.#calls.forget(session);
    if (this.#link.state === "open") this.#link.link.send({ t: "leave", session });
    this.release();
  }

  /** Has the link closed in a while if nobody needs it by then. */
  release(): void {
    if (this.#inUse || this.#cancelLinger !== undefined) return;
    this.#cancelLinger = this.#ports.timers.after(LINGER_MS, () => {
      this.#cancelLinger = undefined;
      if (!this.#inUse) this.#end();
    });
  }

  #end(): void {
    if (this.#link.state === "open") this.#link.link.close();
    this.#link = { state: "gone" };
    this.#events.empty(this);
  }

  /**
   * Sends a message to the channel: at least once, and the channel takes it once. False when too many are under way.
   * With `stored` the channel answers when it has it durably.
   */
  publish(draft: PublishDraft, stored?: Stored): boolean {
    const up = this.#underWay.add(draft, this.#link.state === "open", stored);
    if (up === undefined) return false;
    if (this.#link.state === "open") this.#link.link.send(up);
    else this.open();
    return true;
  }

  /** Tracks or untracks presence; `done` runs after the diff has gone out. */
  presence(
    change: Omit<Extract<Up, { t: "track" }>, "call"> | Omit<Extract<Up, { t: "untrack" }>, "call">,
    done: (error: string | undefined) => void,
  ): void {
    this.#call(change, (down) => done(errorOf(down)));
  }

  /** Has the channel do what a member asks, if they may. */
  moderate(wish: Omit<Extract<Up, { t: "moderate" }>, "call">, done: (error: string | undefined) => void): void {
    this.#call(wish, (down) => done(errorOf(down)));
  }

  #call(draft: CallDraft, answer: (down: Answer | Error) => void): void {
    const up = this.#calls.add(draft, this.#link.state === "open", (down) => {
      answer(down);
      // Of what was not answered nobody else says that it is over.
      if (down instanceof Error) this.release();
    });
    if (up === undefined) return;
    if (this.#link.state === "open") this.#link.link.send(up);
    else this.open();
  }

  /** Opens the link unless it is open, opening or about to be opened again. */
  open(): void {
    if (this.#link.state !== "closed") return;
    const opening: LinkState = { state: "opening" };
    this.#link = opening;
    // Of a link that is not this room's any more, nothing is heard.
    let current: LinkState = opening;
    const events = {
      message: (down: Down) => {
        if (this.#link === current) this.#receive(down);
      },
      closed: () => {
        if (this.#link === current) this.#closed();
      },
    };
    this.#ports.openLink(this.object, events).then(
      (link) => {
        if (this.#link !== opening) return link.close();
        current = { state: "open", link };
        this.#link = current;
        this.#greet(link);
      },
      (error: unknown) => {
        this.#ports.log("link failed", { channel: this.object, reason: String(error) });
        if (this.#link === opening) this.#closed();
      },
    );
  }

  #greet(link: ChannelLink): void {
    const since = this.#hasMembers && this.#position !== undefined ? { since: this.#position } : {};
    const sessions = [...this.members.keys()];
    const viewers = this.#viewers.size === 0 ? {} : { viewers: this.#viewers.list() };
    link.send({ t: "hello", again: this.#greeted, sessions, ...since, ...viewers });
    this.#greeted = true;
    this.#caughtUp = false;
    for (const { session, claims, presenceKey, tracked } of this.members.values()) {
      if (tracked === null) continue;
      const { user } = claims;
      link.send({ t: "track", call: UNANSWERED, session: session.id, user, key: presenceKey, meta: tracked });
    }
    for (const up of this.#calls.waiting()) link.send(up);
    for (const up of this.#underWay.resend()) link.send(up);
  }

  #closed(): void {
    if (!this.#inUse) return this.#end();
    this.#link = { state: "waiting" };
    const delay = this.#failures === 0 ? 0 : Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_MAX_MS);
    this.#failures++;
    this.#ports.timers.after(delay * (0.5 + Math.random() / 2), () => {
      if (this.#link.state !== "waiting") return;
      this.#link = { state: "closed" };
      this.open();
    });
  }

  #receive(down: Down): void {
    if (down.t === "message") return this.#deliver([down]);
    if (down.t === "messages") return this.#deliver(down.messages);
    // Nothing may overtake what is held.
    this.#flush();
    switch (down.t) {
      case "replay":
        return this.#deliveries.replay(this, down.session, new Outgoing(down, this.#position?.epoch ?? ""));
      case "joined":
        if (down.result.ok) this.#standAt(down.result.position);
        this.#calls.answer(down);
        return this.release();
      case "done":
      case "admitted":
        this.#calls.answer(down);
        return this.release();
      case "viewers":
        return this.#tellViewers();
      case "reauthorize":
        return this.#events.reauthorize(this, down.users);
      case "stored":
        this.#underWay.settle(down);
        return this.release();
      case "state":
        return this.#deliveries.state(this, down.session, down.state);
      case "diff":
        return this.#deliveries.diff(this, { joins: down.joins, leaves: down.leaves });
      case "welcome":
        this.#failures = 0;
        this.#caughtUp = true;
        this.#standAt(down.position);
        if (!down.recovered) this.#events.lost(this);
        return;
      case "gone":
        return this.#events.gone(this, down.reason, down.rejoin);
    }
  }

  #deliver(messages: readonly Message[]): void {
    const { epoch, seq } = this.#position ?? { epoch: "", seq: 0 };
    let last = seq;
    for (const message of messages) {
      if (this.#underWay.echoed(message.id)) this.release();
      if (message.seq <= last) continue;
      last = message.seq;
      this.#held.push(new Outgoing(message, epoch));
    }
    if (last === seq) return;
    this.#standAt({ epoch, seq: last });
    if (this.#flushDue) return;
    // No timer for the first message after quiet: it goes at once, and a timer costs as much as a delivery.
    const wait = this.#flushedAt + FLUSH_MS - this.#ports.timers.now();
    if (wait <= 0) return this.#flush();
    this.#flushDue = true;
    this.#ports.timers.after(Math.min(wait, FLUSH_MS), () => {
      this.#flushDue = false;
      this.#flush();
    });
  }

  /** Sends what is held. To be called before anything that must not overtake it. */
  #flush(): void {
    if (this.#held.length === 0) return;
    const batch = this.#held;
    this.#held = [];
    this.#flushedAt = this.#ports.timers.now();
    this.#deliveries.messages(this, batch);
  }

  #standAt(position: Position): void {
    this.#position = position;
    if (this.#hasMembers) this.#ports.store.putPosition(this.object, position);
  }
}

function errorOf(down: Answer | Error): string | undefined {
  if (down instanceof Error) return down.message;
  return down.t === "done" ? down.error : undefined;
}
