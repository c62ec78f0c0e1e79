// @nself/client on a connection that holds: messages, rows, presence, tokens, and what is said when something is wrong.
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Broadcast, RealtimeClient, RealtimeError, type RowChange } from "../../src/client/index.ts";
import { realtime } from "../cli/nself.ts";
import { eventually, uniqueName } from "../support/clients.ts";
import { Relay } from "../support/relay.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { userToken } from "../support/tokens.ts";
import { OwnClients } from "./client-helpers.ts";

let stack: TestStack;
let clients: OwnClients;

beforeAll(async () => {
  stack = await startStack();
  clients = new OwnClients(stack);
});

afterEach(() => clients.close());

afterAll(() => stack?.stop());

describe("connecting", () => {
  test("AC-195: new RealtimeClient({ url, apiKey }) connects", async () => {
    const client = new RealtimeClient({ url: stack.url.replace("http", "ws"), apiKey: stack.anonKey });
    try {
      await eventually(() => expect(client.status).toBe("connected"));
      const { stdout } = await realtime(stack, ["connections", "--json"]);
      expect(JSON.parse(stdout)).toHaveLength(1);
    } finally {
      client.disconnect();
    }
    expect(client.status).toBe("disconnected");
  });

  test.each(["", "/", "/realtime/v1", "/realtime/v1/websocket", "/socket"])(
    "takes the url with the path '%s'",
    async (path) => {
      await clients.open({ url: `${stack.url}${path}` }).connect();
    },
  );

  test("all channels share one socket", async () => {
    const client = clients.open();
    const channels = ["a", "b", "c"].map((name) => client.channel(uniqueName(name)).subscribe());
    await eventually(() => expect(channels.every(({ isJoined }) => isJoined)).toBe(true));
    const { stdout } = await realtime(stack, ["connections", "--json"]);
    expect(JSON.parse(stdout)).toHaveLength(1);
    expect(client.channel(channels[0]?.topic ?? "")).toBe(channels[0]);
  });

  test("a key that the server refuses, a server that is not there and options without sense are told as such", async () => {
    const refused = clients.open({ apiKey: "wrong" });
    await expect(refused.connect()).rejects.toMatchObject({ code: "unauthorized", message: /apiKey/ });
    const nowhere = clients.open({ url: "ws://127.0.0.1:9" });
    await expect(nowhere.connect()).rejects.toMatchObject({ code: "unreachable", message: /127\.0\.0\.1:9/ });
    await expect(nowhere.connect()).rejects.toMatchObject({ code: "unreachable" });
    expect(() => clients.open({ url: "localhost" })).toThrow(RealtimeError);
    expect(() => clients.open({ apiKey: "" })).toThrow("apiKey is empty");
    expect(() => clients.open().channel("")).toThrow("You must provide a topic name");
  });

  test("a banned user is told so, and does not come again", async () => {
    const sub = uniqueName("outlaw");
    const client = clients.open({ apiKey: await userToken(stack, { sub }) });
    const lost: unknown[] = [];
    const channel = client
      .channel(uniqueName("room"))
      .subscribe((status, error) => void lost.push(error?.reason ?? status));
    await eventually(() => expect(channel.isJoined).toBe(true));
    expect((await realtime(stack, ["ban", sub])).stderr).not.toContain("✗");
    await eventually(() => expect(lost).toEqual(["SUBSCRIBED", "banned"]));
    expect(client.status).toBe("disconnected");
  });
});

