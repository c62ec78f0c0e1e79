// The form of every command: its help, its formats, where it can be run, and completion.
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { createClient } from "@supabase/supabase-js";
import type { Command } from "commander";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime, start } from "./nself.ts";

const nselfScript = fileURLToPath(new URL("../../scripts/nself.mjs", import.meta.url));

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack();
  for (const args of [
    ["channel", "create", "general"],
    ["broadcast", "general", "e", '{"n": 1}'],
    ["presence", "track", "ann", "general"],
    ["subscribe", "public.todos"],
  ]) {
    expect(await nself(...args)).toMatchObject({ code: 0 });
  }
});
afterAll(() => stack?.stop());

const nself = (...args: string[]) => realtime(stack, args);

/** The commands that do something, under a command. */
function leaves(command: Command): Command[] {
  if (command.commands.length === 0) return [command];
  return command.commands.filter((child) => child.name() !== "help").flatMap(leaves);
}

const readers = [
  ["status"],
  ["connections"],
  ["subscriptions"],
  ["channel", "list"],
  ["channel", "get", "general"],
  ["messages", "general"],
  ["replay", "general", "2026-01-30T00:00:00Z"],
  ["presence", "get", "ann"],
  ["presence", "online"],
  ["presence", "count"],
];

describe("AC-009: three ways to say JSON, one answer", () => {
  test.each(readers.map((args) => [args.join(" "), args] as const))("AC-009: %s", async (_name, args) => {
    const runs = await Promise.all([
      nself(...args, "--format", "json"),
      nself(...args, "--json"),
      nself(...args, "json"),
    ]);
    const [first, ...others] = runs.map(({ code, stdout }) => {
      expect(code).toBe(0);
      return Object.keys([JSON.parse(stdout)].flat()[0] ?? {});
    });
    for (const other of others) expect(other).toEqual(first);
    const [csv, table] = await Promise.all([nself(...args, "--format", "csv"), nself(...args, "--format", "table")]);
    expect(csv).toMatchObject({ code: 0, stdout: expect.stringMatching(/^[a-z_]+(,[a-z_0-9]+)*\r\n/) });
    expect(table).toMatchObject({ code: 0, stdout: expect.stringMatching(/^ [a-z_]+.*\n-+/) });
  });
});

test("AC-009: the form may be said before what is named", async () => {
  expect(JSON.parse((await nself("messages", "--json", "general", "1")).stdout)).toHaveLength(1);
});

test("every command has a help that says what it does and shows an example", () => {
  const commands = leaves(buildProgram()).filter((command) => command.name() !== "complete");
  expect(commands.length).toBeGreaterThan(30);
  for (const command of commands) {
    let help = "";
    command.configureOutput({ writeOut: (text) => (help += text) });
    command.outputHelp();
    expect(help, command.name()).toMatch(/^Usage: nself .*\n\n\S.*\n(.*\n)*Examples:\n {2}(npx )?nself /);
  }
});

test("AC-004: a name in quotes and without makes the same channel", async () => {
  const shell = (line: string) =>
    spawnSync("/bin/sh", ["-c", line.replace("nself", `"${process.execPath}" "${nselfScript}"`)], {
      env: { PATH: process.env.PATH, NSELF_HOME: stack.home, XDG_CONFIG_HOME: "/nonexistent" },
      encoding: "utf8",
    });
  const [quoted, plain] = [
    shell('nself realtime channel create "quoted" public'),
    shell("nself realtime channel create quoted public"),
  ];
  expect(quoted.stdout).toContain("created: quoted (public)");
  expect(plain.stdout.trim().split("\n").at(-1)).toBe(quoted.stdout.trim().split("\n").at(-1));
});

