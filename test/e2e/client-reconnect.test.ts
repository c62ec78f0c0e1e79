// @nself/client on a connection that breaks: it comes back by itself, resumes, and says what it could not get again.
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Channel, ClientOptions, Gap } from "../../src/client/index.ts";
import { realtime } from "../cli/nself.ts";
import { admin } from "../support/admin.ts";
import { eventually, oneClientAGateway, uniqueName } from "../support/clients.ts";
import { TcpProxy } from "../support/proxy.ts";
import { Relay, type RelayedFrame } from "../support/relay.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { OwnClients } from "./client-helpers.ts";

let stack: TestStack;
let clients: OwnClients;
let proxy: TcpProxy;

beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new OwnClients(stack);
  proxy = await TcpProxy.start(stack.url);
});

afterEach(() => {
  clients.close();
  proxy.restore();
});

afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
});

/** A client that notes the numbers that it hears. */
async function counting(name: string, options: Partial<ClientOptions> = {}) {
  const heard: number[] = [];
  const gaps: Gap[] = [];
  const client = clients.open(options);
  const channel = client.channel(name);
  channel.on<{ n: number }>("broadcast", { event: "n" }, ({ payload }) => void heard.push(payload.n));
  channel.on("gap", (gap) => void gaps.push(gap)).subscribe();
  await eventually(() => expect(channel.isJoined).toBe(true));
  return { client, channel, heard, gaps };
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);

/** Sends numbers one after the other. */
async function count(channel: Channel, from: number, to: number): Promise<void> {
  for (const n of numbers(from, to)) await say(channel, n);
}

function say(channel: Channel, n: number): Promise<void> {
  return channel.send({ type: "broadcast", event: "n", payload: { n } });
}

