// Batches of row changes as the listener posts them: what is taken, and what is refused with which status.
import { describe, expect, test } from "vitest";
import { BadBatch, openBatch, parseChanges, type RowChange, selectColumns } from "../../src/protocol/changes.ts";
import { cutMembers, members } from "../../src/protocol/json.ts";

const table = { schema: "public", table: "t", generation: 1, columns: [], primaryKey: [], rls: false, readers: [] };
const header = { v: 1, source: "s", epoch: 1, batch: 1, redelivered: false, feed: "public.t", tables: { 7: table } };

function line(id: string, value: unknown): string {
  return JSON.stringify({ id, x: "1", r: 7, op: "I", at: "2026-01-01T00:00:00Z", new: { value } });
}

function batch(...lines: string[]): string {
  return [JSON.stringify(header), ...lines].join("\n");
}

function parse(body: string): RowChange[] {
  const { header, lines } = openBatch(body);
  return parseChanges(header, lines);
}

function refusal(body: string): BadBatch {
  try {
    parse(body);
  } catch (error) {
    if (error instanceof BadBatch) return error;
    throw error;
  }
  throw new Error("the batch was taken");
}

describe("batches", () => {
  test("row images pass through as the text that they are", () => {
    const text = line("1", 0).replace('"value":0', '"value":12345678901234567890.10');
    expect(parse(batch(text))[0]?.data).toContain('"record":{"value":12345678901234567890.10}');
  });

  test.each([
    ["at the end of its line", '"id":"1","x":"1","r":7,"op":"I","at":"","new":IMAGE'],
    ["at its beginning", '"new":IMAGE,"id":"1","x":"1","r":7,"op":"I","at":""'],
    ["before something else", '"id":"1","x":"1","r":7,"op":"I","at":"","new":IMAGE,"errors":["cut"]'],
    ["beside one that is null", '"id":"1","x":"1","r":7,"op":"I","at":"","new":IMAGE,"old":null'],
  ])("an image %s is found, whatever it holds", (_, members) => {
    for (const image of ['{"a":1.10}', '{"new":{},"old":{"new":1}}', '{"a":",\\"old\\":{}"}', "{}"]) {
      const [taken] = parse(batch(`{${members.replace("IMAGE", image)}}`));
      expect(taken?.data).toMatch(/"errors":(null|\["cut"\])}$/);
      expect(cutMembers(taken?.data ?? "", ["record", "old_record"])).toEqual({ record: image });
    }
  });

  test("a change that is too large is refused with 413 and its line", () => {
    const fits = line("1", "x".repeat(1_899_000));
    expect(parse(batch(fits))).toHaveLength(1);
    const { status, message } = refusal(batch(fits, line("2", "x".repeat(12_000_000))));
    expect([status, message]).toEqual([413, "line 3: a change holds at most 12000000 bytes"]);
  });

  test("sizes are bytes, not characters", () => {
    expect(refusal(batch(line("1", "é".repeat(6_500_000)))).status).toBe(413);
  });

  test.each([
    ["nothing", "", "its first line must be the header"],
    ["a header that is no JSON", "{", "line 1 (header): not JSON"],
    ["a change of a table that the header does not describe", batch(line("1", 1).replace('"r":7', '"r":8')), "line 2"],
  ])("%s is refused with 400", (_, body, message) => {
    const error = refusal(body);
    expect(error.status).toBe(400);
    expect(error.message).toContain(message);
  });

  test("bytea comes as hex digits alone, in old rows too", () => {
    const columns = [
      { name: "b", type: "bytea" },
      { name: "t", type: "text" },
    ];
    const described = JSON.stringify({ ...header, tables: { 7: { ...table, columns } } });
    const row = { b: "\\xff00", t: "\\xff00", n: null };
    const change = { id: "1", x: "1", r: 7, op: "U", at: "t", new: row, old: { ...row, b: null } };
    const [taken] = parse([described, JSON.stringify(change)].join("\n"));
    expect(JSON.parse(taken?.data ?? "")).toMatchObject({
      record: { b: "ff00", t: "\\xff00", n: null },
      old_record: { b: null, t: "\\xff00" },
    });
  });
});

test.each([
  ["{}", []],
  [
    ' { "a" : 1 , "b":[1,{"c":2}],"d":{"e":"}"} } ',
    [
      ["a", "1"],
      ["b", '[1,{"c":2}]'],
      ["d", '{"e":"}"}'],
    ],
  ],
  [
    '{"a\\"b":"x\\\\","c":"\\"},","":null}',
    [
      ['a"b', '"x\\\\"'],
      ["c", '"\\"},"'],
      ["", "null"],
    ],
  ],
])("the members of %s", (object, expected) => {
  expect([...members(object)]).toEqual(expected);
});

test("a selection keeps the digits and the order of what it keeps", () => {
  const columns = ["id", "n", "t"].map((name) => ({ name, type: "numeric" }));
  const row = '{"id":1,"n":1.10000000000000000001,"t":"{\\"n\\":1}"}';
  const data = `{"schema":"s","columns":${JSON.stringify(columns)},"record":${row},"old_record":${row},"errors":null}`;
  const kept = '{"id":1,"n":1.10000000000000000001}';
  expect(selectColumns(data, new Set(["n", "id", "gone"]))).toBe(
    `{"schema":"s","columns":${JSON.stringify(columns.slice(0, 2))},"record":${kept},"old_record":${kept},"errors":null}`,
  );
});
