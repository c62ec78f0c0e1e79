// Who runs the embedded PostgreSQL: it refuses to be root, and must still reach its files.

import { execFile } from "node:child_process";
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import type { ChildSpec } from "./children.ts";
import { StackError } from "./errors.ts";

const run = promisify(execFile);

export interface User {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user to run as: ourselves unless we are root; then the owner of the data, or the system's `postgres` user, which
 * is made if it does not exist.
 * @throws StackError when root cannot make that user
 */
export async function postgresUser(data: string): Promise<User | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const owner = statSync(data, { throwIfNoEntry: false });
  if (owner) return { uid: owner.uid, gid: owner.gid };
  const existing = await find("postgres");
  if (existing) return existing;
  // Another start may make the same user at the same moment; what counts is that it exists afterwards.
  const failure = await run("useradd", ["--system", "--user-group", "--no-create-home", "postgres"]).catch(String);
  const made = await find("postgres");
  if (made) return made;
  throw new StackError(
    `PostgreSQL does not run as root, and a user "postgres" could not be made (${failure}). ` +
      "Start as another user, or set DATABASE_URL to a PostgreSQL of your own.",
  );
}

async function find(name: string): Promise<User | undefined> {
  try {
    const [uid, gid] = await Promise.all(["-u", "-g"].map(async (flag) => (await run("id", [flag, name])).stdout));
    return { uid: Number(uid), gid: Number(gid) };
  } catch {
    return undefined;
  }
}

/** How to run a command of PostgreSQL as this user, with `data` and its own files within reach. */
export function runAs(
  user: User | undefined,
  command: string,
  args: readonly string[],
  data: string,
): Pick<ChildSpec, "command" | "args" | "env" | "user"> {
  const env = { PATH: process.env.PATH ?? "", LC_ALL: "C" };
  if (!user || [dirname(data), dirname(command)].every((path) => canEnter(user, path))) {
    return { command, args, env, user };
  }
  // Below a private directory, such as root's home: the user keeps one right of root, to pass through directories and
  // read, but not to write.
  // The securebit makes access() honour it, which initdb asks about its own files; exec drops every other right.
  const rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--securebits=+no_setuid_fixup"];
  const identity = ["--reuid", String(user.uid), "--regid", String(user.gid)];
  return { command: "setpriv", args: [...identity, "--clear-groups", ...rights, command, ...args], env };
}

/** Whether the user may pass through a directory and all above it. */
function canEnter(user: User, directory: string): boolean {
  const { mode, uid, gid } = statSync(directory);
  const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
  return (mode & bit) !== 0 && (directory === dirname(directory) || canEnter(user, dirname(directory)));
}
