// Broadcast: stock clients on different gateways talk in one channel.
import type { RealtimeChannel } from "@supabase/supabase-js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { admin } from "../support/admin.ts";
import {
  broadcast,
  Clients,
  eventually,
  join,
  oneClientAGateway,
  pairs,
  uniqueName,
  versions,
} from "../support/clients.ts";
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

const message = z.object({
  event: z.string(),
  payload: z.unknown(),
  meta: z.object({ id: z.string(), seq: z.int(), at: z.int() }),
});
type Heard = z.infer<typeof message>;

/** Everything broadcast on a channel from now on, as the client's callback gets it. */
function hear(channel: RealtimeChannel): Heard[] {
  const heard: Heard[] = [];
  channel.on("broadcast", { event: "*" }, (given) => void heard.push(message.parse(given)));
  return heard;
}

const brief = (heard: readonly Heard[]): unknown[] => heard.map(({ event, payload }) => [event, payload]);

describe.each(pairs)("a client of version %s and one of %s", (left, right) => {
  test("AC-204: hear each other, and neither hears itself", async () => {
    const room = uniqueName("talk");
    const [a, b] = [clients.open({ vsn: left }).channel(room), clients.open({ vsn: right }).channel(room)];
    const [atA, atB] = [hear(a), hear(b)];
    await Promise.all([join(a), join(b)]);
    expect(await broadcast(a, "from a", { n: 1, text: "é 🎈", nested: [null, { deep: true }] })).toBe("ok");
    await eventually(() =>
      expect(brief(atB)).toEqual([["from a", { n: 1, text: "é 🎈", nested: [null, { deep: true }] }]]),
    );
    await broadcast(b, "from b", {});
    await eventually(() => expect(brief(atA)).toEqual([["from b", {}]]));
    expect(atB).toHaveLength(1);
  });

  test("hear everything in one and the same order, whoever sent it", async () => {
    const room = uniqueName("order");
    const config = { broadcast: { self: true } };
    const channels = [left, right, right].map((vsn) => clients.open({ vsn }).channel(room, { config }));
    const heard = channels.map(hear);
    await Promise.all(channels.map(join));
    await Promise.all(
      channels.map(async (channel, sender) => {
        for (let n = 0; n < 100; n++) await broadcast(channel, "count", { sender, n });
      }),
    );
    await eventually(() => expect(heard.map(({ length }) => length)).toEqual([300, 300, 300]));
    const [first = [], ...others] = heard.map(brief);
    for (const other of others) expect(other).toEqual(first);
    for (const sender of [0, 1, 2]) {
      const own = first.filter((entry) => JSON.stringify(entry).includes(`"sender":${sender}`));
      expect(own).toEqual(Array.from({ length: 100 }, (_, n) => ["count", { sender, n }]));
    }
  });
});

describe.each(versions)("version %s", (vsn) => {
  test("a channel with self hears its own message once", async () => {
    const channel = clients.open({ vsn }).channel(uniqueName("self"), { config: { broadcast: { self: true } } });
    const heard = hear(channel);
    await join(channel);
    await broadcast(channel, "first", { n: 1 });
    await broadcast(channel, "second", { n: 2 });
    await eventually(() => expect(heard.length).toBeGreaterThanOrEqual(2));
    expect(brief(heard)).toEqual([
      ["first", { n: 1 }],
      ["second", { n: 2 }],
    ]);
  });

  test("a message carries its id, its number in the channel and its time", async () => {
    const channel = clients.open({ vsn }).channel(uniqueName("meta"), { config: { broadcast: { self: true } } });
    const heard = hear(channel);
    await join(channel);
    const before = Date.now();
    for (const n of [1, 2, 3]) await broadcast(channel, "count", { n });
    await eventually(() => expect(heard).toHaveLength(3));
    expect(heard.map(({ meta }) => meta.seq)).toEqual([1, 2, 3]);
    expect(new Set(heard.map(({ meta }) => meta.id)).size).toBe(3);
    for (const { meta } of heard) {
      expect(meta.at).toBeGreaterThanOrEqual(before - 1_000);
      expect(meta.at).toBeLessThanOrEqual(Date.now() + 1_000);
    }
  });

  test("an acknowledged message is in the channel's history", async () => {
    const room = uniqueName("ack");
    await admin(stack, "POST", "/channels", { name: room });
    const channel = clients.open({ vsn }).channel(room, { config: { broadcast: { ack: true } } });
    await join(channel);
    for (const n of [1, 2, 3]) {
      expect(await broadcast(channel, "kept", { n })).toBe("ok");
      const newest = await admin(stack, "GET", `/channels/${room}/messages?limit=1`);
      expect(newest).toMatchObject([{ event_type: "kept", payload: { n } }]);
    }
  });

  test("a payload over the limit is refused to its sender, and the channel goes on", async () => {
    const room = uniqueName("large");
    const sender = clients.open({ vsn }).channel(room, { config: { broadcast: { ack: true } } });
    const receiver = clients.open({ vsn }).channel(room);
    const heard = hear(receiver);
    await Promise.all([join(sender), join(receiver)]);
    expect(await broadcast(sender, "too large", { text: "x".repeat(1_000_000) })).toBe("error");
    expect(await broadcast(sender, "large", { text: "x".repeat(900_000) })).toBe("ok");
    await eventually(() => expect(heard.map(({ event }) => event)).toEqual(["large"]));
  });

  test("a listener hears the event it asked for, whatever its case", async () => {
    const room = uniqueName("event");
    const [sender, receiver] = [clients.open({ vsn }).channel(room), clients.open({ vsn }).channel(room)];
    const moves: unknown[] = [];
    receiver.on("broadcast", { event: "Move" }, ({ payload }) => void moves.push(payload));
    const all = hear(receiver);
    await Promise.all([join(sender), join(receiver)]);
    for (const event of ["move", "stop", "MOVE"]) await broadcast(sender, event, { event });
    await eventually(() => expect(all).toHaveLength(3));
    expect(moves).toEqual([{ event: "move" }, { event: "MOVE" }]);
  });

  test("a public and a private room of one name are two rooms", async () => {
    const room = uniqueName("apart");
    const enter = (isPrivate: boolean): RealtimeChannel =>
      clients.open({ vsn, key: stack.serviceKey }).channel(room, { config: { private: isPrivate } });
    const [openSpeaker, openListener] = [enter(false), enter(false)];
    const [secretSpeaker, secretListener] = [enter(true), enter(true)];
    const [openHeard, secretHeard] = [hear(openListener), hear(secretListener)];
    await Promise.all([openSpeaker, openListener, secretSpeaker, secretListener].map(join));
    await broadcast(openSpeaker, "said", { in: "public" });
    await broadcast(secretSpeaker, "said", { in: "private" });
    await eventually(() => {
      expect(brief(openHeard)).toEqual([["said", { in: "public" }]]);
      expect(brief(secretHeard)).toEqual([["said", { in: "private" }]]);
    });
  });

  test("a private room is refused to the anon key with the reason that clients match on", async () => {
    const room = uniqueName("private");
    const channel = clients.open({ vsn }).channel(room, { config: { private: true } });
    await expect(join(channel)).rejects.toThrow(
      `Unauthorized: You do not have permissions to read from this Channel topic: ${room}`,
    );
  });
});

