// Cleaning up as a user does it: right after init, class by class, and from cron.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newHome, startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

const nselfCommand = fileURLToPath(new URL("../../scripts/nself.mjs", import.meta.url));

let directory: string;
let stack: TestStack;
let sql: pg.Client;
beforeAll(async () => {
  // Where a project keeps it: what runs in the project's directory finds the stack without being told.
  directory = await newHome();
  stack = await startStack({ home: join(directory, ".nself") });
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  await rm(directory, { recursive: true, force: true });
});

const nself = (...args: string[]) => realtime(stack, args);
const json = async (...args: string[]) => JSON.parse((await nself(...args, "--json")).stdout);

const nothing = `✓ Stale connections: 0
✓ Old messages: 0
✓ Expired presence: 0
✓ Orphaned subscriptions: 0
`;

test("AC-016 AC-017: right after init presence is all zeros, and cleanup has nothing to do", async () => {
  expect(await nself("init")).toMatchObject({ code: 0 });
  const { code, stdout } = await nself("presence", "stats");
  expect(code).toBe(0);
  expect(stdout.match(/: +\d+$/gm)).toHaveLength(6);
  expect(stdout).not.toMatch(/: +[1-9]/);
  expect(Object.values(await json("presence", "stats"))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(await nself("cleanup")).toMatchObject({ code: 0, stdout: nothing, stderr: "" });
});

/** Runs a command as cron does in its bleakest form: no environment, no input, and no terminal to be had. */
async function cron(...args: string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  const command = ["-i", process.execPath, nselfCommand, ...args];
  const child = spawn("env", command, { cwd: directory, stdio: ["ignore", "pipe", "pipe"], detached: true });
  const said = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      said[stream] += text;
    });
  }
  const [code] = await once(child, "close");
  return { code, ...said };
}

test("AC-035 AC-036: from cron, in an empty environment, cleanup counts what it cleans, and then zeros", async () => {
  await sql.query("create table doomed (id int primary key)");
  for (const args of [
    ["subscribe", "public.doomed"],
    ["broadcast", "general", "old", "{}"],
    ["broadcast", "general", "older", "{}"],
    ["messages", "general"],
  ]) {
    expect(await nself(...args)).toMatchObject({ code: 0 });
  }
  await sql.query("update realtime.messages set sent_at = now() - interval '25 hours'");
  await sql.query("drop table doomed");
  expect(await cron("realtime", "cleanup")).toEqual({
    code: 0,
    stdout: nothing.replace("messages: 0", "messages: 2").replace("subscriptions: 0", "subscriptions: 1"),
    stderr: "",
  });
  expect(await cron("realtime", "cleanup")).toEqual({ code: 0, stdout: nothing, stderr: "" });
  expect(await cron("realtime", "presence", "cleanup", "300")).toMatchObject({ code: 0, stderr: "" });
});

/** Runs a command at a terminal where somebody types an answer; what it shows, without its colours. */
async function atTerminal(answer: string, ...args: string[]): Promise<string> {
  const command = [process.execPath, nselfCommand, "realtime", ...args].join(" ");
  const child = spawn("script", ["-qec", command, "/dev/null"], { cwd: directory });
  let shown = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    shown += text;
  });
  child.stdin.write(`${answer}\n`);
  await once(child, "close");
  return stripVTControlCharacters(shown);
}

test.runIf(process.platform === "linux")(
  "at a terminal, messages that would be kept for longer go only after a yes; a script is not asked",
  async () => {
    const kept = async () => (await json("messages", "general")).length;
    expect(await nself("broadcast", "general", "young", "{}")).toMatchObject({ code: 0 });
    // Whoever asks has what was sent archived first.
    expect(await kept()).toBe(1);
    await sql.query("update realtime.messages set sent_at = now() - interval '2 hours'");
    expect(await atTerminal("n", "cleanup", "1")).toMatch(/older than 1 h\?.*86,400 s.*Deletion cancelled/s);
    expect(await atTerminal("n", "broadcast", "cleanup", "1")).toContain("Deletion cancelled");
    expect(await kept()).toBe(1);
    expect(await atTerminal("n", "cleanup", "24")).toMatch(/✓ Old messages: 0/);
    expect(await atTerminal("y", "cleanup", "1")).toMatch(/✓ Old messages: 1/);
    for (const args of [
      ["cleanup", "1"],
      ["cleanup", "--retention", "1", "--yes"],
      ["broadcast", "cleanup", "1", "--yes"],
    ]) {
      await nself("broadcast", "general", "young", "{}");
      expect(await kept()).toBe(1);
      await sql.query("update realtime.messages set sent_at = now() - interval '2 hours'");
      expect(await nself(...args)).toMatchObject({
        code: 0,
        stdout: expect.stringMatching(/(Old messages|deleted): 1$/m),
      });
      expect(await kept()).toBe(0);
    }
  },
);

test("AC-033: who has been silent for the time set is offline after cleanup", async () => {
  const brief = await startStack({ env: { REALTIME_PRESENCE_TIMEOUT: "1" } });
  try {
    await realtime(brief, ["channel", "create", "general"]);
    await realtime(brief, ["presence", "track", "ann", "general"]);
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await realtime(brief, ["cleanup"]);
    const { stdout } = await realtime(brief, ["presence", "get", "ann", "general", "json"]);
    expect(JSON.parse(stdout)).toMatchObject([{ status: "offline" }]);
  } finally {
    await brief.stop();
  }
});
