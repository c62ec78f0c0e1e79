// The home: the directory that holds all state of one stack, and the claim that only one stack uses it at a time.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { StackError } from "./errors.ts";
import { commandOf } from "./processes.ts";
import { readStackFileIn, removeStackFile } from "./stack-file.ts";

export interface Claim extends Disposable {
  /** Whether the stack before us was killed: its children may need a moment to follow. */
  readonly afterKill: boolean;
}

/**
 * Makes the directory if need be and claims it for this process.
 * @throws StackError when it cannot be made or written in, or when a living stack holds it, saying where it answers
 */
export function claimHome(home: string): Claim {
  attempt(`create ${home}`, () => makeDirectory(home));
  const path = pidPath(home);
  const afterKill = !attempt(`write in ${home}`, () => tryWrite(path));
  if (afterKill) {
    const owner = ownerOf(home);
    if (owner !== undefined) {
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

const pidPath = (home: string): string => join(home, "stack.pid");

/** The process of the living stack that holds a home, if one does: started, starting or stopping. */
export function ownerOf(home: string): number | undefined {
  if (!existsSync(pidPath(home))) return undefined;
  const pid = Number(readFileSync(pidPath(home), "utf8"));
  return commandOf(pid)?.includes("stack/main.ts") ? pid : undefined;
}

/**
 * Makes a directory and what is missing above it. Node's own recursive mkdir never returns where a file system says that
 * there is no such directory and lets nobody make it, as /proc does.
 */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  makeDirectory(dirname(path));
  mkdirSync(path);
}

/** @throws StackError naming the setting, when the file system refuses */
function attempt<T>(what: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : error;
    throw new StackError(`NSELF_HOME: cannot ${what} (${code}). Choose a directory that can be written.`);
  }
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
