// The stack's log: what it and its children say, in a file of its home, for whoever was not looking.

import { appendFileSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";

/** Two files of this size at most: the newest lines, and those before them. */
const MAX_BYTES = 5_000_000;

export function logPath(home: string): string {
  return join(home, "stack.log");
}

export class LogFile {
  readonly #path: string;
  #bytes: number;

  constructor(home: string) {
    this.#path = logPath(home);
    this.#bytes = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Adds a line: when, who, what. A full disk takes no stack down. */
  write(who: string, text: string): void {
    const line = `${new Date().toISOString().slice(0, 19).replace("T", " ")} ${who}: ${text.trimEnd()}\n`;
    try {
      if (this.#bytes > MAX_BYTES) {
        renameSync(this.#path, `${this.#path}.1`);
        this.#bytes = 0;
      }
      appendFileSync(this.#path, line, { mode: 0o600 });
      this.#bytes += Buffer.byteLength(line);
    } catch {
      // What cannot be kept was shown all the same.
    }
  }
}
