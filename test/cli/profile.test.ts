// Profiles: servers by name, in a file of the user's own.
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { type RunOptions, start } from "./nself.ts";

let stack: TestStack;
let config: string;
beforeAll(async () => {
  stack = await startStack();
  config = await mkdtemp(join(tmpdir(), "nself-config-"));
});
afterAll(async () => {
  await stack?.stop();
  await rm(config, { recursive: true, force: true });
});

/** Where no stack runs: what is found is found by its profile. */
const nself = (args: string[], { env, ...options }: RunOptions = {}) =>
  start(null, args, { env: { XDG_CONFIG_HOME: config, ...env }, cwd: tmpdir(), ...options }).ended;
const path = () => join(config, "nself", "profiles.json");

test("a profile is kept for its owner alone, its key read from standard input, and used when told", async () => {
  expect(await nself(["realtime", "channel", "list"])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("nself profile add"),
  });
  const added = await nself(["profile", "add", "here", `${stack.url}/`], { input: `${stack.serviceKey}\n` });
  expect(added).toMatchObject({ code: 0, stdout: expect.stringContaining(`here (${stack.url})`) });
  expect((await stat(path())).mode & 0o777).toBe(0o600);
  expect(await nself(["realtime", "channel", "list"])).toMatchObject({ code: 1 });
  expect(await nself(["realtime", "channel", "list", "--profile", "here"])).toMatchObject({ code: 0 });
  expect(await nself(["realtime", "status"], { env: { NSELF_PROFILE: "here" } })).toMatchObject({ code: 0 });
  expect(await nself(["profile", "use", "here"])).toMatchObject({ code: 0 });
  expect(await nself(["realtime", "channel", "list"])).toMatchObject({ code: 0 });
  expect(await nself(["realtime", "channel", "list", "--profile", "local"])).toMatchObject({ code: 1 });
});

test("the list says which one is in use, and never a key", async () => {
  const { stdout } = await nself(["profile", "list"]);
  expect(stdout).toBe(`     local         the stack on this machine\n  *  here          ${stack.url}\n`);
  const json = (await nself(["profile", "list", "--json"])).stdout;
  expect(JSON.parse(json)).toMatchObject([
    { name: "local", in_use: false },
    { name: "here", in_use: true },
  ]);
  expect(stdout + json).not.toContain(stack.serviceKey);
});

test("init says which database it works on when the environment names it, and not its password", async () => {
  const env = { DATABASE_URL: stack.databaseUrl };
  const { code, stderr } = await nself(["realtime", "init", "--profile", "here"], { env });
  const { host, pathname, password } = new URL(stack.databaseUrl);
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining(`${host}${pathname}`) });
  expect(stderr).toContain(stack.url);
  expect(stderr).not.toContain(`:${password}@`);
});

test("bad names, URLs and files are refused, and a profile removed is in use no more", async () => {
  for (const args of [
    ["add", "local", stack.url, "k"],
    ["add", "a b", stack.url, "k"],
    ["add", "x", "ftp://example.com", "k"],
    ["add", "x", stack.url, ""],
  ]) {
    expect(await nself(["profile", ...args])).toMatchObject({ code: 2, stdout: "" });
  }
  for (const args of [
    ["use", "nosuch"],
    ["use", "__proto__"],
    ["remove", "nosuch"],
  ]) {
    expect(await nself(["profile", ...args])).toMatchObject({ code: 1, stderr: expect.stringContaining("no profile") });
  }
  expect(await nself(["profile", "remove", "here"])).toMatchObject({ code: 0 });
  expect(JSON.parse(await readFile(path(), "utf8"))).toEqual({ current: "local", profiles: {} });
  await writeFile(path(), "{}");
  expect(await nself(["profile", "list"])).toMatchObject({ code: 1, stderr: expect.stringContaining(path()) });
});