describe("rows", () => {
  const table = uniqueName("users").replaceAll("-", "_");
  let db: pg.Client;

  beforeAll(async () => {
    db = new pg.Client({ connectionString: stack.databaseUrl });
    await db.connect();
    await db.query(`create table ${table} (id int primary key, name text)`);
    expect((await realtime(stack, ["subscribe", `public.${table}`])).code).toBe(0);
  });

  afterAll(() => db?.end());

  test("AC-196: INSERT, UPDATE and DELETE of a table's channel call back with the row", async () => {
    const seen: unknown[] = [];
    const subscription = clients
      .open()
      .channel(`realtime:table:public.${table}`)
      .on("INSERT", (payload) => void seen.push(["new", payload.new]))
      .on("UPDATE", (payload) => void seen.push(["updated", payload.new, payload.old]))
      .on("DELETE", (payload) => void seen.push(["deleted", payload.old]))
      .subscribe();
    await eventually(() => expect(subscription.isJoined).toBe(true));
    await db.query(`insert into ${table} values (1, 'ann')`);
    await db.query(`update ${table} set name = 'bob' where id = 1`);
    await db.query(`delete from ${table} where id = 1`);
    await eventually(() => expect(seen).toHaveLength(3));
    expect(seen).toEqual([
      ["new", { id: 1, name: "ann" }],
      ["updated", { id: 1, name: "bob" }, { id: 1, name: "ann" }],
      ["deleted", { id: 1, name: "bob" }],
    ]);
  });

  test("AC-196: the rows of a large transaction come packed, and in order", async () => {
    await using relay = await Relay.start(stack.url);
    const ids: number[] = [];
    const channel = clients.open({ url: relay.url }).channel(`realtime:table:public.${table}`);
    channel.on<{ id: number }>("INSERT", (row) => void ids.push(row.new.id)).subscribe();
    await eventually(() => expect(channel.isJoined).toBe(true));
    await db.query(`insert into ${table} select n, 'many' from generate_series(1000, 1999) n`);
    await eventually(() => expect(ids).toHaveLength(1_000));
    expect(ids).toEqual(Array.from({ length: 1_000 }, (_, n) => 1_000 + n));
    expect(relay.frames.some(({ text }) => text.startsWith("[["))).toBe(true);
  });

  test("AC-196: so does Supabase's form, with its filter, also when it is asked for after joining", async () => {
    const channel = clients.open().channel(uniqueName("any")).subscribe();
    await eventually(() => expect(channel.isJoined).toBe(true));
    const rows: RowChange<{ id: number; name: string }>[] = [];
    const told: string[] = [];
    channel
      .on<{ id: number; name: string }>(
        "postgres_changes",
        { event: "INSERT", schema: "public", table, filter: "name=eq.eve" },
        (row) => void rows.push(row),
      )
      .on("system", ({ message }) => void told.push(message))
      .on("gap", () => {});
    await eventually(() => expect(told).toEqual(["Subscribed to PostgreSQL"]));
    await db.query(`insert into ${table} values (2, 'ann'), (3, 'eve')`);
    await eventually(() => expect(rows).toHaveLength(1));
    expect(rows[0]).toMatchObject({
      eventType: "INSERT",
      schema: "public",
      table,
      new: { id: 3, name: "eve" },
      old: {},
    });
  });
});

