// A channel as an application holds it: after every break it goes on where it stopped, and tells what it could not get.
import { isRecord, type ServerFrame } from "../protocol/client-frames.ts";
import { comparePositions, type Position } from "../protocol/positions.ts";
import type { Answer } from "./connection.ts";
import { RealtimeError, type RealtimeErrorCode } from "./errors.ts";
import { call, Listeners, type PresenceSync, type Registration } from "./listeners.ts";
import { Membership, type MembershipEvents, type MembershipHost, reasonOf } from "./membership.ts";
import { type Draft, isBytes, Outbox, type Outcome } from "./outbox.ts";
import { PresenceBook, type PresenceChange, type PresenceState } from "./presence.ts";
import { readBroadcast, readPosition, readRow, readSubscribedRow, readSystem } from "./reading.ts";
import type {
  Broadcast,
  ChannelOptions,
  Gap,
  Loose,
  Outgoing,
  RowChange,
  RowEvent,
  RowFilter,
  SubscribeStatus,
  SystemMessage,
} from "./types.ts";

/** What a channel needs of its client. */
export interface ChannelHost extends MembershipHost {
  /** Made up for this client, the same as long as it lives. */
  readonly id: string;
  readonly queueSize: number;
  readonly timeoutMs: number;
  report(error: RealtimeError): void;
  /** Hands a channel its frames from now on, if it does not already. Throws RealtimeError where another one has them. */
  adopt(channel: Channel): void;
}

type Subscriber = (status: SubscribeStatus, error?: RealtimeError) => void;

interface Tracked {
  readonly payload: Loose;
  readonly settle: (error?: RealtimeError) => void;
}

/** What a subscriber is told of a channel that is away; of everything else, CHANNEL_ERROR. */
const STATUSES: { readonly [code in RealtimeErrorCode]?: SubscribeStatus } = { timed_out: "TIMED_OUT", left: "CLOSED" };

/** Feeds, whose row changes have positions of their own channel. */
const FEED = "realtime:table:";

export class Channel {
  /** The wire name, `realtime:room-1`. */
  readonly topic: string;
  readonly #host: ChannelHost;
  readonly #config: NonNullable<ChannelOptions["config"]>;
  readonly #membership: Membership;
  readonly #listeners = new Listeners();
  readonly #present = new PresenceBook();
  readonly #outbox: Outbox;
  #subscribers: Subscriber[] = [];
  /** Up to where everything was heard. */
  #position: Position | undefined;
  /** The outbox opens when so many messages of the past have been heard. */
  #past: { missed: number; readonly limit: ReturnType<typeof setTimeout> } | undefined;
  /** The last join asked for the newest messages instead. */
  #replays = false;
  #tracked: Tracked | undefined;
  /** Resolve the calls of untrack that wait for an answer. */
  readonly #untracking = new Set<() => void>();
  /** The newest complaint of the server: why the channel ends, should that come next. */
  #complaint: string | undefined;

  constructor(topic: string, { config = {} }: ChannelOptions, host: ChannelHost) {
    this.topic = topic;
    this.#config = config;
    this.#host = host;
    this.#membership = new Membership(topic, host, this.#events());
    this.#outbox = new Outbox(host.queueSize, (draft, done) => this.#transmit(draft, done));
  }

