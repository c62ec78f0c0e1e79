// A relay in front of the stack that reads along: every frame of every socket, with its time. HTTP passes through.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { Readable } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";

export interface RelayedFrame {
  readonly from: "client" | "server";
  readonly text: string;
  /** Milliseconds of `performance.now()`. */
  readonly at: number;
}

export class Relay implements AsyncDisposable {
  /** Where clients connect instead. */
  url = "";
  readonly frames: RelayedFrame[] = [];
  /** When sockets were asked for, refused ones too; milliseconds of `performance.now()`. */
  readonly asked: number[] = [];
  /** While true, whoever asks for a socket is turned away. */
  refuses = false;
  readonly #target: string;
  readonly #sockets = new WebSocketServer({ noServer: true });
  readonly #server: Server;

  private constructor(target: string) {
    this.#target = target;
    this.#server = createServer(async (request, response) => {
      const answer = await fetch(`${target}${request.url}`, {
        method: request.method ?? "GET",
        headers: passedOn(request),
        ...(request.method === "GET" ? {} : { body: Readable.toWeb(request), duplex: "half" }),
      });
      response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "text/plain" });
      response.end(Buffer.from(await answer.arrayBuffer()));
    });
    this.#server.on("upgrade", (request, socket, head) => {
      this.asked.push(performance.now());
      if (this.refuses) socket.destroy();
      else this.#sockets.handleUpgrade(request, socket, head, (near) => this.#join(near, request.url ?? "/"));
    });
  }

  /** Starts a relay to the stack at `target`. */
  static async start(target: string): Promise<Relay> {
    const relay = new Relay(target);
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    const address = relay.#server.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    relay.url = `http://127.0.0.1:${address.port}`;
    return relay;
  }

  #join(near: WebSocket, path: string): void {
    const far = new WebSocket(`${this.#target.replace("http", "ws")}${path}`);
    const early: string[] = [];
    const pass = (from: RelayedFrame["from"], to: WebSocket, text: string): void => {
      this.frames.push({ from, text, at: performance.now() });
      to.send(text);
    };
    near.on("message", (data) => {
      if (far.readyState === WebSocket.OPEN) pass("client", far, String(data));
      else early.push(String(data));
    });
    far.on("open", () => {
      for (const text of early) pass("client", far, text);
    });
    far.on("message", (data) => pass("server", near, String(data)));
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on("close", () => other.terminate());
      one.on("error", () => other.terminate());
    }
  }

  /** Breaks every socket, without a goodbye. */
  drop(): void {
    for (const socket of this.#sockets.clients) socket.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.drop();
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

function passedOn({ headers }: IncomingMessage): Record<string, string> {
  const names = ["authorization", "apikey", "content-type"];
  return Object.fromEntries(
    names.flatMap((name) => (headers[name] === undefined ? [] : [[name, String(headers[name])]])),
  );
}
