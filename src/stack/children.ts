// The child processes of the stack: started, started again when they die, and stopped in an orderly way.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { StackError } from "./errors.ts";
import type { Guard } from "./guard.ts";
import type { Report } from "./report.ts";

export interface ChildSpec {
  /** What people call it: "the edge". */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** The whole environment; nothing of ours is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** The user to run as; only root may choose another. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /**
   * Whether it answers; asked until it does, and must come back within a second or so. Throws StackError when the answer
   * is that it cannot work, which no waiting mends.
   */
  ready(): Promise<boolean>;
  /** Which lines of its output are worth a person's attention once it runs. */
  shows(line: string): boolean;
  /** Which others are kept in the log. */
  keeps(line: string): boolean;
  /** The signal that has it finish, and for how long it may take before it is killed. */
  readonly stop: { readonly signal: NodeJS.Signals; readonly graceMs: number };
  /** The signal that ends it safely when nobody is there to wait for it. */
  readonly orphanSignal: "INT" | "KILL";
}

const START_LIMIT_MS = 30_000;
const PROBE_EVERY_MS = 20;
const BACKOFF_MS = { first: 100, longest: 5_000 };
/** After this long in good health, the next failure counts as the first again. */
const HEALTHY_MS = 10_000;
const KEPT_LINES = 20;
const LONGEST_LINE = 2_000;

export class Children {
  readonly #guard: Guard;
  readonly #report: Report;
  readonly #all = new Set<Child>();

  constructor(guard: Guard, report: Report) {
    this.#guard = guard;
    this.#report = report;
  }

  /**
   * Starts a child and waits until it answers. From then on it is started again whenever it dies, until it is disposed of.
   * @throws StackError with its last lines when it dies or stays silent instead; the reason of the signal when that aborts
   */
  async start(spec: ChildSpec, signal: AbortSignal): Promise<AsyncDisposable> {
    const child = new Child(spec, this.#guard, this.#report);
    this.#all.add(child);
    try {
      await child.start(signal);
      return child;
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Ends every child without ceremony. A stop that is under way then has nothing to wait for. */
  kill(): void {
    for (const child of this.#all) child.kill();
  }
}

class Child implements AsyncDisposable {
  readonly #spec: ChildSpec;
  readonly #guard: Guard;
  readonly #report: Report;
  readonly #stopping = new AbortController();
  #process: ChildProcess | undefined;
  #isUp = false;
  #lastLines: string[] = [];

  constructor(spec: ChildSpec, guard: Guard, report: Report) {
    this.#spec = spec;
    this.#guard = guard;
    this.#report = report;
  }

  async start(signal: AbortSignal): Promise<void> {
    const process = this.#spawn();
    await this.#untilReady(process, AbortSignal.any([signal, this.#stopping.signal]));
    this.#isUp = true;
    void this.#keepAlive(process);
  }

  #spawn(): ChildProcess {
    const { command, args, env, user } = this.#spec;
    this.#lastLines = [];
    // In a session of its own, so that Ctrl+C in the terminal reaches us alone and we decide who stops when.
    const process = spawn(command, args, { env, ...user, detached: true, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [process.stdout, process.stderr]) {
      createInterface({ input: stream }).on("line", (line) => this.#heard(line.slice(0, LONGEST_LINE)));
    }
    const { pid } = process;
    if (pid !== undefined) {
      this.#guard.watch(pid, this.#spec.orphanSignal);
      process.once("exit", () => this.#guard.forget(pid));
    }
    process.once("error", (error) => this.#heard(error.message));
    this.#process = process;
    return process;
  }

  #heard(line: string): void {
    this.#lastLines = [...this.#lastLines.slice(1 - KEPT_LINES), line];
    if (!this.#isUp || this.#stopping.signal.aborted) return;
    const shown = this.#spec.shows(line);
    if (shown || this.#spec.keeps(line)) this.#report.childSays(this.#spec.name, line, shown);
  }

  /** @throws StackError, or the reason of the signal */
  async #untilReady(process: ChildProcess, signal: AbortSignal): Promise<void> {
    let ended: string | undefined;
    // "close" comes after the last line of output, which is the line that says why.
    process.once("close", (code, by) => {
      ended = by ?? `code ${code}`;
    });
    let refusal: string | undefined;
    const isReady = (): Promise<boolean> =>
      this.#spec.ready().catch((error: unknown) => {
        refusal = String(error instanceof Error ? error.message : error);
        process.kill("SIGKILL");
        return false;
      });
    const giveUpAt = Date.now() + START_LIMIT_MS;
    while (!(await isReady()) || hasEnded(process)) {
      signal.throwIfAborted();
      if (ended !== undefined) throw this.#failure(refusal ?? `it ended with ${ended}`);
      if (Date.now() > giveUpAt) throw this.#failure(`it gave no sign of life for ${START_LIMIT_MS / 1000} s`);
      await sleep(PROBE_EVERY_MS);
    }
  }

  #failure(what: string): StackError {
    return new StackError([`${this.#spec.name} did not start: ${what}`, ...this.#lastLines].join("\n  "));
  }

  async #keepAlive(first: ChildProcess): Promise<void> {
    const { signal } = this.#stopping;
    const { name } = this.#spec;
    let process = first;
    let failures = 0;
    for (;;) {
      const upSince = Date.now();
      if (!hasEnded(process)) await once(process, "exit");
      if (signal.aborted) return;
      failures = Date.now() - upSince > HEALTHY_MS ? 1 : failures + 1;
      const delay = Math.min(BACKOFF_MS.first * 2 ** (failures - 1), BACKOFF_MS.longest);
      const how = process.signalCode ?? `code ${process.exitCode}`;
      this.#report.warn(`${name} ended unexpectedly (${how}), starting it again in ${delay} ms`);
      try {
        await sleep(delay, undefined, { signal });
        process = this.#spawn();
        await this.#untilReady(process, signal);
        this.#report.warn(`${name} runs again`);
      } catch (error) {
        if (signal.aborted) return;
        this.#report.warn(error instanceof StackError ? error.message : String(error));
        process.kill("SIGKILL");
      }
    }
  }

  kill(): void {
    this.#stopping.abort();
    this.#process?.kill("SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    const process = this.#process;
    if (process === undefined || hasEnded(process)) return;
    const gone = once(process, "exit");
    const { signal, graceMs } = this.#spec.stop;
    const mercy = setTimeout(() => process.kill("SIGKILL"), graceMs);
    process.kill(signal);
    await gone;
    clearTimeout(mercy);
  }
}

function hasEnded(process: ChildProcess): boolean {
  return process.pid === undefined || process.exitCode !== null || process.signalCode !== null;
}