describe("a client that loses its connection", () => {
  test("AC-193: reconnects, joins again and gets what it missed, each message once and in order", async () => {
    const name = uniqueName("network");
    const sender = await counting(name);
    const receiver = await counting(name, { url: proxy.url });
    await count(sender.channel, 1, 10);
    proxy.cut();
    await count(sender.channel, 11, 60);
    proxy.restore();
    await eventually(() => expect(receiver.channel.isJoined).toBe(true));
    await count(sender.channel, 61, 70);
    await eventually(() => expect(receiver.heard).toContain(70));
    expect(receiver.heard).toEqual(numbers(1, 70));
    expect(receiver.gaps).toEqual([]);
    expect(receiver.client.errors.map(({ code }) => code)).toContain("connection_lost");
  });

  test("AC-193: all its channels come back, and its presence with them, when the edge is killed", async () => {
    const names = [uniqueName("one"), uniqueName("two")];
    const [one, two] = names.map((name) => clients.open().channel(name).subscribe());
    const client = clients.open();
    const heard: unknown[] = [];
    const channels = names.map((name) =>
      client.channel(name).on("broadcast", { event: "n" }, ({ payload }) => void heard.push([name, payload.n])),
    );
    await Promise.all(channels.map((channel) => channel.track({ user_id: "ann" })));
    one?.on("presence", { event: "sync" }, () => {});
    await eventually(() => expect(Object.keys(one?.presenceState() ?? {})).toEqual(["ann"]));
    await stack.killEdge();
    await Promise.all([one, two].map((channel) => channel && say(channel, 1)));
    await eventually(() => expect(heard.toSorted()).toEqual(names.map((name) => [name, 1]).toSorted()));
    await eventually(() => expect(Object.keys(one?.presenceState() ?? {})).toEqual(["ann"]));
  });

  test("AC-193: sends once what it was sending, whatever dies meanwhile, and hears the others without loss", async () => {
    const name = uniqueName("storm");
    const receiver = await counting(name, { url: proxy.url });
    const senders = await Promise.all([stack.url, proxy.url].map((url) => counting(name, { url, queueSize: 1_000 })));
    const outcomes: Promise<unknown>[] = [];
    const unknown: number[] = [];
    for (const n of numbers(1, 300)) {
      const sender = senders[n % 2]?.channel;
      if (sender === undefined) throw new Error("two senders");
      outcomes.push(say(sender, n).catch(() => void unknown.push(n)));
      if (n === 100 || n === 200) {
        proxy.cut();
        setTimeout(() => proxy.restore(), 50);
      }
      if (n === 150) void stack.killEdge();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await Promise.all(outcomes);
    await eventually(() => expect(receiver.heard.length).toBeGreaterThanOrEqual(300 - unknown.length));
    await eventually(() => expect(receiver.channel.isJoined).toBe(true));
    const known = receiver.heard.filter((n) => !unknown.includes(n));
    expect(new Set(receiver.heard).size).toBe(receiver.heard.length);
    for (const odd of [0, 1]) {
      const of = known.filter((n) => n % 2 === odd);
      expect(of).toEqual(of.toSorted((a, b) => a - b));
      expect(of).toHaveLength(150 - unknown.filter((n) => n % 2 === odd).length);
    }
    // Nobody hears themselves, not among what they missed either.
    expect(
      senders.map(({ heard }) => heard.filter((n, at) => senders[n % 2]?.heard === heard || heard.indexOf(n) !== at)),
    ).toEqual([[], []]);
    // Only what cannot be had again may be in doubt, and then that is told.
    if (receiver.gaps.length === 0) expect(known).toHaveLength(300 - unknown.length);
  });

  test("AC-193: notices a connection that swallows everything by its heartbeat", async () => {
    const name = uniqueName("silent");
    const sender = await counting(name);
    const receiver = await counting(name, { url: proxy.url, heartbeatIntervalMs: 300, timeoutMs: 500 });
    proxy.swallow();
    await count(sender.channel, 1, 5);
    await eventually(() => expect(receiver.heard).toEqual(numbers(1, 5)));
  });

  test("AC-193: of a row change feed it gets the rows that it missed, too", async () => {
    const { default: pg } = await import("pg");
    const db = new pg.Client({ connectionString: stack.databaseUrl });
    await db.connect();
    try {
      const table = uniqueName("phones").replaceAll("-", "_");
      await db.query(`create table ${table} (n int primary key)`);
      await db.query("select realtime.subscribe($1)", [table]);
      const rows: unknown[] = [];
      const channel = clients.open({ url: proxy.url }).channel(`realtime:table:public.${table}`);
      channel.on("INSERT", (row) => void rows.push(row.new.n)).subscribe();
      await eventually(() => expect(channel.isJoined).toBe(true));
      await db.query(`insert into ${table} values (1)`);
      await eventually(() => expect(rows).toEqual([1]));
      proxy.cut();
      await db.query(`insert into ${table} values (2), (3)`);
      proxy.restore();
      await eventually(() => expect(rows).toEqual([1, 2, 3]));
    } finally {
      await db.end();
    }
  });

  test("AC-193: is told by `gap` when more was missed than can be had again, and goes on", async () => {
    const name = uniqueName("forgotten");
    const sender = await counting(name);
    const receiver = await counting(name, { url: proxy.url });
    await say(sender.channel, 1);
    await eventually(() => expect(receiver.heard).toEqual([1]));
    proxy.cut();
    // One resume brings 8 MB at most.
    const payload = { n: 2, text: "x".repeat(990_000) };
    for (let sent = 0; sent < 9; sent++) await sender.channel.send({ type: "broadcast", event: "n", payload });
    proxy.restore();
    await eventually(() => expect(receiver.gaps).toHaveLength(1));
    expect(receiver.gaps[0]).toEqual({ from: { epoch: expect.any(String), seq: 1 }, reason: expect.any(String) });
    await say(sender.channel, 3);
    await eventually(() => expect(receiver.heard).toEqual([1, 3]));
  });

  test("a gap that nobody listens for is told by onError", async () => {
    const client = clients.open({ url: proxy.url });
    const rows = client.channel(uniqueName("rows")).on("postgres_changes", { event: "*", table: "todos" }, () => {});
    rows.subscribe();
    await eventually(() => expect(rows.isJoined).toBe(true));
    proxy.cut();
    proxy.restore();
    await eventually(() => expect(client.errors.map(({ code }) => code)).toContain("gap"));
  });

  test("what is sent meanwhile waits, up to a bound, and what cannot be sent any more is told", async () => {
    const name = uniqueName("waiting");
    const receiver = await counting(name);
    const sender = await counting(name, { url: proxy.url, queueSize: 3 });
    proxy.cut();
    await eventually(() => expect(sender.client.status).toBe("waiting"));
    const outcomes = numbers(1, 4).map((n) => say(sender.channel, n).catch((error: { code: string }) => error.code));
    expect(await outcomes[3]).toBe("queue_full");
    proxy.restore();
    expect(await Promise.all(outcomes)).toEqual([undefined, undefined, undefined, "queue_full"]);
    await eventually(() => expect(receiver.heard).toEqual([1, 2, 3]));
    proxy.cut();
    await eventually(() => expect(sender.client.status).toBe("waiting"));
    const last = say(sender.channel, 5);
    sender.client.disconnect();
    await expect(last).rejects.toMatchObject({ code: "left" });
  });

  test("what the server never got is sent again, though the newest of what was missed has been deleted", async () => {
    const name = uniqueName("deleted");
    expect((await realtime(stack, ["channel", "create", name, "public"])).code).toBe(0);
    const ids: string[] = [];
    const other = await counting(name);
    other.channel.on("broadcast", { event: "n" }, ({ meta }) => void ids.push(meta.id));
    const talker = await counting(name);
    const sender = await counting(name, { url: proxy.url });
    await say(sender.channel, 1);
    await say(talker.channel, 2);
    await eventually(() => expect(sender.heard).toEqual([2]));
    for (const missed of [[3], [4, 5]]) {
      proxy.swallow();
      const underWay = say(sender.channel, 10 + (missed[0] ?? 0));
      proxy.cut();
      for (const n of missed) await say(talker.channel, n);
      await eventually(() => expect(other.heard).toContain(missed.at(-1)));
      await admin(stack, "DELETE", `/channels/${name}/messages/${ids.at(-1)}`);
      proxy.restore();
      await underWay;
    }
    await eventually(() => expect(other.heard).toEqual([1, 2, 3, 13, 4, 5, 14]));
    expect(sender.heard).toEqual([2, 4]);
  });

  test("what the server never got is sent again; of bytes, which nobody can recognise, that is left to the sender", async () => {
    const name = uniqueName("swallowed");
    const receiver = await counting(name);
    const sender = await counting(name, { url: proxy.url });
    await say(sender.channel, 1);
    proxy.swallow();
    const message = say(sender.channel, 2);
    const bytes = sender.channel.send({ type: "broadcast", event: "n", payload: new Uint8Array([3]) });
    proxy.cut();
    proxy.restore();
    await expect(bytes).rejects.toMatchObject({ code: "in_doubt" });
    await message;
    await eventually(() => expect(receiver.heard).toEqual([1, 2]));
  });

  test("a client that was disconnected connects again when it is asked to, and resumes", async () => {
    const name = uniqueName("nap");
    const sender = await counting(name);
    const sleeper = await counting(name);
    sleeper.client.disconnect();
    await count(sender.channel, 1, 5);
    expect(sleeper.heard).toEqual([]);
    await sleeper.client.connect();
    await eventually(() => expect(sleeper.heard).toEqual(numbers(1, 5)));
    sleeper.channel.unsubscribe();
    await count(sender.channel, 6, 7);
    expect(sleeper.heard).toEqual(numbers(1, 5));
    sleeper.channel.subscribe();
    await eventually(() => expect(sleeper.heard).toEqual(numbers(1, 7)));
  });
});

describe("the clock of a client", () => {
  test("AC-181: client and server beat once each heartbeat interval", async () => {
    await using relay = await Relay.start(stack.url);
    clients.open({ url: relay.url, heartbeatIntervalMs: 400 });
    const beats = (from: RelayedFrame["from"]): number[] =>
      relay.frames.filter((frame) => frame.from === from && frame.text.includes('"phoenix"')).map(({ at }) => at);
    await eventually(() => expect(beats("server").length).toBeGreaterThanOrEqual(4));
    expect(beats("client").length - beats("server").length).toBeLessThanOrEqual(1);
    // A busy machine may be late, never early.
    expect(Math.min(...intervals(beats("client")))).toBeGreaterThan(300);
    expect(Math.min(...intervals(beats("client")))).toBeLessThan(800);
  });

  test("AC-182: tries again after about the reconnect delay, and never waits longer", async () => {
    await using relay = await Relay.start(stack.url);
    const client = clients.open({ url: relay.url, reconnectDelayMs: 500 });
    await client.connect();
    relay.refuses = true;
    const droppedAt = performance.now();
    relay.drop();
    await eventually(() => expect(relay.asked.length).toBeGreaterThanOrEqual(4));
    const [, first = 0] = relay.asked;
    expect(first - droppedAt).toBeGreaterThan(350);
    expect(first - droppedAt).toBeLessThan(1_500);
    expect(Math.min(...intervals(relay.asked.slice(1)))).toBeGreaterThan(350);
    expect(Math.min(...intervals(relay.asked.slice(1)))).toBeLessThan(1_500);
    relay.refuses = false;
    await eventually(() => expect(client.status).toBe("connected"));
  });

  test("a page that comes back from sleep, or finds its network again, waits no longer", async () => {
    const page = new EventTarget();
    vi.stubGlobal("window", page);
    try {
      await using relay = await Relay.start(stack.url);
      const client = clients.open({ url: relay.url, reconnectDelayMs: 60_000 });
      await client.connect();
      relay.refuses = true;
      relay.drop();
      await eventually(() => expect(client.status).toBe("waiting"));
      relay.refuses = false;
      page.dispatchEvent(new Event("online"));
      expect(client.status).toBe("connecting");
      await eventually(() => expect(client.status).toBe("connected"));
    } finally {
      vi.unstubAllGlobals();
    }
  });

  test("waits twice as long each time, up to the reconnect delay", async () => {
    await using relay = await Relay.start(stack.url);
    relay.refuses = true;
    clients.open({ url: relay.url, reconnectDelayMs: 2_000 });
    // One second, then two at most, of which a quarter is chance.
    await eventually(() => expect(relay.asked).toHaveLength(3));
    const [first, second] = intervals(relay.asked);
    expect(first).toBeGreaterThan(700);
    expect(second).toBeGreaterThan(1_400);
  });
});

const intervals = (times: readonly number[]): number[] => times.slice(1).map((time, at) => time - (times[at] ?? 0));
