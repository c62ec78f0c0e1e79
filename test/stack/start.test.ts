// Starting and stopping: what a person gets from `npm start`, and what is left afterwards.

import { mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decodeJwt, jwtVerify } from "jose";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readStackFile } from "../../src/stack/stack-file.ts";
import { childrenOf, isRunning, processesWith } from "../support/processes.ts";
import { freePorts, newHome, spawnStack, startStack, type TestStack } from "../support/stack.ts";

describe("a running stack", () => {
  let home: string;
  let stack: TestStack;

  beforeAll(async () => {
    home = await newHome();
    stack = await startStack({ home });
  });
  afterAll(async () => {
    await stack.stop();
    await rm(home, { recursive: true, force: true });
  });

  test("answers on /health", async () => {
    expect((await fetch(`${stack.url}/health`)).status).toBe(200);
  });

  test("writes the stack file with exactly the documented entries, for its owner alone", async () => {
    const path = join(home, "stack.json");
    const content = JSON.parse(await readFile(path, "utf8"));
    expect(Object.keys(content)).toEqual([
      "url",
      "port",
      "anonKey",
      "serviceKey",
      "jwtSecret",
      "databaseUrl",
      "pid",
      "args",
    ]);
    expect(content.url).toBe(`http://127.0.0.1:${content.port}`);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect((await stat(join(home, "secrets.json"))).mode & 0o777).toBe(0o600);
  });

  test("signs both keys with the secret, for ten years", async () => {
    const secret = new TextEncoder().encode(stack.jwtSecret);
    for (const [key, role] of [
      [stack.anonKey, "anon"],
      [stack.serviceKey, "service_role"],
    ] as const) {
      const { payload } = await jwtVerify(key, secret, { issuer: "nself", algorithms: ["HS256"] });
      expect(payload.role).toBe(role);
      expect(Number(payload.exp) - Number(payload.iat)).toBe(3650 * 86_400);
    }
  });

  test("prints the URL, the keys and three commands, without colours when nobody looks", () => {
    expect(stack.logs()).toContain(stack.url);
    expect(stack.logs()).toContain(stack.anonKey);
    expect(stack.logs()).toContain(stack.serviceKey);
    expect(stack.logs()).toContain(`${stack.url}/admin/v1/reference`);
    expect(stack.logs().match(/^ {2}(npx|npm) .+$/gm)).toHaveLength(3);
    expect(stack.logs()).not.toContain("\x1b");
  });

  test("keeps secrets out of what others can read: process arguments and workerd's configuration", async () => {
    const config = await readFile(join(home, "edge", "workerd.capnp"), "utf8");
    const { listenerSecret, postgresPassword } = JSON.parse(await readFile(join(home, "secrets.json"), "utf8"));
    const secrets = [stack.jwtSecret, stack.anonKey, stack.serviceKey, listenerSecret, postgresPassword];
    const visible = [config, ...childrenOf(stack.pid).map((child) => child.command)].join("\n");
    for (const secret of secrets) expect(visible).not.toContain(secret);
  });

  test("lets the roles of tokens use new tables in public", async () => {
    const rows = await query(stack.databaseUrl, [
      "create table public.fresh (id int primary key)",
      "set role anon",
      "insert into fresh values (1)",
      "select count(*)::int as n from fresh",
    ]);
    expect(rows).toEqual([{ n: 1 }]);
  });

  test("is found from a directory below its home's parent, and by NSELF_HOME", async () => {
    const parent = await newHome();
    const below = join(parent, "a", "b");
    await mkdir(below, { recursive: true });
    await mkdir(join(parent, ".nself"));
    await writeFile(join(parent, ".nself", "stack.json"), await readFile(join(home, "stack.json")));
    expect(readStackFile({}, below)?.pid).toBe(stack.pid);
    expect(readStackFile({ NSELF_HOME: home }, "/")?.url).toBe(stack.url);
    await writeFile(join(parent, ".nself", "stack.json"), "{}");
    expect(() => readStackFile({}, below)).toThrow(join(parent, ".nself", "stack.json"));
    await rm(parent, { recursive: true });
  });

  test("refuses a second stack in the same home and says where the first one answers", async () => {
    const second = spawnStack({ home, env: { REALTIME_PORT: String(await freePorts()) } });
    expect(await second.exited).toBe(1);
    expect(second.logs()).toContain(`already runs in ${home}: ${stack.url} (process ${stack.pid})`);
    expect((await fetch(`${stack.url}/health`)).status).toBe(200);
  });
});

