// Frames of clients: what one side writes, the other side's own code reads.
import { describe, expect, test } from "vitest";
import { encodeUserBroadcast } from "../../src/protocol/binary.ts";
import { decodeServerFrames, encodeBytes, encodeClientFrame } from "../../src/protocol/client-frames.ts";
import { decodeFrame, encodeFrame, encodeReply } from "../../src/protocol/codec.ts";
import { UserBroadcast } from "../../src/protocol/frames.ts";

const topic = "realtime:räum-1";

describe("the server reads", () => {
  test("a frame with a JSON payload", () => {
    const text = encodeClientFrame("1", "2", topic, "broadcast", { event: "é", payload: { n: 1 } });
    const payload = { event: "é", payload: { n: 1 } };
    expect(decodeFrame("2.0.0", text)).toEqual({ joinRef: "1", ref: "2", topic, event: "broadcast", payload });
  });

  test("a broadcast of bytes, of none too", () => {
    for (const bytes of [new Uint8Array([0, 34, 255]), new Uint8Array()]) {
      const frame = encodeBytes("1", "2", topic, "öffnen", bytes) ?? new ArrayBuffer();
      const payload = new UserBroadcast("öffnen", bytes);
      expect(decodeFrame("2.0.0", frame)).toEqual({ joinRef: "1", ref: "2", topic, event: "broadcast", payload });
    }
  });

  test("no bytes whose topic or event are too long for their length fields", () => {
    expect(encodeBytes("1", "2", topic, "e".repeat(256), new Uint8Array())).toBeUndefined();
    expect(encodeBytes("1", "2", "é".repeat(128), "e", new Uint8Array())).toBeUndefined();
  });
});

describe("a client reads", () => {
  test("a frame, a reply, and frames that come packed", () => {
    const frame = { joinRef: null, ref: null, topic, event: "system", payload: { status: "ok" } };
    const text = encodeFrame("2.0.0", null, null, topic, "system", '{"status":"ok"}');
    expect(decodeServerFrames(text)).toEqual([frame]);
    expect(decodeServerFrames(`[${text},${text}]`)).toEqual([frame, frame]);
    const reply = encodeReply("2.0.0", { joinRef: "1", ref: "2", topic }, "error", { reason: "no" });
    const payload = { status: "error", response: { reason: "no" } };
    expect(decodeServerFrames(reply)).toEqual([{ joinRef: "1", ref: "2", topic, event: "phx_reply", payload }]);
  });

  test("a broadcast of bytes, and JSON in a binary frame", () => {
    const meta = { id: "x", epoch: "e", seq: 1, at: 2 };
    const read = (payload: Uint8Array | string): unknown => {
      const frame = encodeUserBroadcast(topic, "é", JSON.stringify(meta), payload) ?? new Uint8Array();
      return decodeServerFrames(new Uint8Array(frame).buffer)[0]?.payload;
    };
    const bytes = new Uint8Array([1, 2, 255]);
    expect(read(bytes)).toEqual({ type: "broadcast", event: "é", payload: bytes, meta });
    expect(read('{"n":1}')).toEqual({ type: "broadcast", event: "é", payload: { n: 1 }, meta });
  });

  test("nothing in what is no frame, or one of a kind that later servers may send", () => {
    for (const data of [
      "",
      "[",
      "{}",
      "[1,2]",
      "[null,null,1,2,{}]",
      '[null,null,"t","e",3]',
      new Uint8Array([9, 1]).buffer,
    ]) {
      expect(decodeServerFrames(data)).toEqual([]);
    }
  });
});
