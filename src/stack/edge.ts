// The edge on this machine: the Worker bundled into one file, and the workerd process that serves it.

import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { build, stop as stopEsbuild } from "esbuild";
import { z } from "zod";
import type { ChildSpec } from "./children.ts";
import { bracketed, type Config, edgeUrl, project } from "./config.ts";
import { StackError } from "./errors.ts";

/** Binding, class and storage key of each kind of object. A key names the objects' files: changed, their data is lost. */
const namespaces = [
  { binding: "GATEWAY", className: "Gateway", uniqueKey: "nself-realtime-gateway" },
  { binding: "CHANNEL", className: "Channel", uniqueKey: "nself-realtime-channel" },
  { binding: "DIRECTORY", className: "Directory", uniqueKey: "nself-realtime-directory" },
];

const COMPATIBILITY_DATE = "2026-10-01";
const HEALTH_TIMEOUT_MS = 1_000;
/** Clients that come and go are news for the log, not for the terminal. */
const CONNECTION = /^\{"event":"(dis)?connected"/;

/** Bundles `src/edge/index.ts` for workerd. @throws Error with esbuild's messages */
export async function bundleEdge(home: string): Promise<void> {
  try {
    await build({
      entryPoints: [join(project, "src", "edge", "index.ts")],
      outfile: join(home, "edge", "index.js"),
      bundle: true,
      format: "esm",
      target: "es2024",
      conditions: ["workerd", "worker", "browser"],
      external: ["cloudflare:*", "node:*"],
      loader: { ".sql": "text" },
      logLevel: "silent",
    });
  } finally {
    // Its service process would otherwise stay as long as we do.
    await stopEsbuild();
  }
}

/**
 * The workerd process.
 * @param bindings the text bindings of the Worker by name; they travel in the environment, so no secret is in a file
 * @param ports where to listen, all on the configured host
 */
export function edgeChild(config: Config, bindings: Readonly<Record<string, string>>, ports: number[]): ChildSpec {
  const objects = join(config.home, "objects");
  mkdirSync(objects, { recursive: true, mode: 0o700 });
  const configPath = join(config.home, "edge", "workerd.capnp");
  writeFileSync(
    configPath,
    workerdConfig(
      Object.keys(bindings),
      ports.map((port) => `${bracketed(config.host)}:${port}`),
      objects,
    ),
  );
  return {
    name: "the edge",
    command: workerdBinary(),
    args: ["serve", configPath],
    env: { ...bindings },
    ready: () => isHealthy(`${edgeUrl(config)}/health`),
    shows: (line) => !CONNECTION.test(line),
    keeps: () => true,
    // Asked to stop, workerd finishes what it does and then waits for its sockets to close, which they do not.
    stop: { signal: "SIGTERM", graceMs: 1_000 },
    orphanSignal: "KILL",
  };
}

/** @throws StackError when the edge answers that it cannot work: its settings are read at the first request */
async function isHealthy(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(HEALTH_TIMEOUT_MS) }).catch(() => undefined);
  await response?.body?.cancel();
  if (response?.status === 500) throw new StackError("it answers that it cannot work; its own words:");
  return response?.ok ?? false;
}

/** The package exports the path of the binary itself; `bin/workerd` may be a script around it, with a pid of its own. */
function workerdBinary(): string {
  const load = createRequire(import.meta.url);
  return z.object({ default: z.string() }).parse(load("workerd")).default;
}

/** Cap'n Proto quotes strings as JSON does. */
const quote = JSON.stringify;

function workerdConfig(bindings: string[], addresses: string[], objects: string): string {
  const list = (entries: string[]): string => entries.map((entry) => `\n    ${entry},`).join("");
  return `# Written at every start. The objects' data lies under their uniqueKey: keep the keys.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "objects", disk = (path = ${quote(objects)}, writable = true)),
    # "private", because the listener answers SQL on this machine.
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [${list(addresses.map((address, i) => `(name = "http-${i}", address = ${quote(address)}, http = (), service = "edge")`))}
  ],
);

const edge :Workerd.Worker = (
  modules = [(name = "index.js", esModule = embed "index.js")],
  compatibilityDate = ${quote(COMPATIBILITY_DATE)},
  bindings = [${list([
    ...namespaces.map(
      ({ binding, className }) => `(name = ${quote(binding)}, durableObjectNamespace = ${quote(className)})`,
    ),
    ...bindings.map((name) => `(name = ${quote(name)}, fromEnvironment = ${quote(name)})`),
  ])}
  ],
  durableObjectNamespaces = [${list(
    namespaces.map(
      ({ className, uniqueKey }) =>
        `(className = ${quote(className)}, uniqueKey = ${quote(uniqueKey)}, enableSql = true)`,
    ),
  )}
  ],
  durableObjectStorage = (localDisk = "objects"),
);
`;
}
