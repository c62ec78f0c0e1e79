// The stack on a PostgreSQL of the user's own, whose owner is no administrator and has no table to play with.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { freePorts, newHome, spawnStack, startStack, type TestStack } from "../support/stack.ts";

let postgres: TestPostgres;
let url: string;
beforeAll(async () => {
  postgres = await startPostgres();
  await run(postgres.url, "create role plain login password 'plain'");
  await run(postgres.url, "create database own owner plain");
  url = Object.assign(new URL(postgres.url), { username: "plain", password: "plain", pathname: "/own" }).href;
});
afterAll(() => postgres?.stop());

test("all roles that an administrator must make are named at once; with them made, it starts", async () => {
  const home = await newHome();
  const refused = spawnStack({ home, env: { REALTIME_PORT: String(await freePorts()), DATABASE_URL: url } });
  expect(await refused.exited).toBe(1);
  await rm(home, { recursive: true });
  expect(refused.logs()).toContain("missing roles that plain may not create: anon, authenticated, service_role");
  const [, remedy = ""] = /An administrator runs: (.*;)$/m.exec(refused.logs()) ?? [];
  await run(postgres.url, remedy);

  const stack = await startStack({ env: { DATABASE_URL: url } });
  expect(stack.logs()).toContain("npx nself realtime subscribe <schema.table>");
  expect(stack.logs()).not.toContain("public.todos");
  try {
    await quickStartIsTold(stack);
  } finally {
    await stack.stop();
  }
});

/** What the quick start says, at once, for want of its table, and of the table's capture. */
async function quickStartIsTold(stack: TestStack): Promise<void> {
  const bare = await quickStart(stack);
  expect(bare).toMatchObject({ code: 1, stderr: expect.stringMatching(/^This database has no table public.todos: /) });
  await run(url, /create table [^;]+;/.exec(bare.stderr)?.[0] ?? "");
  expect(await quickStart(stack)).toMatchObject({
    code: 1,
    stderr: "public.todos is not captured yet. Run: npx nself realtime subscribe public.todos\n",
  });
}

test("a database that is gone is told by the quick start without a stack trace", async () => {
  const stack = await startStack({ env: { DATABASE_URL: url } });
  await postgres.stop();
  const { code, stderr } = await quickStart(stack);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^The database: .*\n$/);
  await stack.stop();
});

async function quickStart({ home }: TestStack): Promise<{ code: number | null; stderr: string }> {
  const child = spawn(process.execPath, ["examples/quickstart.mjs"], {
    env: { PATH: process.env.PATH, NSELF_HOME: home },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [code]: (number | null)[] = await once(child, "close");
  return { code: code ?? null, stderr };
}

async function run(databaseUrl: string, statements: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(statements);
  await client.end();
}
