// What the kernel knows of a process: the CPU time it has used and the memory it holds. Linux only.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

const microsecondsPerTick = 1_000_000 / Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }));

/** CPU time of all threads so far, user and system, in microseconds; its grain is a tick, 10 ms on most machines. */
export function cpuOf(pid: number): number {
  // Counted from after the command's name in brackets: utime is the 12th field, stime the 13th.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * microsecondsPerTick;
}

/** Resident memory, bytes. */
export function memoryOf(pid: number): number {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}
