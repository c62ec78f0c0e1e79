// The whole stack for a test: the real thing, on free ports, in a home of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Guard } from "../../src/stack/guard.ts";
import { readStackFileIn, type StackFile } from "../../src/stack/stack-file.ts";
import { childrenOf } from "./processes.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const START_LIMIT_MS = 30_000;
const RESTART_LIMIT_MS = 15_000;
const ATTEMPTS = 3;

export interface StackOptions {
  /** Settings, on top of free ports and the home; nothing of the caller's own REALTIME_* settings is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  /** A home to start in again; without it a new one is made, and removed at the end. */
  readonly home?: string;
}

/** A process of `src/stack/main.ts`, however it fares. */
export interface StackProcess {
  readonly pid: number;
  readonly home: string;
  /** Resolves with the exit code when the process has ended, with the signal's name if one ended it. */
  readonly exited: Promise<number | string>;
  /** Everything it has written, stdout and stderr. */
  logs(): string;
  signal(name: NodeJS.Signals): void;
}

export interface TestStack extends StackFile {
  readonly home: string;
  /** Stops everything, and removes the home if it was made for this stack. @returns the exit code */
  stop(): Promise<number | string>;
  /** Kills the edge with SIGKILL and waits until it has been started again and answers. */
  killEdge(): Promise<void>;
  /** The same for the listener. */
  killListener(): Promise<void>;
  /** Has PostgreSQL shut down at once, as in a crash, and waits until it has recovered. */
  crashPostgres(): Promise<void>;
  logs(): string;
}

/** Tests send faster than people do. Those of the limits themselves set them. */
const noRates = {
  REALTIME_CONNECTIONS_PER_MINUTE: "0",
  REALTIME_MESSAGES_PER_MINUTE: "0",
  REALTIME_PRESENCE_PER_MINUTE: "0",
  REALTIME_JOINS_PER_MINUTE: "0",
};

/** Starts a stack and waits until it is ready. Several at once are fine. */
export async function startStack({ env = {}, home }: StackOptions = {}): Promise<TestStack> {
  const directory = home ?? (await newHome());
  for (let attempt = 1; ; attempt += 1) {
    const stack = spawnStack({
      home: directory,
      env: { REALTIME_PORT: String(await freePorts()), ...noRates, ...env },
    });
    const file = await whenReady(stack);
    if (file) return testStack(stack, file, home === undefined);
    // Between the look and the start, another test may have taken the port.
    if (attempt === ATTEMPTS || !stack.logs().includes("is taken")) throw new Error(`no stack:\n${stack.logs()}`);
  }
}

/** Starts the process only, on the ports that `env` says. */
export function spawnStack({ env, home }: Required<StackOptions>, args: string[] = []): StackProcess {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("REALTIME_"));
  const child: ChildProcess = spawn(join(project, "node_modules/.bin/node"), ["src/stack/main.ts", ...args], {
    cwd: project,
    env: { ...Object.fromEntries(inherited), DATABASE_URL: "", ...env, NSELF_HOME: home },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let logs = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      logs += chunk;
    });
  }
  const { pid } = child;
  if (pid === undefined) throw new Error("the project's Node could not be started: run npm ci");
  // A test run that is broken off, even by SIGKILL, takes its stacks along.
  const guard = new Guard();
  guard.watch(pid, "TERM");
  const exited = once(child, "close").then(async ([code, signal]: (number | string | null)[]) => {
    guard.forget(pid);
    await guard[Symbol.asyncDispose]();
    return code ?? signal ?? "unknown";
  });
  return { pid, home, exited, logs: () => logs, signal: (name) => child.kill(name) };
}

/** A directory that PostgreSQL's user can enter too when the tests run as root. */
export async function newHome(): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), "nself-stack-"));
  await chmod(home, 0o755);
  return home;
}

/** The first of `count` free ports in a row, below the range from which systems take ports for outgoing connections. */
export async function freePorts(count = 3): Promise<number> {
  for (;;) {
    const first = 22_000 + Math.floor(Math.random() * 10_000);
    const ports = Array.from({ length: count }, (_, i) => first + i);
    if ((await Promise.all(ports.map(isFree))).every(Boolean)) return first;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}

/** @returns undefined when the process ended instead */
async function whenReady(stack: StackProcess): Promise<StackFile | undefined> {
  let ended = false;
  void stack.exited.then(() => {
    ended = true;
  });
  for (const giveUpAt = Date.now() + START_LIMIT_MS; Date.now() < giveUpAt; await sleep(20)) {
    if (ended) return undefined;
    const file = readStackFileIn(stack.home);
    // The file is there a moment before the last lines are.
    if (file?.pid === stack.pid && stack.logs().includes("Ctrl+C stops everything")) return file;
  }
  stack.signal("SIGKILL");
  await stack.exited;
  return undefined;
}

function testStack(stack: StackProcess, file: StackFile, ownsHome: boolean): TestStack {
  return {
    ...file,
    home: stack.home,
    logs: stack.logs,
    async stop() {
      stack.signal("SIGTERM");
      const code = await stack.exited;
      if (ownsHome) await rm(stack.home, { recursive: true, force: true });
      return code;
    },
    killEdge: () => killAndWait(stack, "workerd", "the edge runs again"),
    killListener: () => killAndWait(stack, "listener/main.ts", "the listener runs again"),
    crashPostgres: () => killAndWait(stack, "postgres -D", "PostgreSQL runs again", "SIGQUIT"),
  };
}

async function killAndWait(
  stack: StackProcess,
  command: string,
  comeback: string,
  signal: NodeJS.Signals = "SIGKILL",
): Promise<void> {
  const find = (): number | undefined => childrenOf(stack.pid).find((child) => child.command.includes(command))?.pid;
  const pid = find();
  if (pid === undefined) throw new Error(`${command} is not running:\n${stack.logs()}`);
  const before = stack.logs().length;
  process.kill(pid, signal);
  for (
    const giveUpAt = Date.now() + RESTART_LIMIT_MS;
    !stack.logs().slice(before).includes(comeback);
    await sleep(10)
  ) {
    if (Date.now() > giveUpAt) throw new Error(`${command} was not started again:\n${stack.logs()}`);
  }
}
