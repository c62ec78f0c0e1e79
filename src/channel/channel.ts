// A channel: gives messages their order, keeps them in the ring, knows who is present, and tells its gateways.

import type { Batch, BatchHeader, RowChange } from "../protocol/changes.ts";
import { Due } from "../protocol/due.ts";
import { isObject, parseJson } from "../protocol/json.ts";
import { MAX_REPEATED, MAX_RESUME, MAX_RESUME_LENGTH, MAX_UNDER_WAY } from "../protocol/limits.ts";
import {
  type Admission,
  type Body,
  broadcastBody,
  type Joined,
  type Joiner,
  type Message,
  type PresenceDiff,
  type Up,
} from "../protocol/link.ts";
import { comparePositions, type Position } from "../protocol/positions.ts";
import type { StoredBroadcast } from "../protocol/reports.ts";
import { allRights } from "../protocol/rights.ts";
import type { ObjectName } from "../protocol/topics.ts";
import { type Asking, admit, away, unauthorized } from "./admission.ts";
import { Archiving } from "./archiving.ts";
import { Feed } from "./feed.ts";
import { Listeners } from "./listeners.ts";
import { Parcel } from "./parcel.ts";
import type { ChannelPorts, Link } from "./ports.ts";
import { Presence, whoIs, withoutRefs } from "./presence.ts";
import { RecentIds } from "./recent-ids.ts";
import { Ring } from "./ring.ts";
import { Sequence } from "./sequence.ts";
import { Turns } from "./turns.ts";

/** A message is durable in the ring at latest this long after it was sent. */
const WRITE_WINDOW_MS = 250;
/** How long a gateway that lost its link may take to come back before its sessions count as gone. */
const GATEWAY_GRACE_MS = 10_000;

/** How long it is known of who has gone that they were here: 30 days. */
const SIGHT_MS = 2_592_000_000;

/** A judgement that is overtaken by reports so often is given up. */
const MAX_JUDGEMENTS = 5;

type Draft = Omit<Message, "seq" | "at">;
type Call<T extends Up["t"]> = Extract<Up, { t: T }>;

export class Channel {
  readonly name: ObjectName;
  readonly presence: Presence;
  readonly archiving: Archiving;
  readonly #ports: ChannelPorts;
  readonly #ring: Ring;
  readonly #sequence: Sequence;
  readonly #links = new Map<string, Link>();
  /** Gateways whose sessions are tracked here and whose link is gone, with the time (unix ms) their grace ends. */
  readonly #missing = new Map<string, number>();
  /** When to look at those, and at users tracked without a socket. */
  readonly #due: Due;
  readonly #listeners: Listeners;
  readonly #feed: Feed;
  /** Row changes of one table are taken one batch after the other, however long it takes to judge them. */
  readonly #turns = new Turns();
  /** Links whose greeting waits for what they have missed to be judged. */
  readonly #greetings = new Map<Link, Promise<void>>();
  readonly #closed = new WeakSet<Link>();
  #recentIds: RecentIds | undefined;
  /** How often rights were reported to have changed. */
  #reports = 0;
  /** Of what listeners deliver, while batches are repeated: reading the ring for each of them would take longer than all else. */
  #delivered: RecentIds | undefined;
  /** Unix ms of the last write to the ring. */
  #writtenAt = 0;
  #writeDue = false;
  /** An alarm will forget the oldest sight. */
  #forgetsSights = false;

