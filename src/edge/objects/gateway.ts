// The gateway object: the client sockets of one location and shard, linked to the channels that they joined.
import { DurableObject } from "cloudflare:workers";
import { disconnect, enforce, type Kicked, kick } from "../../gateway/control.ts";
import type { Gateway as GatewayCore } from "../../gateway/gateway.ts";
import { closeSilent } from "../../gateway/sweep.ts";
import type { BlockList } from "../../protocol/blocks.ts";
import type { Env } from "../env.ts";
import { blockTables, KeptBlocks } from "./block-store.ts";
import { acceptClient, clientClosed, connectionsOf, makeGateway, noPlace } from "./clients.ts";
import { Holder } from "./holder.ts";
import type { ConnectionEntry, GatewayRpc } from "./rpc.ts";
import { sessionTables } from "./session-store.ts";
import { SocketPlaces } from "./socket-places.ts";
import { answerClose, type ClientAttachment, clientAttachmentOf, LOST, noteFrame, openLink } from "./sockets.ts";
import { Tables } from "./tables.ts";
import { Teller } from "./teller.ts";
import { objectTimers } from "./timers.ts";

export class Gateway extends DurableObject<Env> implements GatewayRpc {
  readonly #name: string;
  readonly #core: GatewayCore;
  readonly #holder: Holder;
  readonly #places: SocketPlaces;
  readonly #keptBlocks: KeptBlocks;
  readonly #teller: Teller;
  readonly #sockets = new WeakMap<WebSocket, ClientAttachment>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#name = ctx.id.name ?? ctx.id.toString();
    const directory = () => env.DIRECTORY.getByName("directory");
    this.#holder = new Holder(ctx, async (holds) => {
      const blocks = await directory().report("gateway", this.#name, holds, this.#core.blocks.revision);
      if (holds && blocks !== null) this.#enforce(blocks);
    });
    this.#places = new SocketPlaces({
      sockets: () => this.#core.sessions.size,
      ready: () => this.#holder.ready(),
      places: (held, more) => directory().places("gateway", this.#name, held, more),
    });
    const timers = objectTimers(ctx);
    const tables = new Tables(ctx.storage.sql, [...sessionTables, ...blockTables]);
    this.#keptBlocks = new KeptBlocks(tables);
    this.#teller = new Teller(timers, (tallied) => directory().count("gateway", this.#name, tallied));
    this.#core = makeGateway(ctx, env, {
      name: this.#name,
      timers,
      tally: this.#teller.tally,
      tables,
      blocksKnown: () => this.#holder.ready(),
      openLink: (object, events) => openLink(env.CHANNEL, object, this.#name, events),
    });
    enforce(this.#core, this.#keptBlocks.list);
    // There may be newer ones.
    if (this.#core.sessions.size > 0) this.#holder.tell(true);
  }

  override async fetch(request: Request): Promise<Response> {
    return (await this.#places.admit(() => acceptClient(this.ctx, this.env, this.#core, request))) ?? noPlace();
  }

  override webSocketMessage(ws: WebSocket, data: string | ArrayBuffer): void {
    const attachment = noteFrame(ws, this.#known(ws));
    this.#sockets.set(ws, attachment);
    this.#core.receive(attachment.session, data);
  }

  override webSocketClose(ws: WebSocket, code: number): void {
    answerClose(ws, code);
    clientClosed(this.#core, this.#known(ws).session, code);
    this.#holder.tell(this.#core.sessions.size > 0);
  }

  override webSocketError(ws: WebSocket): void {
    this.webSocketClose(ws, LOST);
  }

  #known(ws: WebSocket): ClientAttachment {
    let known = this.#sockets.get(ws);
    if (known === undefined) {
      known = clientAttachmentOf(ws);
      this.#sockets.set(ws, known);
    }
    return known;
  }

  override async alarm(): Promise<void> {
    this.#core.alarm();
    this.#holder.tell(this.#core.sessions.size > 0);
    await this.#teller.alarm();
  }

  /** A channel lost this gateway's link. Being called is enough: the constructor has opened all links again. */
  wake(): void {}

  async policiesChanged(): Promise<void> {
    this.#core.reauthorizeAll();
  }

  async disconnect(connection: string): Promise<boolean> {
    return disconnect(this.#core, connection);
  }

  async kick(user: string, channel: string | undefined, reason: string): Promise<Kicked> {
    return kick(this.#core, user, channel, reason);
  }

  async enforce(blocks: BlockList): Promise<void> {
    this.#enforce(blocks);
  }

  #enforce(blocks: BlockList): void {
    if (blocks.revision <= this.#core.blocks.revision) return;
    enforce(this.#core, blocks);
    this.#keptBlocks.put(blocks);
  }

  async closeSilent(ms: number): Promise<number> {
    return closeSilent(this.#core, ms);
  }

  giveBack(): Promise<void> {
    return this.#places.giveBack();
  }

  async connections(): Promise<ConnectionEntry[]> {
    this.#holder.tell(this.#core.sessions.size > 0);
    return connectionsOf(this.#core, this.#name);
  }
}
