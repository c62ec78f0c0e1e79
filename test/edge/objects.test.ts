// What the objects do around the cores: alarms, writes, sockets through hibernation, what they tell the directory.
import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { settingsOf } from "../../src/edge/env.ts";
import { CachedAccess } from "../../src/edge/objects/access.ts";
import { channelTables, SqliteChannelStore } from "../../src/edge/objects/channel-store.ts";
import { writeSession } from "../../src/edge/objects/clients.ts";
import { Holder } from "../../src/edge/objects/holder.ts";
import { SqliteSessionStore, sessionTables } from "../../src/edge/objects/session-store.ts";
import { Tables } from "../../src/edge/objects/tables.ts";
import { objectTimers } from "../../src/edge/objects/timers.ts";
import { Client, openChannel } from "./clients.ts";

const MINUTE_MS = 60_000;

describe("alarms", () => {
  test("of wishes made at once the earliest is set, whichever came last", async () => {
    await runInDurableObject(env.GATEWAY.getByName("wishes"), async (_, ctx) => {
      const now = Date.now();
      const timers = objectTimers(ctx);
      for (const minutes of [20, 10, 30]) timers.alarm(now + minutes * MINUTE_MS);
      await vi.waitFor(async () => expect(await ctx.storage.getAlarm()).not.toBeNull());
      await scheduler.wait(50);
      expect(await ctx.storage.getAlarm()).toBe(now + 10 * MINUTE_MS);
    });
  });

  test("a wish that cannot be granted does not keep the next one from being granted", async () => {
    await runInDurableObject(env.GATEWAY.getByName("bad-wish"), async (_, ctx) => {
      const at = Date.now() + MINUTE_MS;
      const timers = objectTimers(ctx);
      timers.alarm(Number.NaN);
      timers.alarm(at);
      await vi.waitFor(async () => expect(await ctx.storage.getAlarm()).toBe(at));
    });
  });
});

describe("what is kept", () => {
  test("a session that cannot be written does not keep later ones from being kept", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("sessions"), async (_, ctx) => {
      // As the platform refuses a row that is too large, which a single machine does not.
      const refusal = `CREATE TRIGGER IF NOT EXISTS refuse BEFORE INSERT ON sessions WHEN NEW.id = 'huge'
        BEGIN SELECT RAISE(ABORT, 'string or blob too big'); END`;
      const store = new SqliteSessionStore(new Tables(ctx.storage.sql, [...sessionTables, refusal]), objectTimers(ctx));
      const claims = { role: "anon", user: null, exp: null, all: {} };
      const put = (id: string) => store.putSession({ id, version: "2.0.0", claims, connectedAt: 1, headers: {} });
      const expectKept = (ids: string[]) =>
        vi.waitFor(() => expect(store.sessions().map(({ id }) => id)).toEqual(ids), { timeout: 3_000 });
      put("huge");
      put("a");
      await expectKept(["a"]);
      put("b");
      await expectKept(["a", "b"]);
    });
  });

  test("of too many sights the newest are kept, in this life of the object and in the next", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("sights"), (_, { storage }) => {
      const store = new SqliteChannelStore(new Tables(storage.sql, channelTables));
      for (let n = 1; n <= 10_000; n++) store.putSight({ user: `u${n}`, metadata: "{}", seenAt: n });
      store.putSight({ user: "u10000", metadata: "{}", seenAt: 10_000 });
      expect(store.sights()).toHaveLength(10_000);
      const next = new SqliteChannelStore(new Tables(storage.sql, channelTables));
      next.putSight({ user: "one more", metadata: "{}", seenAt: 10_001 });
      expect([next.sight("u1"), next.sight("u10000")?.seenAt, next.sight("one more")?.seenAt]).toEqual([
        undefined,
        10_000,
        10_001,
      ]);
      expect(next.sights()).toHaveLength(5_001);
      expect(next.hasSights()).toBe(true);
      next.clear();
      expect(next.hasSights()).toBe(false);
    });
  });

  test("a sight is put without reading the others", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("sight-costs"), (_, { storage }) => {
      const store = new SqliteChannelStore(new Tables(storage.sql, channelTables));
      for (let n = 0; n < 1_000; n++) store.putSight({ user: `u${n}`, metadata: "{}", seenAt: n });
      const exec = vi.spyOn(storage.sql, "exec");
      store.putSight({ user: "u7", metadata: "{}", seenAt: 2_000 });
      const read = exec.mock.results.map(({ value }) => (value as SqlStorageCursor<never>).rowsRead);
      exec.mockRestore();
      expect(Math.max(...read)).toBeLessThan(10);
    });
  });
});

