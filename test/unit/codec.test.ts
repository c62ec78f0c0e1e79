// The codec against the worked examples of the wire protocol, and against bytes that are none.
import { describe, expect, test } from "vitest";
import { encodeUserBroadcast } from "../../src/protocol/binary.ts";
import { decodeFrame, encodeFrame, encodeReply } from "../../src/protocol/codec.ts";
import { MalformedFrame, UserBroadcast } from "../../src/protocol/frames.ts";
import { withMember } from "../../src/protocol/json.ts";
import { seededRandom } from "../support/world.ts";

const bytes = (hex: string): Uint8Array<ArrayBuffer> =>
  Uint8Array.from(hex.split(/\s+/), (byte) => Number.parseInt(byte, 16));
const KIND_3 = bytes("03 01 01 0A 01 00 01 31 32 72 65 61 6C 74 69 6D 65 3A 61 78 7B 22 6B 22 3A 31 7D");

describe("decoding", () => {
  test("a 2.0.0 text frame is an array of five, and more elements are ignored", () => {
    const frame = decodeFrame("2.0.0", '["1","2","realtime:a","phx_join",{"config":{}},"more"]');
    expect(frame).toEqual({ joinRef: "1", ref: "2", topic: "realtime:a", event: "phx_join", payload: { config: {} } });
  });

  test("a 1.0.0 frame is an object, join_ref optional", () => {
    const frame = decodeFrame("1.0.0", '{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"5"}');
    expect(frame).toEqual({ joinRef: null, ref: "5", topic: "phoenix", event: "heartbeat", payload: {} });
  });

  test("the worked kind 3 frame decodes to its parts", () => {
    const frame = decodeFrame("2.0.0", KIND_3.buffer);
    expect(frame).toEqual({
      joinRef: "1",
      ref: "2",
      topic: "realtime:a",
      event: "broadcast",
      payload: new UserBroadcast("x", '{"k":1}'),
    });
  });

  test.each([
    ["not JSON", "nonsense"],
    ["an empty frame", ""],
    ["an object on 2.0.0", '{"topic":"a"}'],
    ["too few elements", '["1","2","t","e"]'],
    ["a topic that is no string", '["1","2",3,"e",{}]'],
    ["a ref that is an object", '["1",{},"t","e",{}]'],
  ])("%s is malformed", (_, text) => {
    expect(() => decodeFrame("2.0.0", text)).toThrow(MalformedFrame);
  });

  test("a 1.0.0 frame without one of its keys is malformed, and names the key", () => {
    expect(() => decodeFrame("1.0.0", '{"topic":"a","event":"b","ref":"1"}')).toThrow('no "payload"');
  });

  test("every prefix of a binary frame, and random bytes, are malformed or decode: nothing else happens", () => {
    for (let end = 0; end < 20; end++) {
      expect(() => decodeFrame("2.0.0", KIND_3.slice(0, end).buffer)).toThrow(MalformedFrame);
    }
    const random = seededRandom(7);
    for (let round = 0; round < 20_000; round++) {
      const noise = Uint8Array.from({ length: Math.floor(random() * 40) }, () => Math.floor(random() * 256));
      if (random() < 0.8) noise[0] = 3;
      try {
        decodeFrame("2.0.0", noise.buffer);
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedFrame);
      }
    }
  });
});

describe("encoding", () => {
  test("a 1.0.0 frame has exactly topic, event, payload and ref", () => {
    const frame = JSON.parse(encodeFrame("1.0.0", "1", null, "realtime:a", "broadcast", '{"a":1}'));
    expect(frame).toEqual({ topic: "realtime:a", event: "broadcast", payload: { a: 1 }, ref: null });
  });

  test("a reply echoes ref and join_ref untouched", () => {
    const to = { joinRef: "7", ref: "9", topic: "realtime:a" };
    expect(encodeReply("2.0.0", to, "ok", {})).toBe('["7","9","realtime:a","phx_reply",{"status":"ok","response":{}}]');
  });

  test("the worked kind 4 frame comes out byte for byte", () => {
    const frame = encodeUserBroadcast("realtime:a", "x", "", '{"k":1}');
    const worked = "04 0A 01 00 01 72 65 61 6C 74 69 6D 65 3A 61 78 7B 22 6B 22 3A 31 7D";
    expect(frame).toEqual(bytes(worked));
  });

  test("lengths count UTF-8 bytes, and what passes 255 of them has no binary form", () => {
    const frame = encodeUserBroadcast("realtime:é", "x", "", new Uint8Array());
    expect(frame?.[1]).toBe(11);
    expect(encodeUserBroadcast("é".repeat(128), "x", "", new Uint8Array())).toBeUndefined();
  });

  test("a member is added to the text of an object without parsing it", () => {
    expect(withMember("{}", "meta", "1")).toBe('{"meta":1}');
    expect(withMember('{"n":9007199254740993} ', "meta", '{"a":"}"}')).toBe('{"n":9007199254740993,"meta":{"a":"}"}}');
  });
});
