// The command line in general, and the commands on the whole: init, status, connections.
import { readFile } from "node:fs/promises";
import { createClient } from "@supabase/supabase-js";
import pg from "pg";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freePort } from "../support/postgres.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime, start } from "./nself.ts";

let stack: TestStack;
beforeAll(async () => {
  stack = await startStack({ env: { REALTIME_GATEWAY_SOCKETS: "123" } });
});
afterAll(() => stack?.stop());

const nself = (...args: string[]) => realtime(stack, args);
const json = async (...args: string[]) => JSON.parse((await nself(...args, "--json")).stdout);

async function connect(): Promise<() => Promise<unknown>> {
  const client = createClient(stack.url, stack.anonKey);
  await new Promise<void>((resolve) => {
    client.channel("general").subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  return async () => {
    await client.removeAllChannels();
    await client.realtime.disconnect();
  };
}

test("AC-001: no command prints the usage and is an error, --help prints the same and is none", async () => {
  const [bare, help] = [await nself(), await nself("--help")];
  expect(bare).toMatchObject({ code: 2, stdout: expect.stringContaining("Usage: nself realtime") });
  expect(help).toMatchObject({ code: 0, stdout: bare.stdout });
});

test("AC-002: an unknown command is named on stderr, with the usage", async () => {
  for (const args of [["nosuch"], ["channel", "nosuch"], ["presence", "nosuch"]]) {
    const run = await nself(...args);
    expect(run).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(
        /^✗ unknown command 'nosuch'\nUsage: nself realtime.*\nHelp: nself realtime.* --help\n$/,
      ),
    });
  }
});

test("--version is that of the project", async () => {
  const { version } = JSON.parse(await readFile("package.json", "utf8"));
  expect(await start(stack, ["--version"]).ended).toMatchObject({ code: 0, stdout: `${version}\n` });
});

test("commands are shown as they can be typed: by npx, where npm runs us", async () => {
  const env = { npm_execpath: "/usr/bin/npm" };
  const { stderr } = await realtime(stack, ["listen", "general"], { env });
  expect(stderr).toContain("run: npx nself realtime subscribe general;");
  expect(stderr).toContain("npx nself realtime listen channel:general\n");
  expect((await nself("listen", "general")).stderr).toContain("run: nself realtime subscribe general;");
});

test("AC-005: `nself service realtime` and `nself service rt` are the same command", async () => {
  const { stdout } = await nself("status");
  for (const name of ["realtime", "rt"]) {
    expect(await start(stack, ["service", name, "status"]).ended).toMatchObject({ code: 0, stdout });
  }
});

test("AC-012 AC-013 AC-014: init makes a default channel, may be repeated, and loses nothing", async () => {
  const first = await nself("init");
  expect(first).toMatchObject({ code: 0, stderr: "", stdout: expect.stringContaining("✓ Real-time system is ready!") });
  for (const step of ["subscribe", "channel create", "presence track", "broadcast"]) {
    expect(first.stdout).toContain(`nself realtime ${step}`);
  }
  expect(first.stdout).toContain("nself realtime subscribe public.todos\n");
  await nself("broadcast", "general", "e", "{}");
  await nself("presence", "track", "ann", "general");
  const before = [await json("channel", "list"), await json("messages", "general")];
  expect(before[0]).toMatchObject([{ slug: "general", type: "public" }]);
  expect(await nself("init")).toMatchObject({ code: 0 });
  expect([await json("channel", "list"), await json("messages", "general")]).toEqual(before);
  expect(await json("presence", "get", "ann", "general")).toMatchObject([{ status: "online" }]);
  expect(await nself("channel", "create", "general", "public")).toMatchObject({ code: 0 });
});

test("AC-018: init says which part failed", async () => {
  const port = await freePort();
  const env = {
    NSELF_REALTIME_URL: stack.url,
    NSELF_REALTIME_SERVICE_KEY: stack.serviceKey,
    DATABASE_URL: `postgres://nobody:secret@127.0.0.1:${port}/none`,
  };
  const run = await realtime(stack, ["init"], { env });
  expect(run).toMatchObject({ code: 1, stderr: expect.stringContaining("✗ the database schema: ") });
  expect(run.stderr).not.toContain("secret");
});

