// A real PostgreSQL for a test file: the stack's own, with a port and a home of its own, gone when stopped.
import { rm } from "node:fs/promises";
import { createServer } from "node:net";
import { Children } from "../../src/stack/children.ts";
import { Guard } from "../../src/stack/guard.ts";
import { embeddedUrl, postgresChild } from "../../src/stack/postgres.ts";
import { Report } from "../../src/stack/report.ts";
import { newHome } from "./stack.ts";

const PASSWORD = "postgres";

export interface TestPostgres {
  /** Connection string of the superuser, database `postgres`. */
  url: string;
  /** Stops (ending every session) and starts the server on the same data. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts PostgreSQL on a free port of loopback. Extra server settings as `{ name: value }`. */
export async function startPostgres(settings: Record<string, string> = {}): Promise<TestPostgres> {
  const { signal } = new AbortController();
  const [home, port] = [await newHome(), await freePort()];
  const guard = new Guard();
  const children = new Children(guard, new Report());
  const child = await postgresChild(home, port, PASSWORD, signal);
  const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  // Tests provoke errors; the server's word on them would drown the report.
  const spec = { ...child, args: [...child.args, ...options], shows: () => false };
  let server = await children.start(spec, signal);
  return {
    url: embeddedUrl(port, PASSWORD),
    async restart() {
      await server[Symbol.asyncDispose]();
      server = await children.start(spec, signal);
    },
    async stop() {
      await server[Symbol.asyncDispose]();
      await guard[Symbol.asyncDispose]();
      await rm(home, { recursive: true, force: true });
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
