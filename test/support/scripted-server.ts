// A scripted server: takes the sockets of clients and says what a test tells it to, where the real one cannot be had to.
import { once } from "node:events";
import { type WebSocket, WebSocketServer } from "ws";
import { z } from "zod";

const text = z.string().nullable();
const frame = z.tuple([text, text, z.string(), z.string(), z.record(z.string(), z.unknown())]);

/** A frame of a client, and the socket that it came over. */
export interface HeardFrame {
  readonly socket: WebSocket;
  readonly joinRef: string | null;
  readonly ref: string | null;
  readonly topic: string;
  readonly event: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

export class ScriptedServer implements AsyncDisposable {
  /** Everything that was heard, in order. */
  readonly heard: HeardFrame[] = [];
  readonly #sockets = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  readonly #script: (frame: HeardFrame, server: ScriptedServer) => void;

  private constructor(script: (frame: HeardFrame, server: ScriptedServer) => void) {
    this.#script = script;
    this.#sockets.on("connection", (socket) => socket.on("message", (data) => this.#take(socket, String(data))));
  }

  /** Starts a server that has `script` called with every frame. */
  static async start(script: (frame: HeardFrame, server: ScriptedServer) => void): Promise<ScriptedServer> {
    const server = new ScriptedServer(script);
    await once(server.#sockets, "listening");
    return server;
  }

  get url(): string {
    const address = this.#sockets.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    return `ws://127.0.0.1:${address.port}`;
  }

  #take(socket: WebSocket, data: string): void {
    const [joinRef, ref, topic, event, payload] = frame.parse(JSON.parse(data));
    const heard = { socket, joinRef, ref, topic, event, payload };
    this.heard.push(heard);
    this.#script(heard, this);
  }

  /** Answers a frame. */
  reply({ socket, joinRef, ref, topic }: HeardFrame, status: "ok" | "error", response: object = {}): void {
    socket.send(JSON.stringify([joinRef, ref, topic, "phx_reply", { status, response }]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
  }
}
