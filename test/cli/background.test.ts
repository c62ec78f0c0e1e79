// The stack in the background: start, stop, restart, logs.

import { rename, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { readStackFileIn } from "../../src/stack/stack-file.ts";
import { childrenOf, isRunning } from "../support/processes.ts";
import { freePorts, newHome } from "../support/stack.ts";
import { realtime, start } from "./nself.ts";

let home: string;
let port: number;
beforeAll(async () => {
  home = await newHome();
  port = await freePorts();
});
afterAll(async () => {
  await nself("stop");
  await rm(home, { recursive: true, force: true });
});

const env = () => ({ NSELF_HOME: home, REALTIME_PORT: String(port), REALTIME_CONNECTIONS_PER_MINUTE: "0" });
const nself = (...args: string[]) => realtime(null, args, { env: env() });

test("before the first start there is nothing to stop, and no log", async () => {
  expect(await nself("stop")).toMatchObject({ code: 0, stdout: expect.stringContaining("Nothing runs in") });
  expect(await nself("logs")).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("realtime start") });
});

test("AC-176 AC-238: start waits until it is ready and says the URL; a second one says that it runs", async () => {
  const started = await nself("start");
  expect(started).toMatchObject({ code: 0, stderr: "" });
  expect(started.stdout).toContain(`✓ Ready at http://127.0.0.1:${port} (process `);
  expect(await nself("status")).toMatchObject({ code: 0, stdout: expect.stringContaining(`:${port}`) });
  const { pid } = readStackFileIn(home) ?? { pid: 0 };
  expect(await nself("start")).toMatchObject({ code: 0, stdout: expect.stringContaining(`It runs already: http://`) });
  expect(readStackFileIn(home)?.pid).toBe(pid);
});

test("AC-027 AC-028 AC-029: the log tells who came and went, as it happens, and of no payload", async () => {
  const following = start(null, ["realtime", "logs", "--follow"], { env: env() });
  await vi.waitFor(() => expect(following.stdout()).toContain("stack: ready at"), 5_000);
  const { url, serviceKey } = readStackFileIn(home) ?? { url: "", serviceKey: "" };
  await nself("channel", "create", "hush", "private");
  const client = createClient(url, serviceKey);
  const channel = client.channel("hush", { config: { private: true, broadcast: { ack: true } } });
  await new Promise<void>((resolve) => {
    channel.subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  await channel.send({ type: "broadcast", event: "e", payload: { text: "a-secret-of-ours" } });
  await client.removeAllChannels();
  await client.realtime.disconnect();
  await vi.waitFor(() => {
    expect(following.stdout()).toMatch(/"event":"connected".*\n(.*\n)*.*"event":"disconnected"/);
  }, 10_000);
  following.child.kill("SIGINT");
  expect(await following.ended).toMatchObject({ code: 0 });
  const { code, stdout } = await nself("logs");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d stack: ready at/m);
  expect(stdout).toContain('"event":"connected"');
  expect(stdout).not.toContain("a-secret-of-ours");
  expect((await nself("logs", "--lines", "1")).stdout.trimEnd().split("\n")).toHaveLength(1);
  expect((await stat(join(home, "stack.log"))).mode & 0o777).toBe(0o600);
});

test("restart is another process, which knows what was there", async () => {
  const before = readStackFileIn(home)?.pid ?? 0;
  expect(await nself("restart")).toMatchObject({ code: 0 });
  expect(isRunning(before)).toBe(false);
  expect(await nself("channel", "get", "hush")).toMatchObject({ code: 0 });
});

test("AC-183: a name that is no setting is told, with the one that it resembles, and kept in the log", async () => {
  await nself("stop");
  const misspelt = { ...env(), REALTIME_MAX_CONECTIONS: "5", REALTIME_COLOUR: "red" };
  const started = await realtime(null, ["start"], { env: misspelt });
  const told = "REALTIME_MAX_CONECTIONS is no setting and is ignored. Did you mean REALTIME_MAX_CONNECTIONS?";
  expect(started).toMatchObject({ code: 0, stderr: expect.stringContaining(`✱ ${told}\n`) });
  expect(started.stderr).toContain("REALTIME_COLOUR is no setting and is ignored. See npm start -- --help\n");
  expect((await nself("logs")).stdout).toContain(told);
});

test("a restart stays on the port that start was given, until it is given another", async () => {
  const elsewhere = await newHome();
  const [first, second] = [await freePorts(), await freePorts()];
  const run = (...args: string[]) => realtime(null, args, { env: { NSELF_HOME: elsewhere } });
  try {
    expect(await run("start", "--port", String(first))).toMatchObject({ code: 0, stderr: "" });
    expect(await run("restart")).toMatchObject({ code: 0, stdout: expect.stringContaining(`:${first} (process `) });
    expect(await run("restart", "--port", String(second))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`:${second} (process `),
    });
  } finally {
    await run("stop");
    await rm(elsewhere, { recursive: true, force: true });
  }
});

test("stop ends all of it; what was there is there after the next start", async () => {
  const pid = readStackFileIn(home)?.pid ?? 0;
  const children = childrenOf(pid).map((child) => child.pid);
  expect(children.length).toBeGreaterThanOrEqual(3);
  expect(await nself("stop")).toMatchObject({ code: 0, stdout: expect.stringContaining("✓ Stopped") });
  expect([pid, ...children].filter(isRunning)).toEqual([]);
  expect(readStackFileIn(home)).toBeUndefined();
});

test("AC-183: what cannot start says why: the port and its setting, a setting's bad value", async () => {
  const server = createServer().listen(port, "127.0.0.1");
  expect(await nself("start")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`Port ${port} on 127.0.0.1 is taken by another program. Set REALTIME_PORT`),
  });
  await new Promise((resolve) => server.close(resolve));
  expect(await realtime(null, ["start"], { env: { ...env(), REALTIME_PRESENCE_TIMEOUT: "soon" } })).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("REALTIME_PRESENCE_TIMEOUT must be a whole number"),
  });
  expect(await nself("start", "--port", "70000")).toMatchObject({ code: 2, stdout: "" });
});

test("who follows the log goes on when it begins anew, though for a moment there is none", async () => {
  const elsewhere = await newHome();
  const log = join(elsewhere, "stack.log");
  try {
    await writeFile(log, "the old one\n");
    const following = start(null, ["realtime", "logs", "--follow"], { env: { ...env(), NSELF_HOME: elsewhere } });
    await vi.waitFor(() => expect(following.stdout()).toContain("the old one"), 5_000);
    await rename(log, `${log}.1`);
    // Long enough for it to look several times.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await writeFile(log, "the new one\n");
    await vi.waitFor(() => expect(following.stdout()).toBe("the old one\nthe new one\n"), 5_000);
    following.child.kill("SIGINT");
    expect(await following.ended).toMatchObject({ code: 0, stderr: "" });
  } finally {
    await rm(elsewhere, { recursive: true });
  }
});
