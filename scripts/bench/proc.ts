// What the kernel knows of a process: the CPU time it has used and the memory it holds. Linux only.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { childrenOf } from "../../test/support/processes.ts";

const microsecondsPerTick = 1_000_000 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** CPU time of all threads so far, user and system, in microseconds; its grain is a tick, 10 ms on most machines. */
export function cpuOf(pid: number): number {
  return timesOf(pid).own;
}

/** The same of a process, its children, and those of its children that have ended. */
export function cpuOfTree(pid: number): number {
  const living = childrenOf(pid).map((child) => {
    try {
      return cpuOf(child.pid);
    } catch {
      // It has ended between the look and the reading.
      return 0;
    }
  });
  const { own, ended } = timesOf(pid);
  return living.reduce((sum, cpu) => sum + cpu, own + ended);
}

function timesOf(pid: number): { own: number; ended: number } {
  // Counted from after the command's name in brackets: utime is the 12th field, stime, cutime and cstime follow.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  const [utime, stime, cutime, cstime] = fields.slice(11, 15).map((ticks) => Number(ticks) * microsecondsPerTick);
  return { own: (utime ?? 0) + (stime ?? 0), ended: (cutime ?? 0) + (cstime ?? 0) };
}

/** Resident memory, bytes. */
export function memoryOf(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}
