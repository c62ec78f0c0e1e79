// The yardstick: the least Durable Object that broadcasts. It accepts sockets, and sends every frame to all of them.
import { DurableObject } from "cloudflare:workers";

interface Env {
  readonly ROOM: DurableObjectNamespace<Room>;
}

export class Room extends DurableObject<Env> {
  override fetch(): Response {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  override webSocketMessage(_sender: WebSocket, frame: string | ArrayBuffer): void {
    for (const ws of this.ctx.getWebSockets()) ws.send(frame);
  }
}

export default {
  fetch: (request: Request, env: Env): Promise<Response> =>
    env.ROOM.getByName(new URL(request.url).pathname).fetch(request),
};
