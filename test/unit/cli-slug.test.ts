// Slugs: what becomes of a channel's name.
import { expect, test } from "vitest";
import { slugOf } from "../../src/edge/admin/slug.ts";

test.each([
  ["Team Alpha", "team-alpha"],
  ["general", "general"],
  ["  two \t blanks ", "two-blanks"],
  ["O'Brien", "obrien"],
  ["channel:42", "channel:42"],
  ["a.b_c-d", "a.b_c-d"],
  ["日本語", "日本語"],
  ["हिन्दी", "हिन्दी"],
  ["CAFE\u0301", "café"],
  ["x'); DROP TABLE y; --", "x-drop-table-y---"],
])("AC-081 AC-082: %j has the slug %j", (name, slug) => {
  expect(slugOf(name)).toEqual({ slug });
});

test.each(["", "   ", "!!!", "-", "...", "🙂"])("%j is refused: nothing would be left to name it by", (name) => {
  expect(slugOf(name)).toEqual({ reason: expect.stringContaining("letter or a digit") });
});

test("a channel cannot take the name of a table's feed", () => {
  expect(slugOf("table:public.users")).toEqual({ reason: expect.stringContaining("feed") });
});

test("a slug that makes too long a topic is refused", () => {
  expect(slugOf("x".repeat(400))).toEqual({ reason: expect.stringContaining("300") });
});
