// A member of a channel: one real socket, and when it hears what. Frames are those of a stock client, version 2.0.0.
import { once } from "node:events";
import { WebSocket } from "ws";

const LIMIT_MS = 20_000;
const REF = "1";

/** Of the machine, the same in every process: unix milliseconds with fractions. */
export const now = (): number => performance.timeOrigin + performance.now();

export interface Place {
  /** The edge's shared socket, key included. */
  readonly url: string;
  readonly topic: string;
}

export class Member {
  readonly #ws: WebSocket;
  readonly #topic: string;
  readonly #awaited = new Map<string, (at: number) => void>();

  private constructor(ws: WebSocket, topic: string) {
    this.#ws = ws;
    this.#topic = topic;
    ws.on("message", (data: Buffer) => {
      const at = now();
      for (const [text, heard] of this.#awaited) if (data.includes(text)) heard(at);
    });
  }

  /** Connects and joins; resolves when the answer is there. */
  static async join({ url, topic }: Place, config: object = {}): Promise<Member> {
    const ws = new WebSocket(url, { perMessageDeflate: false });
    await once(ws, "open", { signal: AbortSignal.timeout(LIMIT_MS) });
    const member = new Member(ws, topic);
    const joined = member.hears('"status":"ok"');
    member.send("phx_join", { config });
    await joined;
    return member;
  }

  send(event: string, payload: object): void {
    this.#ws.send(JSON.stringify([REF, REF, this.#topic, event, payload]));
  }

  /** Resolves with the time at which a frame comes that holds a text. Rejects when none does for a long time. */
  hears(text: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const late = setTimeout(() => reject(new Error(`nothing came that holds ${text}`)), LIMIT_MS);
    this.#awaited.set(text, resolve);
    return promise.finally(() => {
      clearTimeout(late);
      this.#awaited.delete(text);
    });
  }

  /** Called with every frame. */
  onFrame(take: (data: Buffer) => void): void {
    this.#ws.on("message", take);
  }

  /** Keeps the socket from counting as idle, or as one that does not read. */
  beat(): void {
    if (this.#ws.readyState === WebSocket.OPEN) this.#ws.send('[null,"0","phoenix","heartbeat",{}]');
  }

  onClose(told: (code: number) => void): void {
    this.#ws.on("close", told);
  }

  [Symbol.dispose](): void {
    this.#ws.terminate();
  }
}
