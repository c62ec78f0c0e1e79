// Commands on the stack of this machine: start, stop, restart, logs.
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, InvalidArgumentError } from "commander";
import { logPath } from "../../stack/log-file.ts";
import { positive } from "../arguments.ts";
import { CliError, EXIT } from "../errors.ts";
import { line, progress, warning } from "../output.ts";
import { waiting } from "../spinner.ts";

const DEFAULT_LINES = 50;
const LOOK_EVERY_MS = 200;
/** From how far back the newest lines are read. */
const TAIL_BYTES = 1_000_000;

/** Adds start, stop, restart and logs. */
export function stackCommands(realtime: Command): void {
  const port = ["--port <port>", "where clients connect, the same as REALTIME_PORT", portNumber] as const;
  realtime
    .command("start")
    .description("start everything on this machine in the background, and wait until it is ready")
    .option(...port)
    .action(start);
  realtime.command("stop").description("stop what runs on this machine, and wait until it is gone").action(stop);
  realtime
    .command("restart")
    .description("stop and start again; without --port, on the port that start was given, else where the settings say")
    .option(...port)
    .action(restart);
  realtime
    .command("logs")
    .description("show what the stack on this machine has logged: who came and went, and what failed")
    .option("-f, --follow", "go on until Ctrl+C")
    .option("-n, --lines <number>", `how many lines (default: ${DEFAULT_LINES})`, positive)
    .action(logs);
}

function portNumber(value: string): string {
  if (!/^\d{1,5}$/.test(value) || Number(value) < 1 || Number(value) > 65_535) {
    throw new InvalidArgumentError("It must be a port number, from 1 to 65535.");
  }
  return value;
}

/** The stack's own code, loaded for these commands alone; what it says to people becomes ours. */
async function stack<T>(work: (background: typeof import("../../stack/background.ts")) => Promise<T>): Promise<T> {
  const { StackError } = await import("../../stack/errors.ts");
  try {
    return await work(await import("../../stack/background.ts"));
  } catch (error) {
    throw error instanceof StackError ? new CliError(error.message, { cause: error }) : error;
  }
}

function start({ port }: { port?: string }): Promise<void> {
  return startWith(port === undefined ? [] : ["--port", port]);
}

function startWith(args: string[]): Promise<void> {
  return stack(async ({ homeOf, runningIn, startStack }) => {
    const home = homeOf();
    const running = runningIn(home);
    if (running !== undefined) {
      progress(`It runs already: ${running.url ?? "still starting"} (process ${running.pid})`);
      return;
    }
    const start = () => startStack(home, args);
    const { warnings } = await waiting("Starting...", start, ready);
    for (const text of warnings) warning(text);
  });
}

function ready({ url, pid }: { url: string; pid: number }): string {
  return `Ready at ${url} (process ${pid}). To stop it: nself realtime stop`;
}

function stop(): Promise<void> {
  return stack(async ({ homeOf, runningIn, stopStack }) => {
    const home = homeOf();
    if (runningIn(home) === undefined) {
      progress(`Nothing runs in ${home}`);
      return;
    }
    await waiting(
      "Stopping...",
      () => stopStack(home),
      () => "Stopped",
    );
  });
}

async function restart({ port }: { port?: string }): Promise<void> {
  const before = await stack(async ({ homeOf, runningIn }) => runningIn(homeOf())?.args ?? []);
  await stop();
  await startWith(port === undefined ? before : ["--port", port]);
}

async function logs({ follow, lines }: { follow?: boolean; lines?: string }): Promise<void> {
  const home = await stack(async ({ homeOf }) => homeOf());
  const path = logPath(home);
  if (!existsSync(path)) {
    throw new CliError(
      `there is no log in ${home}: it begins with the stack's first start (nself realtime start). ` +
        "The log of an edge on Cloudflare: npx wrangler tail",
      { exit: EXIT.failure },
    );
  }
  let at = await showTail(path, Number(lines ?? DEFAULT_LINES));
  if (!follow) return;
  const end = new AbortController();
  const stopped = () => end.abort();
  process.once("SIGINT", stopped);
  process.once("SIGTERM", stopped);
  while (!end.signal.aborted) {
    at = await showFrom(path, at).catch((error: unknown) => {
      // The full one was just put aside, and nothing has been written since.
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return 0;
      throw error;
    });
    await sleep(LOOK_EVERY_MS, undefined, { signal: end.signal }).catch(() => undefined);
  }
}

/** Shows the newest lines, and answers where the file ends. */
async function showTail(path: string, count: number): Promise<number> {
  const size = await sizeOf(path);
  const { text, end } = await read(path, Math.max(0, size - TAIL_BYTES));
  for (const logged of text.split("\n").slice(0, -1).slice(-count)) line(logged);
  return end;
}

/** Shows the whole lines after `at`, and answers where they end. A file that is shorter now has begun anew. */
async function showFrom(path: string, at: number): Promise<number> {
  const size = await sizeOf(path);
  if (size === at) return at;
  const { text, end } = await read(path, size < at ? 0 : at);
  for (const logged of text.split("\n").slice(0, -1)) line(logged);
  return end;
}

async function sizeOf(path: string): Promise<number> {
  await using file = await open(path);
  return (await file.stat()).size;
}

/** Text of whole lines from a byte on, and the byte where they end. */
async function read(path: string, from: number): Promise<{ text: string; end: number }> {
  await using file = await open(path);
  const { size } = await file.stat();
  const buffer = Buffer.alloc(Math.max(0, size - from));
  const { bytesRead } = await file.read(buffer, 0, buffer.length, from);
  const whole = buffer.subarray(0, buffer.subarray(0, bytesRead).lastIndexOf("\n") + 1);
  return { text: whole.toString("utf8"), end: from + whole.length };
}
