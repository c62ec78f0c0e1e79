// The stack without a terminal: started, found and stopped by another process.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { project, readConfig } from "./config.ts";
import { StackError } from "./errors.ts";
import { ownerOf } from "./home.ts";
import { commandOf } from "./processes.ts";
import { readStackFileIn, type StackFile } from "./stack-file.ts";

/** The stack gives up on each of its parts sooner. */
const START_LIMIT_MS = 120_000;
const STOP_LIMIT_MS = 30_000;
const LOOK_EVERY_MS = 50;

/** Absolute directory of the stack's state. A relative NSELF_HOME counts from where the user is. */
export function homeOf(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.NSELF_HOME) return resolve(environment.NSELF_HOME);
  const config = readConfig([]);
  return config === "help" ? join(project, ".nself") : config.home;
}

/** The stack that holds a home: its URL once it is ready, and the command line that it was started with. */
export function runningIn(home: string): { pid: number; url: string | undefined; args: string[] } | undefined {
  const pid = ownerOf(home);
  if (pid === undefined) return undefined;
  const { url, args = [] } = readStackFileIn(home) ?? {};
  return { pid, url, args };
}

/**
 * Starts the stack of a home and waits until it is ready.
 * @returns where it is, and what it warned of on the way
 * @throws StackError with what it said, when it ends instead
 */
export async function startStack(home: string, args: string[]): Promise<StackFile & { warnings: string[] }> {
  const child = spawn(process.execPath, [join(project, "src", "stack", "main.ts"), ...args], {
    cwd: project,
    env: { ...process.env, NSELF_HOME: home },
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const ended = once(child, "close").then(() => "ended" as const);
  try {
    for (const giveUpAt = Date.now() + START_LIMIT_MS; Date.now() < giveUpAt; ) {
      const file = readStackFileIn(home);
      if (file !== undefined && file.pid === child.pid) return { ...file, warnings: warningsIn(said) };
      if ((await Promise.race([ended, sleep(LOOK_EVERY_MS)])) === "ended") throw new StackError(asSaid(said));
    }
    child.kill("SIGTERM");
    throw new StackError(`the stack was not ready after ${START_LIMIT_MS / 1000} s`);
  } finally {
    // It lives on without us.
    child.stderr.destroy();
    child.unref();
  }
}

/** What the stack says that does not keep it from starting. */
function warningsIn(said: string): string[] {
  return said.split("\n").flatMap((line) => (line.startsWith("! ") ? [line.slice(2)] : []));
}

/** The stack's own words, without the marks that its terminal output has. */
function asSaid(text: string): string {
  return text.replaceAll(/^[✗!] /gmu, "").trim() || "the stack ended without a word";
}

/**
 * Stops the stack of a home, however it was started, and waits until all of it is gone.
 * @returns false when none ran
 * @throws StackError when it does not end
 */
export async function stopStack(home: string): Promise<boolean> {
  const pid = ownerOf(home);
  if (pid === undefined) return false;
  process.kill(pid, "SIGTERM");
  for (const giveUpAt = Date.now() + STOP_LIMIT_MS; ownerOf(home) === pid || commandOf(pid) !== undefined; ) {
    if (Date.now() > giveUpAt) throw new StackError(`process ${pid} does not end; what it does: nself realtime logs`);
    await sleep(LOOK_EVERY_MS);
  }
  return true;
}