test("AC-006: a channel's slug, id and name do the same wherever a channel is named", {
  timeout: 120_000,
}, async () => {
  const { last: id } = await nself("channel", "create", "Big Hall");
  await nself("broadcast", "big-hall", "e", "{}");
  await nself("presence", "track", "bob", "big-hall");
  const commands = [
    (channel: string) => ["messages", channel, "json"],
    (channel: string) => ["replay", channel, "2026-01-30T00:00:00Z", "json"],
    (channel: string) => ["channel", "get", channel],
    (channel: string) => ["presence", "count", channel],
    (channel: string) => ["presence", "track", "bob", channel, "away"],
  ];
  for (const command of commands) {
    const runs = await Promise.all(["big-hall", id, "Big Hall"].map((channel) => nself(...command(channel))));
    expect(runs[0]).toMatchObject({ code: 0, stderr: "" });
    for (const run of runs) expect(run).toMatchObject({ code: 0, stdout: runs[0]?.stdout });
  }
  for (const channel of ["big-hall", id, "Big Hall"]) {
    expect(await nself("broadcast", channel, `to-${channel}`, "{}")).toMatchObject({ code: 0 });
  }
  expect(JSON.parse((await nself("messages", "big-hall", "json")).stdout)).toHaveLength(4);
  expect(await nself("channel", "delete", id, "true")).toMatchObject({ code: 0 });
  expect(await nself("channel", "get", "big-hall")).toMatchObject({ code: 1 });
});

describe("at a terminal", () => {
  /** Runs a command with a terminal of its own, by util-linux's `script`; undefined where that is not there. */
  const atTerminal = (line: string, env: Record<string, string>) => {
    const { stdout, error } = spawnSync("script", ["-qec", line, "/dev/null"], {
      env: { PATH: process.env.PATH, NSELF_HOME: stack.home, XDG_CONFIG_HOME: "/nonexistent", TERM: "xterm", ...env },
      encoding: "utf8",
    });
    return error ? undefined : stdout;
  };
  const status = `"${process.execPath}" "${nselfScript}" realtime status`;

  test("AC-007: colours, unless NO_COLOR or --no-color says not", ({ skip }) => {
    const coloured = atTerminal(status, {});
    if (coloured === undefined) return skip("no `script` here");
    expect(coloured).toContain("\u001b[32m✓");
    expect(atTerminal(status, { NO_COLOR: "1" })).not.toContain("\u001b[3");
    expect(atTerminal(`${status} --no-color`, {})).not.toContain("\u001b[3");
    expect(atTerminal(`${status} nonsense --no-color`, {})).toMatch(/^✗/);
  });
});

test("it works from any directory, and a stack is found from below its own", async () => {
  const args = ["channel", "list"];
  expect(await realtime(stack, args, { cwd: tmpdir() })).toMatchObject({ code: 0 });
  expect(await realtime(stack, args, { cwd: "/" })).toMatchObject({ code: 0 });
});

test("completion: scripts for four shells, and suggestions from the tree", { timeout: 60_000 }, async () => {
  for (const shell of ["bash", "zsh", "fish", "powershell"]) {
    expect(await start(null, ["completion", shell]).ended).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("nself"),
    });
  }
  const { stdout: script } = await start(null, ["completion", "bash"]).ended;
  expect(spawnSync("bash", ["--norc", "-n"], { input: script, encoding: "utf8" })).toMatchObject({
    status: 0,
    stderr: "",
  });
  expect(await start(null, ["completion", "nosuch"]).ended).toMatchObject({ code: 2, stdout: "" });
  const suggested = async (...words: string[]) => (await start(null, ["complete", "--", ...words]).ended).stdout;
  expect(await suggested("realtime", "channel", "")).toMatch(/^create\t/);
  expect(await suggested("realtime", "channel", "lis")).toMatch(/^list\t.*\n:/);
  expect(await suggested("realtime", "channel", "create", "x", "")).toContain("presence");
});

test("an error of the form is said in three lines, with what to read", async () => {
  expect(await nself("presence", "track", "ann")).toMatchObject({
    code: 2,
    stdout: "",
    stderr:
      "✗ missing required argument 'channel'\n" +
      "Usage: nself realtime presence track [options] <user> <channel> [status] [metadata]\n" +
      "Help: nself realtime presence track --help\n",
  });
});

test("a client that connects is what the list of connections shows, in a table that stays straight", async () => {
  const client = createClient(stack.url, stack.anonKey);
  await new Promise<void>((resolve) => {
    client.channel("日本語").subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  await nself("channel", "create", "日本語");
  const { stdout } = await nself("channel", "list", "--format", "table");
  const [head = "", ...rows] = stdout
    .trimEnd()
    .split("\n")
    .filter((line) => !line.startsWith("-"));
  const wide = rows.find((row) => row.includes("日本語")) ?? "";
  // Six letters, two columns each, before the third bar.
  expect(wide.split("|").slice(0, 3).join("|").length).toBe(head.split("|").slice(0, 3).join("|").length - 6);
  await client.removeAllChannels();
});
