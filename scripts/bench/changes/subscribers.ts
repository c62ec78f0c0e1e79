// Subscribers as the bench holds them: a child process with their sockets.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Answer, type Order, parseAnswer, type SocketPlan } from "./orders.ts";
import type { Subject } from "./subject.ts";

const file = fileURLToPath(new URL("sockets.ts", import.meta.url));

type Reading = Exclude<Answer, { error: string }>;

export class Subscribers implements AsyncDisposable {
  readonly #process: ChildProcess = fork(file);

  private constructor() {}

  /** Opens sockets and waits until every subscription to `table` stands. Rejects with the reason when one does not. */
  static async open({ stack }: Subject, table: string, sockets: SocketPlan[]): Promise<Subscribers> {
    const subscribers = new Subscribers();
    try {
      const url = `${stack.url.replace(/^http/, "ws")}/realtime/v1/websocket`;
      await subscribers.#give({ kind: "open", url, table, sockets });
      return subscribers;
    } catch (error) {
      await subscribers[Symbol.asyncDispose]();
      throw error;
    }
  }

  read(): Promise<Reading> {
    return this.#give({ kind: "read" });
  }

  reset(): Promise<Reading> {
    return this.#give({ kind: "reset" });
  }

  /** Waits until so many deliveries have come since the reset, or for `limitMs`. */
  async until(deliveries: number, limitMs: number): Promise<Reading> {
    for (const giveUpAt = Date.now() + limitMs; ; await sleep(20)) {
      const reading = await this.read();
      if (reading.deliveries >= deliveries || Date.now() > giveUpAt) return reading;
    }
  }

  async #give(order: Order): Promise<Reading> {
    this.#process.send(order);
    const [message] = await once(this.#process, "message");
    const answer = parseAnswer(message);
    if ("error" in answer) throw new Error(answer.error);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const gone = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await gone;
  }
}