  /** `links` are those that had said hello and outlived the channel's last life in memory. */
  constructor(name: ObjectName, ports: ChannelPorts, links: Iterable<Link>) {
    this.name = name;
    this.#ports = ports;
    this.#due = new Due(ports.timers);
    this.#ring = new Ring(ports.store, (row) => this.archiving.rescue(row));
    this.archiving = new Archiving(this.#ring, ports);
    this.#sequence = new Sequence(ports.store, this.#ring.lastWritten, () => ports.id().slice(0, 8));
    this.#listeners = new Listeners(ports.store);
    this.#feed = new Feed(ports, this.#links);
    this.presence = new Presence(ports.store, () => ports.id().replaceAll("-", "").slice(0, 16));
    for (const link of links) this.#links.set(link.gateway, link);
    for (const { gateway } of this.presence.list()) {
      if (gateway !== null && !this.#links.has(gateway)) this.#miss(gateway);
    }
  }

  get position(): Position {
    return this.#sequence.position;
  }

  /** A link has closed. Its sessions are not gone yet: the gateway may be back in a moment. */
  unlinked(link: Link): void {
    this.#closed.add(link);
    if (this.#links.get(link.gateway) !== link) return;
    this.#links.delete(link.gateway);
    this.#forgetViewers(link.gateway);
    if (this.presence.list().some(({ gateway }) => gateway === link.gateway)) this.#miss(link.gateway);
  }

  #miss(gateway: string): void {
    const until = this.#ports.timers.now() + GATEWAY_GRACE_MS;
    this.#missing.set(gateway, until);
    this.#due.wish(until);
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
        this.#untrack(message.session);
        return link.send({ t: "done", call: message.call });
      case "admit":
        return this.#admit(link, message);
      case "moderate":
        return this.#moderate(link, message);
      case "leave":
        return this.#untrack(message.session);
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
      () => (since === undefined ? [] : this.#after(since)),
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
    this.#missing.delete(link.gateway);
    if (old !== undefined && old !== link) old.close(1000, "replaced");
    const living = new Set(sessions);
    const gone = this.presence.drop(
      ({ gateway, session }) => gateway === link.gateway && session !== null && !living.has(session),
      this.#ports.timers.now(),
    );
    this.#tell(gone);
    for (const message of missed ?? []) link.send({ t: "message", ...message });
    link.send({ t: "welcome", position: this.position, recovered: missed !== undefined });
    // Diffs that went out while the link was down are not kept: the state makes up for them.
    if (again) link.send({ t: "state", session: null, state: this.presence.state });
  }

  /** Everything after a position, oldest first; undefined when that is not known to be all of it. */
  #after(since: Position): Message[] | undefined {
    // Who has seen nothing yet stands before the first message, even if the epoch was not written down by then.
    const from = since.seq === 0 ? { ...this.position, seq: 0 } : since;
    const distance = comparePositions(this.position, from);
    if (distance === undefined || distance < 0 || since.seq < this.#sequence.floor) return undefined;
    if (distance === 0) return [];
    const first = this.#ring.first;
    if (distance > MAX_RESUME || first === undefined || first > since.seq + 1) return undefined;
    return within(this.#ring.after(since.seq), MAX_RESUME_LENGTH);
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
      const missed = resume === undefined || !hears ? undefined : this.#after(resume);
      recovered = missed !== undefined;
      const most = admission.limits?.replay ?? this.#ports.maxReplay;
      if (missed !== undefined || replay === undefined) return missed ?? [];
      return this.#ring.newest(Math.min(replay.limit, most), Math.max(replay.since, this.#kept));
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

  /** Messages sent before this (unix ms) are too old to be had. */
  get #kept(): number {
    return this.#ports.timers.now() - this.#ports.messageTtlMs;
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
    if (!again || !this.#knows(id)) this.#publish({ id, from: session, sender, event: "broadcast", name, body }, ack);
    const persisted = persist !== undefined && (await this.#ports.archive.persist({ id, name, body }, persist));
    if (ack || again) link.send({ t: "stored", id, ...(persisted && { persisted }) });
  }

  /** Whether a message has been taken. Ids are gathered from the first time that somebody asks. */
  #knows(id: string): boolean {
    this.#recentIds ??= new RecentIds(this.#ring.ids(), MAX_UNDER_WAY);
    return this.#recentIds.has(id);
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

  /**
   * Sends a message to all, and puts it into the ring. The first message after 250 ms of quiet is written before it is
   * sent, as is a `durable` one; what comes within 250 ms of a write is sent at once and written together at their end.
   */
  #publish(draft: Draft, durable: boolean): Message {
    const message = this.#append(draft);
    const wait = Math.min(this.#writtenAt + WRITE_WINDOW_MS - message.at, WRITE_WINDOW_MS);
    if (durable || wait <= 0) this.#write();
    else {
      this.#sequence.reserve();
      this.#writeIn(wait);
    }
    this.#send([message]);
    this.archiving.note();
    return message;
  }

  #append(draft: Draft): Message {
    const message: Message = { ...draft, seq: this.#sequence.next(), at: this.#ports.timers.now() };
    this.#ring.add(message);
    this.#recentIds?.add(message.id);
    this.#delivered?.add(message.id);
    return message;
  }

  /** Writes all that is pending, and says so to the sequence: a crash from here on loses nothing of it. */
  #write(): void {
    this.#ring.write();
    this.#writtenAt = this.#ports.timers.now();
    this.#sequence.settle();
  }

  /** Has what is pending written in a while. No timer stands for a channel that has nothing pending. */
  #writeIn(ms: number): void {
    if (this.#writeDue) return;
    this.#writeDue = true;
    this.#ports.timers.after(ms, () => {
      this.#writeDue = false;
      if (!this.#ring.hasPending) return this.#sequence.settle();
      // Under load the reservation stays out: handing it back is a write of its own, and the next message reserves again.
      this.#ring.write();
      this.#writtenAt = this.#ports.timers.now();
      this.#writeIn(WRITE_WINDOW_MS);
    });
  }

  #send(messages: readonly Message[]): void {
    if (this.#links.size === 0) return;
    for (const parcel of Parcel.of(messages)) for (const link of this.#links.values()) link.deliver(parcel);
  }

  #track(link: Link, { call, session, user, key, meta }: Call<"track">): void {
    const entry = { key, user, session, gateway: link.gateway, meta };
    this.#tell(this.presence.track(entry, this.#ports.timers.now()));
    link.send({ t: "done", call });
  }

  #untrack(session: string): void {
    this.#tell(this.presence.drop((member) => member.session === session, this.#ports.timers.now()));
  }

  /** Somebody was seen here for the last time. What has an alarm sooner wishes for the next one itself. */
  #sighted(): void {
    if (this.#forgetsSights) return;
    this.#forgetsSights = true;
    this.#due.wish(this.#ports.timers.now() + SIGHT_MS);
  }

  #tell(diff: PresenceDiff | undefined): void {
    if (diff === undefined) return;
    if (Object.keys(diff.leaves).length > 0) this.#sighted();
    for (const link of this.#links.values()) link.send({ t: "diff", ...diff });
  }

  /** Sends a message that no socket sent. It is in the ring, durably, when what is answered afterwards arrives. */
  publish(message: { name: string; body: Body; sender: string | null }): { id: string; position: Position } {
    const draft = { ...message, id: this.#ports.id(), from: null, event: "broadcast" };
    const { id, seq } = this.#publish(draft, true);
    return { id, position: { epoch: this.#sequence.epoch, seq } };
  }

  /**
   * Takes a batch of row changes into this feed, in its order, all of it durable before any of it is sent. A change is
   * known by `source:id`: of a batch that was delivered before, wholly or in part, only what is missing is added. Answers
   * how many changes that were, "stale" when a listener of a newer epoch has delivered already: the lease of this one is
   * over, and nothing is taken. Rejects when nobody can say who may see it, PostgreSQL being away: it has to come again.
   */
  changes(batch: Batch): Promise<number | "stale"> {
    return this.#turns.take(batch.header.feed, () => this.#takeChanges(batch));
  }

  /**
   * Whether a batch need not come here, of which this is the header: nobody listens, and who stands before it will be told
   * that something is missing. `stale` as for `changes`.
   */
  skips(header: BatchHeader): "stale" | boolean {
    if (!this.#isUnheard) return false;
    if (this.#listeners.judge(header) === "stale") return "stale";
    this.#sequence.skip();
    return true;
  }

  async #takeChanges({ header, changes }: Batch): Promise<number | "stale"> {
    const skips = this.skips(header);
    if (skips !== false) return skips === true ? 0 : "stale";
    const judgement = this.#listeners.judge(header);
    if (judgement === "stale") return "stale";
    const idOf = ({ id }: RowChange): string => `${header.source}:${id}`;
    const known = this.#known(judgement);
    const fresh = changes.filter((change) => !known.has(idOf(change)));
    const rows = fresh.filter(({ operation }) => operation !== "GAP");
    const judged = await this.#feed.judge(rows);
    const access = new Map(rows.map((row, at) => [row, judged[at]]));
    const drafts: Draft[] = [];
    for (const change of fresh) {
      const { operation, data: body, tx } = change;
      if (operation === "GAP") {
        this.#take(drafts.splice(0));
        this.#lose();
        continue;
      }
      const allowed = access.get(change) ?? { readers: [] };
      const draft = {
        id: idOf(change),
        from: null,
        sender: null,
        event: operation,
        name: operation,
        body,
        access: allowed,
      };
      drafts.push(tx === undefined ? draft : { ...draft, tx });
    }
    this.#take(drafts);
    return rows.length;
  }

  /** Something that was to come here is lost: whoever stands here, or has stood here, starts anew. */
  #lose(): void {
    this.#sequence.next();
    this.#sequence.forget();
    for (const link of this.#links.values()) link.send({ t: "welcome", position: this.position, recovered: false });
  }

  /** Takes messages that were inserted into `realtime.messages`, likewise; each is known by its own id. */
  relay(header: BatchHeader, broadcasts: readonly StoredBroadcast[]): boolean {
    const judgement = this.#listeners.judge(header);
    if (judgement === "stale") return false;
    const known = this.#known(judgement);
    const drafts = broadcasts.map(({ id, event, payload }): Draft => {
      const body = broadcastBody(event, payload);
      return { id, from: null, sender: null, event: "broadcast", name: event, body, stored: true };
    });
    this.#take(drafts.filter(({ id }) => !known.has(id)));
    return true;
  }

  /** What is not to be taken again: of repeated batches, what the ring holds and what has come since. */
  #known(judgement: "repeated" | "new"): Pick<ReadonlySet<string>, "has"> {
    if (judgement === "repeated") this.#delivered ??= new RecentIds(this.#ring.ids(), MAX_REPEATED);
    else this.#delivered = undefined;
    return this.#delivered ?? new Set();
  }

  /** All of it is durable before any of it is sent. */
  #take(drafts: readonly Draft[]): void {
    const messages = drafts.map((draft) => this.#append(draft));
    this.#write();
    this.#send(messages);
  }

  /** The feeds of whole schemas repeat what the feeds of tables keep: they keep nothing while nobody listens. */
  get #isUnheard(): boolean {
    return this.#links.size === 0 && this.name.kind === "feed" && this.name.sub.endsWith(".*");
  }

  /** Messages sent at `since` (unix ms) or later, beginning with the newest or the oldest, behind the one of number `after`. */
  *history(order: "newest" | "oldest", since: number, after?: number): Generator<Message> {
    const from = Math.max(since, this.#kept);
    if (order === "newest") return yield* this.#ring.backwards(from, after);
    for (const message of this.#ring.since(from)) {
      if (after === undefined || message.seq > after) yield message;
    }
  }

  /** Erases what a message said, if it is held here and (with `sender`) this user's. True: it is gone, durably. */
  erase(id: string, sender?: string): boolean {
    return this.#ring.erase(id, sender);
  }

  /** Forgets messages that were sent before a time (unix ms). Of a row of the ring, all go or none. */
  forget(before: number): void {
    // Numbers that were written before they were sent are known by the ring alone.
    if (this.#ring.forget(before) && this.#ring.last === 0) this.#sequence.forget();
  }

  /** Tracks a user without a socket; without `metadata` what was tracked before stays. */
  trackUser(user: string, status: "online" | "away", metadata: Record<string, unknown> | undefined): void {
    const now = this.#ports.timers.now();
    const meta = { ...(metadata ?? this.#metadataOf(user)), status };
    this.#tell(this.presence.track({ key: user, user, session: null, gateway: null, meta }, now));
    this.#due.wish(now + this.#ports.presenceTimeoutMs);
  }

  #metadataOf(user: string): Record<string, unknown> {
    const member = this.presence.list().find((entry) => entry.user === user && entry.session === null);
    if (member !== undefined) return withoutRefs(member.meta);
    const sight = this.#ports.store.sight(user);
    const metadata = sight === undefined ? undefined : parseJson(sight.metadata);
    return isObject(metadata) ? metadata : {};
  }

  /** Marks a user tracked without a socket as offline. False: with a socket open they stay what that says. */
  untrackUser(user: string, metadata: Record<string, unknown> | undefined): boolean {
    const now = this.#ports.timers.now();
    const kept = metadata ?? this.#metadataOf(user);
    this.#tell(this.presence.drop((member) => member.session === null && member.user === user, now));
    if (this.presence.list().some((member) => whoIs(member) === user)) return false;
    this.#ports.store.putSight({ user, metadata: JSON.stringify(kept), seenAt: now });
    this.#sighted();
    return true;
  }

  /** Marks those offline who were tracked without a socket and have been silent for so many ms; answers how many. */
  expire(ms: number): number {
    const now = this.#ports.timers.now();
    const before = this.presence.list().length;
    this.#tell(this.presence.drop(({ session, seenAt }) => session === null && seenAt <= now - ms, now));
    return before - this.presence.list().length;
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
    this.#ring.clear();
    this.presence.clear();
    this.#ports.store.clear();
    this.#sequence.forget();
  }

  /**
   * Sees to what is due. Resolves when what is to be kept in the database is there, or will be tried again: an alarm is
   * only over then, and one that a crash cuts off comes again.
   */
  async alarm(): Promise<void> {
    if (this.#due.take()) this.#endSilent();
    await this.archiving.run().catch(() => {});
  }

  /** Ends sessions of gateways that stayed away, users tracked without a socket that fell silent, and old sights. */
  #endSilent(): void {
    const now = this.#ports.timers.now();
    this.expire(this.#ports.presenceTimeoutMs);
    this.#tell(
      this.presence.drop(
        ({ gateway }) => gateway !== null && (this.#missing.get(gateway) ?? Number.POSITIVE_INFINITY) <= now,
        now,
      ),
    );
    for (const [gateway, until] of this.#missing) if (until <= now) this.#missing.delete(gateway);
    const oldest = this.#ports.store.forgetSights(now - SIGHT_MS);
    this.#forgetsSights = oldest !== undefined;
    const due = [
      ...(oldest === undefined ? [] : [oldest + SIGHT_MS]),
      ...this.#missing.values(),
      ...this.presence
        .list()
        .filter(({ session }) => session === null)
        .map(({ seenAt }) => seenAt + this.#ports.presenceTimeoutMs),
    ];
    if (due.length > 0) this.#due.wish(due.reduce((first, at) => Math.min(first, at)));
  }
}

/** All messages, if they are no longer than `limit` together; undefined otherwise, without reading the rest. */
function within(messages: Iterable<Message>, limit: number): Message[] | undefined {
  const found: Message[] = [];
  let length = 0;
  for (const message of messages) {
    length += message.body.length;
    if (length > limit) return undefined;
    found.push(message);
  }
  return found;
}
