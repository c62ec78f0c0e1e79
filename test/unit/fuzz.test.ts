// Fuzz of the parsers at the door: whatever comes in, they answer a value or the one error that is theirs.
import { createClient } from "@supabase/supabase-js";
import { expect, test, vi } from "vitest";
import { echoWishes, parseWish, WishRefused, wishIds } from "../../src/gateway/wishes.ts";
import { decodeUserBroadcast, encodeUserBroadcast } from "../../src/protocol/binary.ts";
import { BadBatch, openBatch, parseChanges } from "../../src/protocol/changes.ts";
import { decodeFrame, encodeFrame } from "../../src/protocol/codec.ts";
import { MalformedFrame, UserBroadcast } from "../../src/protocol/frames.ts";
import { parseJoin } from "../../src/protocol/join.ts";
import { isDeeper, parseJson } from "../../src/protocol/json.ts";
import { parseTopic } from "../../src/protocol/topics.ts";
import { versions } from "../support/clients.ts";
import { type Frame, Garbage } from "../support/garbage.ts";
import { pushFrame } from "../support/raw-socket.ts";

// As many rounds as were asked for, on however slow a machine.
vi.setConfig({ testTimeout: 120_000 });

const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const rounds = Number(process.env.FUZZ_FRAMES ?? 20_000);

/** Runs with garbage, over and over. What fails names the seed and the round: FUZZ_SEED=<seed> repeats it. */
function fuzz(times: number, run: (garbage: Garbage) => void): void {
  const garbage = new Garbage(seed);
  for (let round = 0; round < times; round++) {
    try {
      run(garbage);
    } catch (error) {
      throw new Error(`FUZZ_SEED=${seed}, round ${round}`, { cause: error });
    }
  }
}

/** Runs and swallows the one error that may happen. @returns undefined in that case */
function attempt<T>(
  run: () => T,
  allowed: typeof MalformedFrame | typeof BadBatch | typeof WishRefused,
): T | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof allowed) return undefined;
    throw error;
  }
}

const dataOf = (frame: Frame): string | ArrayBuffer => (typeof frame === "string" ? frame : frame.slice().buffer);

test("a frame is malformed, or has a topic, an event and refs that are text or null", () => {
  let decoded = 0;
  fuzz(rounds, (garbage) => {
    for (const version of versions) {
      const frame = attempt(() => decodeFrame(version, dataOf(garbage.frame(version))), MalformedFrame);
      if (frame === undefined) continue;
      decoded++;
      expect(typeof frame.topic === "string" && typeof frame.event === "string").toBe(true);
      for (const ref of [frame.ref, frame.joinRef]) expect(ref === null || typeof ref === "string").toBe(true);
    }
  });
  // Garbage that never comes close would test the first check alone.
  expect(decoded).toBeGreaterThan(rounds / 2);
});

test("every join payload is read, within the bounds", () => {
  fuzz(rounds / 4, (garbage) => {
    const join = parseJoin(garbage.join());
    expect([join.private, join.self, join.ack, join.presenceEnabled].every((flag) => typeof flag === "boolean")).toBe(
      true,
    );
    expect(join.presenceKey.length).toBeLessThanOrEqual(256);
    expect(join.postgresChanges.length).toBeLessThanOrEqual(100);
    if (typeof join.replay === "object") expect(join.replay.limit).toBeLessThanOrEqual(1_000);
  });
});

test("every row-change subscription is understood or refused, and echoed with an id that is a non-zero integer", () => {
  fuzz(rounds / 10, (garbage) => {
    const entries = parseJoin(garbage.join()).postgresChanges;
    const ids = wishIds(entries);
    expect(ids.every((id) => Number.isSafeInteger(id) && id > 0)).toBe(true);
    expect(echoWishes(entries)).toHaveLength(entries.length);
    for (const [index, entry] of entries.entries()) {
      attempt(() => parseWish(entry, ids[index] ?? 1), WishRefused);
    }
  });
});

test("every topic names something or is refused with a reason", () => {
  fuzz(rounds, (garbage) => {
    const topic = parseTopic(garbage.pick("", "realtime:", "realtime:table:", 'realtime:table:"') + garbage.text());
    if ("reason" in topic) expect(topic.reason).not.toBe("");
    else expect(topic.sub).not.toBe("");
  });
});