test("AC-019 AC-022 AC-024 AC-025: status says what runs, how many channels of each type, and the limits", async () => {
  await nself("channel", "create", "inner", "private");
  await nself("channel", "create", "lobby", "presence");
  const { code, stdout } = await nself("status");
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Real-Time System Status\n\n✓ WebSocket server running\n✓ \d+ active connections\n/);
  expect(stdout).toContain("✓ 3 channels (1 public, 1 private, 1 presence)\n");
  expect(stdout).toContain("✓ Presence tracking enabled\n");
  expect(stdout).toMatch(new RegExp(`^ {2}URL: +${stack.url}$`, "m"));
  expect(stdout).toMatch(/^ {2}Max payload bytes: +1,000,000$/m);
  expect(stdout).toMatch(/^ {2}Max connections per gateway: +123$/m);
  expect(stdout).toMatch(/^ {2}Tables monitored: +0$/m);
});

test("AC-021 AC-161 AC-162 AC-164: connections are counted as they come and go, a line each in a pipe", async () => {
  await vi.waitFor(async () => expect(await json("connections")).toEqual([]), 15_000);
  const ends = await Promise.all([connect(), connect(), connect()]);
  const counts = async () => {
    const { stdout, stderr } = await nself("connections");
    const status = (await nself("status")).stdout.match(/✓ (\d+) active connections/)?.[1];
    return { lines: stdout.split("\n").length - 1, heading: stderr, status };
  };
  expect(await counts()).toEqual({ lines: 3, heading: "Active Connections: 3\n", status: "3" });
  const [first, ...others] = ends;
  await first?.();
  await vi.waitFor(async () => expect(await counts()).toMatchObject({ lines: 2, status: "2" }), 15_000);
  await Promise.all(others.map((end) => end()));
});

test("AC-158 AC-159 AC-160: the forms of connections", async () => {
  const end = await connect();
  const [row] = await json("connections");
  expect(Object.keys(row)).toEqual(
    expect.arrayContaining([
      "user_id",
      "connection_id",
      "status",
      "connected_at",
      "last_seen_at",
      "seconds_since_seen",
    ]),
  );
  expect(row).toMatchObject({ status: "connected", channels: ["general"] });
  expect((await nself("connections")).stdout).toMatch(/^ {2}\S+ +\S+ +general +Connected \d+s ago$/m);
  expect((await nself("connections", "--format", "table")).stdout).toMatch(
    /^ user_id +\| connection_id +\| status +\| connected_at +\| seconds_since_seen\n/,
  );
  await end();
});

test("AC-007: no escape bytes where no terminal is", async () => {
  for (const args of [["status"], ["channel", "list"], ["nosuch"]]) {
    const { stdout, stderr } = await nself(...args);
    expect(stdout + stderr).not.toContain("\u001b");
  }
});

test("a server that is named in the environment wins over the stack that runs", async () => {
  const env = {
    NSELF_REALTIME_URL: `http://127.0.0.1:${await freePort()}`,
    NSELF_REALTIME_SERVICE_KEY: stack.serviceKey,
  };
  expect(await realtime(stack, ["channel", "list"], { env })).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("does not answer"),
  });
  expect(
    await realtime(null, ["channel", "list"], { env: { ...env, NSELF_REALTIME_URL: `${stack.url}/` } }),
  ).toMatchObject({ code: 0 });
  const { NSELF_REALTIME_URL } = env;
  expect(await realtime(stack, ["channel", "list"], { env: { NSELF_REALTIME_URL } })).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("NSELF_REALTIME_SERVICE_KEY is not"),
  });
});

test("a key that is not the service key is refused, and said to be", async () => {
  for (const key of [stack.anonKey, "nonsense"]) {
    const env = { NSELF_REALTIME_URL: stack.url, NSELF_REALTIME_SERVICE_KEY: key };
    expect(await realtime(null, ["channel", "list"], { env })).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringContaining("service key"),
    });
  }
});

test("AC-020: where no server runs, status says so, and every other command how to name one", async () => {
  expect(await realtime(null, ["status"])).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/\n✗ WebSocket server not running: no server found: .*npm start/),
    stderr: "",
  });
  expect(await realtime(null, ["channel", "list"])).toMatchObject({
    code: 1,
    stdout: "",
    stderr: expect.stringMatching(/npm start.*NSELF_REALTIME_URL and NSELF_REALTIME_SERVICE_KEY/),
  });
});

// Last: it takes the schema away.
test("AC-026: before init, status says to run it", async () => {
  const sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("drop schema realtime cascade");
  await sql.end();
  expect(await nself("status")).toMatchObject({ code: 1, stderr: expect.stringContaining("Run: nself realtime init") });
  expect(await nself("channel", "list")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("nself realtime init"),
  });
  expect(await nself("init")).toMatchObject({ code: 0 });
  expect(await nself("status")).toMatchObject({ code: 0 });
});
