// The gateway object: the client sockets of one location and shard, linked to the channels that they joined.
import { DurableObject } from "cloudflare:workers";
import type { Gateway as GatewayCore } from "../../gateway/gateway.ts";
import type { Env } from "../env.ts";
import { acceptClient, connectionsOf, makeGateway } from "./clients.ts";
import { Holder } from "./holder.ts";
import type { ConnectionEntry, GatewayRpc } from "./rpc.ts";
import { sessionTables } from "./session-store.ts";
import { answerClose, attachmentOf, LOST, openLink } from "./sockets.ts";
import { Tables } from "./tables.ts";
import { objectTimers } from "./timers.ts";

export class Gateway extends DurableObject<Env> implements GatewayRpc {
  readonly #name: string;
  readonly #core: GatewayCore;
  readonly #holder: Holder;
  readonly #sessions = new WeakMap<WebSocket, string>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#name = ctx.id.name ?? ctx.id.toString();
    this.#holder = new Holder(ctx, env, "gateway", this.#name);
    this.#core = makeGateway(ctx, env, {
      name: this.#name,
      timers: objectTimers(ctx),
      tables: new Tables(ctx.storage.sql, sessionTables),
      openLink: (object, events) => openLink(env.CHANNEL, object, this.#name, events),
    });
  }

  override fetch(request: Request): Response {
    this.#holder.tell(true);
    return acceptClient(this.ctx, this.env, this.#core, request);
  }

  override webSocketMessage(ws: WebSocket, data: string | ArrayBuffer): void {
    this.#core.receive(this.#sessionOf(ws), data);
  }

  override webSocketClose(ws: WebSocket, code: number): void {
    answerClose(ws, code);
    this.#core.closed(this.#sessionOf(ws));
    this.#holder.tell(this.#core.sessions.size > 0);
  }

  override webSocketError(ws: WebSocket): void {
    this.webSocketClose(ws, LOST);
  }

  #sessionOf(ws: WebSocket): string {
    let session = this.#sessions.get(ws);
    if (session === undefined) {
      const attachment = attachmentOf(ws);
      session = "session" in attachment ? attachment.session : "";
      this.#sessions.set(ws, session);
    }
    return session;
  }

  override alarm(): void {
    this.#core.alarm();
    this.#holder.tell(this.#core.sessions.size > 0);
  }

  /** A channel lost this gateway's link. Being called is enough: the constructor has opened all links again. */
  wake(): void {}

  async connections(): Promise<ConnectionEntry[]> {
    this.#holder.tell(this.#core.sessions.size > 0);
    return connectionsOf(this.#core, this.#name);
  }
}