test("a batch of row changes is taken or refused with the line that is wrong", () => {
  const header = { v: 1, source: "s", epoch: 1, batch: 1, redelivered: false, feed: "public.t" };
  const tables = {
    0: { schema: "public", table: "t", generation: 1, columns: [], primaryKey: [], rls: false, readers: [] },
  };
  const change = { id: "1", x: "1", r: 0, op: "U", at: "now", new: { a: '"new":{' }, old: null };
  const inserted = { ...change, new: { a: ',"old":{}', old: {} }, old: undefined };
  let taken = 0;
  fuzz(rounds, (garbage) => {
    const lines = [{ ...header, tables }, change, inserted].map((line): unknown => {
      if (garbage.chance(0.7)) return line;
      return {
        ...line,
        [garbage.pick("v", "feed", "tables", "op", "new", "old", "r", "at", "errors")]: garbage.json(2),
      };
    });
    const body = lines.map((line) => JSON.stringify(line)).join("\n");
    const given = garbage.chance(0.3) ? String(garbage.mutated(body)) : body;
    const changes = attempt(() => {
      const { header, lines } = openBatch(given);
      return parseChanges(header, lines);
    }, BadBatch);
    if (changes === undefined) return;
    taken++;
    // An image that ends its line is the word of whoever signed it, and passes through as it is.
    const [, ...signed] = given.split("\n").filter((line) => line !== "");
    for (const [index, line] of signed.entries()) {
      if (parseJson(line) !== undefined) JSON.parse(changes[index]?.data ?? "");
    }
  });
  expect(taken).toBeGreaterThan(rounds / 10);
});

test("the depth of JSON is told right, whatever its strings hold", () => {
  const depthOf = (value: unknown): number =>
    typeof value === "object" && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;
  fuzz(rounds / 2, (garbage) => {
    const value = [garbage.json(5), garbage.pick('"', "\\", '\\"[', "]}")];
    const depth = depthOf(value);
    const json = JSON.stringify(value);
    // A short text has no room for a deep value, and is not looked at: blanks make room.
    const given = json + " ".repeat(2 * depth);
    expect([isDeeper(given, depth), isDeeper(given, depth - 1)]).toEqual([false, true]);
  });
});

test("what is encoded is decoded to the same", () => {
  fuzz(rounds / 4, (garbage) => {
    const [joinRef, ref, topic, event] = [garbage.text(3), garbage.text(3), garbage.text(), garbage.text()];
    const payload = garbage.json();
    for (const version of versions) {
      const text = encodeFrame(version, joinRef, ref, topic, event, JSON.stringify(payload));
      const expected = { joinRef: version === "2.0.0" ? joinRef : null, ref, topic, event, payload };
      expect(decodeFrame(version, text)).toEqual(expected);
    }
  });
});

test("a binary broadcast is read as the stock client writes it, and what we write the stock client reads", () => {
  const { serializer } = createClient("http://127.0.0.1:1", "no key").realtime;
  // Text that UTF-8 can hold: halves of pairs become something else on the way, and the stock client drops the mark of
  // byte order.
  const text = (garbage: Garbage): string => garbage.text().toWellFormed().replaceAll("\ufeff", "");
  fuzz(rounds / 4, (garbage) => {
    const [topic, event] = [text(garbage), text(garbage)];
    const bytes = garbage.bytes(garbage.int(50));
    const value = { n: garbage.int(9), text: text(garbage) };
    for (const payload of [bytes.buffer, value]) {
      const message = {
        join_ref: "1",
        ref: "2",
        topic,
        event: "broadcast",
        payload: { type: "broadcast", event, payload },
      };
      const sent: unknown[] = [];
      serializer.encode(message, (frame) => sent.push(frame));
      const [frame] = sent;
      if (!(frame instanceof ArrayBuffer)) throw new Error("the stock client sends broadcasts as binary frames");
      const content = payload === value ? JSON.stringify(value) : bytes;
      expect(decodeUserBroadcast(new Uint8Array(frame))).toEqual({
        ...{ joinRef: "1", ref: "2", topic, event: "broadcast" },
        payload: new UserBroadcast(event, content),
      });
      const written = encodeUserBroadcast(topic, event, '{"id":"x"}', content);
      if (written === undefined) throw new Error("short fields have a binary form");
      serializer.decode(written.slice().buffer, (read: unknown) =>
        expect(read).toMatchObject({ topic, event: "broadcast", payload: { event, payload, meta: { id: "x" } } }),
      );
    }
  });
});

test("lengths count bytes: 255 of them pass in any field, and our own frame of them has a binary form", () => {
  for (const name of ["x".repeat(255), "é".repeat(127), "🎈".repeat(63)]) {
    const frame = decodeUserBroadcast(
      pushFrame({ joinRef: name, ref: name, topic: name, event: name, encoding: 1 }, new Uint8Array()),
    );
    expect(frame).toMatchObject({ joinRef: name, ref: name, topic: name, payload: { event: name, payload: "{}" } });
    expect(encodeUserBroadcast(name, name, "", new Uint8Array())).toBeInstanceOf(Uint8Array);
  }
  expect(encodeUserBroadcast("é".repeat(128), "x", "", new Uint8Array())).toBeUndefined();
});
