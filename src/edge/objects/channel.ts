// The channel object: one a topic. Wakes the channel core, and the gateway core for clients that came straight here.
import { DurableObject } from "cloudflare:workers";
import { isPrivateType, judge } from "../../channel/admission.ts";
import { Channel as ChannelCore } from "../../channel/channel.ts";
import type { Ban, Link } from "../../channel/ports.ts";
import { disconnect, enforce, kick } from "../../gateway/control.ts";
import type { Gateway as GatewayCore } from "../../gateway/gateway.ts";
import type { ChannelLink, LinkEvents } from "../../gateway/ports.ts";
import { closeSilent, SWEEP_MS } from "../../gateway/sweep.ts";
import type { BlockList } from "../../protocol/blocks.ts";
import type { Batch, BatchHeader } from "../../protocol/changes.ts";
import { isOfCode } from "../../protocol/errors.ts";
import { exceeds, isObject, parseJson } from "../../protocol/json.ts";
import { type ChannelLimits, limitsOf } from "../../protocol/limits.ts";
import { type Admission, type Body, broadcastBody, decodeUp, type Message, type Up } from "../../protocol/link.ts";
import { type StoredBroadcast, type Unsent, unsent } from "../../protocol/reports.ts";
import { allRights } from "../../protocol/rights.ts";
import { type ObjectName, parseObjectName } from "../../protocol/topics.ts";
import { StoreNotReady, StoreUnavailable } from "../../store/database.ts";
import { openStore } from "../../store/store.ts";
import { type Env, settingsOf } from "../env.ts";
import { CachedAccess } from "./access.ts";
import { Answers, answerTables } from "./answers.ts";
import { blockTables, KeptBlocks } from "./block-store.ts";
import { channelTables, SqliteChannelStore } from "./channel-store.ts";
import { acceptClient, clientClosed, connectionsOf, makeGateway, noPlace } from "./clients.ts";
import { Holder } from "./holder.ts";
import { moderate } from "./moderation.ts";
import { askPolicies } from "./policies.ts";
import { presenceEntries } from "./presence-entries.ts";
import type {
  ChannelConfig,
  ChannelRpc,
  ConnectionEntry,
  HistoryPage,
  HistoryQuery,
  Moderator,
  Once,
  PostedMessage,
  PresenceEntry,
  PresenceStatus,
  Published,
  Sender,
  StoredMessage,
  Unmoderated,
  Unposted,
} from "./rpc.ts";
import { sessionTables } from "./session-store.ts";
import { SocketPlaces } from "./socket-places.ts";
import {
  answerClose,
  attach,
  attachmentOf,
  type ClientAttachment,
  channelEnd,
  LOST,
  noteFrame,
  openLink,
  openSockets,
  UNUSED,
} from "./sockets.ts";
import { Tables } from "./tables.ts";
import { Teller } from "./teller.ts";
import { objectTimers } from "./timers.ts";

/** A page of the history ends with the message that goes past this, UTF-16 units of JSON. */
const MAX_HISTORY_LENGTH = 8_000_000;
/** A gateway name for the sockets that this object holds itself. */
const DIRECT = "direct:";

/** What the object was last told that its name is registered as. */
interface Told {
  readonly id: string;
  readonly type: ChannelConfig["type"];
  readonly limits: Partial<ChannelLimits>;
}

/** Whose a socket is: a client's that came straight here, or a gateway's. */
type Known = ClientAttachment | { readonly link: Link };

