// What needs nothing but this package: no PostgreSQL, Redis or Docker of the machine, and for most of it no database at all.
import { readlinkSync } from "node:fs";
import { createClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { realtime } from "../cli/nself.ts";
import { broadcast, Clients, eventually, join } from "../support/clients.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { childrenOf } from "../support/processes.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

describe("with a database of the package's own", () => {
  let stack: TestStack;
  beforeAll(async () => {
    stack = await startStack();
  });
  afterAll(() => stack?.stop());

  test.runIf(process.platform === "linux")(
    "AC-237: whatever runs came with the package, and row changes work as well",
    async () => {
      const programs = childrenOf(stack.pid).map(({ pid }) => readlinkSync(`/proc/${pid}/exe`));
      expect(programs.map((path) => path.split("/").at(-1)).sort()).toEqual(
        expect.arrayContaining(["node", "postgres", "workerd"]),
      );
      // The guard is a shell.
      for (const path of programs) expect(path).toMatch(/\/node_modules\/|^(\/usr)?\/bin\/\w*sh$/);
      for (const command of ["channel create team private", "subscribe public.todos", "broadcast team hello {}"]) {
        expect(await realtime(stack, command.split(" "))).toMatchObject({ code: 0, stderr: "" });
      }
    },
  );
});

describe("DATABASE_URL=none", () => {
  let stack: TestStack;
  let clients: Clients;
  beforeAll(async () => {
    stack = await startStack({ env: { DATABASE_URL: "none" } });
    clients = new Clients(stack);
  });
  afterAll(async () => {
    await clients?.close();
    await stack?.stop();
  });
  const nself = (...args: string[]) => realtime(stack, args);
  const json = async (...args: string[]) => JSON.parse((await nself(...args, "--json")).stdout);

  test("AC-237: nothing runs but the edge, and status says so", async () => {
    const commands = childrenOf(stack.pid).map(({ command }) => command);
    expect(commands.some((command) => command.includes("workerd"))).toBe(true);
    expect(commands.some((command) => /postgres|listener/.test(command))).toBe(false);
    const status = await nself("status");
    expect(status).toMatchObject({ code: 0, stderr: "" });
    expect(status.stdout).toContain("✓ Open channels only: there is no database (DATABASE_URL=none)\n");
    expect(await json("status")).toMatchObject({ server: "running", store: "none" });
  });

  test("AC-237: channels, broadcasts and presence go between clients, the command line and HTTP", async () => {
    const [ann, bob] = ["ann", "bob"].map((key) => {
      const channel = clients.open().channel("room", { config: { broadcast: { ack: true }, presence: { key } } });
      const heard: unknown[] = [];
      channel.on("broadcast", { event: "*" }, ({ event, payload }) => void heard.push([event, payload]));
      channel.on("presence", { event: "sync" }, () => {});
      return { channel, heard };
    });
    if (ann === undefined || bob === undefined) throw new Error("there are two");
    await Promise.all([join(ann.channel), join(bob.channel)]);
    expect(await broadcast(ann.channel, "by socket", { n: 1 })).toBe("ok");
    expect(await nself("broadcast", "room", "by command", '{"n": 2}')).toMatchObject({ code: 0 });
    const http = createClient(stack.url, stack.anonKey).channel("room");
    expect(await http.httpSend("by http", { n: 3 })).toMatchObject({ success: true });
    await eventually(() =>
      expect(bob.heard).toEqual([
        ["by socket", { n: 1 }],
        ["by command", { n: 2 }],
        ["by http", { n: 3 }],
      ]),
    );
    expect(await json("messages", "room")).toHaveLength(3);
    expect(await json("replay", "room", "1700000000")).toMatchObject([
      { payload: { n: 1 } },
      {},
      { payload: { n: 3 } },
    ]);

    await ann.channel.track({ mood: "fine" });
    await nself("presence", "track", "carl", "room", "away");
    await eventually(() => expect(Object.keys(bob.channel.presenceState()).sort()).toEqual(["ann", "carl"]));
    expect(await json("presence", "online", "room")).toMatchObject([{ channel: "room" }, { channel: "room" }]);
    expect(await json("presence", "count", "room")).toMatchObject({ online: 1, away: 1, total: 2 });
    expect(await nself("presence", "offline", "carl")).toMatchObject({ code: 0 });
    expect(await json("connections")).toHaveLength(2);
    for (const command of ["stats", "cleanup", "channel list", "subscriptions", "presence stats", "presence cleanup"]) {
      expect(await nself(...command.split(" "))).toMatchObject({ code: 0, stderr: "" });
    }
  });

  test("AC-237: who was away gets what was said since, by position and by time, on a direct socket too", async () => {
    const topic = "realtime:gap";
    const since = Date.now();
    const first = await RawSocket.open(stack.url, { key: stack.anonKey });
    const { response } = await first.join(topic);
    // A name that nobody uses is refused by the command line: it is more likely a slip.
    const keeper = await RawSocket.open(stack.url, { key: stack.anonKey });
    await keeper.join(topic);
    first.close();
    for (const n of [1, 2]) await nself("broadcast", "gap", "said", `{"n": ${n}}`);
    for (const path of ["/realtime/v1/websocket", "/realtime/v1/channels/gap/websocket"]) {
      for (const wish of [{ resume: response.position }, { replay: { since, limit: 10 } }]) {
        const back = await RawSocket.open(stack.url, { key: stack.anonKey, path });
        await back.join(topic, { broadcast: wish });
        const missed = await back.until("what was missed", 2, ({ event }) => event === "broadcast");
        expect(missed.map(({ payload }) => payload.payload)).toEqual([{ n: 1 }, { n: 2 }]);
        back.close();
      }
    }
    keeper.close();
  });

  test("a name that nobody uses is not advised to be registered", async () => {
    const { code, stderr } = await nself("presence", "get", "ann", "nobody-uses-this");
    expect(code).toBe(1);
    expect(stderr).toContain("once somebody joins it (`nself realtime listen channel:<name>`)");
    expect(stderr).not.toContain("channel create");
  });

  test("AC-237: what a database is needed for is refused with the reason", async () => {
    for (const command of ["channel create team private", "subscribe public.todos", "init"]) {
      expect(await nself(...command.split(" "))).toMatchObject({
        code: 1,
        stderr: expect.stringContaining("runs without a database (DATABASE_URL=none)"),
      });
    }
  });
});

describe("a database that goes away", () => {
  let postgres: TestPostgres;
  let stack: TestStack;
  beforeAll(async () => {
    postgres = await startPostgres();
    stack = await startStack({ env: { DATABASE_URL: postgres.url } });
  });
  afterAll(async () => {
    await stack?.stop();
    await postgres?.stop();
  });

  test("AC-237: sockets, broadcasts, presence and replay go on; what has to be looked up is refused with the reason", async () => {
    expect(await realtime(stack, ["channel", "create", "known"])).toMatchObject({ code: 0 });
    const before = await RawSocket.open(stack.url, { key: stack.anonKey });
    await before.join("realtime:known", { presence: { enabled: true } });
    await postgres.stop();

    const after = await RawSocket.open(stack.url, { key: stack.anonKey });
    for (const topic of ["realtime:known", "realtime:unknown"]) {
      expect(await after.join(topic, { broadcast: { ack: true } })).toMatchObject({ status: "ok" });
      const content = { type: "broadcast", event: "e", payload: { topic } };
      expect(await after.ask(topic, "broadcast", content)).toMatchObject({ status: "ok" });
    }
    await before.until("the broadcast", 1, ({ event }) => event === "broadcast");
    const tracked = { type: "presence", event: "track", payload: { here: true } };
    expect(await after.ask("realtime:known", "presence", tracked)).toMatchObject({ status: "ok" });
    await before.until("the presence", 1, ({ event }) => event === "presence_diff");
    const late = await RawSocket.open(stack.url, { key: stack.anonKey });
    await late.join("realtime:known", { broadcast: { replay: { since: 1, limit: 10 } } });
    await late.until("the replay", 1, ({ event }) => event === "broadcast");

    const list = await fetch(`${stack.url}/admin/v1/channels`, { headers: { apikey: stack.serviceKey } });
    expect(list.status).toBe(503);
    expect(await list.json()).toMatchObject({ detail: expect.stringContaining("PostgreSQL does not answer") });
    const status = await realtime(stack, ["status"]);
    expect(status).toMatchObject({ code: 1, stderr: expect.stringContaining("PostgreSQL does not answer") });
    expect(status.stdout).toContain("✗ PostgreSQL not reachable");
    expect(status.stdout).toContain("✓ 3 active connections");
    for (const socket of [before, after, late]) socket.close();
  });
});