describe("what PostgreSQL knows", () => {
  test("a registration told while PostgreSQL was asked is not overwritten by its older answer", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("access"), async (_, { storage }) => {
      const store = new SqliteChannelStore(new Tables(storage.sql, channelTables));
      const heard: (string | null)[] = [];
      const access = new CachedAccess({ kind: "public", sub: "x" }, env, store, (channel) => heard.push(channel));
      const { promise: answer, resolve } = Promise.withResolvers<Response>();
      const postgres = vi.spyOn(globalThis, "fetch").mockReturnValue(answer);
      const asked = access.registration();
      await vi.waitFor(() => expect(postgres).toHaveBeenCalled());
      access.set({ id: "1", slug: "x", name: "x", type: "private", metadata: {} });
      resolve(Response.json({ command: "SELECT", fields: [], rows: [], rowCount: 0 }));
      const told = { type: "private", limits: {} };
      expect([await asked, await access.registration()]).toEqual([told, told]);
      expect(heard).toEqual(["1"]);
      postgres.mockRestore();
    });
  });
});

describe("the directory", () => {
  test("hears of an object's changes in their order, however long a report takes", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("reports"), async (_, ctx) => {
      const heard: boolean[] = [];
      const report = async (holds: boolean): Promise<void> => {
        if (holds) await scheduler.wait(50);
        heard.push(holds);
      };
      const holder = new Holder(ctx, report);
      holder.tell(true);
      holder.tell(false);
      await vi.waitFor(() => expect(heard).toEqual([true, false]));
    });
  });

  test("is told again after a report that failed", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("failed-report"), async (_, ctx) => {
      const report = vi.fn<(holds: boolean) => Promise<void>>().mockRejectedValueOnce(new Error("away"));
      report.mockResolvedValue();
      const holder = new Holder(ctx, report);
      holder.tell(true);
      await vi.waitFor(() => expect(report).toHaveBeenCalledTimes(1));
      await scheduler.wait(10);
      holder.tell(true);
      await vi.waitFor(() => expect(report).toHaveBeenCalledTimes(2));
    });
  });

  test("is told again by itself, when nothing else has the object tell", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("report-again"), async (_, ctx) => {
      const report = vi.fn<(holds: boolean) => Promise<void>>().mockRejectedValueOnce(new Error("away"));
      report.mockResolvedValue();
      new Holder(ctx, report).tell(true);
      await vi.waitFor(() => expect(report).toHaveBeenCalledTimes(2), { timeout: 10_000 });
    });
  });

  test("nobody is let in by what it said before it was told that nothing is held", async () => {
    await runInDurableObject(env.DIRECTORY.getByName("let-in"), async (_, ctx) => {
      const told: boolean[] = [];
      const report = async (holds: boolean): Promise<void> => {
        await scheduler.wait(20);
        told.push(holds);
      };
      const holder = new Holder(ctx, report);
      await holder.ready();
      holder.tell(false);
      const ready = holder.ready();
      // Somebody is about to come in: it cannot be told now that nothing is held.
      holder.tell(false);
      await ready;
      expect(told).toEqual([true, false, true]);
    });
  });
});

describe("holders", () => {
  test("a channel that only somebody was seen in is no holder of sockets, and in 30 days none of presence", async () => {
    const sub = "seen-once";
    const channel = env.CHANNEL.getByName(`public:${sub}`);
    const directory = env.DIRECTORY.getByName("directory");
    await channel.track({ user: "ann", status: "offline" });
    const seen = () =>
      runInDurableObject(directory, async (instance) =>
        (await instance.presence({ user: "ann" })).map((entry) => entry.channel),
      );
    await vi.waitFor(async () => expect(await seen()).toEqual([sub]));
    expect((await directory.holders()).channels).not.toContain(`public:${sub}`);
    await runInDurableObject(channel, (_, { storage }) => {
      storage.sql.exec("UPDATE sights SET seenAt = seenAt - 31 * 86400000");
    });
    await evictDurableObject(channel);
    await runDurableObjectAlarm(channel);
    await vi.waitFor(async () => expect(await seen()).toEqual([]));
    await runInDurableObject(directory, (_, { storage }) => {
      const rows = storage.sql.exec("SELECT name FROM holders WHERE name = ?", `public:${sub}`).toArray();
      expect(rows).toEqual([]);
    });
  });

  test("one that fails keeps none of the others from answering", async () => {
    const directory = env.DIRECTORY.getByName("directory");
    // No object of ours has such a name, so this one cannot even be made.
    await directory.report("presence", "broken", true, null);
    await env.CHANNEL.getByName("public:sound").track({ user: "bob", status: "online" });
    await vi.waitFor(async () => expect(await directory.presence({ user: "bob" })).toHaveLength(1));
    expect(await directory.setOffline("bob")).toBe(1);
    await directory.report("presence", "broken", false, null);
  });
});

