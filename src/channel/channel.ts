// A channel: lets sessions of its gateways in, gives messages their order, knows who is present, and tells its gateways.
import type { Batch, BatchHeader } from "../protocol/changes.ts";
import type { Admission, Body, Joined, Joiner, Message, Up } from "../protocol/link.ts";
import type { Position } from "../protocol/positions.ts";
import type { StoredBroadcast } from "../protocol/reports.ts";
import { allRights } from "../protocol/rights.ts";
import type { ObjectName } from "../protocol/topics.ts";
import { type Asking, admit, away, unauthorized } from "./admission.ts";
import { Archiving } from "./archiving.ts";
import { Attendance } from "./attendance.ts";
import { Feed } from "./feed.ts";
import { Intake } from "./intake.ts";
import { type Draft, Journal } from "./journal.ts";
import { deliver } from "./parcel.ts";
import type { ChannelPorts, Link } from "./ports.ts";
import { Presence } from "./presence.ts";

/** A judgement that is overtaken by reports so often is given up. */
const MAX_JUDGEMENTS = 5;

type Call<T extends Up["t"]> = Extract<Up, { t: T }>;

export class Channel {
  readonly name: ObjectName;
  readonly presence: Presence;
  readonly archiving: Archiving;
  readonly #ports: ChannelPorts;
  readonly #journal: Journal;
  readonly #links = new Map<string, Link>();
  readonly #attendance: Attendance;
  readonly #feed: Feed;
  readonly #intake: Intake;
  /** Links whose greeting waits for what they have missed to be judged. */
  readonly #greetings = new Map<Link, Promise<void>>();
  readonly #closed = new WeakSet<Link>();
  /** How often rights were reported to have changed. */
  #reports = 0;

