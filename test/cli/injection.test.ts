// Hostile text: through every argument and every stored string, it is text and nothing else.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@supabase/supabase-js";
import type { Command } from "commander";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { buildProgram } from "../../src/cli/program.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { userToken } from "../support/tokens.ts";
import { realtime, start } from "./nself.ts";

let stack: TestStack;
let sql: pg.Client;
let directory: string;
let profiles: string;
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  await sql.query("create table precious (id int primary key, text text); insert into precious values (1, 'here')");
  directory = mkdtempSync(join(tmpdir(), "nself-injection-"));
  profiles = mkdtempSync(join(tmpdir(), "nself-injection-profiles-"));
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
  for (const made of [directory, profiles]) rmSync(made, { recursive: true, force: true });
});

const options = () => ({ cwd: directory, env: { XDG_CONFIG_HOME: profiles } });
const nself = (...args: string[]) => realtime(stack, args, options());
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

/** A clear screen, a C1 control, a title, a line that looks like one of ours, a text that reads backwards. */
const HOSTILE = "\u001b[2J\u009b31m\u001b]0;title\u0007\r\n✓ Channel deleted: general\u202e\u2066";
const STEERS = /[^\P{Cc}\n]|[\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;
const FORGED = /^✓ Channel deleted/m;

const texts = [
  ["SQL after a quote", "x'); DROP TABLE precious; --"],
  ["SQL after a double quote", `1"; DROP TABLE precious; SELECT '"' OR '1'='1`],
  ["commands of a shell", "$(touch owned) `touch owned`; touch owned | touch owned"],
  ["a path", "../../admin/v1/init%2f..?x=1#y"],
  ["what steers a terminal", HOSTILE],
] as const;

/** What stands in an argument, by its name, while another one is hostile. */
const harmless: Record<string, string> = {
  ...{ args: "realtime", channel: "general", connection: "nosuch", event: "e", events: "INSERT", filter: "id = 1" },
  ...{ force: "false", hours: "24", jti: "t1", json: "json", key: "k", limit: "5", metadata: "{}", name: "named" },
  ...{ part: "realtime", payload: "{}", role: "member", seconds: "1", sender: "ann", shell: "bash", status: "online" },
  ...{ table: "public.precious", time: "2026-01-30T00:00:00Z", type: "public", url: "http://127.0.0.1:1", user: "ann" },
};

/** What all commands that read take alike: once will do. */
const COMMON = new Set(["json", "--format"]);

/** Every argument and every option with a value, of every command: the command line with a text in that place. */
function* places(command: Command, path: string[] = []): Generator<(text: string) => string[]> {
  for (const child of command.commands) {
    // The same commands once more, by their old name.
    if (child.name() !== "service") yield* places(child, [...path, child.name()]);
  }
  if (command.commands.length > 0) return;
  const given = command.registeredArguments.map((argument) => harmless[argument.name()] ?? argument.name());
  const required = given.slice(0, command.registeredArguments.filter((argument) => argument.required).length);
  for (const [at, argument] of command.registeredArguments.entries()) {
    if (COMMON.has(argument.name())) continue;
    yield (text) => [...path, ...given.slice(0, at), text, ...required.slice(at + 1)];
  }
  for (const { long, required: takesValue } of command.options) {
    if (takesValue && !COMMON.has(String(long))) yield (text) => [...path, ...required, `${long}=${text}`];
  }
}

const commands = [
  ...places(buildProgram()),
  (text: string) => ["realtime", "status", text],
  (text: string) => ["realtime", "status", `--format=${text}`],
  (text: string) => ["--profile", text, "realtime", "channel", "list"],
  (text: string) => ["realtime", "channel", "create", "named", "public", JSON.stringify({ [text]: text })],
  (text: string) => ["realtime", "broadcast", "general", text, JSON.stringify({ [text]: text })],
  (text: string) => ["realtime", "presence", "track", "ann", "general", "online", JSON.stringify({ [text]: text })],
  (text: string) => ["realtime", "broadcast", "cleanup", text],
  (text: string) => ["realtime", "listen", `channel:${text}`, "1"],
  (text: string) => ["realtime", text],
  (text: string) => [text],
];

describe("AC-010", () => {
  test("AC-010: the places are all of them", () => {
    const lines = commands.map((command) => command("TEXT").join(" "));
    for (const one of [
      "realtime kick ann --reason=TEXT",
      "realtime kick ann TEXT",
      "realtime ban ann --for=TEXT",
      "realtime revoke TEXT",
      "realtime disconnect TEXT",
      "realtime channel join general TEXT",
      "realtime channel join general ann TEXT",
      "realtime logs --lines=TEXT",
      "profile add named http://127.0.0.1:1 TEXT",
      "migrate from-supabase --db-url=TEXT",
      "realtime subscribe public.precious --filter=TEXT",
    ]) {
      expect(lines).toContain(one);
    }
    expect(lines.length).toBeGreaterThan(60);
  });

  test.each(texts)("AC-010: %s is text in every place", { timeout: 300_000 }, async (_what, text) => {
    const before = await state();
    // Two at a time are what the machines of tests bear.
    for (let at = 0; at < commands.length; at += 2) {
      const lines = commands.slice(at, at + 2).map((command) => command(text));
      const runs = await Promise.all(lines.map((args) => start(stack, args, options()).ended));
      for (const [index, { code, stdout, stderr }] of runs.entries()) {
        const said = lines[index]?.join(" ");
        expect([0, 1, 2], said).toContain(code);
        // A stack trace would be a failure that nobody foresaw.
        expect(stderr, said).not.toMatch(/\n {4}at |internal|syntax error/);
        expect(stdout + stderr, said).not.toMatch(STEERS);
        expect(stdout + stderr, said).not.toMatch(FORGED);
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
  const table = `public.${pg.escapeIdentifier(HOSTILE)}`;
  await sql.query(`create table ${table} (id int primary key, text text)`);
  await nself("subscribe", table);
  await nself("channel", "join", "general", HOSTILE);
  await nself("ban", HOSTILE, "--reason", HOSTILE);
  await nself("ban", HOSTILE, "general");
  await nself("revoke", HOSTILE, "--reason", HOSTILE);
  const client = createClient(stack.url, stack.anonKey, {
    accessToken: () => userToken(stack, { sub: `${HOSTILE} connected` }),
  });
  await client.realtime.setAuth();
  await new Promise<void>((resolve) => {
    client.channel(HOSTILE).subscribe((status) => status === "SUBSCRIBED" && resolve());
  });
  const listener = start(stack, ["realtime", "listen", table, "4"], options());
  const hearer = start(stack, ["realtime", "listen", "channel:general", "4"], options());
  await vi.waitFor(() => {
    for (const one of [listener, hearer]) expect(one.stdout()).toContain("Listening to");
  }, 10_000);
  await sql.query(`insert into ${table} values (1, $1)`, [HOSTILE]);
  // Not as the one who is banned.
  const sender = `${HOSTILE} sender`;
  expect(await nself("broadcast", "general", HOSTILE, JSON.stringify({ [HOSTILE]: HOSTILE }), sender)).toMatchObject({
    code: 0,
  });
  for (const { ended } of [listener, hearer]) {
    const { stdout, stderr } = await ended;
    expect(stdout.trimEnd().split("\n")).toHaveLength(2);
    expect(stdout + stderr).not.toMatch(STEERS);
  }
  const reads = [
    ["messages", "general"],
    ["replay", "general", "2026-01-30T00:00:00Z"],
    ["presence", "online", "general"],
    ["presence", "get", HOSTILE],
    ["channel", "list"],
    ["channel", "get", "hostile"],
    ["channel", "get", HOSTILE],
    ["channel", "members", "general"],
    ["bans"],
    ["bans", "general"],
    ["events", "general"],
    ["subscriptions"],
    ["connections"],
    ["stats"],
    ["status"],
  ];
  for (const args of reads) {
    for (const format of ["text", "table", "json"]) {
      const { code, stdout, stderr } = await nself(...args, "--format", format);
      expect(stdout + stderr, args.join(" ")).not.toMatch(STEERS);
      expect(stdout, args.join(" ")).not.toMatch(FORGED);
      expect(code, args.join(" ")).toBe(0);
      // There is something to be shown, and programs get it as it is.
      const isCount = args[0] === "stats" || args[0] === "status";
      if (format === "json" && !isCount) {
        expect(JSON.stringify(JSON.parse(stdout)), args.join(" ")).toContain(JSON.stringify(HOSTILE).slice(1, -1));
      }
    }
  }
  for (const args of [["logs"], ["broadcast", "general"]]) {
    const { stdout, stderr } = await nself(...args);
    expect(stdout + stderr).not.toMatch(STEERS);
    expect(stdout).not.toMatch(FORGED);
  }
  await client.removeAllChannels();
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