describe("the counters of the directory", () => {
  const nothing = { delivered: 0, failed: 0, timed: 0, latencyMs: 0, changes: 0 };
  const held = (connections: number) => ({ ...nothing, connections, peak: connections });

  test("do not go on counting the sockets of objects that hold none any more, or died with them", async () => {
    const directory = env.DIRECTORY.getByName("held");
    await directory.report("gateway", "closed", true, null);
    await directory.count("gateway", "closed", held(5));
    await directory.report("gateway", "closed", false, null);
    await directory.report("gateway", "living", true, null);
    await directory.count("gateway", "living", held(3));
    expect(await directory.totals()).toMatchObject({ peak: 5 });
    await directory.count("channel", "dead", held(4));
    await directory.count("gateway", "living", held(3));
    expect(await directory.totals()).toMatchObject({ peak: 7 });
    await runDurableObjectAlarm(directory);
    await directory.count("gateway", "living", held(6));
    expect(await directory.totals()).toMatchObject({ peak: 7 });
  });
});

describe("client sockets", () => {
  const path = "/realtime/v1/channels/silent/websocket";
  const object = env.CHANNEL.getByName("public:silent");

  /** Makes the client's last noted frame older, and puts the object to sleep. */
  async function sleepSince(seenAt: number): Promise<void> {
    await runInDurableObject(object, (_, ctx) => {
      for (const ws of ctx.getWebSockets()) ws.serializeAttachment({ ...ws.deserializeAttachment(), seenAt });
    });
    await evictDurableObject(object);
  }

  test("one that is silent is closed though its object sleeps in between, one that speaks is not", async () => {
    const topic = await openChannel("silent");
    const client = await Client.connect(path);
    await client.join(topic);
    await sleepSince(Date.now() - 50_000);
    await runDurableObjectAlarm(object);
    await client.reply(client.send("phoenix", "heartbeat", {}, null));
    const [seenAt] = await runInDurableObject(object, (_, ctx) =>
      ctx.getWebSockets().map((ws) => ws.deserializeAttachment().seenAt),
    );
    expect(seenAt).toBeGreaterThan(Date.now() - 10_000);
    await evictDurableObject(object);
    await runDurableObjectAlarm(object);
    expect(client.closedWith).toBeUndefined();
    await sleepSince(Date.now() - 90_000);
    await runDurableObjectAlarm(object);
    await vi.waitFor(() => expect(client.closedWith).toBe(1000));
  });

  test("a session of any claims crosses to its object in ASCII, and arrives whole", async () => {
    const user = "山田 Ż \u{1F600}%";
    const all = { role: "authenticated", lone: "\ud800" };
    const claims = { role: "authenticated", user, exp: null, all };
    expect(writeSession({ id: "1", version: "2.0.0", claims, connectedAt: 1, headers: {} })).toMatch(/^[\x21-\x7e]+$/);
    await openChannel("claims");
    const client = await Client.connect("/realtime/v1/channels/claims/websocket", "authenticated", { sub: user });
    expect(await env.CHANNEL.getByName("public:claims").connections()).toMatchObject([{ users: [user] }]);
    client.close();
  });
});

describe("links", () => {
  /** A gateway's end of a link that answers no close, as one whose machine has died. */
  async function deafLink(sub: string, gateway: string): Promise<string[]> {
    const url = `http://channel/link?v=1&gateway=${gateway}`;
    const { webSocket } = await env.CHANNEL.getByName(`public:${sub}`).fetch(url, {
      headers: { upgrade: "websocket" },
    });
    const heard: string[] = [];
    webSocket?.addEventListener("message", ({ data }) => void heard.push(String(data)));
    webSocket?.accept({ allowHalfOpen: true });
    webSocket?.send(JSON.stringify({ t: "hello", again: false, sessions: [] }));
    await vi.waitFor(() => expect(heard.join()).toContain('"welcome"'));
    return heard;
  }

  test("a dead link does not take the place of the living one when the channel wakes up", async () => {
    await openChannel("dead-link");
    const channel = env.CHANNEL.getByName("public:dead-link");
    await deafLink("dead-link", "g");
    const heard = await deafLink("dead-link", "g");
    const states = await runInDurableObject(channel, (_, ctx) => ctx.getWebSockets().map((ws) => ws.readyState));
    expect(states.toSorted()).toEqual([WebSocket.OPEN, WebSocket.CLOSING]);
    await evictDurableObject(channel);
    await channel.publish({ event: "n", payload: '{"n":1}' });
    await vi.waitFor(() => expect(heard.join()).toContain('"payload":{"n":1}'));
  });
});

test("a key that is empty is none", () => {
  const { keys } = settingsOf({ ...env, REALTIME_SERVICE_KEY: "", REALTIME_ANON_KEY: " \n" });
  expect([keys.serviceKey, keys.anonKey]).toEqual([undefined, undefined]);
});

test("a limit that is empty is refused, and not taken for 0, which would be none", () => {
  expect(() => settingsOf({ ...env, REALTIME_CONNECTIONS_PER_MINUTE: "" })).toThrow("REALTIME_CONNECTIONS_PER_MINUTE");
});