describe("messages", () => {
  test("AC-197: channel.send reaches other clients, and `messages general` of the command line", async () => {
    expect((await realtime(stack, ["channel", "create", "general", "public"])).code).toBe(0);
    const heard: Broadcast[] = [];
    const other = clients
      .open()
      .channel("general")
      .on("broadcast", { event: "message" }, (message) => void heard.push(message));
    const own: Broadcast[] = [];
    const channel = clients
      .open()
      .channel("general")
      .on("broadcast", { event: "*" }, (message) => void own.push(message));
    other.subscribe();
    await eventually(() => expect(other.isJoined).toBe(true));
    // As printed: neither subscribed nor awaited before.
    await channel.send({ type: "broadcast", event: "message", payload: { text: "Hello World!" } });
    await eventually(() => expect(heard).toHaveLength(1));
    expect(heard[0]).toEqual({
      type: "broadcast",
      event: "message",
      payload: { text: "Hello World!" },
      meta: { id: expect.any(String), epoch: expect.any(String), seq: 1, at: expect.any(Number) },
    });
    await eventually(async () => {
      const { stdout } = await realtime(stack, ["messages", "general", "--json"]);
      expect(JSON.parse(stdout)).toMatchObject([{ event_type: "message", payload: { text: "Hello World!" } }]);
    });
    expect(own).toEqual([]);
  });

  test("who asks for `self` hears itself, bytes arrive as bytes, `off` ends a listener", async () => {
    const options = { config: { broadcast: { self: true } } };
    const channel = clients.open().channel(uniqueName("bytes"), options);
    const heard: unknown[] = [];
    const listen = ({ payload }: Broadcast): void => void heard.push(payload);
    channel.on("broadcast", { event: "*" }, listen);
    await channel.send({ type: "broadcast", event: "yjs", payload: new Uint8Array([0, 1, 255]) });
    await channel.send({ type: "broadcast", event: "text", payload: { n: 1 } });
    expect(heard).toEqual([new Uint8Array([0, 1, 255]), { n: 1 }]);
    channel.off(listen);
    await channel.send({ type: "broadcast", event: "text", payload: { n: 2 } });
    expect(heard).toHaveLength(2);
  });

  test("a refused message rejects with the server's reason, and goes to onError where nobody awaits it", async () => {
    const client = clients.open();
    const channel = client.channel(uniqueName("large"));
    const message = { type: "broadcast", event: "large", payload: { text: "x".repeat(1_000_001) } } as const;
    await expect(channel.send(message)).rejects.toMatchObject({ code: "rejected", reason: "payload_size_exceeded" });
    void channel.send(message);
    await eventually(() => expect(client.errors.at(-1)).toMatchObject({ reason: "payload_size_exceeded" }));
  });

  test("a message that is sent without acks is on its way when the promise resolves", async () => {
    const name = uniqueName("hasty");
    const heard: unknown[] = [];
    const other = clients
      .open()
      .channel(name)
      .on("broadcast", { event: "at" }, ({ payload }) => void heard.push(payload))
      .subscribe();
    await eventually(() => expect(other.isJoined).toBe(true));
    const hasty = clients.open().channel(name, { config: { broadcast: { ack: false } } });
    await Promise.all([1, 2, 3].map((x) => hasty.send({ type: "broadcast", event: "at", payload: { x } })));
    await eventually(() => expect(heard).toEqual([{ x: 1 }, { x: 2 }, { x: 3 }]));
  });

  test("a channel that was removed may be subscribed again, unless there is another of its name", async () => {
    const client = clients.open();
    const name = uniqueName("again");
    const channel = client.channel(name);
    await channel.send({ type: "broadcast", event: "x" });
    client.removeChannel(channel);
    await channel.send({ type: "broadcast", event: "x" });
    expect(client.channel(name)).toBe(channel);
    client.removeChannel(channel);
    expect(client.channel(name)).not.toBe(channel);
    expect(() => channel.subscribe()).toThrow("there is another one now");
    expect(() => client.channel(name, { config: { private: true } })).toThrow("with other options");
  });

  test("who hears more than 64 MB between two heartbeats of its own is not taken for a slow reader", async () => {
    const name = uniqueName("flood");
    const lost: unknown[] = [];
    let heard = 0;
    const reader = clients
      .open()
      .channel(name)
      .on("broadcast", { event: "*" }, () => void heard++);
    reader.subscribe((status, error) => void (error && lost.push([status, error.message])));
    await eventually(() => expect(reader.isJoined).toBe(true));
    const sender = clients.open().channel(name);
    const text = "x".repeat(990_000);
    for (let n = 0; n < 70; n += 1) await sender.send({ type: "broadcast", event: "n", payload: { text } });
    await eventually(() => expect(heard).toBe(70));
    expect(lost).toEqual([]);
  });

  test("a first join may ask for the newest messages", async () => {
    const name = uniqueName("past");
    const early = clients.open().channel(name);
    for (const n of [1, 2, 3]) await early.send({ type: "broadcast", event: "n", payload: { n } });
    const heard: unknown[] = [];
    const late = clients.open().channel(name, { config: { broadcast: { replay: { since: 0, limit: 2 } } } });
    late
      .on("broadcast", { event: "n" }, ({ payload, meta }) => void heard.push([payload.n, meta.replayed]))
      .subscribe();
    await eventually(() => expect(heard).toHaveLength(2));
    await early.send({ type: "broadcast", event: "n", payload: { n: 4 } });
    await eventually(() =>
      expect(heard).toEqual([
        [2, true],
        [3, true],
        [4, undefined],
      ]),
    );
  });
});

describe("presence", () => {
  test("AC-198: track before subscribe shows in `presence online` of the command line", async () => {
    expect((await realtime(stack, ["channel", "create", "lobby", "presence"])).code).toBe(0);
    const presence = clients.open().channel("lobby");
    presence.track({ user_id: "user-123", status: "online" });
    await eventually(async () => {
      const { stdout } = await realtime(stack, ["presence", "online", "lobby", "json"]);
      expect(JSON.parse(stdout)).toMatchObject([{ user_id: "user-123", channel: "lobby", status: "online" }]);
    });
  });

  test("AC-199: another user's track calls back with their key and what they track, their leaving too", async () => {
    const name = uniqueName("hall");
    const seen: unknown[] = [];
    const synced: string[][] = [];
    const presence = clients.open().channel(name);
    // In the order of the printed example: track first, and no subscribe at all.
    presence.track({ user_id: "ann", status: "online" });
    presence
      .on("presence", { event: "join" }, ({ key, currentPresence }) => void seen.push(["join", key, currentPresence]))
      .on(
        "presence",
        { event: "leave" },
        ({ key, leftPresences }) => void seen.push(["leave", key, leftPresences.length]),
      )
      .on("presence", { event: "sync" }, () => void synced.push(Object.keys(presence.presenceState())));
    await eventually(() => expect(seen).toHaveLength(1));
    const bob = clients.open();
    await bob.channel(name).track({ user_id: "bob", status: "away" });
    await eventually(() => expect(seen).toHaveLength(2));
    expect(synced.at(-1)).toEqual(["ann", "bob"]);
    bob.disconnect();
    await eventually(() => expect(seen).toHaveLength(3));
    expect(seen).toEqual([
      ["join", "ann", { user_id: "ann", status: "online", presence_ref: expect.any(String) }],
      ["join", "bob", { user_id: "bob", status: "away", presence_ref: expect.any(String) }],
      ["leave", "bob", 1],
    ]);
    expect(Object.keys(presence.presenceState())).toEqual(["ann"]);
    await presence.untrack();
    await eventually(() => expect(presence.presenceState()).toEqual({}));
  });

  test("who tracks only after joining is present under the same key", async () => {
    const name = uniqueName("late");
    const keys: string[] = [];
    const watcher = clients
      .open()
      .channel(name)
      .on("presence", { event: "join" }, ({ key }) => void keys.push(key))
      .subscribe();
    await eventually(() => expect(watcher.isJoined).toBe(true));
    const late = clients.open().channel(name).subscribe();
    await eventually(() => expect(late.isJoined).toBe(true));
    await late.track({ user_id: "cat" });
    await eventually(() => expect(keys).toEqual(["cat"]));
  });
});