test("a second start in the same home keeps data, secrets and keys", async () => {
  const home = await newHome();
  const first = await startStack({ home });
  await query(first.databaseUrl, ["create table kept (word text)", "insert into kept values ('here')"]);
  expect(await first.stop()).toBe(0);

  const second = await startStack({ home });
  expect(await query(second.databaseUrl, ["select word from kept"])).toEqual([{ word: "here" }]);
  for (const entry of ["anonKey", "serviceKey", "jwtSecret"] as const) expect(second[entry]).toBe(first[entry]);
  expect(new URL(second.databaseUrl).password).toBe(new URL(first.databaseUrl).password);
  await second.stop();
  await rm(home, { recursive: true });
});

test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "%s stops everything and leaves no process and no stack file",
  async (signal) => {
    const home = await newHome();
    const stack = spawnStack({ home, env: { REALTIME_PORT: String(await freePorts()) } });
    await expect.poll(stack.logs, { timeout: 30_000 }).toContain("is ready");
    // An open socket would keep the edge alive for as long as it likes.
    const { port } = JSON.parse(await readFile(join(home, "stack.json"), "utf8"));
    const children = childrenOf(stack.pid);
    expect(children.length).toBeGreaterThanOrEqual(4);
    const socket = new WebSocket(
      `ws://127.0.0.1:${port}/realtime/v1/websocket?vsn=2.0.0&apikey=${keyIn(stack.logs())}`,
    );
    await new Promise((resolve) => socket.addEventListener("open", resolve, { once: true }));

    stack.signal(signal);
    expect(await stack.exited).toBe(0);
    expect(children.filter(({ pid }) => isRunning(pid))).toEqual([]);
    expect(processesWith(home)).toEqual([]);
    expect(await readdir(home)).not.toContain("stack.json");
    await rm(home, { recursive: true });
  },
);

test("a signal during the start ends it cleanly", async () => {
  const home = await newHome();
  const stack = spawnStack({ home, env: { REALTIME_PORT: String(await freePorts()) } });
  await expect.poll(stack.logs, { timeout: 30_000, interval: 1 }).toContain("PostgreSQL on port");
  stack.signal("SIGTERM");
  expect(await stack.exited).toBe(0);
  expect(processesWith(home)).toEqual([]);
  await rm(home, { recursive: true });
});

test("DATABASE_URL: uses that database, starts none of its own and leaves it running", async () => {
  const host = await startStack();
  await query(host.databaseUrl, ["create database other"]);
  const url = new URL(host.databaseUrl);
  url.pathname = "/other";

  const guest = await startStack({ env: { DATABASE_URL: url.href } });
  expect(guest.databaseUrl).toBe(url.href);
  expect(childrenOf(guest.pid).filter(({ command }) => command.includes("postgres -D"))).toEqual([]);
  expect(await query(url.href, ["select to_regclass('realtime.channels') is not null as migrated"])).toEqual([
    { migrated: true },
  ]);
  await guest.stop();
  expect(await query(url.href, ["select 1 as alive"])).toEqual([{ alive: 1 }]);
  await host.stop();
});

test("keys and secrets from the environment win; keys that are not given are signed with the given secret", async () => {
  const stack = await startStack({
    env: { REALTIME_JWT_SECRET: "a".repeat(40), REALTIME_SERVICE_KEY: "an-opaque-service-key" },
  });
  expect(stack.jwtSecret).toBe("a".repeat(40));
  expect(stack.serviceKey).toBe("an-opaque-service-key");
  await jwtVerify(stack.anonKey, new TextEncoder().encode("a".repeat(40)));
  expect(decodeJwt(stack.anonKey).role).toBe("anon");
  await stack.stop();
});

test("several stacks run side by side", async () => {
  const stacks = await Promise.all([startStack(), startStack(), startStack()]);
  expect(new Set(stacks.map(({ url }) => url)).size).toBe(3);
  for (const { url } of stacks) expect((await fetch(`${url}/health`)).status).toBe(200);
  await Promise.all(stacks.map((stack) => stack.stop()));
});

function keyIn(logs: string): string {
  return /anon key\s+(\S+)/.exec(logs)?.[1] ?? "";
}

/** Runs statements on one connection. @returns the rows of the last */
async function query(databaseUrl: string, statements: string[]): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    let rows: unknown[] = [];
    for (const statement of statements) rows = (await client.query(statement)).rows;
    return rows;
  } finally {
    await client.end();
  }
}
