// Starts the listener as its own process, the way a user runs it.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const entry = fileURLToPath(new URL("../../src/listener/main.ts", import.meta.url));
const node = fileURLToPath(new URL("../../node_modules/.bin/node", import.meta.url));

export const secret = "a-secret-of-the-listener-tests-alone";

export interface ListenerProcess {
  port: number;
  /** Lines of its log so far. */
  log: string[];
  /** Sends the signal and resolves with the exit code, null when the signal ended it. */
  end(signal: "SIGTERM" | "SIGKILL"): Promise<number | null>;
  /** Stops the process in its tracks, or lets it go on. */
  freeze(frozen: boolean): void;
  health(): Promise<{ status: number; body: Record<string, unknown> }>;
}

/** Runs the listener and resolves when it said that it is ready. */
export async function startListener(
  databaseUrl: string,
  edgeUrl: string,
  settings: Record<string, string> = {},
): Promise<ListenerProcess> {
  const child = run({
    DATABASE_URL: databaseUrl,
    REALTIME_EDGE_URL: edgeUrl,
    REALTIME_LISTENER_SECRET: secret,
    REALTIME_LISTENER_PORT: "0",
    ...settings,
  });
  const log: string[] = [];
  if (!child.stdout || !child.stderr) throw new Error("the listener has no output");
  createInterface(child.stderr).on("line", (line) => log.push(line));
  const exited = once(child, "exit").then(([code]) => (typeof code === "number" ? code : null));
  const ready = once(createInterface(child.stdout), "line").then(([line]) => JSON.parse(String(line)));
  const first = await Promise.race([ready, exited]);
  if (typeof first?.port !== "number") throw new Error(`the listener ended: ${log.join("\n")}`);
  return {
    port: first.port,
    log,
    end: async (signal) => {
      child.kill(signal);
      return exited;
    },
    freeze: (frozen) => void child.kill(frozen ? "SIGSTOP" : "SIGCONT"),
    health: async () => {
      const response = await fetch(`http://127.0.0.1:${first.port}/health`);
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    },
  };
}

/** Runs the listener with exactly these settings until it ends by itself. */
export async function runListener(settings: Record<string, string>): Promise<{ code: number | null; stderr: string }> {
  const child = run(settings);
  let stderr = "";
  child.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, "close");
  return { code, stderr };
}

function run(settings: Record<string, string>): ChildProcess {
  return spawn(node, [entry], { env: { PATH: process.env.PATH, ...settings }, stdio: ["ignore", "pipe", "pipe"] });
}

/** Resolves once `look` gives something true; fails after `patience` milliseconds, saying what was awaited. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  patience = 10_000,
): Promise<Exclude<T, false | null | undefined>> {
  const deadline = Date.now() + patience;
  for (;;) {
    const seen = await look();
    if (seen !== false && seen !== null && seen !== undefined) return seen as Exclude<T, false | null | undefined>;
    if (Date.now() > deadline) throw new Error(`waited ${patience} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
