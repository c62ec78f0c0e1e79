// Join payloads, topics and row-change subscriptions: what clients write, and what is made of it.
import { describe, expect, test } from "vitest";
import { echoWishes, wishIds } from "../../src/gateway/wishes.ts";
import { parseJoin } from "../../src/protocol/join.ts";
import {
  feedName,
  namesInTopic,
  parseFeedName,
  parseObjectName,
  parseTopic,
  roomObject,
} from "../../src/protocol/topics.ts";

describe("join payloads", () => {
  test("what is absent takes its default", () => {
    expect(parseJoin({})).toEqual({
      private: false,
      self: false,
      ack: false,
      replay: undefined,
      replicationReady: false,
      resume: undefined,
      presenceKey: "",
      presenceEnabled: false,
      postgresChanges: [],
      wait: undefined,
      legacy: true,
      token: undefined,
    });
  });

  test.each([
    ["nothing at all", null],
    ["a string", "join"],
    ["parts of wrong types", { config: { broadcast: [], presence: "x", postgres_changes: {}, private: [] } }],
  ])("%s counts as an empty payload", (_, payload) => {
    expect({ ...parseJoin(payload), legacy: true }).toEqual(parseJoin({}));
  });

  test("booleans may be strings, and the valid parts of an invalid payload are used", () => {
    const join = parseJoin({
      config: {
        private: "TRUE",
        broadcast: { self: true, ack: 7, replay: null, resume: 3 },
        presence: { key: 5, enabled: "true" },
      },
    });
    expect(join).toMatchObject({ private: true, self: true, ack: false, replay: undefined });
    expect(join).toMatchObject({ presenceKey: "5", presenceEnabled: true });
  });

  test("opaque keys and null are no tokens, and user_token wins over access_token", () => {
    expect(parseJoin({ access_token: "sb_publishable_x" }).token).toBeUndefined();
    expect(parseJoin({ access_token: null }).token).toBeUndefined();
    expect(parseJoin({ access_token: "a", user_token: "b" }).token).toBe("b");
  });

  test("a replay asks for 1 to 1,000 messages, 25 where it does not say, and a resume needs a whole position", () => {
    const broadcast = { replay: { since: 5, limit: 5000 }, resume: { epoch: "e" } };
    expect(parseJoin({ config: { broadcast } })).toMatchObject({
      replay: { since: 5, limit: 1000 },
      resume: undefined,
    });
    expect(parseJoin({ config: { broadcast: { replay: { limit: 0 } } } }).replay).toEqual({ since: 0, limit: 1 });
    expect(parseJoin({ config: { broadcast: { replay: {} } } }).replay).toEqual({ since: 0, limit: 25 });
    expect(parseJoin({ config: { broadcast: { replay: { since: "yesterday" } } } }).replay).toBe("invalid");
  });
});

test.each([
  [{ wait: true }, 15_000],
  [{ wait: "true", timeout: 500 }, 500],
  [{ wait: true, timeout: 90_000 }, 20_000],
  [{ wait: true, timeout: -1 }, 15_000],
  [{ wait: true, timeout: "soon" }, 15_000],
  [{ wait: false, timeout: 500 }, undefined],
  ["yes", undefined],
  [undefined, undefined],
])("the options %o of row changes have the join wait %s ms", (options, wait) => {
  expect(parseJoin({ config: { postgres_changes_options: options } }).wait).toBe(wait);
});

test.each([
  ["realtime:public:users", false, ["public", "users", undefined]],
  ["realtime:public:users:id=eq.a:b", true, ["public", "users", "id=eq.a:b"]],
  ["realtime:public", true, ["public", undefined, undefined]],
  ["realtime:public", false, undefined],
  ["realtime:a:b:c", false, undefined],
  ["realtime:a:", false, undefined],
  ["realtime:table:public.users", true, undefined],
])("the topic %s (legacy: %s) names %o", (wire, legacy, names) => {
  const topic = parseTopic(wire);
  expect("kind" in topic && namesInTopic(topic, legacy)).toEqual(names);
});

describe("topics", () => {
  test.each([
    ["realtime:a:b c/d", { kind: "room", sub: "a:b c/d" }],
    ["realtime:table:public.users", { kind: "feed", sub: "table:public.users", feed: "public.users" }],
    ['realtime:table:"public".users', { kind: "feed", sub: "table:public.users", feed: "public.users" }],
    ['realtime:table:"a.b"."c"', { kind: "feed", sub: 'table:"a.b".c', feed: '"a.b".c' }],
    ["realtime:table:a.b.c", { reason: "TopicNameRequired: A feed is named table:<schema>.<table>" }],
    ["realtime:", { reason: "TopicNameRequired: You must provide a topic name" }],
    ["room", { reason: "unmatched topic" }],
  ])("%s", (wire, topic) => {
    expect(parseTopic(wire)).toEqual(topic);
  });

  test("a feed's name comes apart as it was put together, whatever is in it", () => {
    for (const [schema, table] of [
      ["public", "users"],
      ["a.b", "c"],
      ["a", "b.c"],
      ['we"ird', "*"],
    ] as const) {
      expect(parseFeedName(feedName(schema, table))).toEqual({ schema, table });
    }
    expect(feedName("a.b", "c")).not.toBe(feedName("a", "b.c"));
  });

  test("public and private rooms of a name are different objects", () => {
    expect(roomObject("x", true)).not.toBe(roomObject("x", false));
    expect(parseObjectName(roomObject("a:b", true))).toEqual({ kind: "private", sub: "a:b" });
    expect(parseObjectName("nonsense")).toBeUndefined();
  });
});

describe("row-change subscriptions", () => {
  test("ids are non-zero, equal for equal entries, and echoed with all that the client wrote", () => {
    const entries = [
      { event: "*", schema: "public", table: "a", filter: "" },
      { event: "*", schema: "public" },
    ];
    const ids = wishIds([...entries, entries[0]]);
    expect(ids[0]).toBe(ids[2]);
    expect(ids[0]).not.toBe(ids[1]);
    expect(ids.every((id) => Number.isInteger(id) && id > 0)).toBe(true);
    expect(echoWishes(entries)[0]).toEqual({ ...entries[0], id: ids[0] });
  });
});
