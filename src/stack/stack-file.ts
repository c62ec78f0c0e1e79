// The stack file: how others on this machine find the running stack and its keys.

import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";

const stackFile = z.strictObject({
  /** Where the edge answers, such as `http://127.0.0.1:4000`, without a slash at the end. */
  url: z.url(),
  port: z.int(),
  anonKey: z.string(),
  serviceKey: z.string(),
  jwtSecret: z.string(),
  /** Or NO_DATABASE. */
  databaseUrl: z.string(),
  /** The process to stop with SIGTERM; everything else of the stack is its child. */
  pid: z.int(),
  /** The command line that it was started with, for who starts it again. */
  args: z.array(z.string()).default([]),
});
export type StackFile = z.infer<typeof stackFile>;

const project = fileURLToPath(new URL("../..", import.meta.url));
const pathIn = (home: string): string => join(home, "stack.json");

/**
 * Reads the file of a running stack: in NSELF_HOME if that is set, else in `.nself` of the working directory or the
 * nearest directory above it, else in `.nself` of this project.
 * @returns undefined when there is none: no stack runs, or it was started with another NSELF_HOME
 * @throws Error naming the file, when it is there and is not a stack file
 */
export function readStackFile(
  environment: NodeJS.ProcessEnv = process.env,
  directory: string = process.cwd(),
): StackFile | undefined {
  const path = candidates(environment, directory).find((candidate) => existsSync(candidate));
  return path === undefined ? undefined : parse(path);
}

/** Reads the stack file of one home, if there is a sound one. */
export function readStackFileIn(home: string): StackFile | undefined {
  return existsSync(pathIn(home)) ? parse(pathIn(home)) : undefined;
}

function candidates(environment: NodeJS.ProcessEnv, directory: string): string[] {
  if (environment.NSELF_HOME) return [pathIn(resolve(directory, environment.NSELF_HOME))];
  const paths: string[] = [];
  for (let at = resolve(directory); ; at = dirname(at)) {
    paths.push(pathIn(join(at, ".nself")));
    if (at === dirname(at)) break;
  }
  return [...paths, pathIn(join(project, ".nself"))];
}

function parse(path: string): StackFile {
  try {
    return stackFile.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    throw new Error(`${path} is not a stack file; stop the stack, remove the file and start again`, { cause: error });
  }
}

/** Writes the file so that a reader sees all of it or none; only its owner can read it, for it holds keys. */
export function writeStackFile(home: string, content: StackFile): void {
  const temporary = `${pathIn(home)}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
  renameSync(temporary, pathIn(home));
}

/** A clean stop leaves no file: whoever finds one may trust that the stack runs, or was killed. */
export function removeStackFile(home: string): void {
  rmSync(pathIn(home), { force: true });
}