describe("tokens", () => {
  test("accessToken is asked at the join, a new token is taken up with the next heartbeat, and signing out gives it up", async () => {
    const name = uniqueName("signed");
    let asked = 0;
    let sub: string | null = "ann";
    const accessToken = async (): Promise<string | null> => {
      asked++;
      return sub === null ? null : userToken(stack, { sub });
    };
    const heard: unknown[] = [];
    const watcher = clients
      .open()
      .channel(name)
      .on("broadcast", { event: "*" }, ({ meta }) => void heard.push(meta.sender))
      .subscribe();
    await eventually(() => expect(watcher.isJoined).toBe(true));
    const client = clients.open({ accessToken, heartbeatIntervalMs: 200 });
    const channel = client.channel(name);
    await channel.send({ type: "broadcast", event: "who" });
    sub = "bob";
    const before = asked;
    await eventually(() => expect(asked).toBeGreaterThan(before + 1));
    await eventually(async () => {
      await channel.send({ type: "broadcast", event: "who" });
      expect(heard.at(-1)).toBe("bob");
    });
    expect(heard[0]).toBe("ann");
    // Signed out.
    sub = null;
    await client.setAuth();
    await channel.send({ type: "broadcast", event: "who" });
    await eventually(() => expect(heard.at(-1)).toBeUndefined());
  });

  test("a token that expires has the channel joined again with a new one, and nothing is missed", async () => {
    const name = uniqueName("expiring");
    const heard: unknown[] = [];
    const states: string[] = [];
    const accessToken = () => userToken(stack, { sub: "ann" }, Math.floor(Date.now() / 1_000) + 2);
    const client = clients.open({ accessToken });
    const channel = client.channel(name).on("broadcast", { event: "n" }, ({ payload }) => void heard.push(payload.n));
    channel.subscribe((status) => void states.push(status));
    await eventually(() => expect(channel.isJoined).toBe(true));
    const sender = clients.open().channel(name);
    const numbers = Array.from({ length: 25 }, (_, n) => n);
    for (const n of numbers) {
      await sender.send({ type: "broadcast", event: "n", payload: { n } });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await eventually(() => expect(heard).toEqual(numbers));
    expect(states.slice(0, 3)).toEqual(["SUBSCRIBED", "CHANNEL_ERROR", "SUBSCRIBED"]);
  });

  test("a private channel refuses strangers with a reason, and lets them in once they are members", async () => {
    const name = uniqueName("secret");
    expect((await realtime(stack, ["channel", "create", name, "private"])).code).toBe(0);
    const client = clients.open({ apiKey: await userToken(stack, { sub: "dan" }) });
    const channel = client.channel(name);
    const failure = await channel.send({ type: "broadcast", event: "x" }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RealtimeError);
    expect(failure).toMatchObject({ code: "join_refused", reason: expect.stringMatching(/^Unauthorized/) });
    expect((await realtime(stack, ["channel", "join", name, "dan"])).code).toBe(0);
    await eventually(() => expect(channel.isJoined).toBe(true));
    await channel.send({ type: "broadcast", event: "x" });
    const ended: unknown[] = [];
    channel.subscribe((status, error) => void ended.push([status, error?.code]));
    expect((await realtime(stack, ["channel", "leave", name, "dan"])).code).toBe(0);
    await eventually(() => expect(ended).toContainEqual(["CLOSED", "closed"]));
  });
});