test("bytes go from a 2.0.0 client to another unchanged; a 1.0.0 client, which cannot take them, hears only the rest", async () => {
  const room = uniqueName("bytes");
  const [sender, modern] = [clients.open().channel(room), clients.open().channel(room)];
  const old = clients.open({ vsn: "1.0.0" }).channel(room);
  const [atModern, atOld] = [hear(modern), hear(old)];
  await Promise.all([sender, modern, old].map(join));
  const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  await broadcast(sender, "bytes", bytes.buffer);
  await broadcast(sender, "bytes", new ArrayBuffer(0));
  await broadcast(sender, "text", { after: true });
  await eventually(() => expect(atModern).toHaveLength(3));
  const [first, second, third] = atModern.map(({ payload }) => payload);
  expect(first).toEqual(bytes.buffer);
  expect(second).toEqual(new ArrayBuffer(0));
  expect(third).toEqual({ after: true });
  await eventually(() => expect(brief(atOld)).toEqual([["text", { after: true }]]));
});

test("a payload passes exactly as it was written, and what the sender calls meta does not", async () => {
  const topic = `realtime:${uniqueName("verbatim")}`;
  const [sender, receiver] = await Promise.all([raw("2.0.0"), raw("1.0.0")]);
  await Promise.all([sender.join(topic), receiver.join(topic)]);
  const content = {
    type: "broadcast",
    event: "x",
    payload: { big: 1.5e300, empty: {} },
    extra: [1, null],
    meta: { seq: 9 },
  };
  sender.send("1", "7", topic, "broadcast", content);
  const [frame] = await receiver.until("the broadcast", 1, ({ event }) => event === "broadcast");
  const { meta, ...rest } = content;
  const made = { id: expect.any(String), seq: 1, at: expect.any(Number), epoch: expect.any(String) };
  expect(frame?.payload).toEqual({ ...rest, meta: made });
  expect(meta).toEqual({ seq: 9 });
});

test("an event name too long for a binary frame arrives as text", async () => {
  const topic = `realtime:${uniqueName("long")}`;
  const [sender, receiver] = await Promise.all([raw("1.0.0"), raw("2.0.0")]);
  await Promise.all([sender.join(topic), receiver.join(topic)]);
  const event = "é".repeat(200);
  sender.send(null, "7", topic, "broadcast", { type: "broadcast", event, payload: {} });
  const [frame] = await receiver.until("the broadcast", 1, (seen) => seen.event === "broadcast");
  expect(frame?.payload.event).toBe(event);
});

test("a broadcast with a key that stock clients take for a row change does not reach them with it", async () => {
  const topic = `realtime:${uniqueName("hostile")}`;
  const [sender, receiver] = await Promise.all([raw("2.0.0"), raw("2.0.0")]);
  await Promise.all([sender.join(topic), receiver.join(topic)]);
  sender.send("1", "7", topic, "broadcast", { type: "broadcast", event: "x", payload: {}, ids: [1] });
  const [frame] = await receiver.until("the broadcast", 1, ({ event }) => event === "broadcast");
  expect(frame?.payload).not.toHaveProperty("ids");
});

function raw(vsn: (typeof versions)[number]): Promise<RawSocket> {
  return RawSocket.open(stack.url, { vsn, key: stack.anonKey });
}
