// The processes of this machine, as far as tests ask: who is whose child.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
}

/** The living children of a process; those that ended and were not collected do not count. */
export function childrenOf(parent: number): ProcessInfo[] {
  return processes().filter((process) => process.parent === parent);
}

/** Whether a process still runs; one that ended and was not collected does not. */
export function isRunning(pid: number): boolean {
  return processes().some((process) => process.pid === pid);
}

/** The living processes whose command line holds this text. */
export function processesWith(text: string): ProcessInfo[] {
  return processes().filter(({ pid, command }) => pid !== process.pid && command.includes(text));
}

function processes(): ProcessInfo[] {
  if (!existsSync("/proc/self/stat")) return fromPs();
  return readdirSync("/proc").flatMap((name) => {
    try {
      // After the command in brackets: state, parent, …
      const [state, parent] = readFileSync(`/proc/${name}/stat`, "utf8")
        .replace(/^.*\) /s, "")
        .split(" ");
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ");
      return state === "Z" ? [] : [{ pid: Number(name), parent: Number(parent), command }];
    } catch {
      return [];
    }
  });
}

function fromPs(): ProcessInfo[] {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid=,command="], { encoding: "utf8" }).trim().split("\n");
  return lines.flatMap((line) => {
    const [, pid, parent, command] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    return command === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), command }];
  });
}
