// Lifecycle: what the stock client does with sockets, channels and tokens, over every way in (protocol.md §5, §9, §10, §13).
import type { RealtimeChannel } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { broadcast, eventually, join, uniqueName } from "../../support/clients.ts";
import { Peers, ways } from "../../support/peers.ts";
import { TcpProxy } from "../../support/proxy.ts";
import { startStack, type TestStack } from "../../support/stack.ts";

let stack: TestStack;
let peers: Peers;
let proxy: TcpProxy;

beforeAll(async () => {
  stack = await startStack();
  peers = new Peers(stack);
  proxy = await TcpProxy.start(stack.url);
});

afterEach(() => peers.close());

afterAll(async () => {
  await proxy?.stop();
  await stack?.stop();
});

/** Everything heard on a channel from now on: the payloads. */
function hear(channel: RealtimeChannel): unknown[] {
  const heard: unknown[] = [];
  channel.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
  return heard;
}

/** Subscribes. @returns every status that the client tells from now on */
function statuses(channel: RealtimeChannel): string[] {
  const told: string[] = [];
  channel.subscribe((status, error) => void told.push(error === undefined ? status : `${status}: ${error.message}`));
  return told;
}

describe.each(ways)("%s", (way) => {
  test("a heartbeat is answered, again and again", async () => {
    const room = uniqueName("beat");
    const client = peers.open(way, { room, heartbeatIntervalMs: 100 });
    const beats: string[] = [];
    client.onHeartbeat((status) => void beats.push(status));
    await join(client.channel(room));
    await eventually(() => expect(beats.filter((status) => status === "ok").length).toBeGreaterThanOrEqual(3));
    expect(beats.filter((status) => status !== "ok" && status !== "sent")).toEqual([]);
  });

  test("a channel that is removed is closed and hears nothing more; the others of its socket go on", async () => {
    const [gone, kept] = [uniqueName("gone"), uniqueName("kept")];
    const client = peers.open(way, { room: gone });
    const [first, second] = [client.channel(gone), client.channel(kept)];
    const [heardGone, heardKept] = [hear(first), hear(second)];
    const told = statuses(first);
    await join(second);
    await eventually(() => expect(told).toEqual(["SUBSCRIBED"]));
    expect(await client.removeChannel(first)).toBe("ok");
    expect(told.at(-1)).toBe("CLOSED");
    const other = peers.open("newest 2.0.0");
    for (const name of [gone, kept]) {
      const channel = other.channel(name, { config: { broadcast: { ack: true } } });
      await join(channel);
      await broadcast(channel, "x", { name });
    }
    await eventually(() => expect(heardKept).toEqual([{ name: kept }]));
    expect(heardGone).toEqual([]);
    expect(client.getChannels().map(({ subTopic }) => subTopic)).toEqual([kept]);
  });

  test("when all channels are removed, each is left and the socket is closed", async () => {
    const rooms = [1, 2, 3].map(() => uniqueName("all"));
    const client = peers.open(way, { room: rooms[0] ?? "" });
    await Promise.all(rooms.map((room) => join(client.channel(room))));
    expect(await client.removeAllChannels()).toEqual(["ok", "ok", "ok"]);
    await eventually(() => expect(client.isConnected()).toBe(false));
    expect(client.getChannels()).toEqual([]);
  });

  test("fifty channels on one socket hear each their own", async () => {
    const rooms = Array.from({ length: 50 }, () => uniqueName("many"));
    const client = peers.open(way, { room: rooms[0] ?? "" });
    const channels = rooms.map((room) => client.channel(room));
    const heard = channels.map(hear);
    await Promise.all(channels.map(join));
    const speaker = peers.open("newest 2.0.0");
    for (const [n, room] of rooms.entries()) {
      const channel = speaker.channel(room);
      await join(channel);
      await broadcast(channel, "n", { n });
    }
    await eventually(() => expect(heard).toEqual(rooms.map((_, n) => [{ n }])));
  });

  test("a channel that is left and joined again in one breath is joined once, and stays", async () => {
    const room = uniqueName("again");
    const client = peers.open(way, { room });
    const speaker = peers.channel("newest 2.0.0", room, { config: { broadcast: { ack: true } } });
    await join(speaker);
    // As React's strict mode does it: a component is mounted, unmounted and mounted again.
    let channel = client.channel(room);
    for (let times = 0; times < 5; times++) {
      channel.subscribe();
      const left = client.removeChannel(channel);
      if (times % 2 === 0) await left;
      channel = client.channel(room);
    }
    await eventually(() => expect(client.getChannels().length).toBeLessThanOrEqual(1));
    if (client.getChannels()[0] !== channel) channel = client.channel(room);
    const heard = hear(channel);
    const told = statuses(channel);
    await eventually(() => expect(told).toEqual(["SUBSCRIBED"]));
    await broadcast(speaker, "x", { n: 1 });
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));
    await broadcast(speaker, "x", { n: 2 });
    await eventually(() => expect(heard).toEqual([{ n: 1 }, { n: 2 }]));
    expect(told).toEqual(["SUBSCRIBED"]);
  });

  test("after the network was gone the client is back by itself, in every channel", async () => {
    const rooms = [uniqueName("back"), uniqueName("back")];
    const client = peers.open(way, { room: rooms[0] ?? "", url: proxy.url });
    const channels = rooms.map((room) => client.channel(room));
    const heard = channels.map(hear);
    const told = channels.map(statuses);
    await eventually(() => expect(told).toEqual([["SUBSCRIBED"], ["SUBSCRIBED"]]));
    proxy.cut();
    await eventually(() =>
      expect(told.map((each) => each[1])).toEqual(told.map(() => expect.stringMatching(/^CHANNEL_ERROR/))),
    );
    proxy.restore();
    await eventually(() => expect(told.map((each) => each.at(-1))).toEqual(["SUBSCRIBED", "SUBSCRIBED"]));
    const speaker = peers.open("newest 2.0.0");
    for (const [n, room] of rooms.entries()) {
      const channel = speaker.channel(room);
      await join(channel);
      await broadcast(channel, "n", { n });
    }
    await eventually(() => expect(heard).toEqual([[{ n: 0 }], [{ n: 1 }]]));
  });

  test("a refreshed token is taken without a word, and the channel goes on", async () => {
    const room = uniqueName("refresh");
    const client = peers.open(way, { room });
    const channel = client.channel(room);
    const heard = hear(channel);
    const system: unknown[] = [];
    channel.on("system", {}, (message: unknown) => void system.push(message));
    const told = statuses(channel);
    await eventually(() => expect(told).toEqual(["SUBSCRIBED"]));
    await client.setAuth(await peers.token(600));
    await client.setAuth(await peers.token(1_200));
    const speaker = peers.channel("newest 2.0.0", room, undefined);
    await join(speaker);
    await broadcast(speaker, "x", { n: 1 });
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));
    expect([told, system]).toEqual([["SUBSCRIBED"], []]);
  });

  test("when its token expires the channel says so, and is back by itself with the next token", async () => {
    const room = uniqueName("expiry");
    let token = await peers.token(2);
    const client = peers.open(way, { room, accessToken: async () => token });
    await client.setAuth();
    const channel = client.channel(room);
    const heard = hear(channel);
    const system: unknown[] = [];
    channel.on("system", {}, (message: unknown) => void system.push(message));
    const told = statuses(channel);
    await eventually(() => expect(told).toEqual(["SUBSCRIBED"]));
    token = await peers.token(600);
    await eventually(() =>
      expect(system).toEqual([
        {
          extension: "system",
          status: "error",
          message: expect.stringMatching(/^Token has expired \d+ seconds ago$/),
          channel: room,
        },
      ]),
    );
    await client.setAuth();
    await eventually(() => expect(told).toHaveLength(3));
    expect(told).toEqual(["SUBSCRIBED", expect.stringMatching(/^CHANNEL_ERROR/), "SUBSCRIBED"]);
    const speaker = peers.channel("newest 2.0.0", room, undefined);
    await join(speaker);
    await broadcast(speaker, "x", { n: 1 });
    await eventually(() => expect(heard).toEqual([{ n: 1 }]));
  });
});
