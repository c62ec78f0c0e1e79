// Messages and presence: every way in talks with every other (protocol.md §2.4, §6, §7, §13.4).
import type { RealtimeChannel } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { broadcast, eventually, join, uniqueName } from "../../support/clients.ts";
import { Peers, takesBytes, type Way, ways } from "../../support/peers.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let peers: Peers;

beforeAll(async () => {
  stack = await startStack({
    env: { REALTIME_GATEWAYS: "2", REALTIME_GATEWAY_SOCKETS: "64" },
  });
  peers = new Peers(stack);
});

afterEach(() => peers.close());
afterAll(() => stack?.stop());

/** Everything broadcast on a channel from now on: event and payload. */
function hear(channel: RealtimeChannel): unknown[] {
  const heard: unknown[] = [];
  channel.on("broadcast", { event: "*" }, ({ event, payload }) => void heard.push([event, payload]));
  return heard;
}

/** One listener of each way in a room. */
async function audience(room: string): Promise<Map<Way, unknown[]>> {
  const heard = new Map<Way, unknown[]>();
  for (const way of ways) {
    const channel = peers.channel(way, room, undefined);
    heard.set(way, hear(channel));
    await join(channel);
  }
  return heard;
}

const values = [{ n: 1, text: "é 🎈\u0000", nested: [null, { deep: [true] }], big: 2 ** 53 }, {}, { list: [] }];

describe.each(ways)("what %s sends", (way) => {
  test("is heard by every way in, and by itself only if it asked for that", async () => {
    const room = uniqueName("all ways");
    const heard = await audience(room);
    const [plain, selfish] = [false, true].map((self) => peers.channel(way, room, { config: { broadcast: { self } } }));
    if (plain === undefined || selfish === undefined) throw new Error("two channels");
    const [atPlain, atSelfish] = [hear(plain), hear(selfish)];
    await Promise.all([join(plain), join(selfish)]);
    for (const value of values) expect(await broadcast(plain, "plain", value)).toBe("ok");
    const expected: unknown[] = values.map((value) => ["plain", value]);
    for (const own of heard.values()) await eventually(() => expect(own).toEqual(expected));
    await broadcast(selfish, "selfish", { n: 2 });
    await eventually(() => expect(atSelfish).toEqual([...expected, ["selfish", { n: 2 }]]));
    await eventually(() => expect(atPlain).toEqual([["selfish", { n: 2 }]]));
  });

  test("is acknowledged if it asked for that, and refused when it is too large", async () => {
    const channel = peers.channel(way, uniqueName("ack"), { config: { broadcast: { ack: true } } });
    await join(channel);
    expect(await broadcast(channel, "x", { n: 1 })).toBe("ok");
    expect(await broadcast(channel, "x", { text: "x".repeat(3_000_001) })).toBe("error");
    expect(await broadcast(channel, "x", { n: 2 })).toBe("ok");
  });
});

test.each(ways.filter(takesBytes))(
  "bytes that %s sends come as bytes to who can take them, the others hear the rest",
  async (way) => {
    const room = uniqueName("bytes");
    const heard = await audience(room);
    const channel = peers.channel(way, room, undefined);
    await join(channel);
    const bytes = Uint8Array.from([0, 1, 127, 128, 255]).buffer;
    await broadcast(channel, "bytes", bytes);
    await broadcast(channel, "after", {});
    for (const [receiver, own] of heard) {
      await eventually(() => expect(own.at(-1)).toEqual(["after", {}]));
      expect(own.slice(0, -1)).toEqual(takesBytes(receiver) ? [["bytes", bytes]] : []);
    }
  },
);

// The address of a direct socket is none for HTTP.
test.each(ways.filter((way) => way !== "newest, direct"))(
  "what %s sends before it has joined goes by HTTP, and is heard",
  async (way) => {
    const room = uniqueName("http");
    const heard = await audience(room);
    const channel = peers.channel(way, room, undefined);
    expect(await broadcast(channel, "unjoined", { n: 1 })).toBe("ok");
    for (const own of heard.values()) await eventually(() => expect(own).toEqual([["unjoined", { n: 1 }]]));
  },
);

test("what goes by httpSend is heard by every way in, whatever is in the names", async () => {
  const [room, event] = [uniqueName("room: é/?#%2F"), "an event: é/?"];
  const heard = await audience(room);
  const channel = peers.channel("newest 2.0.0", room, undefined);
  expect(await channel.httpSend(event, { n: 1 })).toEqual({ success: true });
  for (const own of heard.values()) await eventually(() => expect(own).toEqual([[event, { n: 1 }]]));
});

describe.each(ways)("presence over %s", (way) => {
  /** A member, with what it was told: `sync`, `join ann`, `leave ann`. */
  async function enter(of: Way, room: string, key: string): Promise<{ channel: RealtimeChannel; told: string[] }> {
    const channel = peers.channel(of, room, { config: { presence: { key } } });
    const told: string[] = [];
    channel
      .on("presence", { event: "sync" }, () => void told.push("sync"))
      .on("presence", { event: "join" }, ({ key: who }) => void told.push(`join ${who}`))
      .on("presence", { event: "leave" }, ({ key: who }) => void told.push(`leave ${who}`));
    await join(channel);
    return { channel, told };
  }

  const stateOf = (channel: RealtimeChannel): unknown =>
    Object.fromEntries(
      Object.entries(channel.presenceState()).map(([key, metas]) => [
        key,
        metas.map(({ presence_ref: _, ...rest }) => rest),
      ]),
    );

  test.each(ways)("and over %s: they see each other come, change and go", async (other) => {
    const room = uniqueName("lobby");
    const [ann, bob] = [await enter(way, room, "ann"), await enter(other, room, "bob")];
    await eventually(() => expect(ann.told).toContain("sync"));
    expect(await ann.channel.track({ mood: "good" })).toBe("ok");
    // What a track causes comes before its answer.
    expect(ann.told).toContain("join ann");
    await eventually(() => expect(stateOf(bob.channel)).toEqual({ ann: [{ mood: "good" }] }));
    expect(await bob.channel.track({ mood: "fine" })).toBe("ok");
    const both = { ann: [{ mood: "good" }], bob: [{ mood: "fine" }] };
    for (const { channel } of [ann, bob]) await eventually(() => expect(stateOf(channel)).toEqual(both));
    expect(await ann.channel.untrack()).toBe("ok");
    await eventually(() => expect(bob.told.slice(-2)).toEqual(["leave ann", "sync"]));
    await ann.channel.track({ mood: "back" });
    await ann.channel.unsubscribe();
    await eventually(() => expect(stateOf(bob.channel)).toEqual({ bob: [{ mood: "fine" }] }));
  });

  test("a presence tracked ten times in a second is always the newest, and nobody is put out for it", async () => {
    const room = uniqueName("busy");
    const [ann, bob] = [await enter(way, room, "ann"), await enter(way, room, "bob")];
    for (let n = 1; n <= 10; n++) expect(await ann.channel.track({ n })).toBe("ok");
    await eventually(() => expect(stateOf(bob.channel)).toEqual({ ann: [{ n: 10 }] }));
    expect(ann.channel.state).toBe("joined");
  });
});
