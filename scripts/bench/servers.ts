// The servers that are compared: a bare Durable Object in a workerd of its own, and ours, the whole stack.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { stop as stopEsbuild, transform } from "esbuild";
import { z } from "zod";
import { childrenOf } from "../../test/support/processes.ts";
import { freePorts, startStack } from "../../test/support/stack.ts";

/** One way into one server. */
export interface Server {
  readonly name: string;
  /** The workerd process. */
  readonly pid: number;
  readonly dialect: "bare" | "phoenix";
  /** Where the sockets of a channel connect, and the topic they join there. */
  channel(name: string): { readonly url: string; readonly topic: string };
}

/** Servers that run, and how to stop them. */
export interface Running extends AsyncDisposable {
  readonly servers: readonly Server[];
}

const START_LIMIT_MS = 10_000;

/** Starts the bare object. */
export async function startBare(): Promise<Running> {
  const directory = await mkdtemp(join(tmpdir(), "nself-bench-"));
  const port = await freePorts(1);
  const source = await readFile(fileURLToPath(new URL("bare.ts", import.meta.url)), "utf8");
  const { code } = await transform(source, { loader: "ts", target: "es2024" });
  await stopEsbuild();
  await writeFile(join(directory, "bare.js"), code);
  await writeFile(join(directory, "bare.capnp"), bareConfig(port));

  const child = spawn(workerdBinary(), ["serve", join(directory, "bare.capnp")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let output = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    output = (output + chunk).slice(-2_000);
  });
  const exited = once(child, "exit");
  const kill = (): boolean => child.kill("SIGKILL");
  process.once("exit", kill);
  const stop = async (): Promise<void> => {
    process.off("exit", kill);
    kill();
    await exited;
    await rm(directory, { recursive: true, force: true });
  };
  const { pid } = child;
  if (pid === undefined || !(await answers(`http://127.0.0.1:${port}`))) {
    await stop();
    throw new Error(`the bare object did not start: ${output}`);
  }
  const channel = (name: string) => ({ url: `ws://127.0.0.1:${port}/${name}`, topic: name });
  return { servers: [{ name: "bare", pid, dialect: "bare", channel }], [Symbol.asyncDispose]: stop };
}

/** Any answer will do: a request that asks for no socket gets an error from the bare object. */
async function answers(url: string): Promise<boolean> {
  for (const giveUpAt = Date.now() + START_LIMIT_MS; Date.now() < giveUpAt; await sleep(20)) {
    try {
      await (await fetch(url)).text();
      return true;
    } catch {
      // Not yet.
    }
  }
  return false;
}

function workerdBinary(): string {
  return z.object({ default: z.string() }).parse(createRequire(import.meta.url)("workerd")).default;
}

function bareConfig(port: number): string {
  return `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "bare", worker = .bare)],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "bare")],
);

const bare :Workerd.Worker = (
  modules = [(name = "bare.js", esModule = embed "bare.js")],
  compatibilityDate = "2026-10-01",
  bindings = [(name = "ROOM", durableObjectNamespace = "Room")],
  durableObjectNamespaces = [(className = "Room", uniqueKey = "bench-bare-room", enableSql = true)],
  durableObjectStorage = (inMemory = void),
);
`;
}

/** Starts our stack. Its two ways in, the shared socket and the direct one, are two servers to the bench. */
export async function startOurs(): Promise<Running> {
  const stack = await startStack();
  const workerd = childrenOf(stack.pid).find(({ command }) => command.includes("workerd"));
  if (workerd === undefined) {
    await stack.stop();
    throw new Error("the stack runs without a workerd process");
  }
  const { pid } = workerd;
  const base = `${stack.url.replace(/^http/, "ws")}/realtime/v1`;
  const query = `apikey=${stack.anonKey}&vsn=2.0.0`;
  return {
    servers: [
      {
        name: "ours, shared",
        pid,
        dialect: "phoenix",
        channel: (name) => ({ url: `${base}/websocket?${query}`, topic: `realtime:${name}` }),
      },
      {
        name: "ours, direct",
        pid,
        dialect: "phoenix",
        // A channel of its own, so that no message goes to both.
        channel: (name) => ({
          url: `${base}/channels/direct-${name}/websocket?${query}`,
          topic: `realtime:direct-${name}`,
        }),
      },
    ],
    async [Symbol.asyncDispose]() {
      await stack.stop();
    },
  };
}
