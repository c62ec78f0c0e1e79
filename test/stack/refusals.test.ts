// Starts that cannot succeed: each says what is wrong and how to put it right, and leaves nothing running.

import { once } from "node:events";
import { rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { processesWith } from "../support/processes.ts";
import { freePorts, newHome, spawnStack } from "../support/stack.ts";

let home: string;
beforeEach(async () => {
  home = await newHome();
});
afterEach(async () => {
  expect(processesWith(home)).toEqual([]);
  await rm(home, { recursive: true });
});

test.each([
  [0, "REALTIME_PORT"],
  [1, "REALTIME_LISTENER_PORT"],
  [2, "REALTIME_POSTGRES_PORT"],
])("a taken port (number %i of three): names the port and %s", async (offset, setting) => {
  const first = await freePorts();
  const occupant = createServer().listen(first + offset, "127.0.0.1");
  await once(occupant, "listening");
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(first) });
  occupant.close();
  expect(code).toBe(1);
  expect(logs).toContain(`Port ${first + offset} on 127.0.0.1 is taken by another program. Set ${setting} to another`);
});

test.each([
  [{ REALTIME_PORT: "http" }, "REALTIME_PORT must be a port number"],
  [{ REALTIME_PORT: "70000" }, "REALTIME_PORT must be between 1 and 65535"],
  [{ REALTIME_PORT: "65535" }, "REALTIME_LISTENER_PORT would be 65536"],
  [
    { REALTIME_PORT: "24000", REALTIME_LISTENER_PORT: "24000" },
    "REALTIME_LISTENER_PORT and REALTIME_PORT are both 24000",
  ],
  [{ REALTIME_HOST: "not a host" }, "REALTIME_HOST must be an IP address or localhost"],
  [{ REALTIME_JWT_SECRET: "tiny" }, "REALTIME_JWT_SECRET must be at least 32 characters long"],
  [{ DATABASE_URL: "mysql://root:hunter2@127.0.0.1/x" }, "DATABASE_URL must be a URL such as postgresql://"],
])("%o is refused by name", async (env, message) => {
  const { code, logs } = await startAndFail(env);
  expect(code).toBe(1);
  expect(logs).toContain(message);
  expect(logs).not.toMatch(/hunter2|tiny/);
});

test("an unknown flag is refused with the usage, --help prints the usage alone", async () => {
  const unknown = await startAndFail({}, ["--prot", "4000"]);
  expect(unknown.code).toBe(1);
  expect(unknown.logs).toContain("--prot");
  expect(unknown.logs).toContain("usage: npm start");
  const help = await startAndFail({}, ["--help"]);
  expect(help.code).toBe(0);
  expect(help.logs).toMatch(/^Starts everything/);
});

test("--port wins over REALTIME_PORT", async () => {
  const { logs } = await startAndFail({ REALTIME_PORT: "24000" }, ["--port", "nonsense"]);
  expect(logs).toContain("REALTIME_PORT must be a port number");
});

test("a database that cannot be reached: says so without its password", async () => {
  const [port, database] = [await freePorts(), await freePorts()];
  const { code, logs } = await startAndFail({
    REALTIME_PORT: String(port),
    DATABASE_URL: `postgresql://someone:hunter2@127.0.0.1:${database}/x`,
  });
  expect(code).toBe(1);
  expect(logs).toContain("The database of DATABASE_URL cannot be used");
  expect(logs).not.toContain("hunter2");
});

test("a damaged secrets file is named, not overwritten and not quoted", async () => {
  await writeFile(join(home, "secrets.json"), '{"jwtSecret": "half a sec');
  const { code, logs } = await startAndFail({ REALTIME_PORT: String(await freePorts()) });
  expect(code).toBe(1);
  expect(logs).toContain(join(home, "secrets.json"));
  expect(logs).not.toContain("half a sec");
});

async function startAndFail(
  env: Record<string, string>,
  args: string[] = [],
): Promise<{ code: number | string; logs: string }> {
  const stack = spawnStack({ home, env }, args);
  return { code: await stack.exited, logs: stack.logs() };
}