  /** `links` are those that had said hello and outlived the channel's last life in memory. */
  constructor(name: ObjectName, ports: ChannelPorts, links: Iterable<Link>) {
    this.name = name;
    this.#ports = ports;
    this.#journal = new Journal(ports, (row) => this.archiving.rescue(row));
    this.archiving = new Archiving(this.#journal.ring, ports);
    this.#feed = new Feed(ports, this.#links);
    this.#intake = new Intake(name, ports.store, this.#journal, this.#feed, this.#links);
    this.presence = new Presence(ports.store, () => ports.id().replaceAll("-", "").slice(0, 16));
    for (const link of links) this.#links.set(link.gateway, link);
    this.#attendance = new Attendance(this.presence, ports, this.#links);
  }

  get position(): Position {
    return this.#journal.position;
  }

  /** A link has closed. */
  unlinked(link: Link): void {
    this.#closed.add(link);
    if (this.#links.get(link.gateway) !== link) return;
    this.#links.delete(link.gateway);
    this.#forgetViewers(link.gateway);
    this.#attendance.unlinked(link.gateway);
  }

  /** Takes what a gateway says. Resolves when it has been dealt with. */
  async receive(link: Link, message: Up): Promise<void> {
    const greeting = this.#greetings.get(link);
    if (greeting !== undefined) await greeting;
    switch (message.t) {
      case "hello":
        return this.#hello(link, message);
      case "join":
        return this.#join(link, message);
      case "publish":
        return this.#publishFrom(link, message);
      case "track":
        return this.#track(link, message);
      case "untrack":
        this.#attendance.untrack(message.session);
        return link.send({ t: "done", call: message.call });
      case "admit":
        return this.#admit(link, message);
      case "moderate":
        return this.#moderate(link, message);
      case "leave":
        return this.#attendance.untrack(message.session);
      case "viewers":
        return this.#feed.viewers.set(link.gateway, message.viewers);
      case "unview":
        return this.#feed.viewers.forget(link.gateway, message.keys);
    }
  }

  /**
   * Takes a link into the fan-out. What it has missed of a feed may have to be judged first: what else it says waits for
   * that, and what is sent meanwhile is part of what it has missed.
   */
  #hello(link: Link, hello: Call<"hello">): Promise<void> | void {
    const { since, viewers = [] } = hello;
    if (this.name.kind === "feed") this.#feed.viewers.set(link.gateway, viewers);
    const greeting = this.#feed.past(
      () => (since === undefined ? [] : this.#journal.after(since)),
      viewers,
      (missed) => {
        if (this.#greetings.delete(link) && this.#closed.has(link)) return this.#forgetViewers(link.gateway);
        this.#greet(link, hello, missed);
      },
    );
    if (greeting !== undefined) this.#greetings.set(link, greeting);
    return greeting;
  }

  #forgetViewers(gateway: string): void {
    if (!this.#links.has(gateway)) this.#feed.viewers.drop(gateway);
  }

  /** An older link of the same gateway is dead, whether its end has noticed or not. */
  #greet(link: Link, { again, sessions }: Call<"hello">, missed: readonly Message[] | undefined): void {
    const old = this.#links.get(link.gateway);
    this.#links.set(link.gateway, link);
    if (old !== undefined && old !== link) old.close(1000, "replaced");
    this.#attendance.linked(link.gateway, sessions, again);
    for (const message of missed ?? []) link.send({ t: "message", ...message });
    link.send({ t: "welcome", position: this.position, recovered: missed !== undefined });
    // Diffs that went out while the link was down are not kept: the state makes up for them.
    if (again) link.send({ t: "state", session: null, state: this.presence.state });
  }

  async #join(link: Link, { call, joiner, presence, replay, resume }: Call<"join">): Promise<void> {
    const viewers = joiner.viewer === undefined ? [] : [joiner.viewer];
    // From here on nothing is judged without them.
    for (const viewer of viewers) this.#feed.viewers.add(link.gateway, viewer);
    const admission = await this.#judge(joiner, { entering: true });
    if (!admission.ok) return link.send({ t: "joined", call, result: admission });
    // Known since the admission; for who may come in without knowing, it is no matter.
    const table = this.name.kind === "feed" ? await this.#ports.access.table().catch(() => null) : null;
    const { read } = admission.rights ?? allRights;
    const hears = read.broadcast === "granted";
    if (replay !== undefined && !hears) {
      return link.send({ t: "joined", call, result: unauthorized(this.name.sub) });
    }
    let recovered = false;
    const past = (): Message[] => {
      const missed = resume === undefined || !hears ? undefined : this.#journal.after(resume);
      recovered = missed !== undefined;
      const most = admission.limits?.replay ?? this.#ports.maxReplay;
      if (missed !== undefined || replay === undefined) return missed ?? [];
      return this.#journal.newest(Math.min(replay.limit, most), replay.since);
    };
    return this.#feed.past(past, viewers, (messages) => {
      const result: Joined = {
        ...admission,
        position: this.position,
        ...(resume === undefined ? {} : { recovered: recovered && messages !== undefined }),
        ...(recovered && messages !== undefined ? { missed: messages.length } : {}),
        ...(table === null ? {} : { table }),
      };
      link.send({ t: "joined", call, result });
      for (const message of messages ?? []) link.send({ t: "replay", session: joiner.session, ...message });
      if (presence && read.presence === "granted") this.#sendState(link, joiner.session);
    });
  }

  #sendState(link: Link, session: string): void {
    link.send({ t: "state", session, state: this.presence.state });
  }

  /**
   * A repeated publish is answered whether an ack was asked for or not: its echo may have been lost with the link. What
   * is to be kept in the database is sent before it is kept there, and answered after (protocol.md §6.9).
   */
  async #publishFrom(link: Link, publish: Call<"publish">): Promise<void> {
    const { id, session, sender, name, body, ack, again, persist } = publish;
    const isNew = !again || !this.#journal.knows(id);
    if (isNew) this.#publish({ id, from: session, sender, event: "broadcast", name, body }, ack);
    const persisted = persist !== undefined && (await this.#ports.archive.persist({ id, name, body }, persist));
    if (ack || again) link.send({ t: "stored", id, ...(persisted && { persisted }) });
  }

  /** Answers what a member may do now, and whether they may stay at all. */
  async #admit(link: Link, { call, joiner, notBefore, presence }: Call<"admit">): Promise<void> {
    const result = await this.#judge(joiner, { notBefore });
    link.send({ t: "admitted", call, result });
    if (presence && result.ok && result.rights?.read.presence === "granted") this.#sendState(link, joiner.session);
  }

  /** The answer goes before what comes of it, which may put out who asked. */
  async #moderate(link: Link, { call, by, act }: Call<"moderate">): Promise<void> {
    const done = await this.#ports.moderate(by, act);
    link.send({ t: "done", call, ...("reason" in done && { error: done.reason }) });
    if ("tell" in done) await done.tell();
  }

  /** Judges somebody by what holds when the answer comes: what was reported while it was asked may be against it. */
  async #judge(joiner: Joiner, asking: Asking): Promise<Admission> {
    for (let turn = 0; turn < MAX_JUDGEMENTS; turn++) {
      const reports = this.#reports;
      const admission = await admit(this.name, joiner, this.#ports.access, asking);
      if (reports === this.#reports) return admission;
    }
    return away;
  }

  /** The rights of these users here, or of everybody, may have changed: every gateway asks anew for its members. */
  reauthorize(users?: readonly string[]): void {
    this.#reports++;
    this.#ports.access.forgetRights(users);
    for (const link of this.#links.values()) link.send({ t: "reauthorize", ...(users && { users }) });
  }

  #track(link: Link, { call, session, user, key, meta }: Call<"track">): void {
    this.#attendance.track({ key, user, session, gateway: link.gateway, meta });
    link.send({ t: "done", call });
  }

  /** Sends a message to all. It is in the ring: by now with `durable`, else soon. */
  #publish(draft: Draft, durable: boolean): Message {
    const message = this.#journal.add(draft, durable);
    deliver([message], this.#links);
    this.archiving.note();
    return message;
  }

  /** Sends a message that no socket sent. It is in the ring, durably, when what is answered afterwards arrives. */
  publish(message: { name: string; body: Body; sender: string | null }): { id: string; position: Position } {
    const draft = { ...message, id: this.#ports.id(), from: null, event: "broadcast" };
    const { id, seq } = this.#publish(draft, true);
    return { id, position: { epoch: this.#journal.epoch, seq } };
  }

  /** See Intake. */
  changes(batch: Batch): Promise<number | "stale"> {
    return this.#intake.changes(batch);
  }

  /** See Intake. */
  skips(header: BatchHeader): "stale" | boolean {
    return this.#intake.skips(header);
  }

  /** See Intake. */
  relay(header: BatchHeader, broadcasts: readonly StoredBroadcast[]): boolean {
    return this.#intake.relay(header, broadcasts);
  }

  /** See Journal. */
  history(order: "newest" | "oldest", since: number, after?: number): Generator<Message> {
    return this.#journal.history(order, since, after);
  }

  /** Erases what a message said, if it is held here and (with `sender`) this user's. True: it is gone, durably. */
  erase(id: string, sender?: string): boolean {
    return this.#journal.ring.erase(id, sender);
  }

  /** See Journal. */
  forget(before: number): void {
    this.archiving.forget(before);
    this.#journal.forget(before);
  }

  /** See Attendance. */
  trackUser(user: string, status: "online" | "away", metadata: Record<string, unknown> | undefined): void {
    this.#attendance.trackUser(user, status, metadata);
  }

  /** See Attendance. */
  untrackUser(user: string, metadata: Record<string, unknown> | undefined): boolean {
    return this.#attendance.untrackUser(user, metadata);
  }

  /** See Attendance. */
  expire(ms: number): number {
    return this.#attendance.expire(ms);
  }

  /** Puts everybody out. With `rejoin` they may come back at once. */
  putOut(reason: string, rejoin: boolean): void {
    for (const link of this.#links.values()) link.send({ t: "gone", reason, rejoin });
  }

  /**
   * Ends the channel for everybody in it, and forgets ring and presence. With `rejoin` they may come back at once. What is
   * still to be kept in the database is not forgotten, unless the channel is another one now.
   */
  clear(reason: string, rejoin: boolean): void {
    this.putOut(reason, rejoin);
    this.#journal.clear();
    this.presence.clear();
    this.#ports.store.clear();
  }

  /**
   * Sees to what is due. Resolves when what is to be kept in the database is there, or will be tried again: an alarm is
   * only over then, and one that a crash cuts off comes again.
   */
  async alarm(): Promise<void> {
    this.#attendance.alarm();
    await this.archiving.run().catch(() => {});
  }
}
