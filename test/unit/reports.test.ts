// Reports of our own tables: payloads as they were written, and what is not worth a message.
import { expect, test } from "vitest";
import { parseBroadcasts, parseSlugs } from "../../src/protocol/reports.ts";

const line = (row: string): string => `{"id":"1","x":"1","r":7,"op":"I","at":"now","new":${row}}`;

test("the payload of a message passes through as the text that it is", () => {
  const payload = '{"new": {"payload": 1}, "n": 12345678901234567890.10, "text": "}\\"{"}';
  const row = `{"id":"a","topic":"t","event":"e","private":true,"payload":${payload},"bytes":null}`;
  expect(parseBroadcasts([line(row)]).broadcasts).toEqual([
    { id: "a", topic: "t", event: "e", private: true, payload },
  ]);
});

test("bytes are bytes again", () => {
  const row = '{"id":"a","topic":"t","event":"e","private":true,"payload":null,"bytes":"AP8Q"}';
  expect(parseBroadcasts([line(row)]).broadcasts[0]?.payload).toEqual(Uint8Array.of(0, 255, 16));
});

test("a message without its row, too large to come, is known by its change", () => {
  const { broadcasts, unsent } = parseBroadcasts(['{"id":"4711","x":"1","r":7,"op":"I","at":"now","errors":["413"]}']);
  expect([broadcasts, unsent]).toEqual([[], [{ id: "4711", reason: "it is too large to be carried" }]]);
});

test("slugs come once each, and those that no topic can name not at all", () => {
  const slugs = ["a", "b", "a", "table:public.t", "x".repeat(400)];
  expect(parseSlugs(slugs.map((slug) => line(JSON.stringify({ slug }))))).toEqual(["a", "b"]);
});
