// The guard: ends the children when this process dies without having done it, by SIGKILL for example.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

// Reads lines such as `KILL 101 INT 102`, each replacing the one before. When the pipe closes, whoever writes to it is
// gone, and the last line says what is left to do. A shell, because it costs a megabyte where a Node process costs forty.
const script = `
while read -r line; do last=$line; done
set -- $last
while [ $# -gt 1 ]; do kill -s "$1" "$2" 2>/dev/null; shift 2; done
`;

export class Guard {
  // In a session of its own: neither Ctrl+C nor a closed terminal reaches it.
  readonly #shell: ChildProcess = spawn("/bin/sh", ["-c", script], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  readonly #orders = new Map<number, string>();

  constructor() {
    // Without its shell there is no guard, and still a stack; a broken pipe is no reason to end it.
    this.#shell.on("error", () => undefined);
    this.#shell.stdin?.on("error", () => undefined);
  }

  /** Has the process ended with this signal (such as `KILL`) should we die first. */
  watch(pid: number, signal: string): void {
    this.#orders.set(pid, signal);
    this.#tell();
  }

  /** To be called as soon as the process has ended: its pid may be another's next. */
  forget(pid: number): void {
    this.#orders.delete(pid);
    this.#tell();
  }

  #tell(): void {
    this.#shell.stdin?.write(`${[...this.#orders].map(([pid, signal]) => `${signal} ${pid}`).join(" ")}\n`);
  }

  /** Dismisses the guard. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#shell.pid === undefined || this.#shell.exitCode !== null || this.#shell.signalCode !== null) return;
    const gone = once(this.#shell, "exit");
    this.#shell.stdin?.end("\n");
    await gone;
  }
}