export class Channel extends DurableObject<Env> implements ChannelRpc {
  readonly #objectName: string;
  readonly #timers = objectTimers(this.ctx);
  readonly #store: SqliteChannelStore;
  readonly #access: CachedAccess;
  readonly #core: ChannelCore;
  readonly #clients: GatewayCore;
  readonly #teller: Teller;
  readonly #holder: Holder;
  readonly #places: SocketPlaces;
  readonly #answers: Answers;
  readonly #keptBlocks: KeptBlocks;
  readonly #presences: Holder;
  readonly #sockets = new WeakMap<WebSocket, Known>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#objectName = ctx.id.name ?? "";
    const name = parseObjectName(this.#objectName);
    if (name === undefined) throw new Error(`"${this.#objectName}" names no channel`);
    const timers = this.#timers;
    const tables = new Tables(ctx.storage.sql, [...channelTables, ...sessionTables, ...blockTables, ...answerTables]);
    this.#answers = new Answers(tables);
    this.#keptBlocks = new KeptBlocks(tables);
    this.#store = new SqliteChannelStore(tables);
    this.#access = new CachedAccess(name, env, this.#store, (channel) => this.#core.archiving.heard(channel));
    const directory = () => env.DIRECTORY.getByName("directory");
    this.#holder = new Holder(ctx, async (holds) => {
      const { revision } = this.#clients.blocks;
      const blocks = await directory().report("channel", this.#objectName, holds, revision);
      if (holds && blocks !== null) this.#enforce(blocks);
    });
    this.#places = new SocketPlaces({
      sockets: () => this.#clients.sessions.size,
      ready: () => this.#holder.ready(),
      places: (held, more) => directory().places("channel", this.#objectName, held, more),
    });
    this.#presences = new Holder(ctx, async (holds) => {
      await directory().report("presence", this.#objectName, holds, null);
    });
    this.#core = new ChannelCore(
      name,
      {
        store: this.#store,
        timers,
        access: this.#access,
        id: () => crypto.randomUUID(),
        presenceTimeoutMs: settingsOf(env).presenceTimeoutMs,
        messageTtlMs: settingsOf(env).messageTtlMs,
        maxReplay: settingsOf(env).limits.replay,
        policies: askPolicies(env, this.#objectName),
        moderate: (by, act) => this.#moderate(by, act),
        archive: {
          persist: (message, seconds) => this.#persist(message, seconds),
          keep: (channel, messages) => this.#keep(channel, messages),
          lost: (count) => this.#log("messages lost to the history", { count }),
        },
      },
      this.#links(),
    );
    this.#teller = new Teller(timers, (tallied) => directory().count("channel", this.#objectName, tallied));
    this.#clients = makeGateway(ctx, env, {
      name: DIRECT + this.#objectName,
      timers,
      tally: this.#teller.tally,
      tables,
      own: this.#objectName,
      blocksKnown: () => this.#holder.ready(),
      openLink: async (object, events) =>
        object === this.#objectName
          ? this.#ownLink(events)
          : openLink(env.CHANNEL, object, DIRECT + this.#objectName, events),
    });
    enforce(this.#clients, this.#keptBlocks.list);
    // There may be newer ones.
    if (this.#clients.sessions.size > 0) this.#holder.tell(true);
  }

  *#links(): Generator<Link> {
    for (const [ws, attachment] of openSockets(this.ctx)) {
      const known = this.#known(ws);
      if ("link" in known && "greeted" in attachment && attachment.greeted) yield known.link;
    }
  }

  /** Both ends of a link in one object: the same messages, without a wire. */
  #ownLink(events: LinkEvents): ChannelLink {
    const link: Link = {
      gateway: DIRECT + this.#objectName,
      send: (message) => events.message(message),
      deliver: ({ messages }) => events.message({ t: "messages", messages }),
      close: () => {},
    };
    return {
      send: (message) => void this.#receive(link, message),
      close: () => this.#core.unlinked(link),
    };
  }

  override async fetch(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname !== "/link") {
      return (await this.#places.admit(() => acceptClient(this.ctx, this.env, this.#clients, request))) ?? noPlace();
    }
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    attach(server, { gateway: url.searchParams.get("gateway") ?? "", greeted: false });
    return new Response(null, { status: 101, webSocket: client });
  }

  override async webSocketMessage(ws: WebSocket, data: string | ArrayBuffer): Promise<void> {
    const known = this.#known(ws);
    if ("session" in known) {
      this.#sockets.set(ws, noteFrame(ws, known));
      return this.#clients.receive(known.session, data);
    }
    const message = decodeUp(data);
    if (message.t === "hello") attach(ws, { gateway: known.link.gateway, greeted: true });
    return this.#receive(known.link, message);
  }

  #receive(link: Link, message: Up): Promise<void> {
    if (message.t === "track") this.#presences.tell(true);
    return this.#core.receive(link, message);
  }

  override webSocketClose(ws: WebSocket, code: number): void {
    answerClose(ws, code);
    const known = this.#known(ws);
    if ("session" in known) clientClosed(this.#clients, known.session, code);
    else {
      this.#core.unlinked(known.link);
      if (code !== UNUSED.code) this.#wake(known.link.gateway);
    }
    this.#report();
  }

  override webSocketError(ws: WebSocket): void {
    this.webSocketClose(ws, LOST);
  }

  /** A link broke: its gateway may have gone to sleep with its sockets open, and does not know that it misses us. */
  #wake(gateway: string): void {
    const object = gateway.startsWith(DIRECT)
      ? this.env.CHANNEL.getByName(gateway.slice(DIRECT.length))
      : this.env.GATEWAY.getByName(gateway);
    this.ctx.waitUntil(object.wake().catch(() => {}));
  }

  /** Being called is enough: the constructor has opened all links again. */
  wake(): void {}

  #report(): void {
    this.#holder.tell(this.#clients.sessions.size > 0);
    this.#presences.tell(this.#core.presence.list().length > 0 || this.#store.hasSights());
  }

  #known(ws: WebSocket): Known {
    let known = this.#sockets.get(ws);
    if (known === undefined) {
      const attachment = attachmentOf(ws);
      known = "session" in attachment ? attachment : { link: channelEnd(ws, attachment.gateway) };
      this.#sockets.set(ws, known);
    }
    return known;
  }

  override async alarm(): Promise<void> {
    const archived = this.#core.alarm();
    this.#clients.alarm();
    this.#report();
    await this.#teller.alarm();
    await archived;
  }

  async forget(before: number): Promise<void> {
    this.#core.forget(before);
  }

  async #moderate(by: Moderator, act: unknown): ReturnType<typeof moderate> {
    if (by.role !== "service_role" && this.#access.banOf(by.user) !== undefined) {
      return { code: "not_allowed", reason: "Unauthorized: You are banned from this Channel" };
    }
    const ports = { channel: (name: string) => this.env.CHANNEL.getByName(name), store: openStore(this.env) };
    return moderate(ports, this.#name.sub, by, act);
  }

  async moderate(by: Moderator, act: unknown): Promise<Unmoderated | null> {
    const done = await this.#moderate(by, act);
    if ("reason" in done) return done;
    await done.tell();
    return null;
  }

  async erase(id: string, sender?: string): Promise<boolean> {
    return this.#core.erase(id, sender);
  }

  async archive(registered: ChannelConfig): Promise<boolean> {
    this.#access.learn(registered);
    try {
      await this.#core.archiving.run();
      return true;
    } catch {
      return false;
    }
  }

  async publish(
    message: { event: string; payload: string; sender?: string },
    registered?: ChannelConfig,
    once?: Once,
  ): Promise<Published | Unposted | "key_reused"> {
    if (registered !== undefined) this.#access.learn(registered);
    const { event, payload, sender = null } = message;
    const known = this.#published(once);
    if (known !== undefined) return known;
    if (sender !== null) {
      const role = "authenticated";
      const judged = await this.#judge({
        role,
        user: sender,
        principal: { claims: { sub: sender, role }, headers: {} },
      });
      if ("reason" in judged) return judged;
    }
    // While it was judged the same may have come again. From here on nothing is awaited: both are kept, or neither.
    const meanwhile = this.#published(once);
    if (meanwhile !== undefined) return meanwhile;
    const sent = this.#core.publish({ name: event, body: broadcastBody(event, payload), sender });
    if (once !== undefined) this.#answers.keep(once, JSON.stringify(sent));
    return sent;
  }

  /** What was published with that key. */
  #published(once: Once | undefined): Published | "key_reused" | undefined {
    const known = once && this.#answers.find(once);
    return typeof known === "object" ? JSON.parse(known.answer) : known;
  }

  /** Sends a message for somebody who has no socket here. Null when it was sent, else why not and where it belongs. */
  async post(sender: Sender, { event, payload, persist }: PostedMessage): Promise<Unposted | null> {
    const judged = await this.#judge(sender);
    if ("reason" in judged) return judged;
    const most = judged.limits?.payloadBytes ?? settingsOf(this.env).limits.payloadBytes;
    if (exceeds(payload, most)) return { reason: "payload_size_exceeded" };
    const body = broadcastBody(event, payload);
    const { id } = this.#core.publish({ name: event, body, sender: sender.user });
    const { persistence } = (judged.rights ?? allRights).write;
    if (persist !== undefined && persistence === "granted") await this.#persist({ id, name: event, body }, persist.ttl);
    return null;
  }

  /** What somebody may do who has no socket here and wants to send, or why they may not send. */
  async #judge(sender: Sender): Promise<Unposted | Extract<Admission, { ok: true }>> {
    const { role, user, principal } = sender;
    const admission = await judge(this.#name, { session: "", ...sender }, this.#access);
    // Only now: a block may have come while PostgreSQL was asked.
    await this.#blocksKnown();
    if (this.#clients.blocks.of({ role, user, all: principal.claims }, Date.now())) return { reason: "blocked" };
    if (!admission.ok) {
      const reason = isOfCode("Unauthorized", admission.reason) ? "banned" : "unavailable";
      return { reason, ...(admission.moved && { moved: admission.moved }) };
    }
    const { broadcast } = (admission.rights ?? allRights).write;
    if (broadcast === "granted") return admission;
    return { reason: broadcast === "denied" ? "unauthorized" : "rls_policy_error" };
  }

  /** Resolves once the directory tells this object of every block; it lets go of that when nobody has come for a while. */
  async #blocksKnown(): Promise<void> {
    this.#timers.alarm(Date.now() + SWEEP_MS);
    await this.#holder.ready();
  }

  /** Keeps a message in the database. It was sent and is in the ring, so a database that is away is only noted. */
  async #persist({ id, name, body }: { id: string; name: string; body: Body }, seconds: number): Promise<boolean> {
    try {
      await openStore(this.env).messages.persist({ id, topic: this.#name.sub, event: name, body }, seconds);
      return true;
    } catch (error) {
      this.#log("not persisted", { id, reason: String(error) });
      return false;
    }
  }

  async #keep(channel: string, messages: readonly Message[]): Promise<void> {
    try {
      await openStore(this.env).messages.keep(channel, messages);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) this.#log("not kept yet", { reason: String(error) });
      throw error;
    }
  }

  #log(event: string, details: Record<string, unknown>): void {
    console.warn(JSON.stringify({ event, channel: this.#objectName, ...details }));
  }

  async reauthorize(users?: readonly string[]): Promise<void> {
    this.#core.reauthorize(users);
  }

  async policiesChanged(): Promise<void> {
    this.#core.reauthorize();
    this.#clients.reauthorizeAll();
  }

  async history({ order, limit, since = 0, after }: HistoryQuery): Promise<HistoryPage> {
    const { epoch } = this.#core.position;
    const messages: StoredMessage[] = [];
    let size = 0;
    for (const message of this.#core.history(order, since, after)) {
      if (messages.length >= limit || size >= MAX_HISTORY_LENGTH) return { messages, more: true };
      messages.push(storedMessage(epoch, message));
      size += message.body.length;
    }
    return { messages, more: false };
  }

  async track(entry: { user: string; status: PresenceStatus; metadata?: Record<string, unknown> }): Promise<boolean> {
    const { user, status, metadata } = entry;
    this.#presences.tell(true);
    if (status === "offline") return this.#core.untrackUser(user, metadata);
    this.#core.trackUser(user, status, metadata);
    return true;
  }

  async ban(user: string, ban: Ban): Promise<boolean> {
    const added = this.#access.bans.add(user, ban);
    if (added) this.#core.reauthorize([user]);
    return added;
  }

  async unban(user: string): Promise<boolean> {
    return this.#access.bans.delete(user);
  }

  async bans(): Promise<Record<string, Ban>> {
    return this.#access.bans.standing;
  }

  async expirePresence(ms: number): Promise<number> {
    return this.#core.expire(ms);
  }

  async presence(): Promise<PresenceEntry[]> {
    return presenceEntries(this.#name.sub, this.#core.presence.list(), this.#store.sights(), Date.now());
  }

  async configure(config: ChannelConfig | null): Promise<void> {
    this.#access.set(config);
    const told: Told | null = config && { id: config.id, type: config.type, limits: limitsOf(config.metadata) };
    const kept = this.#store.get("told");
    const before: Told | null | undefined = kept === undefined ? undefined : JSON.parse(kept);
    this.#store.set("told", JSON.stringify(told));
    if (told === null) {
      // Those of an open channel are nobody's who has deleted it.
      if (before) this.#access.bans.clear();
      if (before !== null) this.#core.clear("The channel was deleted", false);
    } else if (before && before.id !== told.id) this.#core.clear("The channel was deleted and made again", true);
    else if (isPrivateType(told.type) !== (this.#name.kind === "private")) {
      if (before?.type !== told.type) this.#core.clear(`The channel is registered as ${told.type} now`, true);
    } else if (before?.type !== told.type && told.type === "presence") {
      this.#core.putOut("The channel is registered as presence now", true);
    } else if (before?.type !== told.type || JSON.stringify(before.limits) !== JSON.stringify(told.limits)) {
      this.#core.reauthorize();
    }
  }

  async disconnect(connection: string): Promise<boolean> {
    return disconnect(this.#clients, connection);
  }

  async kick(user: string, channel: string | undefined, reason: string): Promise<number> {
    return kick(this.#clients, user, channel, reason);
  }

  async enforce(blocks: BlockList): Promise<void> {
    this.#enforce(blocks);
  }

  #enforce(blocks: BlockList): void {
    if (blocks.revision <= this.#clients.blocks.revision) return;
    enforce(this.#clients, blocks);
    this.#keptBlocks.put(blocks);
  }

  async closeSilent(ms: number): Promise<number> {
    return closeSilent(this.#clients, ms);
  }

  giveBack(): Promise<void> {
    return this.#places.giveBack();
  }

  async connections(): Promise<ConnectionEntry[]> {
    this.#report();
    return connectionsOf(this.#clients, this.#objectName);
  }

  /** See the core's: a batch is not sent here for nobody. */
  async skips(header: BatchHeader): Promise<"stale" | boolean> {
    return this.#core.skips(header);
  }

  /** Takes a batch of row changes into this feed, unless a newer listener has delivered before, or PostgreSQL is away. */
  async changes(batch: Batch): Promise<{ taken: boolean } | { away: string }> {
    try {
      const taken = await this.#core.changes(batch);
      if (taken === "stale") return { taken: false };
      // A change comes to its table's own feed and to those of whole schemas: it is counted once.
      if (!this.#name.sub.endsWith(".*")) this.#teller.tally.changed(taken);
      return { taken: true };
    } catch (error) {
      // Nobody can say now who may see it.
      if (error instanceof StoreUnavailable || error instanceof StoreNotReady) return { away: error.message };
      throw error;
    }
  }

  /**
   * Takes messages that were inserted into `realtime.messages`, in their order, each once, and answers those that are too
   * large. `stale`: a newer listener has delivered before. The row says in which room they belong, by what the channel was
   * registered as when they were inserted: what is remembered here may be older.
   */
  async relay(header: BatchHeader, broadcasts: readonly StoredBroadcast[]): Promise<Unsent[] | "stale"> {
    const registration = await this.#access.registration().catch(() => null);
    const most = registration?.limits.payloadBytes ?? settingsOf(this.env).limits.payloadBytes;
    const large = new Set(broadcasts.filter(({ payload }) => exceeds(payload, most)));
    const fitting = broadcasts.filter((broadcast) => !large.has(broadcast));
    if (!this.#core.relay(header, fitting)) return "stale";
    return [...large].map((broadcast) => unsent(broadcast, `its payload is larger than ${most} bytes`));
  }

  get #name(): ObjectName {
    return this.#core.name;
  }
}

function storedMessage(epoch: string, { id, seq, at, name, sender, body }: Message): StoredMessage {
  const content = typeof body === "string" ? parseJson(body) : undefined;
  const payload = isObject(content) && "payload" in content ? content.payload : (content ?? null);
  return { id, position: { epoch, seq }, at, event: name, payload, sender };
}
