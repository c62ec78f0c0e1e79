// The listener on this machine, as a child of the stack.

import { join } from "node:path";
import type { ChildSpec } from "./children.ts";
import { type Config, edgeUrl, project } from "./config.ts";

const ANSWER_TIMEOUT_MS = 1_000;

/** Where the edge sends its SQL. */
export function sqlUrl(config: Config): string {
  return `${url(config)}/sql`;
}

export function listenerChild(config: Config, databaseUrl: string, secret: string): ChildSpec {
  return {
    name: "the listener",
    command: process.execPath,
    args: [join(project, "src", "listener", "main.ts")],
    env: {
      // In a terminal, what goes well is noise; a level that was set on purpose wins.
      REALTIME_LOG_LEVEL: "warn",
      ...config.listenerSettings,
      PATH: process.env.PATH ?? "",
      DATABASE_URL: databaseUrl,
      REALTIME_EDGE_URL: edgeUrl(config),
      REALTIME_LISTENER_SECRET: secret,
      REALTIME_LISTENER_HOST: "127.0.0.1",
      REALTIME_LISTENER_PORT: String(config.listenerPort.number),
    },
    ready: () => answers(`${url(config)}/health`),
    shows: () => true,
    keeps: () => true,
    stop: { signal: "SIGTERM", graceMs: 5_000 },
    orphanSignal: "KILL",
  };
}

function url(config: Config): string {
  return `http://127.0.0.1:${config.listenerPort.number}`;
}

/** Any answer will do: beside a database that another listener serves, this one rightly says that it stands by. */
async function answers(health: string): Promise<boolean> {
  try {
    const response = await fetch(health, { signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
    await response.body?.cancel();
    return true;
  } catch {
    return false;
  }
}
