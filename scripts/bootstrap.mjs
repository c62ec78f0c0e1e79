// Makes a fresh clone runnable: installs what the lockfile asks for, and runs TypeScript with the project's own Node.
// Plain JavaScript without dependencies, because it runs before anything is installed, on whatever Node is there.

import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

export const project = dirname(dirname(fileURLToPath(import.meta.url)));

const binaries = join(project, "node_modules", ".bin");
const ownNode = join(binaries, "node");
const lockfile = join(project, "package-lock.json");
const installedLockfile = join(project, "node_modules", ".package-lock.json");
const installing = join(project, ".nself", "install.lock");

const OLDEST_NODE = 20;
const INSTALL_WAIT_MS = 10 * 60_000;
const ECHO_MS = 300;
const PARENT_LOOK_MS = 250;

/** What a person can put right; shown without a stack trace. */
class Complaint extends Error {}

const say = (line) => process.stderr.write(`${line}\n`);
const mtime = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs;

/** Whether `node_modules` holds what `package-lock.json` asks for: two `stat` calls, unless the lockfile is the newer. */
export function isInstalled() {
  const installedAt = mtime(installedLockfile);
  if (installedAt === undefined || !existsSync(ownNode)) return false;
  return installedAt >= (mtime(lockfile) ?? 0) || holdsEveryPackage();
}

/** A checkout touches the lockfile without changing it; a reinstall for that would cost a minute. */
function holdsEveryPackage() {
  const installed = JSON.parse(readFileSync(installedLockfile, "utf8")).packages;
  const wanted = JSON.parse(readFileSync(lockfile, "utf8")).packages;
  return Object.entries(wanted).every(
    ([path, { version, optional, link }]) =>
      path === "" || link || installed[path]?.version === version || (optional && !installed[path]),
  );
}

/** Installs when needed. Of several processes at once, one installs and the others wait for it. */
async function ensureInstalled() {
  const giveUpAt = Date.now() + INSTALL_WAIT_MS;
  for (let told = false; !isInstalled(); await sleep(200)) {
    const release = claimInstall();
    if (release) {
      try {
        // Whoever held the claim until just now may have done the work.
        if (!isInstalled()) await install();
      } finally {
        release();
      }
      if (!existsSync(ownNode)) throw new Complaint(noNodeBinary());
      return;
    }
    if (!told) say("Another process is installing the dependencies, waiting for it…");
    told = true;
    if (Date.now() > giveUpAt) throw new Complaint(`Waited 10 minutes for another install. Remove ${installing}`);
  }
}

/** @returns a function that gives the claim back, or undefined while a living process holds it. */
function claimInstall() {
  mkdirSync(dirname(installing), { recursive: true });
  try {
    const file = openSync(installing, "wx");
    writeSync(file, String(process.pid));
    closeSync(file);
    return () => rmSync(installing, { force: true });
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
  if (!isHeld()) rmSync(installing, { force: true });
  return undefined;
}

function isHeld() {
  try {
    const owner = Number(readFileSync(installing, "utf8"));
    // An empty file is a claim whose owner is just about to write its pid, unless that was long ago.
    if (!owner) return Date.now() - (mtime(installing) ?? 0) < 5_000;
    process.kill(owner, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

async function install() {
  say("Installing dependencies with npm ci (once, about a minute)…");
  const startedAt = Date.now();
  // Development packages too, whatever NODE_ENV says: the same checkout runs, tests and lints itself.
  const npm = spawn("npm", ["ci", "--include=dev", "--no-audit", "--no-fund"], { cwd: project });
  let output = "";
  const keepTail = (chunk) => {
    output = (output + chunk).slice(-8_000);
  };
  npm.stdout.on("data", keepTail);
  npm.stderr.on("data", keepTail);
  const code = await new Promise((resolve, reject) => {
    npm.once("close", (exitCode, signal) => resolve(exitCode ?? signal));
    npm.once("error", (error) =>
      reject(
        new Complaint(
          error.code === "ENOENT"
            ? "npm was not found on PATH. Install Node.js with npm (https://nodejs.org), then run this again."
            : `npm could not be started: ${error.message}`,
        ),
      ),
    );
  });
  if (code !== 0) throw new Complaint(`${output.trim()}\n\nnpm ci failed (${code}). Its last lines are above.`);
  say(`Installed in ${Math.round((Date.now() - startedAt) / 1000)} s`);
}

function noNodeBinary() {
  return (
    `No Node.js 24 for ${process.platform} ${process.arch} came with the install. Supported are Linux (glibc) and macOS, ` +
    "x64 and arm64. On one of these, npm's install scripts are off: run `npm config set ignore-scripts false`, then `npm ci`."
  );
}

/**
 * Runs a TypeScript file of the project with Node 24, passing signals on.
 * @returns {Promise<number>} its exit code, 128 + the signal's number if a signal ended it
 */
async function runWithOwnNode(file, args) {
  await ensureInstalled();
  const env = { ...process.env, PATH: `${binaries}${delimiter}${process.env.PATH ?? ""}` };
  const child = spawn(ownNode, [file, ...args], { stdio: "inherit", env });

  // One Ctrl+C can arrive here several times: from the terminal, and from npm, which passes it on once more.
  const sentAt = {};
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      const now = Date.now();
      if (now - (sentAt[signal] ?? 0) > ECHO_MS) child.kill(signal);
      sentAt[signal] = now;
    });
  }

  if (process.env.npm_lifecycle_event) followParent(() => child.kill("SIGTERM"));

  return new Promise((resolve, reject) => {
    child.once("exit", (code, signal) => resolve(code ?? 128 + constants.signals[signal]));
    child.once("error", (error) => reject(new Complaint(`${ownNode} could not be started: ${error.message}`)));
  });
}

/**
 * Calls `end` once the process that started us is gone. npm runs its scripts in a shell, and a shell that is told to stop
 * may end without passing that on; whoever stopped npm would leave everything else running.
 */
function followParent(end) {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    end();
  }, PARENT_LOOK_MS);
  timer.unref();
}

/** Whether this very process can run the project's TypeScript, so that no second process is needed. */
export function canRunHere() {
  return Number.parseInt(process.versions.node, 10) >= 24 && isInstalled();
}

/** Runs a TypeScript file of the project and ends this process with its exit code. */
export async function run(file, args) {
  try {
    if (Number.parseInt(process.versions.node, 10) < OLDEST_NODE) {
      throw new Complaint(`Node.js ${OLDEST_NODE} or newer is needed, this is ${process.versions.node}.`);
    }
    process.exitCode = await runWithOwnNode(file, args);
  } catch (error) {
    say(error instanceof Complaint ? error.message : String(error?.stack ?? error));
    process.exitCode = 1;
  }
}
