// `nself` as a user runs it: a process of its own, against a started stack.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { TestStack } from "../support/stack.ts";

const entry = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

export interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
  /** The last line of stdout. */
  last: string;
}

/** A command that runs: what it has said so far, and its end. */
export interface Running {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  ended: Promise<Run>;
}

export interface RunOptions {
  /** What is on standard input; nothing by default. */
  input?: string;
  env?: Record<string, string>;
  /** Where it is run; that of the tests by default. */
  cwd?: string;
}

/** Starts `nself` in the environment of a stack; null: where there is none. */
export function start(
  stack: Pick<TestStack, "home"> | null,
  args: string[],
  { input = "", env = {}, cwd }: RunOptions = {},
): Running {
  const child = spawn(process.execPath, [entry, ...args], {
    ...(cwd === undefined ? {} : { cwd }),
    // Nothing of the caller's own settings: a stack is found by its home alone.
    env: {
      PATH: process.env.PATH,
      NSELF_HOME: stack?.home ?? "/nonexistent",
      XDG_CONFIG_HOME: "/nonexistent",
      ...env,
    },
    stdio: ["pipe", "pipe", "pipe"],
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  // A command that refuses does not read its input.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const ended = once(child, "close").then(([code]: (number | null)[]) => {
    return { code: code ?? null, stdout, stderr, last: stdout.trimEnd().split("\n").at(-1) ?? "" };
  });
  return { child, stdout: () => stdout, stderr: () => stderr, ended };
}

/** Runs `nself realtime …` to its end. */
export function realtime(stack: Pick<TestStack, "home"> | null, args: string[], options?: RunOptions): Promise<Run> {
  return start(stack, ["realtime", ...args], options).ended;
}
