// A load generator as the bench holds it: a child process that takes one order at a time.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { type Measurement, type Order, type Pace, parseAnswer } from "./orders.ts";
import type { Server } from "./servers.ts";

const file = fileURLToPath(new URL("load.ts", import.meta.url));

export class Generator implements AsyncDisposable {
  readonly #server: Server;
  readonly #process: ChildProcess = fork(file);
  readonly #signal: AbortSignal;

  /** An order that is under way when `signal` aborts is given up. */
  constructor(server: Server, signal: AbortSignal) {
    this.#server = server;
    this.#signal = signal;
  }

  /** Opens and joins all sockets. Throws with the reason when one does not get in. */
  async open(channels: number, socketsPerChannel: number): Promise<void> {
    await this.#give({
      kind: "open",
      dialect: this.#server.dialect,
      channels: Array.from({ length: channels }, (_, index) => this.#server.channel(`bench-${index}`)),
      socketsPerChannel,
    });
  }

  /** Publishes for some seconds and measures. Throws when a socket was lost meanwhile. */
  async measure(pace: Pace, seconds: number): Promise<Measurement> {
    const done = await this.#give({ kind: "measure", pid: this.#server.pid, pace, seconds });
    if (done === "open") throw new Error("the load generator answered something else");
    return done;
  }

  async #give(order: Order): Promise<Measurement | "open"> {
    const ended = new AbortController();
    const onExit = (): void => ended.abort(new Error(`the load on ${this.#server.name} ended unexpectedly`));
    this.#process.once("exit", onExit);
    try {
      this.#process.send(order);
      const signal = AbortSignal.any([this.#signal, ended.signal]);
      const [message] = await once(this.#process, "message", { signal });
      const answer = parseAnswer(message);
      if ("error" in answer) throw new Error(`${this.#server.name}: ${answer.error}`);
      return answer.done;
    } catch (error) {
      throw ended.signal.aborted ? ended.signal.reason : error;
    } finally {
      this.#process.off("exit", onExit);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await gone;
  }
}
