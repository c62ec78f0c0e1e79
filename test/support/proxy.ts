// A TCP proxy in front of the stack: a network that a test can cut, or have swallow everything.
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

export class TcpProxy {
  /** Where clients connect instead. */
  readonly url: string;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;
  readonly #network: { up: boolean };

  private constructor(url: string, server: Server, sockets: Set<Socket>, network: { up: boolean }) {
    this.url = url;
    this.#server = server;
    this.#sockets = sockets;
    this.#network = network;
  }

  /** Starts a proxy to the port of `target`. */
  static async start(target: string): Promise<TcpProxy> {
    const { hostname, port } = new URL(target);
    const sockets = new Set<Socket>();
    const network = { up: true };
    const server = createServer((near) => {
      if (!network.up) return near.resetAndDestroy();
      const far = connect(Number(port), hostname);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from);
        from.on("data", (data) => to.write(data));
        from.on("end", () => to.end());
        // Whatever breaks one side breaks the other; "close" follows.
        from.on("error", () => to.destroy());
        from.on("close", () => {
          sockets.delete(from);
          to.destroy();
        });
      }
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port was given");
    return new TcpProxy(`http://127.0.0.1:${address.port}`, server, sockets, network);
  }

  /** Resets every connection on both sides, and lets nobody in until `restore`. */
  cut(): void {
    this.#network.up = false;
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Delivers nothing any more on the connections there are, and closes none: neither side can tell. */
  swallow(): void {
    for (const socket of this.#sockets) {
      socket.removeAllListeners("data");
      socket.on("data", () => {});
    }
  }

  /** Lets clients in again. */
  restore(): void {
    this.#network.up = true;
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }
}
