// Bytes: frames as they lie on the wire, in the order and spelling of the worked examples (protocol.md §2, §5, §10).
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, uniqueName, type Version } from "../support/clients.ts";
import { pushFrame, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

let stack: TestStack;
const sockets: RawSocket[] = [];

beforeAll(async () => {
  stack = await startStack();
});

afterEach(() => {
  for (const socket of sockets.splice(0)) socket.close();
});

afterAll(() => stack?.stop());

async function raw(vsn: Version = "2.0.0"): Promise<RawSocket> {
  const socket = await RawSocket.open(stack.url, { vsn, key: stack.anonKey });
  sockets.push(socket);
  return socket;
}

const encoder = new TextEncoder();
const bytes = (hex: string): Uint8Array => Uint8Array.from(hex.split(/\s+/), (byte) => Number.parseInt(byte, 16));

/** The text frames from the `from`th on, once there are `count` of them. */
async function texts(socket: RawSocket, count: number, from = 0): Promise<string[]> {
  await eventually(() => expect(socket.texts.length).toBeGreaterThanOrEqual(from + count));
  return socket.texts.slice(from, from + count);
}

test("the worked kind 3 frame is a broadcast, and is delivered with the payload that it carried", async () => {
  const [sender, modern, old] = [await raw(), await raw(), await raw("1.0.0")];
  for (const socket of [sender, modern, old]) await socket.join("realtime:a", { broadcast: { ack: true } });
  sender.sendRaw(bytes("03 01 01 0A 01 00 01  31  32  72 65 61 6C 74 69 6D 65 3A 61  78  7B 22 6B 22 3A 31 7D"));
  const payload = '\\{"type":"broadcast","event":"x","payload":\\{"k":1\\},"meta":\\{[^}]*\\}\\}';
  expect((await texts(modern, 1, 1))[0]).toMatch(new RegExp(`^\\[null,null,"realtime:a","broadcast",${payload}\\]$`));
  expect((await texts(old, 1, 1))[0]).toMatch(
    new RegExp(`^\\{"topic":"realtime:a","event":"broadcast","payload":${payload},"ref":null\\}$`),
  );
  expect(await texts(sender, 1, 1)).toEqual(['["1","2","realtime:a","phx_reply",{"status":"ok","response":{}}]']);
});

test("bytes are delivered as kind 4: topic, event, metadata, encoding 0, then what was sent", async () => {
  const topic = `realtime:${uniqueName("bytes")}`;
  const [sender, receiver] = [await raw(), await raw()];
  for (const socket of [sender, receiver]) await socket.join(topic);
  sender.sendRaw(pushFrame({ joinRef: "1", ref: "2", topic, event: "x", encoding: 0 }, bytes("00 FF 7B")));
  await eventually(() => expect(receiver.binary).toHaveLength(1));
  const frame = receiver.binary[0] ?? Buffer.alloc(0);
  const [kind, topicLength = 0, eventLength = 0, metadataLength = 0, encoding] = frame;
  expect([kind, topicLength, eventLength, encoding]).toEqual([4, topic.length, 1, 0]);
  const rest = frame.subarray(5);
  expect(rest.subarray(0, topicLength + eventLength).toString()).toBe(`${topic}x`);
  const payloadAt = topicLength + eventLength + metadataLength;
  expect(JSON.parse(rest.subarray(topicLength + eventLength, payloadAt).toString())).toMatchObject({ seq: 1 });
  expect([...rest.subarray(payloadAt)]).toEqual([0, 255, 0x7b]);
});

test.each<[Version, string, string]>([
  ["2.0.0", '[null,"5","phoenix","heartbeat",{}]', '[null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]'],
  ["2.0.0", '[null,null,"phoenix","heartbeat",{}]', '[null,null,"phoenix","phx_reply",{"status":"ok","response":{}}]'],
  ["2.0.0", '[1,5,"phoenix","heartbeat",{}]', '["1","5","phoenix","phx_reply",{"status":"ok","response":{}}]'],
  [
    "1.0.0",
    '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"5"}',
    '{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"5"}',
  ],
  [
    "1.0.0",
    '{"event":"heartbeat","topic":"phoenix","ref":null,"join_ref":null,"payload":null,"more":[1]}',
    '{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null}',
  ],
  [
    "2.0.0",
    '["1","2","phoenix","phx_join",{}]',
    '["1","2","phoenix","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]',
  ],
  [
    "2.0.0",
    '["1","2","realtime:","phx_join",{"config":{}}]',
    '["1","2","realtime:","phx_reply",{"status":"error","response":{"reason":"TopicNameRequired: You must provide a topic name"}}]',
  ],
  [
    "2.0.0",
    '[null,"3","realtime:nobody joined","phx_leave",{},"a sixth element"]',
    '[null,"3","realtime:nobody joined","phx_reply",{"status":"ok","response":{}}]',
  ],
])("over %s, %s is answered by %s", async (vsn, question, answer) => {
  const socket = await raw(vsn);
  socket.sendRaw(question);
  expect(await texts(socket, 1)).toEqual([answer]);
});

test("a life of a channel in 2.0.0: joined, heard, left and closed", async () => {
  const [topic, other] = [`realtime:${uniqueName("life")}`, await raw()];
  const socket = await raw();
  socket.send("1", "1", topic, "phx_join", { config: { presence: { key: "ann", enabled: true } } });
  const [joined, state] = await texts(socket, 2);
  expect(joined?.startsWith(`["1","1","${topic}","phx_reply",{"status":"ok","response":{"postgres_changes":[]`)).toBe(
    true,
  );
  expect(state).toBe(`["1",null,"${topic}","presence_state",{}]`);
  await other.join(topic, { presence: { key: "bob" } });
  other.send("1", "9", topic, "presence", { type: "presence", event: "track", payload: {} });
  const [diff] = await texts(socket, 1, 2);
  expect(diff).toMatch(
    /^\[null,null,"[^"]+","presence_diff",\{"joins":\{"bob":\{"metas":\[\{"phx_ref":"[^"]+"\}\]\}\},"leaves":\{\}\}\]$/,
  );
  socket.send("1", "13", topic, "phx_leave", {});
  expect(await texts(socket, 2, 3)).toEqual([
    `["1","13","${topic}","phx_reply",{"status":"ok","response":{}}]`,
    `["1","1","${topic}","phx_close",{}]`,
  ]);
});