  /** @internal For the client: whether this is how the channel was made. */
  isLike({ config = {} }: ChannelOptions): boolean {
    return JSON.stringify(config) === JSON.stringify(this.#config);
  }

  /** Whether the server has this client in the channel right now. */
  get isJoined(): boolean {
    return this.#membership.isJoined;
  }

  /** Broadcasts; the event `*` is every one. */
  on<Payload = Loose>(
    type: "broadcast",
    filter: { readonly event: string },
    callback: (message: Broadcast<Payload>) => void,
  ): this;
  /** Who came or went. */
  on(type: "presence", filter: { readonly event: "join" | "leave" }, callback: (change: PresenceChange) => void): this;
  /** `presenceState()` has changed. */
  on(type: "presence", filter: { readonly event: "sync" }, callback: (sync: PresenceSync) => void): this;
  /** Rows of the table that the channel is of (`realtime:table:public.users`). Resumed after a break like any message. */
  on<Row = Loose>(type: RowEvent | "*", callback: (change: RowChange<Row>) => void): this;
  /** Rows of any table, filtered by the server. What happens during a break is not sent again: `gap` tells. */
  on<Row = Loose>(type: "postgres_changes", filter: RowFilter, callback: (change: RowChange<Row>) => void): this;
  /** What the server says of the channel. */
  on(type: "system", callback: (message: SystemMessage) => void): this;
  /** Messages may be missing; reported as an error if nobody listens. */
  on(type: "gap", callback: (gap: Gap) => void): this;
  on(...registration: Registration): this {
    this.#listeners.add(registration);
    this.#membership.renew();
    return this;
  }

  /** Removes a callback from everything that it was given for, `subscribe` too. */
  off(callback: (value: never) => void): this {
    this.#listeners.remove(callback);
    this.#subscribers = this.#subscribers.filter((subscriber) => subscriber !== callback);
    return this;
  }

  /** Joins, and joins again after every break. `callback` hears how that goes, from now on. */
  subscribe(callback?: Subscriber): this {
    this.#host.adopt(this);
    if (callback !== undefined) {
      this.#subscribers.push(callback);
      if (this.isJoined) queueMicrotask(() => call(callback, "SUBSCRIBED"));
    }
    this.#membership.enter();
    return this;
  }

  /** Leaves. Listeners and the position stay: another subscribe() goes on from there. */
  unsubscribe(): void {
    if (!this.#membership.isWanted) return;
    this.#membership.leave();
    this.#end(new RealtimeError("left", "The channel was left"));
    this.#tracked = undefined;
    this.#present.clear();
    this.#tell("CLOSED");
  }

  /**
   * Broadcasts; joins first if need be. Resolves when the message is stored and on its way to everybody (with `ack: false`
   * when it is handed to the socket); rejects with RealtimeError. While the connection is away it waits in a queue.
   */
  send(message: Outgoing): Promise<void> {
    this.subscribe();
    return this.#watched(this.#outbox.send(message));
  }

  /** Makes this client present with a payload, again after every break; joins first if need be. Settles like `send`. */
  track(payload: Loose): Promise<void> {
    const tracked = new Promise<void>((resolve, reject) => {
      this.#tracked?.settle();
      this.#tracked = { payload, settle: (error) => (error === undefined ? resolve() : reject(error)) };
    });
    this.subscribe();
    // Under another key it is tracked when the channel has been joined with that.
    if (!this.#membership.renew()) this.#track();
    return this.#watched(tracked);
  }

  /** Ends this client's presence. Settles like `send`. */
  untrack(): Promise<void> {
    this.#tracked?.settle();
    this.#tracked = undefined;
    const untracked = new Promise<void>((resolve, reject) => {
      const isAsked = this.#membership.ask("presence", { type: "presence", event: "untrack" }, (answer) => {
        this.#untracking.delete(resolve);
        const error = errorOf(answer, "the end of presence");
        if (error === undefined) resolve();
        else reject(error);
      });
      if (isAsked) this.#untracking.add(resolve);
      else resolve();
    });
    return this.#watched(untracked);
  }

  /** Who is present, by key. */
  presenceState(): PresenceState {
    return this.#present.state;
  }

  /** @internal For the client: there is a socket. */
  opened(): void {
    this.#membership.opened();
  }

  /** @internal For the client: the socket is gone. */
  lost(error: RealtimeError): void {
    this.#outbox.lost();
    // Presence ends with the socket, and the next join does not track.
    for (const resolve of this.#untracking) resolve();
    this.#untracking.clear();
    this.#membership.lost(error);
  }

  /** @internal For the client: nothing waits for a connection any more. */
  abandon(error: RealtimeError): void {
    this.#end(error);
  }

  /** @internal For the client: there is a new token. */
  refresh(): void {
    this.#membership.refresh();
  }

  /** @internal For the client: a frame of this topic. */
  receive(frame: ServerFrame): void {
    this.#membership.receive(frame);
  }

  /** A failure that nobody awaits must not end the program; whoever does await it gets it. */
  #watched(promise: Promise<void>): Promise<void> {
    promise.catch((error: unknown) => {
      if (error instanceof RealtimeError) this.#host.report(error);
    });
    return promise;
  }

  #tell(status: SubscribeStatus, error?: RealtimeError): void {
    if (error !== undefined) this.#host.report(error);
    for (const subscriber of this.#subscribers) call((one: SubscribeStatus) => subscriber(one, error), status);
  }

  #end(error: RealtimeError): void {
    this.#pause();
    this.#outbox.clear(error);
    this.#tracked?.settle(error);
  }

  // Joining.

