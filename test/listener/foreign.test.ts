// A database that another realtime server has used: refused with the reason, and its rows come over as the documents say.
import { readFile } from "node:fs/promises";
import pg from "pg";
import { afterAll, beforeEach, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";

let postgres: TestPostgres | undefined;
let db: pg.Client;
let url: string;

beforeEach(async () => {
  postgres ??= await startPostgres();
  const admin = new pg.Client({ connectionString: postgres.url });
  await admin.connect();
  await admin.query("drop database if exists other (force)");
  await admin.query("create database other");
  await admin.end();
  const other = new URL(postgres.url);
  other.pathname = "/other";
  url = other.href;
  db = new pg.Client({ connectionString: url });
  await db.connect();
  return () => db.end();
});

afterAll(() => postgres?.stop());

const older = `
  create schema realtime;
  create table realtime.channels (id uuid primary key default gen_random_uuid(), slug text unique, name text, type text,
    metadata jsonb default '{}', created_at timestamptz default now(), updated_at timestamptz default now());
  create table realtime.channel_members (id uuid primary key default gen_random_uuid(), channel_id uuid, user_id text,
    role text default 'member', joined_at timestamptz default now());
  create table realtime.messages (id uuid primary key default gen_random_uuid(), channel_id uuid, event_type text,
    payload jsonb not null, sender_id text, sent_at timestamptz default now());
  create table realtime.subscriptions (id uuid primary key default gen_random_uuid(), table_name text unique);
  create table realtime.connections (id uuid primary key default gen_random_uuid(), user_id text);
  insert into realtime.channels (id, slug, name, type)
    values ('0b5f1f9e-0000-4000-8000-000000000001', 'general', 'General', 'public');
  insert into realtime.channel_members (channel_id, user_id, role)
    values ('0b5f1f9e-0000-4000-8000-000000000001', 'ann', 'admin');
  insert into realtime.messages (channel_id, event_type, payload, sent_at)
    values ('0b5f1f9e-0000-4000-8000-000000000001', 'said', '{"n":1}', '2026-01-30T00:00:00Z')`;

test.each([
  ["nself realtime 0.9", older],
  [
    "nself realtime of before 0.9",
    "create schema realtime; create table realtime.channels (id uuid, tenant_id uuid, name text); create table realtime.broadcasts (id uuid)",
  ],
  [
    "Supabase Realtime",
    "create schema realtime; create table realtime.schema_migrations (version bigint); create table realtime.messages (id uuid)",
  ],
  ["something else", "create schema realtime; create table realtime.messages (id int)"],
])("tables of %s are refused by name, and left as they are", async (owner, sql) => {
  await db.query(sql);
  const tables = async () =>
    (await db.query("select relname from pg_class where relnamespace = 'realtime'::regnamespace order by 1")).rows;
  const before = await tables();
  await expect(migrate(url)).rejects.toMatchObject({
    code: "foreign",
    message: expect.stringContaining(`tables of ${owner} (`),
  });
  expect(await tables()).toEqual(before);
});

test("moved aside, their rows come over by the statements that are documented", async () => {
  await db.query(older);
  await db.query("alter schema realtime rename to realtime_before");
  await migrate(url);
  const page = await readFile(new URL("../../docs/operations.md", import.meta.url), "utf8");
  const statements = [...page.matchAll(/```sql\n(insert into .*?)```/gs)].map(([, text = ""]) => text);
  expect(statements).toHaveLength(1);
  for (let turn = 0; turn < 2; turn++) await db.query(statements[0] ?? "");
  const { rows } = await db.query(`select c.slug, c.type, m.user_id, m.role, s.event, s.payload, s.created_at
    from realtime.channels c join realtime.channel_members m on m.channel_id = c.id
    join realtime.messages s on s.channel_id = c.id where c.slug = 'general'`);
  expect(rows).toEqual([
    {
      ...{ slug: "general", type: "public", user_id: "ann", role: "admin", event: "said", payload: { n: 1 } },
      created_at: new Date("2026-01-30T00:00:00Z"),
    },
  ]);
});
