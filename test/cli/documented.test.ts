// Every command line that the documents print, run in their order by a shell, where what they name is there.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStack, type TestStack } from "../support/stack.ts";

const project = fileURLToPath(new URL("../..", import.meta.url));
const lines = readFileSync(join(project, "test/cli/documented-commands.txt"), "utf8")
  .trim()
  .split(/\n(?=nself )/)
  .filter((line) => line.startsWith("nself "));

const channels = {
  public: ["general", "announcements", "old-channel"],
  private: ["support", "team-alpha", "billing"],
  presence: ["lobby", "game-lobby"],
};
const values: Record<string, string> = {
  "<command> [options]": "status",
  "<channel>": "general",
  "<ch>": "general",
  "<id>": "general",
  "<name>": "general",
  "<user>": "user-123",
  "<table>": "public.users",
  "<event>": "user.joined",
  "<payload>": `'{"user_id": "123"}'`,
  "<timestamp>": "2026-01-30T00:00:00Z",
  "[channel]": "general",
  "[ch]": "general",
  "[type]": "public",
  "[events]": "INSERT",
  "[seconds]": "1",
  "[limit]": "10",
  "[hours]": "24",
  "[timeout]": "300",
  "[status]": "online",
  "[--follow]": "--follow",
  "[--json]": "--json",
};

let stack: TestStack;
let sql: pg.Client;
let supabase: string;
let directory: string;
beforeAll(async () => {
  stack = await startStack();
  sql = new pg.Client({ connectionString: stack.databaseUrl });
  await sql.connect();
  for (const table of ["users", "posts", "comments"]) {
    await sql.query(`create table ${table} (id int primary key, post_id text, email text)`);
  }
  supabase = await supabaseDatabase();
  directory = await mkdtemp(join(tmpdir(), "nself-documented-"));
  await symlink(join(project, "scripts/nself.mjs"), join(directory, "nself"));
});
afterAll(async () => {
  await sql?.end();
  await stack?.stop();
  await rm(directory, { recursive: true, force: true });
});

/** A second database, as far as it is one of Supabase's. */
async function supabaseDatabase(): Promise<string> {
  await sql.query("create database supabase");
  const url = stack.databaseUrl.replace(/\/[^/]*$/, "/supabase");
  const there = new pg.Client({ connectionString: url });
  await there.connect();
  await there.query(`
    create schema realtime;
    create table realtime.messages (topic text not null, extension text not null, private boolean default false);
    create table public.users (id int primary key);
    create publication supabase_realtime for table public.users;
  `);
  await there.end();
  return url;
}

// One line may delete what the next one names.
beforeEach(async () => {
  const made = Object.entries(channels).flatMap(([type, names]) =>
    names.map((name) => admin("channels", { name, type })),
  );
  await Promise.all([...made, admin("subscriptions", { table: "public.users" })]);
  await sql.query(
    `insert into realtime.channel_members (channel_id, user_id)
     select id, 'user-123' from realtime.channels where slug = 'general' on conflict do nothing`,
  );
});

async function admin(path: string, body: object): Promise<void> {
  const response = await fetch(`${stack.url}/admin/v1/${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${stack.serviceKey}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
}

/** Fills in what stands for something; what does not end by itself gets a second, or Ctrl+C. */
async function runnable(line: string): Promise<string> {
  let filled = line.replace(/ &$/, "");
  for (const [placeholder, value] of Object.entries(values)) filled = filled.replaceAll(placeholder, value);
  const table = filled.includes("unsubscribe")
    ? "subscriptions where table_name = 'public.users'"
    : "channels where slug = 'general'";
  const { rows } = await sql.query(`select id from realtime.${table}`);
  return filled.replace("<uuid>", rows[0].id);
}

/** Runs a line as bash does. `endless`: Ctrl+C once it shows something. */
async function bash(line: string, endless: boolean): Promise<{ code: unknown; stderr: string }> {
  const child = spawn("bash", ["--norc", "-c", line], {
    cwd: directory,
    env: {
      PATH: `${directory}:${join(project, "node_modules/.bin")}:${process.env.PATH}`,
      NSELF_HOME: stack.home,
      XDG_CONFIG_HOME: directory,
      SUPABASE_DB_URL: supabase,
    },
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  // A command that asks is answered; one that does not, does not read.
  child.stdin.on("error", () => {});
  child.stdin.end("y\n");
  child.stdout.once("data", () => endless && setTimeout(() => child.kill("SIGINT"), 200));
  const [code] = await once(child, "close");
  return { code, stderr };
}

test.each(lines)("AC-003: %s", async (line) => {
  const endless = /realtime listen|--follow/.test(line);
  expect(await bash(await runnable(line), endless)).toMatchObject({
    code: 0,
    stderr: expect.not.stringContaining("✗"),
  });
});
