// What only PostgreSQL can say, asked by many at once.
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { askPostgres } from "../../src/edge/objects/postgres.ts";

/** The statements that reach PostgreSQL; it answers each with these rows, every value as text. */
let statements: string[];
let rows: Record<string, string>[];

beforeEach(() => {
  statements = [];
  vi.stubGlobal("fetch", async (_url: string, { body }: { body: string }) => {
    statements.push(JSON.parse(body).query);
    const fields = Object.keys(rows[0] ?? {}).map((name) => ({ name, dataTypeID: name === "ready" ? 16 : 25 }));
    return Response.json({ fields, rows: rows.map(Object.values), command: "SELECT", rowCount: rows.length });
  });
});
afterEach(() => void vi.unstubAllGlobals());

test("whether the database is ready is asked once in half a second, however many want to know", async () => {
  rows = [{ ready: "t" }];
  const postgres = askPostgres(env);
  const answers = await Promise.all(Array.from({ length: 100 }, () => postgres.isReady()));
  expect(new Set(answers)).toEqual(new Set([true]));
  expect(statements).toHaveLength(1);
  await scheduler.wait(510);
  await postgres.isReady();
  expect(statements).toHaveLength(2);
});

test("a fresh list of captured tables is asked for ten times a second at most, however many want it", async () => {
  rows = [];
  const postgres = askPostgres(env);
  await postgres.captured();
  const before = Date.now();
  await scheduler.wait(5);
  rows = [{ schema_name: "public", table_name: "t" }];
  const lists = await Promise.all(Array.from({ length: 100 }, () => postgres.captured(Date.now())));
  expect(lists.every((list) => list.has("public", "t"))).toBe(true);
  expect(statements).toHaveLength(2);
  expect(Date.now() - before).toBeGreaterThanOrEqual(95);
});

test("the list of captured tables is the same object until it changes", async () => {
  rows = [{ schema_name: "public", table_name: "t" }];
  const postgres = askPostgres(env);
  const first = await postgres.captured();
  expect(await postgres.captured()).toBe(first);
  expect(statements).toHaveLength(1);
  await scheduler.wait(1_010);
  expect(await postgres.captured()).toBe(first);
  expect(statements).toHaveLength(2);
  rows = [...rows, { schema_name: "public", table_name: "u" }];
  await scheduler.wait(1_010);
  const second = await postgres.captured();
  expect([first.has("public", "u"), second.has("public", "u"), second.has("*", "u"), second.has("s", "*")]).toEqual([
    false,
    true,
    true,
    false,
  ]);
});
