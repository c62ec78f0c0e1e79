// Tables: aligned text, the form of psql, CSV.
import { expect, test } from "vitest";
import { columns, csv, table } from "../../src/cli/table.ts";

test("columns are as wide as their longest cell, and at least as wide as asked", () => {
  const rows = [
    ["general", "public", "245 members"],
    ["a-rather-long-channel", "presence", "89 online"],
  ];
  expect(columns(rows, [15, 10])).toEqual([
    "general                public      245 members",
    "a-rather-long-channel  presence    89 online",
  ]);
  expect(columns([], [15, 10])).toEqual([]);
});

test("a table has the form of psql, times shortened, lists and objects in one cell", () => {
  const rows = [
    ["abc", ["INSERT", "UPDATE"], { level: 5 }, "2026-01-30T10:30:00.000Z"],
    ["d\ne", [], null, "2026-01-30T10:25:00.000Z"],
  ];
  expect(table(["id", "events", "metadata", "created_at"], rows)).toEqual([
    " id   | events         | metadata    | created_at",
    "------+----------------+-------------+---------------------",
    ' abc  | INSERT, UPDATE | {"level":5} | 2026-01-30 10:30:00',
    " d\\ne |                |             | 2026-01-30 10:25:00",
  ]);
});

test("CSV quotes what needs it and keeps times whole", () => {
  const rows = [['say "hi", twice', "2026-01-30T10:30:00.000Z", 3, null]];
  expect(csv(["text", "sent_at", "n", "none"], rows)).toBe(
    'text,sent_at,n,none\r\n"say ""hi"", twice",2026-01-30T10:30:00.000Z,3,\r\n',
  );
});

test("a payload is shown as the JSON that it is", () => {
  const rows = [[[1]], ["1"], [1], [null], [{ a: "b" }]];
  const cells = ["[1]", '"1"', "1", "null", '{"a":"b"}'];
  expect(table(["payload"], rows).slice(2)).toEqual(cells.map((cell) => ` ${cell}`));
  expect(csv(["payload"], rows, "\n")).toBe('payload\n[1]\n"""1"""\n1\nnull\n"{""a"":""b""}"\n');
});
