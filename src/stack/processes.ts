// What is known of processes that are not our children: a pid left in a file may be another's by now.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

/** The command line of a living process, with spaces between its arguments; undefined when there is none. */
export function commandOf(pid: number): string | undefined {
  try {
    const command = existsSync("/proc/self/cmdline")
      ? readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
      : execFileSync("ps", ["-o", "command=", "-p", String(pid)], { encoding: "utf8" });
    // A zombie has a pid and no command line.
    return command.trim() || undefined;
  } catch {
    return undefined;
  }
}
