// The home: the directory that holds all state of one stack, and the claim that only one stack uses it at a time.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StackError } from "./errors.ts";
import { commandOf } from "./processes.ts";
import { readStackFileIn, removeStackFile } from "./stack-file.ts";

export interface Claim extends Disposable {
  /** Whether the stack before us was killed: its children may need a moment to follow. */
  readonly afterKill: boolean;
}

/**
 * Makes the directory if need be and claims it for this process.
 * @throws StackError when a living stack holds it, saying where it answers
 */
export function claimHome(home: string): Claim {
  mkdirSync(home, { recursive: true });
  const path = join(home, "stack.pid");
  const afterKill = !tryWrite(path);
  if (afterKill) {
    const owner = Number(readFileSync(path, "utf8"));
    if (commandOf(owner)?.includes("stack/main.ts")) {
      const url = readStackFileIn(home)?.url ?? "it is still starting";
      throw new StackError(
        `A stack already runs in ${home}: ${url} (process ${owner}).\nStop it first, or set NSELF_HOME to another directory.`,
      );
    }
    rmSync(path, { force: true });
    removeStackFile(home);
    if (!tryWrite(path)) throw new StackError(`Another stack is just starting in ${home}.`);
  }
  return { afterKill, [Symbol.dispose]: () => rmSync(path, { force: true }) };
}

/** @returns false when the file was there already */
function tryWrite(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: "wx" });
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}
