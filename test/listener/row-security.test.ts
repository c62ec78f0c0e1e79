// Row-level security of our own tables: what users see of channels, members, messages and presence by SQL.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";

const ANN = "6f1c3a9e-0000-4000-8000-00000000000a";
let postgres: TestPostgres;
let sql: pg.Client;

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  sql = new pg.Client({ connectionString: postgres.url });
  await sql.connect();
  await sql.query(`
    insert into realtime.channels (slug, name, type) values ('billing', 'billing', 'private'), ('team', 'team', 'private');
    insert into realtime.channel_members (channel_id, user_id) select id, '${ANN}' from realtime.channels where slug = 'team';
    insert into realtime.channel_members (channel_id, user_id) select id, 'user-123' from realtime.channels where slug = 'billing';
    insert into realtime.messages (topic, event, payload) values ('billing', 'e', '{}'), ('team', 'e', '{}');
    insert into realtime.presence (user_id, channel_id) select 'u', id from realtime.channels`);
});
afterAll(async () => {
  await sql?.end();
  await postgres?.stop();
});

/** The rows of a query as a user sees them. */
async function as(sub: string | null, query: string): Promise<unknown[]> {
  await sql.query("begin");
  try {
    const claims = { role: "authenticated", ...(sub === null ? {} : { sub }) };
    await sql.query("select set_config('request.jwt.claims', $1, true)", [JSON.stringify(claims)]);
    await sql.query("set local role authenticated");
    return (await sql.query({ text: query, rowMode: "array" })).rows.flat();
  } finally {
    await sql.query("rollback");
  }
}

const lists = [
  "select slug from realtime.channels",
  "select c.slug from realtime.channel_members m join realtime.channels c on c.id = m.channel_id",
  "select topic from realtime.messages",
  "select c.slug from realtime.presence p join realtime.channels c on c.id = p.channel_id",
];

test.each(lists)("AC-219: members see what belongs to their channels, others nothing: %s", async (query) => {
  expect(await as(ANN, query)).toEqual(["team"]);
  expect(await as("user-123", query)).toEqual(["billing"]);
  expect(await as("stranger", query)).toEqual([]);
  expect(await as(null, query)).toEqual([]);
});

test("AC-192: the documented policy can be created as it is printed, and hides channels from who is no member", async () => {
  await sql.query("drop policy members_see_channels on realtime.channels");
  await sql.query(`
    ALTER TABLE realtime.channels ENABLE ROW LEVEL SECURITY;
    CREATE POLICY "Users can only see channels they're members of" ON realtime.channels FOR SELECT
    USING (id IN (SELECT channel_id FROM realtime.channel_members WHERE user_id = auth.uid()))`);
  expect(await as(ANN, "select slug from realtime.channels")).toEqual(["team"]);
  expect(await as("6f1c3a9e-0000-4000-8000-00000000000b", "select slug from realtime.channels")).toEqual([]);
});

test("nobody may change anything, and everybody may call nothing but what sends", async () => {
  await expect(as(ANN, "delete from realtime.channels returning slug")).rejects.toThrow("permission denied");
  await expect(
    as(ANN, "insert into realtime.channel_members (channel_id, user_id) select id, 'x' from realtime.channels"),
  ).rejects.toThrow("permission denied");
  const { rows } = await sql.query(`
    select distinct p.proname from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
    where p.pronamespace = 'realtime'::regnamespace and a.grantee = 0 order by 1`);
  expect(rows.map(({ proname }) => proname)).toMatchInlineSnapshot(`
    [
      "broadcast_changes",
      "check_payload_size",
      "send",
      "send_binary",
    ]
  `);
  const tables = await sql.query(`
    select c.relname from pg_class c, aclexplode(c.relacl) a where c.relnamespace = 'realtime'::regnamespace and a.grantee = 0`);
  expect(tables.rows).toEqual([]);
});

test("an application's own operator that compares text with uuid stays, and keeps nothing from being made", async () => {
  await sql.query("create database compares");
  const url = postgres.url.replace(/\/[^/]*$/, "/compares");
  const there = new pg.Client({ connectionString: url });
  await there.connect();
  await there.query(`
    create function public.never(text, uuid) returns boolean language sql immutable return false;
    create operator public.= (leftarg = text, rightarg = uuid, function = public.never)`);
  await migrate(url);
  const { rows } = await there.query(`select '${ANN}'::text = '${ANN}'::uuid as same`);
  expect(rows).toEqual([{ same: false }]);
  expect((await there.query("select * from realtime.channels")).rows).toEqual([]);
  await there.end();
});
