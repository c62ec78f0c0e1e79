// Processes that die: what the stack does about each, itself included.

import { rm } from "node:fs/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { childrenOf, isRunning, processesWith } from "../support/processes.ts";
import { newHome, startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
});
afterAll(async () => {
  await stack.stop();
});

test("an edge killed with SIGKILL is started again and answers", async () => {
  await stack.killEdge();
  expect(stack.logs()).toMatch(/the edge ended unexpectedly \(SIGKILL\), starting it again in \d+ ms/);
  expect((await fetch(`${stack.url}/health`)).status).toBe(200);
});

test("a listener killed with SIGKILL is started again", async () => {
  await stack.killListener();
  expect(childrenOf(stack.pid).filter(({ command }) => command.includes("listener/main.ts"))).toHaveLength(1);
});

test("a PostgreSQL killed with SIGKILL is started again with what was committed", async () => {
  const before = new pg.Client({ connectionString: stack.databaseUrl });
  before.on("error", () => undefined);
  await before.connect();
  await before.query("create table committed as select 1 as n");
  const postgres = childrenOf(stack.pid).find(({ command }) => command.includes("postgres -D"));
  expect(postgres).toBeDefined();
  if (postgres) process.kill(postgres.pid, "SIGKILL");
  await expect.poll(stack.logs, { timeout: 20_000 }).toContain("PostgreSQL runs again");

  const after = new pg.Client({ connectionString: stack.databaseUrl });
  await after.connect();
  expect((await after.query("select n from committed")).rows).toEqual([{ n: 1 }]);
  await after.end();
});

test("a stack killed with SIGKILL takes its children along, and the next start in its home succeeds at once", async () => {
  const home = await newHome();
  const killed = await startStack({ home });
  const orphans = childrenOf(killed.pid);
  process.kill(killed.pid, "SIGKILL");

  const next = await startStack({ home, env: { REALTIME_PORT: String(killed.port) } });
  expect((await fetch(`${next.url}/health`)).status).toBe(200);
  expect(orphans.filter(({ pid }) => isRunning(pid))).toEqual([]);
  expect(await next.stop()).toBe(0);
  expect(processesWith(home)).toEqual([]);
  await rm(home, { recursive: true });
});
