// The channel object: one a topic. Wakes the channel core, and the gateway core for clients that came straight here.
import { DurableObject } from "cloudflare:workers";
import { Channel as ChannelCore } from "../../channel/channel.ts";
import type { Ban, Link } from "../../channel/ports.ts";
import { disconnect, enforce, type Kicked, kick } from "../../gateway/control.ts";
import type { Gateway as GatewayCore } from "../../gateway/gateway.ts";
import type { ChannelLink, LinkEvents } from "../../gateway/ports.ts";
import { closeSilent } from "../../gateway/sweep.ts";
import type { BlockList } from "../../protocol/blocks.ts";
import type { BatchHeader } from "../../protocol/changes.ts";
import { decodeUp, type Up } from "../../protocol/link.ts";
import type { StoredBroadcast, Unsent } from "../../protocol/reports.ts";
import { type ObjectName, parseObjectName } from "../../protocol/topics.ts";
import { openStore } from "../../store/store.ts";
import { type Env, settingsOf } from "../env.ts";
import { CachedAccess } from "./access.ts";
import { Answers, answerTables } from "./answers.ts";
import { DatabaseArchive } from "./archive.ts";
import { blockTables, KeptBlocks } from "./block-store.ts";
import { channelTables, SqliteChannelStore } from "./channel-store.ts";
import { acceptClient, clientClosed, connectionsOf, makeGateway, noPlace } from "./clients.ts";
import { configure } from "./configuring.ts";
import { type BatchAnswer, takeBroadcasts, takeChanges } from "./deliveries.ts";
import { historyPage } from "./history-page.ts";
import { Holder } from "./holder.ts";
import { moderate } from "./moderation.ts";
import { askPolicies } from "./policies.ts";
import { Postings } from "./postings.ts";
import { presenceEntries } from "./presence-entries.ts";
import type {
  ChannelConfig,
  ChannelRpc,
  ConnectionEntry,
  HistoryPage,
  HistoryQuery,
  Moderator,
  PostedMessage,
  PresenceEntry,
  PresenceStatus,
  Sender,
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

/** A gateway name for the sockets that this object holds itself. */
const DIRECT = "direct:";

/** Whose a socket is: a client's that came straight here, or a gateway's. */
type Known = ClientAttachment | { readonly link: Link };

export class Channel extends DurableObject<Env> implements ChannelRpc {
  readonly #objectName: string;
  readonly #store: SqliteChannelStore;
  readonly #access: CachedAccess;
  readonly #core: ChannelCore;
  readonly #clients: GatewayCore;
  readonly #teller: Teller;
  readonly #holder: Holder;
  readonly #places: SocketPlaces;
  readonly #postings: Postings;
  readonly #keptBlocks: KeptBlocks;
  readonly #presences: Holder;
  readonly #sockets = new WeakMap<WebSocket, Known>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#objectName = ctx.id.name ?? "";
    const name = parseObjectName(this.#objectName);
    if (name === undefined) throw new Error(`"${this.#objectName}" names no channel`);
    const timers = objectTimers(ctx);
    const tables = new Tables(ctx.storage.sql, [...channelTables, ...sessionTables, ...blockTables, ...answerTables]);
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
    const archive = new DatabaseArchive(env, this.#objectName, name.sub);
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
        archive,
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
    this.#postings = new Postings({
      env,
      timers,
      archive,
      core: this.#core,
      access: this.#access,
      answers: new Answers(tables),
      blocks: this.#clients.blocks,
      holder: this.#holder,
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

  publish(...asked: Parameters<ChannelRpc["publish"]>): ReturnType<ChannelRpc["publish"]> {
    return this.#postings.publish(...asked);
  }

  post(sender: Sender, message: PostedMessage): Promise<Unposted | null> {
    return this.#postings.post(sender, message);
  }

  async reauthorize(users?: readonly string[]): Promise<void> {
    this.#core.reauthorize(users);
  }

  async policiesChanged(): Promise<void> {
    this.#core.reauthorize();
    this.#clients.reauthorizeAll();
  }

  async history(query: HistoryQuery): Promise<HistoryPage> {
    return historyPage(this.#core, query);
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
    configure({ core: this.#core, access: this.#access, store: this.#store }, config);
  }

  async disconnect(connection: string): Promise<boolean> {
    return disconnect(this.#clients, connection);
  }

  async kick(user: string, channel: string | undefined, reason: string): Promise<Kicked> {
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

  /** See `takeChanges`. */
  changes(body: string): Promise<BatchAnswer> {
    return takeChanges(this.#core, this.#teller.tally, body);
  }

  /** See `takeBroadcasts`. */
  relay(header: BatchHeader, broadcasts: readonly StoredBroadcast[]): Promise<Unsent[] | "stale"> {
    return takeBroadcasts(this.env, this.#core, this.#access, header, broadcasts);
  }

  get #name(): ObjectName {
    return this.#core.name;
  }
}
