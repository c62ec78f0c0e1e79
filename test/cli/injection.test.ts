// Hostile text: through every argument and every stored string, it is text and nothing else.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";
import { realtime } from "./nself.ts";

let stack: TestStack;
let sql: pg.Client;
let directory: string;
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("create table precious (id int primary key, text text); insert into precious values (1, 'here')");
  directory = mkdtempSync(join(tmpdir(), "nself-injection-"));
  for (const args of [
    ["channel", "create", "general"],
    ["channel", "create", "inner", "private"],
    ["broadcast", "general", "e", "{}"],
    ["presence", "track", "ann", "general"],
    ["subscribe", "public.precious"],
  ]) {
    expect(await nself(...args)).toMatchObject({ code: 0 });
  }
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const nself = (...args: string[]) => realtime(stack, args, { cwd: directory });
const json = async (...args: string[]) => JSON.parse((await nself(...args, "--json")).stdout);

/** What must not change but by the object named: the schema, the rows of the user, files. */
async function state() {
  const { rows } = await sql.query(
    `select array(select n.nspname || '.' || relname || '.' || relkind::text from pg_class c join pg_namespace n on n.oid = relnamespace
        where nspname in ('public', 'realtime') order by 1) as relations,
       array(select rolname || rolsuper::text from pg_roles order by 1) as roles,
       (select json_agg(precious) from precious) as precious`,
  );
  return { ...rows[0], files: readdirSync(directory) };
}

const texts = [
  "x'); DROP TABLE precious; --",
  `1"; DROP TABLE precious; SELECT '"' OR '1'='1`,
  "$(touch owned) `touch owned`; touch owned | touch owned",
  "../../admin/v1/init%2f..?x=1#y",
  "general/messages",
];

/** Each command with hostile text in each of its arguments. */
const commands: ((text: string) => string[])[] = [
  (text) => ["channel", "create", text],
  (text) => ["channel", "create", "named", text],
  (text) => ["channel", "create", "named", "public", JSON.stringify({ [text]: text })],
  (text) => ["channel", "list", text],
  (text) => ["channel", "get", text],
  (text) => ["channel", "delete", text, "true"],
  (text) => ["broadcast", text, "e", "{}"],
  (text) => ["broadcast", "general", text, JSON.stringify({ text })],
  (text) => ["broadcast", "general", "e", text],
  (text) => ["broadcast", "general", "e", "{}", text],
  (text) => ["messages", text],
  (text) => ["messages", "general", text],
  (text) => ["replay", "general", text],
  (text) => ["replay", text, "2026-01-30T00:00:00Z"],
  (text) => ["presence", "track", text, "general"],
  (text) => ["presence", "track", "ann", text],
  (text) => ["presence", "track", "ann", "general", "online", JSON.stringify({ [text]: text })],
  (text) => ["presence", "track", "ann", "general", text],
  (text) => ["presence", "get", text],
  (text) => ["presence", "get", "ann", text],
  (text) => ["presence", "online", text],
  (text) => ["presence", "count", text],
  (text) => ["subscribe", text],
  (text) => ["subscribe", "public.precious", text],
  (text) => ["unsubscribe", text],
  (text) => ["listen", text, "1"],
  (text) => ["listen", "public.precious", text],
  (text) => ["logs", "--lines", text],
];

describe("AC-010", () => {
  // `public."*"` would be a table of that name: each text goes through each command.
  test.each(texts)("AC-010: %s", { timeout: 120_000 }, async (text) => {
    const before = await state();
    // Two at a time are what the machines of tests bear.
    for (let at = 0; at < commands.length; at += 2) {
      const runs = await Promise.all(commands.slice(at, at + 2).map((command) => nself(...command(text))));
      for (const { code, stderr } of runs) {
        expect([0, 1, 2]).toContain(code);
        // A stack trace would be a failure that nobody foresaw.
        expect(stderr).not.toMatch(/\n {4}at |internal|syntax error/);
      }
    }
    const after = await state();
    expect(after).toEqual(before);
    expect((await json("channel", "get", "general")).slug).toBe("general");
    expect((await json("channel", "get", "inner")).type).toBe("private");
    expect((await json("subscriptions")).map(({ table_name }: Record<string, string>) => table_name)).toContain(
      "public.precious",
    );
  });
});

/** A clear screen, a C1 control, a title, a line that looks like one of ours, a text that reads backwards. */
const HOSTILE = "\u001b[2J\u009b31m\u001b]0;title\u0007\r\n✓ Channel deleted: general\u202e\u2066";
const STEERS = /[^\P{Cc}\n]|[\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

test("stored text cannot steer a terminal nor forge a line, in any form; JSON stays JSON and exact", {
  timeout: 120_000,
}, async () => {
  await nself("broadcast", "general", HOSTILE, JSON.stringify({ [HOSTILE]: HOSTILE }));
  await nself("presence", "track", HOSTILE, "general", "online", JSON.stringify({ name: HOSTILE }));
  // What came into the tables some other way is shown no better.
  await sql.query(
    `insert into realtime.channels (slug, name, type, metadata) values ('hostile', $1, 'public', $2)
     on conflict (slug) do nothing`,
    [HOSTILE, JSON.stringify({ [HOSTILE]: HOSTILE })],
  );
  await sql.query("update precious set text = $1", [HOSTILE]);
  const reads = [
    ["messages", "general"],
    ["replay", "general", "2026-01-30T00:00:00Z"],
    ["presence", "online", "general"],
    ["presence", "get", HOSTILE],
    ["channel", "list"],
    ["channel", "get", "hostile"],
    ["channel", "get", HOSTILE],
    ["connections"],
    ["status"],
  ];
  for (const args of reads) {
    for (const format of ["text", "table", "json"]) {
      const { stdout, stderr } = await nself(...args, "--format", format);
      expect(stdout + stderr, args.join(" ")).not.toMatch(STEERS);
      expect(stdout, args.join(" ")).not.toMatch(/^✓ Channel deleted/m);
    }
  }
  const shown = await json("messages", "general", "1");
  expect(shown).toMatchObject([{ event_type: HOSTILE, payload: { [HOSTILE]: HOSTILE } }]);
});

test("hostile text in an error is shown as text", async () => {
  for (const args of [
    ["channel", "get", `x${HOSTILE}`],
    [HOSTILE],
    ["channel", "create", "x", HOSTILE],
    ["logs", HOSTILE],
  ]) {
    const { code, stdout, stderr } = await nself(...args);
    expect(code).not.toBe(0);
    expect(stdout).toBe("");
    expect(stderr).not.toMatch(STEERS);
  }
});
