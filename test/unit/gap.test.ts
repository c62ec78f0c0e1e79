// A gap: changes that a feed was to get are missing, and nobody goes on believing that they missed nothing. And marks of
// transactions.
import { expect, test } from "vitest";
import { z } from "zod";
import { parseChanges, type RowChange } from "../../src/protocol/changes.ts";
import { World } from "../support/world.ts";

const table = {
  schema: "public",
  table: "t",
  generation: 1,
  rls: false,
  readers: ["anon"],
  columns: [],
  primaryKey: [],
};
const frames = z.array(
  z.tuple([z.string().nullable(), z.string().nullable(), z.string(), z.string(), z.looseObject({})]),
);
let batch = 0;

function world() {
  const made = new World();
  made.access = { ...made.access, table: async () => ({ columns: [], primaryKey: [] }) };
  const change = (...changes: RowChange[]) => {
    batch += 1;
    const header = { v: 1, source: "s", epoch: 1, batch, redelivered: false, feed: "public.t", tables: {} } as const;
    return made.channel("feed:public.t").changes({ header, changes });
  };
  const ann = made.connect("g1");
  const events = () => frames.parse(ann.frames.map((frame) => JSON.parse(String(frame))));
  return { world: made, ann, change, events };
}

const row = (id: string, operation: RowChange["operation"] = "INSERT"): RowChange => ({
  ...{ id, operation, table },
  data: `{"schema":"public","table":"t","columns":[],"record":{"id":${id}}}`,
  tx: { id: "900", last: id === "2" },
});

test("who is there starts anew, who comes back is not told that it missed nothing, and order stays", async () => {
  const { world: made, ann, change, events } = world();
  const topic = "realtime:table:public.t";
  made.say("g1", ann, "1", topic, "phx_join", { config: {} });
  await made.clock.pass(1_000);
  // A gap is no change.
  expect(await change(row("1"), row("0", "GAP"), row("2"))).toBe(2);
  await made.clock.pass(1_000);
  const names = events().map(([, , , name]) => name);
  expect(names).toContain("phx_error");
  expect(names.indexOf("INSERT")).toBeLessThan(names.indexOf("phx_error"));
  const { epoch, seq } = z
    .looseObject({ meta: z.object({ epoch: z.string(), seq: z.number() }) })
    .parse(events().find(([, , , name]) => name === "INSERT")?.[4]).meta;
  ann.frames.length = 0;
  made.say("g1", ann, "2", topic, "phx_join", { config: { broadcast: { resume: { epoch, seq } } } });
  await made.clock.pass(1_000);
  expect(events().find(([, , , name]) => name === "phx_reply")?.[4]).toMatchObject({ response: { recovered: false } });
});

test("a change says its transaction, and the last of it says so", async () => {
  const { world: made, ann, change, events } = world();
  const config = { postgres_changes: [{ event: "*", schema: "public", table: "t" }] };
  made.say("g1", ann, "1", "realtime:room", "phx_join", { config });
  await made.clock.pass(1_000);
  change(row("1"), row("2"));
  await made.clock.pass(1_000);
  const metas = events().flatMap(([, , , name, payload]) => (name === "postgres_changes" ? [payload.meta] : []));
  expect(metas).toEqual([
    { id: "s:1", epoch: expect.any(String), seq: 1, at: expect.any(Number), tx: "900" },
    { id: "s:2", epoch: expect.any(String), seq: 2, at: expect.any(Number), tx: "900", commit: true },
  ]);
});

test("the marks are read from the lines of a batch", () => {
  const header = {
    v: 1,
    source: "s",
    epoch: 1,
    batch: 1,
    redelivered: false,
    feed: "public.t",
    tables: { 5: table },
  } as const;
  const line = (more: string) => `{"id":"1","x":"900",${more}"r":5,"op":"G","at":"2026-01-01T00:00:00.000Z"}`;
  const read = parseChanges(header, [line(""), line('"last":true,')]);
  expect(read.map(({ operation, tx }) => [operation, tx])).toEqual([
    ["GAP", { id: "900", last: false }],
    ["GAP", { id: "900", last: true }],
  ]);
});