  #events(): MembershipEvents {
    return {
      wishes: () => this.#wishes(),
      config: () => this.#joinConfig(),
      joining: () => this.#pause(),
      joined: (response) => this.#joined(response),
      away: (error, isFinal) => {
        this.#pause();
        if (isFinal) this.#end(error);
        this.#tell(STATUSES[error.code] ?? "CHANNEL_ERROR", error);
      },
      closed: () => {
        const why = this.#complaint ?? "without a reason";
        const error = new RealtimeError("closed", `The server ended ${this.topic}: ${why}`, why);
        this.#end(error);
        this.#tell("CLOSED", error);
      },
      frame: (frame) => this.#receive(frame),
    };
  }

  #wishes() {
    const { private: isPrivate = false, broadcast: { self = false, ack = true } = {}, presence = {} } = this.#config;
    const user = this.#tracked?.payload.user_id;
    return {
      private: isPrivate,
      broadcast: { self, ack },
      presence: {
        key: presence.key ?? (typeof user === "string" && user !== "" ? user : this.#host.id),
        enabled: this.#listeners.wantPresence || this.#tracked !== undefined,
      },
      postgres_changes: this.#listeners.rowFilters,
    };
  }

  /** The wishes, and where to go on: after the last message that was heard, else from `replay` on. */
  #joinConfig(): object {
    const wishes = this.#wishes();
    const replay = this.#config.broadcast?.replay;
    this.#replays = this.#position === undefined && replay !== undefined;
    const from = this.#position === undefined ? replay && { replay } : { resume: this.#position };
    return { ...wishes, broadcast: { ...wishes.broadcast, ...from } };
  }

  #joined({ position, recovered, missed, postgres_changes }: Readonly<Record<string, unknown>>): void {
    this.#complaint = undefined;
    this.#listeners.numbered(postgres_changes);
    const before = this.#position;
    if (recovered !== true) this.#position = readPosition(position);
    if (before !== undefined && recovered !== true) {
      this.#gap(before, "the server does not have all any more that was sent meanwhile");
      this.#outbox.giveUpDoubtful();
    } else if (before !== undefined && this.#listeners.rowFilters.length > 0) {
      this.#gap(before, "row changes of postgres_changes are not sent again");
    }
    this.#track();
    this.#tell("SUBSCRIBED");
    if (typeof missed === "number" && missed > 0) {
      // What was sent on the socket that broke may be among it: until then nothing is sent again.
      const giveUp = (): void => {
        this.#outbox.giveUpDoubtful();
        this.#open();
      };
      this.#past = { missed, limit: setTimeout(giveUp, this.#host.timeoutMs) };
    } else this.#open();
  }

  #pause(): void {
    clearTimeout(this.#past?.limit);
    this.#past = undefined;
    this.#outbox.pause();
  }

  #open(): void {
    this.#pause();
    this.#outbox.open();
  }

  #gap(from: Position, reason: string): void {
    const isHeard = this.#listeners.gap({ from, reason });
    if (!isHeard) this.#host.report(new RealtimeError("gap", `Messages of ${this.topic} may be missing: ${reason}`));
  }

  // Hearing.

  #receive({ event, payload }: ServerFrame): void {
    switch (event) {
      case "broadcast":
        return this.#heard(payload);
      case "INSERT":
      case "UPDATE":
      case "DELETE":
        if (!this.topic.startsWith(FEED) || this.#advance(payload.meta)) this.#listeners.row(readRow(payload));
        return;
      case "postgres_changes":
        return this.#listeners.rowFor(Array.isArray(payload.ids) ? payload.ids : [], readSubscribedRow(payload));
      case "presence_state":
        return this.#listeners.presence(this.#present.sync(payload));
      case "presence_diff":
        return this.#listeners.presence(this.#present.diff(payload));
      case "system":
        return this.#told(readSystem(payload));
    }
  }

  #heard(payload: Readonly<Record<string, unknown>>): void {
    const isNew = this.#advance(payload.meta);
    const isOwn = this.#outbox.heard(payload.nonce);
    if (isNew && (!isOwn || this.#config.broadcast?.self === true)) this.#listeners.broadcast(readBroadcast(payload));
    if (this.#past === undefined || !isReplayed(payload.meta)) return;
    this.#past.missed--;
    if (this.#past.missed === 0) this.#open();
  }

  /** Moves on to where a message stands. False: it was heard before. */
  #advance(meta: unknown): boolean {
    const position = readPosition(meta);
    if (position === undefined) return true;
    const distance = this.#position && comparePositions(position, this.#position);
    // What `replay` brings is older than the join.
    if (distance !== undefined && distance <= 0) return this.#replays && isReplayed(meta);
    this.#position = position;
    return true;
  }

  #told(message: SystemMessage): void {
    if (message.status === "error") {
      this.#complaint = message.message;
      this.#host.report(new RealtimeError("problem", `${this.topic}: ${message.message}`, message.message));
    }
    this.#listeners.system(message);
  }

  // Saying.

  #transmit({ event, payload = {}, nonce }: Draft, done: (outcome: Outcome) => void): boolean {
    const ack = this.#config.broadcast?.ack !== false;
    const answered = (answer: Answer): void => {
      if (ack) done(answer && (answer.status === "ok" ? {} : { error: reasonOf(answer.response) }));
    };
    const isSent = isBytes(payload)
      ? this.#membership.askBytes(event, new Uint8Array(payload), answered)
      : this.#membership.ask("broadcast", { type: "broadcast", event, payload, nonce }, answered);
    if (isSent && !ack) done({});
    return isSent;
  }

  #track(): void {
    if (this.#tracked === undefined) return;
    const { payload, settle } = this.#tracked;
    this.#membership.ask("presence", { type: "presence", event: "track", payload }, (answer) => {
      settle(errorOf(answer, "the presence"));
    });
  }
}

function isReplayed(meta: unknown): boolean {
  return isRecord(meta) && meta.replayed === true;
}

/** The error in an answer; undefined when it is none. */
function errorOf(answer: Answer, what: string): RealtimeError | undefined {
  if (answer === undefined) return new RealtimeError("timed_out", `No answer to ${what}`);
  if (answer.status === "ok") return undefined;
  const reason = reasonOf(answer.response);
  return new RealtimeError("rejected", `The server refused ${what}: ${reason}`, reason);
}