test("a life of a channel in 1.0.0 has four keys in each frame, and the close carries the join's ref", async () => {
  const topic = `realtime:${uniqueName("life")}`;
  const socket = await raw("1.0.0");
  socket.sendRaw(`{"topic":"${topic}","event":"phx_join","payload":{},"ref":"1","join_ref":"1"}`);
  await texts(socket, 1);
  socket.sendRaw(`{"topic":"${topic}","event":"phx_leave","payload":{},"ref":"2","join_ref":"1"}`);
  expect(await texts(socket, 2, 1)).toEqual([
    `{"topic":"${topic}","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}`,
    `{"topic":"${topic}","event":"phx_close","payload":{},"ref":"1"}`,
  ]);
});

test("a text broadcast of a 2.0.0 socket goes to both versions with all keys that its sender put", async () => {
  const topic = `realtime:${uniqueName("text")}`;
  const [sender, modern, old] = [await raw(), await raw(), await raw("1.0.0")];
  for (const socket of [sender, modern, old]) await socket.join(topic);
  sender.sendRaw(
    `["1","7","${topic}","broadcast",{"type":"broadcast","event":"x","payload":{"n":1},"extra":[null,"é"]}]`,
  );
  for (const receiver of [modern, old]) {
    expect((await texts(receiver, 1, 1))[0]).toContain(
      '{"type":"broadcast","event":"x","payload":{"n":1},"extra":[null,"é"],"meta":{',
    );
  }
});

describe("names at the limit of 255 bytes", () => {
  // 9 bytes of `realtime:`, then characters of two bytes each.
  const topicOf = (length: number): string => {
    const name = `realtime:${crypto.randomUUID()}`.padEnd(60, "x");
    const rest = length - encoder.encode(name).length;
    return name + "é".repeat(Math.floor(rest / 2)) + "x".repeat(rest % 2);
  };

  test.each([254, 255])("a topic and an event of %i bytes go in and out as binary frames", async (length) => {
    const [sender, receiver, topic] = [await raw(), await raw(), topicOf(length)];
    const event = "é".repeat(length / 2);
    for (const socket of [sender, receiver]) await socket.join(topic);
    sender.sendRaw(pushFrame({ topic, event, encoding: 0 }, bytes("01 02")));
    sender.sendRaw(pushFrame({ topic, event, encoding: 1 }, encoder.encode('{"n":1}')));
    await eventually(() => expect(receiver.binary).toHaveLength(1));
    expect([...(receiver.binary[0] ?? [])].slice(0, 3)).toEqual([4, length, encoder.encode(event).length]);
    const [frame] = await receiver.until("the JSON", 1, (seen) => seen.event === "broadcast");
    expect(frame).toMatchObject({ topic, payload: { event, payload: { n: 1 } } });
  });

  test("a topic and an event of 256 bytes, which only text can hold, are delivered as text", async () => {
    const [sender, receiver, topic] = [await raw(), await raw(), topicOf(256)];
    for (const socket of [sender, receiver]) expect((await socket.join(topic)).status).toBe("ok");
    const event = "é".repeat(128);
    sender.send("1", "2", topic, "broadcast", { type: "broadcast", event, payload: { n: 1 } });
    const [frame] = await receiver.until("the message", 1, (seen) => seen.event === "broadcast");
    expect(frame).toMatchObject({ topic, payload: { event, payload: { n: 1 } } });
  });
});
