// Presence: stock clients on different gateways see who is in a channel, and who has gone, however they went.
import type { RealtimeChannel } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type ClientOptions,
  Clients,
  eventually,
  join,
  oneClientAGateway,
  pairs,
  uniqueName,
  versions,
} from "../support/clients.ts";
import { TcpProxy } from "../support/proxy.ts";
import { RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
let clients: Clients;

beforeAll(async () => {
  stack = await startStack({ env: oneClientAGateway });
  clients = new Clients(stack);
});

afterEach(() => clients.close());
afterAll(() => stack?.stop());

/** What the client's callbacks told, in order: `join ann {"n":1}`. */
type Told = string[];

interface Member {
  readonly channel: RealtimeChannel;
  readonly told: Told;
}

/** Joins a room as a member of presence. */
async function enter(room: string, key: string, options: ClientOptions = {}): Promise<Member> {
  const channel = clients.open(options).channel(room, { config: { presence: { key } } });
  const told: Told = [];
  channel
    .on("presence", { event: "sync" }, () => void told.push("sync"))
    .on("presence", { event: "join" }, ({ key: who, newPresences }) => {
      for (const presence of newPresences) told.push(`join ${who} ${JSON.stringify(withoutRef(presence))}`);
    })
    .on("presence", { event: "leave" }, ({ key: who, leftPresences }) => {
      for (const presence of leftPresences) told.push(`leave ${who} ${JSON.stringify(withoutRef(presence))}`);
    });
  await join(channel);
  return { channel, told };
}

function withoutRef({ presence_ref: _ref, ...payload }: { presence_ref: string }): object {
  return payload;
}

/** Who the client believes is there: key → tracked payloads. */
function state({ channel }: Member): Record<string, object[]> {
  return Object.fromEntries(
    Object.entries(channel.presenceState()).map(([key, presences]) => [key, presences.map(withoutRef)]),
  );
}

describe.each(pairs)("a member of version %s and one of %s", (left, right) => {
  test("AC-204: see each other come, change and go", async () => {
    const room = uniqueName("lobby");
    const ann = await enter(room, "ann", { vsn: left });
    expect(await ann.channel.track({ n: 1 })).toBe("ok");
    expect(ann.told).toContain('join ann {"n":1}');

    const bob = await enter(room, "bob", { vsn: right });
    await eventually(() => expect(state(bob)).toEqual({ ann: [{ n: 1 }] }));
    await bob.channel.track({ n: 2 });
    await eventually(() => expect(state(ann)).toEqual({ ann: [{ n: 1 }], bob: [{ n: 2 }] }));

    ann.told.length = 0;
    await bob.channel.track({ n: 3 });
    await eventually(() => expect(state(ann)).toEqual({ ann: [{ n: 1 }], bob: [{ n: 3 }] }));
    expect(ann.told).toEqual(['join bob {"n":3}', 'leave bob {"n":2}', "sync"]);

    ann.told.length = 0;
    await bob.channel.untrack();
    await eventually(() => expect(ann.told).toEqual(['leave bob {"n":3}', "sync"]));
    expect(state(ann)).toEqual({ ann: [{ n: 1 }] });
    expect(state(bob)).toEqual({ ann: [{ n: 1 }] });
  });

  test("AC-157: are gone when they leave the channel, and when they close their socket", async () => {
    const room = uniqueName("exit");
    const ann = await enter(room, "ann", { vsn: left });
    const bob = await enter(room, "bob", { vsn: right });
    const eve = await enter(room, "eve", { vsn: right });
    await Promise.all([bob, eve].map(({ channel }) => channel.track({})));
    await eventually(() => expect(Object.keys(state(ann)).sort()).toEqual(["bob", "eve"]));
    await bob.channel.unsubscribe();
    await eventually(() => expect(Object.keys(state(ann))).toEqual(["eve"]));
    eve.channel.socket.disconnect();
    await eventually(() => expect(state(ann)).toEqual({}));
  });
});

describe.each(versions)("version %s", (vsn) => {
  test("AC-157: two tabs of one user are two presences of one key, and one of them stays when the other goes", async () => {
    const room = uniqueName("tabs");
    const watcher = await enter(room, "watcher", { vsn });
    const tabs = await Promise.all([enter(room, "ann", { vsn }), enter(room, "ann", { vsn })]);
    await Promise.all(tabs.map(({ channel }, tab) => channel.track({ tab })));
    await eventually(() => expect(new Set(state(watcher).ann)).toEqual(new Set([{ tab: 0 }, { tab: 1 }])));
    await tabs[0]?.channel.unsubscribe();
    await eventually(() => expect(state(watcher)).toEqual({ ann: [{ tab: 1 }] }));
  });

  test("tracking the same payload again tells nobody", async () => {
    const room = uniqueName("same");
    const watcher = await enter(room, "watcher", { vsn });
    const ann = await enter(room, "ann", { vsn });
    await ann.channel.track({ n: 1 });
    await eventually(() => expect(state(watcher)).toEqual({ ann: [{ n: 1 }] }));
    watcher.told.length = 0;
    expect(await ann.channel.track({ n: 1 })).toBe("ok");
    await ann.channel.track({ n: 2 });
    await eventually(() => expect(watcher.told).toContain("sync"));
    expect(watcher.told).toEqual(['join ann {"n":2}', 'leave ann {"n":1}', "sync"]);
  });

  test("a member whose connection is cut is gone for the others, and back once when it can connect again", async () => {
    const proxy = await TcpProxy.start(stack.url);
    try {
      const room = uniqueName("cut");
      const watcher = await enter(room, "watcher", { vsn });
      const ann = await enter(room, "ann", { vsn, url: proxy.url });
      await ann.channel.track({ n: 1 });
      await eventually(() => expect(state(watcher)).toEqual({ ann: [{ n: 1 }] }));
      proxy.cut();
      await eventually(() => expect(state(watcher)).toEqual({}));
      proxy.restore();
      await eventually(async () => {
        // The client joins again by itself; to track again is the application's part.
        expect(await ann.channel.track({ n: 2 })).toBe("ok");
        expect(state(watcher)).toEqual({ ann: [{ n: 2 }] });
      });
    } finally {
      await proxy.stop();
    }
  });

  test("a client that finds its connection dead by the missing heartbeat comes back by itself", async () => {
    const proxy = await TcpProxy.start(stack.url);
    try {
      const room = uniqueName("dead");
      const watcher = await enter(room, "watcher", { vsn });
      await watcher.channel.track({ here: true });
      const ann = await enter(room, "ann", { vsn, url: proxy.url, heartbeatMs: 300 });
      await eventually(() => expect(state(ann)).toEqual({ watcher: [{ here: true }] }));
      proxy.swallow();
      await watcher.channel.track({ here: "still" });
      await eventually(() => expect(state(ann)).toEqual({ watcher: [{ here: "still" }] }));
    } finally {
      await proxy.stop();
    }
  });

  test("presence of a public and of a private room of one name are apart", async () => {
    const room = uniqueName("apart");
    const open = await enter(room, "ann", { vsn });
    const key = stack.serviceKey;
    const channel = clients.open({ vsn, key }).channel(room, { config: { private: true, presence: { key: "bob" } } });
    channel.on("presence", { event: "sync" }, () => {});
    await join(channel);
    await channel.track({});
    await open.channel.track({ n: 1 });
    await eventually(() => expect(Object.keys(channel.presenceState())).toEqual(["bob"]));
    await eventually(() => expect(state(open)).toEqual({ ann: [{ n: 1 }] }));
  });
});

test("whoever joins with presence gets the whole state, even an empty one; who does not ask gets none", async () => {
  const topic = `realtime:${uniqueName("state")}`;
  const [first, second, third] = await Promise.all([raw(), raw(), raw()]);
  await first.join(topic, { presence: { key: "ann", enabled: true } });
  const isState = ({ event }: { event: string }): boolean => event === "presence_state";
  expect((await first.until("the state", 1, isState))[0]?.payload).toEqual({});
  await first.ask(topic, "presence", { type: "presence", event: "track", payload: { n: 1 } });
  await second.join(topic, { presence: { key: "bob", enabled: true } });
  const meta = { n: 1, phx_ref: expect.any(String) };
  expect((await second.until("the state", 1, isState))[0]?.payload).toEqual({ ann: { metas: [meta] } });
  await third.join(topic);
  await third.heartbeat();
  expect(third.frames.filter(isState)).toEqual([]);
});

test("a diff comes before the reply to the track that caused it, and an update names the reference it replaces", async () => {
  const topic = `realtime:${uniqueName("diff")}`;
  const ann = await raw();
  await ann.join(topic, { presence: { key: "ann", enabled: true } });
  for (const n of [1, 2]) await ann.ask(topic, "presence", { type: "presence", event: "TRACK", payload: { n } });
  expect(ann.frames.map(({ event }) => event)).toEqual([
    ...["phx_reply", "presence_state"],
    ...["presence_diff", "phx_reply"],
    ...["presence_diff", "phx_reply"],
  ]);
  const [first, second] = ann.frames.filter(({ event }) => event === "presence_diff").map(({ payload }) => payload);
  const old = { n: 1, phx_ref: expect.any(String) };
  expect(first).toEqual({ joins: { ann: { metas: [old] } }, leaves: {} });
  expect(second).toEqual({
    joins: { ann: { metas: [{ n: 2, phx_ref: expect.any(String), phx_ref_prev: expect.any(String) }] } },
    leaves: { ann: { metas: [old] } },
  });
});

test.each([
  [
    "a payload that is no object",
    { event: "track", payload: "here" },
    { reason: "Presence track payload must be a map" },
  ],
  [
    "a payload over the limit",
    { event: "track", payload: { text: "x".repeat(100_001) } },
    { reason: "Track message size exceeded" },
  ],
  ["an unknown event", { event: "teleport" }, {}],
])("%s is refused, and the member stays what it was", async (_name, content, response) => {
  const topic = `realtime:${uniqueName("refused")}`;
  const ann = await raw();
  await ann.join(topic, { presence: { key: "ann", enabled: true } });
  expect(await ann.ask(topic, "presence", { type: "presence", ...content })).toEqual({ status: "error", response });
  expect(await ann.ask(topic, "presence", { type: "presence", event: "track", payload: { n: 1 } })).toMatchObject({
    status: "ok",
  });
});

test("a presence key that stock clients take for a row change never reaches them", async () => {
  const topic = `realtime:${uniqueName("hostile")}`;
  const [hostile, neighbour] = await Promise.all([raw(), raw()]);
  await neighbour.join(topic, { presence: { key: "ann", enabled: true } });
  await hostile.join(topic, { presence: { key: "ids", enabled: true } });
  await hostile.ask(topic, "presence", { type: "presence", event: "track", payload: {} });
  const late = await raw();
  await late.join(topic, { presence: { key: "bob", enabled: true } });
  const [frame] = await late.until("the state", 1, ({ event }) => event === "presence_state");
  expect(frame?.payload).not.toHaveProperty("ids");
});

test("members that were lost with the edge are gone after the grace time, and who comes back was never seen to go", async () => {
  const room = uniqueName("crash");
  const [stays, leaves] = [await enter(room, "stays"), await raw()];
  await leaves.join(`realtime:${room}`, { presence: { key: "lost", enabled: true } });
  await leaves.ask(`realtime:${room}`, "presence", { type: "presence", event: "track", payload: {} });
  await stays.channel.track({ life: 1 });
  const ann = await enter(room, "ann");
  await ann.channel.track({ mood: "fine" });
  await eventually(() => expect(state(stays)).toEqual({ ann: [{ mood: "fine" }], lost: [{}], stays: [{ life: 1 }] }));
  await stack.killEdge();
  await leaves.closed;
  await eventually(async () => expect(await stays.channel.track({ life: 2 })).toBe("ok"));
  await eventually(async () => expect(await ann.channel.track({ mood: "fine" })).toBe("ok"));
  await eventually(() => expect(state(stays)).toEqual({ ann: [{ mood: "fine" }], stays: [{ life: 2 }] }), 20_000);
  expect(stays.told.filter((event) => event.includes(" ann "))).toEqual(['join ann {"mood":"fine"}']);
});

function raw(): Promise<RawSocket> {
  return RawSocket.open(stack.url, { key: stack.anonKey });
}
