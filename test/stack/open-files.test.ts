// A system that lets a process open few files: the edge takes no more sockets than it can hold.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readStackFileIn, type StackFile } from "../../src/stack/stack-file.ts";
import { admin } from "../support/admin.ts";
import { freePorts, newHome } from "../support/stack.ts";

const FILES = 4_000;
const START_LIMIT_MS = 30_000;

let home: string;
let child: ChildProcess;
let said: string;
beforeEach(async () => {
  home = await newHome();
  said = "";
});
afterEach(async () => {
  const gone = once(child, "close");
  child.kill("SIGTERM");
  await gone;
  await rm(home, { recursive: true });
});

/** Starts a stack that may open few files a process. */
async function start(env: Record<string, string>): Promise<StackFile> {
  const command = `ulimit -n ${FILES} && exec "$0" src/stack/main.ts`;
  const settings = { NSELF_HOME: home, REALTIME_PORT: String(await freePorts()), DATABASE_URL: "none", ...env };
  child = spawn("/bin/sh", ["-c", command, process.execPath], { env: { PATH: process.env.PATH, ...settings } });
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
  }
  for (const giveUpAt = Date.now() + START_LIMIT_MS; Date.now() < giveUpAt; await sleep(20)) {
    const file = readStackFileIn(home);
    if (file !== undefined) return file;
  }
  throw new Error(`no stack:\n${said}`);
}

const status = (stack: StackFile) => admin(stack, "GET", "/status");

test.runIf(process.platform === "linux")(
  "the number of sockets is lowered where nobody has said it, and told",
  async () => {
    const stack = await start({});
    expect(await status(stack)).toMatchObject({ limits: { max_connections: 1_800 } });
    expect(said).toContain(
      "a process may open 4000 files here (ulimit -n), enough for 1800 sockets: more are not taken",
    );
  },
);

test.runIf(process.platform === "linux")("who asks for more gets it, and a warning", async () => {
  const stack = await start({ REALTIME_MAX_CONNECTIONS: "1900" });
  expect(await status(stack)).toMatchObject({ limits: { max_connections: 1_900 } });
  expect(said).toContain("enough for 1800 sockets and the channels they use: REALTIME_MAX_CONNECTIONS=1900 is more");
});
