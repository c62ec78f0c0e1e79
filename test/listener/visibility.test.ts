// Visibility against PostgreSQL itself: random tables, policies, rows and claims, each row shown to whom SELECT shows it.
import { randomInt } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Policies } from "../../src/channel/ports.ts";
import { Viewers } from "../../src/channel/viewers.ts";
import { Visibility } from "../../src/channel/visibility.ts";
import { Catalogue, type Table } from "../../src/listener/catalogue.ts";
import { migrate } from "../../src/listener/migrate.ts";
import type { RowChange } from "../../src/protocol/changes.ts";
import type { Access, Viewer } from "../../src/protocol/link.ts";
import type { PolicyQuestion } from "../../src/protocol/viewers.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { seededRandom } from "../support/world.ts";

const seed = Number(process.env.POLICY_SEED ?? randomInt(2 ** 31));
const TABLES = Number(process.env.POLICY_TABLES ?? 60);
const ROWS = 24;
const random = seededRandom(seed);
const below = (limit: number): number => Math.floor(random() * limit);
function pick<T>(items: readonly [T, ...T[]]): T {
  return items[below(items.length)] ?? items[0];
}

let postgres: TestPostgres;
let db: pg.Client;
let listener: pg.Client;
let catalogue: Catalogue;

const users = [1, 2, 3, 4].map((n) => `6f1c3a9e-0000-4000-8000-00000000000${n}`);
const user = (): string => users[below(users.length)] ?? "";

beforeAll(async () => {
  postgres = await startPostgres();
  await migrate(postgres.url);
  [db, listener] = (await Promise.all(
    [0, 1].map(async () => {
      const client = new pg.Client({ connectionString: postgres.url });
      await client.connect();
      return client;
    }),
  )) as [pg.Client, pg.Client];
  await listener.query("set search_path = ''");
  catalogue = new Catalogue(listener);
  await db.query(`
    create table members (of_team int, who uuid);
    insert into members values (1, '${users[0]}'), (2, '${users[1]}'), (3, '${users[0]}');
    alter table members enable row level security;
    create policy own on members for select using (who = (select auth.uid()));
    create schema private;
    create function private.in_team(team int) returns boolean language sql stable security definer as
      'select exists (select from public.members where of_team = team and who = auth.uid())';
    create function private.is_admin() returns boolean language plpgsql stable as
      $$ begin return auth.jwt() ->> 'admin' = 'true'; end $$;
    grant usage on schema public, private to anon, authenticated, service_role;
    grant select on members to anon, authenticated, service_role;
  `);
}, 60_000);

afterAll(async () => {
  await Promise.all([db?.end(), listener?.end()]);
  await postgres?.stop();
});

const COLUMNS =
  "id int primary key, owner uuid, owner_text text, team int, org text, status varchar(20), is_public boolean, score bigint, gone timestamptz, note text, blob bytea, tags text[], doc jsonb";

/** Conditions that policies are made of; those of the first list are compiled. */
const simple = [
  "owner = auth.uid()",
  "(select auth.uid()) = owner",
  "owner_text = auth.uid()::text",
  "owner::text = (auth.jwt() ->> 'sub')",
  "owner = (auth.jwt() ->> 'sub')::uuid",
  "owner_text = (select auth.jwt() ->> 'sub')",
  "org = (auth.jwt() -> 'app_metadata' ->> 'org')",
  "org = ((select auth.jwt()) -> 'app_metadata' ->> 'org')",
  "current_setting('request.jwt.claims', true)::json ->> 'sub' = owner_text",
  "(current_setting('request.jwt.claims', true)::jsonb ->> 'sub')::uuid = owner",
  "team = (auth.jwt() ->> 'team')::int",
  "score = (auth.jwt() ->> 'team')::bigint",
  "(auth.jwt() ->> 'admin')::boolean",
  "auth.role() = 'authenticated'",
  "auth.uid() is not null",
  "auth.jwt() ->> 'aal' = 'aal2'",
  "is_public",
  "is_public = true",
  "is_public is true",
  "is_public is not true",
  "is_public is not false",
  "gone is null",
  "status = 'open'",
  "status <> 'open'",
  "status in ('open', 'it''s')",
  "status not in ('open', 'done')",
  "team in (1, 2)",
  "team not in (0, 2)",
  "org in ('acme', auth.jwt() ->> 'org')",
  "score > 5",
  "score <= -3",
  "score < 9007199254740993",
  "team::bigint = score",
  "team <> 1",
  "note is distinct from 'x'",
  "owner is not distinct from auth.uid()",
  "note is not null",
  "true",
  "false",
] as const;
const other = [
  "exists (select from members where of_team = team and who = auth.uid())",
  "team in (select of_team from members where who = (select auth.uid()))",
  "private.in_team(team)",
  "private.is_admin()",
  "(select private.is_admin())",
  "6 / team > 1",
  "owner_text::uuid = auth.uid()",
  "note like 'a%'",
  "lower(org) = org",
  "score % 2 = 0",
  "org = any (string_to_array(auth.jwt() ->> 'orgs', ','))",
  "auth.jwt() -> 'app_metadata' ->> 'org' = any (tags)",
  "doc ->> 'owner' = auth.uid()::text",
  "gone < now()",
  "length(blob) = 2",
  "auth.uid()::text ~ org",
  "coalesce(owner = auth.uid(), is_public)",
  "to_jsonb(TABLE) ->> 'note' is null",
  "exists (select from members where members is not null and to_jsonb(TABLE) ->> 'team' = of_team::text)",
  "case when is_public then true else owner = auth.uid() end",
] as const;

function condition(depth: number, compiled: boolean): string {
  if (depth > 0 && random() < 0.5) {
    const parts = Array.from({ length: 2 + below(2) }, () => condition(depth - 1, compiled));
    return `(${parts.join(random() < 0.5 ? " and " : " or ")})`;
  }
  if (depth > 0 && random() < 0.15) return `(not ${condition(depth - 1, compiled)})`;
  return `(${compiled || random() < 0.5 ? pick(simple) : pick(other)})`;
}

const orNull = (value: unknown): unknown => (random() < 0.2 ? null : value);

function row(id: number): unknown[] {
  return [
    id,
    orNull(user()),
    orNull(random() < 0.9 ? user() : pick(["nobody", "", "x"])),
    orNull(below(4)),
    orNull(pick(["acme", "Umbrella", ""])),
    orNull(pick(["open", "done", "it's"])),
    orNull(random() < 0.5),
    orNull(random() < 0.1 ? "9007199254740993" : below(12) - 4),
    orNull("2026-01-01T00:00:00Z"),
    orNull(pick(["x", "abc", 'b\\\n"é'])),
    orNull(Buffer.from([255, 0])),
    orNull(["acme", null, 'a"b']),
    orNull(JSON.stringify({ owner: user() })),
  ];
}

function viewer(n: number): Viewer {
  const role = pick(["authenticated", "authenticated", "authenticated", "anon", "service_role"]);
  const claims: Record<string, unknown> = { role };
  const sub = random();
  if (sub < 0.75) claims.sub = sub < 0.1 ? user().toUpperCase() : user();
  else if (sub < 0.85) claims.sub = pick<unknown>(["nobody", "", 7, null, `{${users[0]}}`]);
  if (random() < 0.5)
    claims.app_metadata = pick<unknown>([
      { org: "acme" },
      { org: "Umbrella" },
      { org: null },
      { org: 1 },
      { org: ["acme"] },
      "acme",
    ]);
  if (random() < 0.5) claims.team = pick<unknown>([1, 2, "3", " 2", "two", 1.5, 10_000_000_000, true]);
  if (random() < 0.5) claims.admin = pick<unknown>([true, false, "true", "yes", "no", "perhaps", null]);
  if (random() < 0.3) claims.aal = "aal2";
  if (random() < 0.3) claims.orgs = "acme,umbrella";
  if (random() < 0.3) claims.org = pick(["acme", "other"]);
  return { key: `v${n}`, role, claims };
}

async function makeTable(n: number, compiled: boolean): Promise<string> {
  const name = pick(["t", "with space", 'q"t', "members", "owner"]);
  const table = `"${name.replaceAll('"', '""')}${n}"`;
  await db.query(`create table ${table} (${COLUMNS}); alter table ${table} enable row level security;
    grant select on ${table} to anon, authenticated, service_role`);
  if (random() < 0.2) await db.query(`alter table ${table} force row level security`);
  if (random() < 0.1)
    await db.query(`revoke select on ${table} from anon; grant select (id, note) on ${table} to anon`);
  for (let policy = 0; policy < 1 + below(4); policy++) {
    const kind = random() < 0.25 ? "restrictive" : "permissive";
    const command = pick(["select", "all", "select", "insert"]);
    const to = pick(["public", "authenticated", "anon, authenticated", "anon", "public"]);
    const using =
      command === "insert" ? "with check (true)" : `using (${condition(2, compiled).replaceAll("TABLE", table)})`;
    await db.query(
      `create policy p${pick(["a", "b", "c"])}${policy} on ${table} as ${kind} for ${command} to ${to} ${using}`,
    );
  }
  await db.query("select realtime.subscribe($1)", [`public.${table}`]);
  for (let id = 1; id <= ROWS; id++) {
    await db.query(`insert into ${table} values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, row(id));
  }
  return table;
}

/** What SELECT shows somebody, of one row or of all; undefined when it fails. */
async function selected(table: string, { role, claims }: Viewer, id?: number): Promise<number[] | undefined> {
  await db.query("begin");
  try {
    await db.query(
      `select set_config('request.jwt.claims', $1, true), set_config('request.jwt.claim.sub', $2, true),
         set_config('request.jwt.claim.role', $3, true), set_config('role', $3, true)`,
      [JSON.stringify(claims), typeof claims.sub === "object" ? "" : String(claims.sub ?? ""), role],
    );
    const { rows } = await db.query(`select id from ${table} where $1::int is null or id = $1 order by id`, [
      id ?? null,
    ]);
    return rows.map((row) => row.id);
  } catch {
    return undefined;
  } finally {
    await db.query("rollback");
  }
}

/** What SELECT, asked for each row alone, shows to somebody and hides; of some rows it fails. */
async function selectedApart(table: string, one: Viewer): Promise<{ visible: number[]; hidden: number[] }> {
  const apart: { visible: number[]; hidden: number[] } = { visible: [], hidden: [] };
  for (let id = 1; id <= ROWS; id++) {
    const rows = await selected(table, one, id);
    if (rows !== undefined) apart[rows.length > 0 ? "visible" : "hidden"].push(id);
  }
  return apart;
}

async function described(table: string): Promise<Table> {
  // A description is trusted for half a second.
  catalogue = new Catalogue(listener);
  const { rows } = await db.query("select $1::regclass::oid::text as relid", [table]);
  const { relid } = rows[0];
  const found = (await catalogue.describe(new Set([relid]))).get(relid);
  if (found === undefined) throw new Error(`${table} is not described`);
  return found.table;
}

/** The changes that insert the rows of a table, their images as capture made them. */
async function changesOf(table: string, description: Table): Promise<RowChange[]> {
  const { rows } = await db.query(
    `select new::text as image from (select * from realtime.changes_a union all select * from realtime.changes_b) c
     where relid = $1::regclass order by seq`,
    [table],
  );
  const columns = JSON.stringify(description.columns.map(({ name, type }) => ({ name, type })));
  return rows.map(({ image }, at) => ({
    id: String(at),
    operation: "INSERT",
    data: `{"schema":"public","columns":${columns},"record":${image.replace('"\\\\x', '"')}}`,
    table: description,
  }));
}

let asked = 0;
/** What PostgreSQL has said against viewers of the last question. */
let failures: unknown[] = [];
const policies: Policies = {
  async ask({ schema, table, columns, images, viewers }: PolicyQuestion) {
    asked++;
    const { rows } = await listener.query(
      "select realtime.visible(format('%I.%I', $1::text, $2::text)::regclass, $3, $4, $5, '5 s') as answer",
      [schema, table, JSON.stringify(viewers), `[${images.join(",")}]`, columns],
    );
    const { answer } = rows[0];
    failures = Object.values(answer?.failed ?? {});
    return answer === null ? "outdated" : { visible: new Map(Object.entries(answer.visible)), left: answer.left };
  },
  unjudged: () => {},
};

const timers = { now: () => Date.now(), after: () => () => {}, alarm: () => {} };

async function judged(changes: RowChange[], all: readonly Viewer[]): Promise<Access[]> {
  const viewers = new Viewers();
  viewers.set("g", all);
  return new Visibility(viewers, policies, timers).judge(changes, async () => {});
}

const shown = (access: readonly Access[], { key, role }: Viewer): number[] =>
  access.flatMap(({ readers, visible }, at) => (readers.includes(role) || visible?.includes(key) ? [at + 1] : []));

describe(`seed ${seed} (POLICY_SEED repeats it)`, () => {
  test("every row is shown to whom SELECT shows it, by compiled policies and by PostgreSQL", async () => {
    let [compared, seen, failing, withoutAsking] = [0, 0, 0, 0];
    for (let n = 0; n < TABLES; n++) {
      const table = await makeTable(n, n % 2 === 0);
      const viewers = Array.from({ length: 16 }, (_, v) => viewer(v));
      const description = await described(table);
      const changes = await changesOf(table, description);
      expect(changes).toHaveLength(ROWS);
      const before = asked;
      const here = await judged(changes, viewers);
      if (asked === before) withoutAsking++;
      // With nothing known, whatever reads a column or a claim is asked of PostgreSQL.
      const security = description.security && { ...description.security, plain: [], known: [] };
      const blind = { ...description, security };
      const there = await judged(
        changes.map((change) => ({ ...change, table: blind })),
        viewers,
      );
      const definition = description.security?.policies.map((policy) => JSON.stringify(policy)).join("\n");
      for (const one of viewers) {
        const truth = await selected(table, one);
        const context = `seed ${seed}, ${table}, ${JSON.stringify(one)}\n${definition}`;
        if (truth === undefined) {
          // SELECT may fail of what it only plans with: of such rows nothing is said here.
          const { visible, hidden } = await selectedApart(table, one);
          for (const access of [here, there]) {
            const ids = shown(access, one);
            expect(
              ids.filter((id) => hidden.includes(id)),
              `failing, shown: ${context}`,
            ).toEqual([]);
            expect(
              visible.filter((id) => !ids.includes(id)),
              `failing, not shown: ${context}`,
            ).toEqual([]);
          }
          failing++;
          continue;
        }
        expect(shown(there, one), `by PostgreSQL (${failures.join("; ")}): ${context}`).toEqual(truth);
        expect(shown(here, one), `compiled: ${context}`).toEqual(truth);
        compared += ROWS;
        seen += truth.length;
      }
    }
    // A test that shows nothing, or compiles nothing, shows nothing.
    expect(seen / compared).toBeGreaterThan(0.1);
    expect(withoutAsking / TABLES).toBeGreaterThan(0.05);
    console.log(
      `seed ${seed}: ${compared} judgements, ${seen} seen, ${failing} viewers of failing policies, ${withoutAsking} of ${TABLES} tables without PostgreSQL`,
    );
  }, 300_000);
});

/** What the policies of a new table, `id int, team int`, with rows of teams 1 and 2, show to the first user. */
async function shownBy(name: string, ...policies: string[]): Promise<{ shown: number[]; truth: number[] | undefined }> {
  await db.query(`create table ${name} (id int primary key, team int, half int generated always as (id / 2) stored);
    alter table ${name} enable row level security; grant select on ${name} to authenticated`);
  for (const [at, using] of policies.entries()) {
    await db.query(`create policy p${at} on ${name} for select using (${using})`);
  }
  await db.query("select realtime.subscribe($1)", [name]);
  await db.query(`insert into ${name} (id, team) values (1, 1), (2, 2)`);
  const one = { key: "v", role: "authenticated", claims: { role: "authenticated", sub: users[0], jti: "x" } };
  const access = await judged(await changesOf(name, await described(name)), [one]);
  return { shown: shown(access, one), truth: await selected(name, one) };
}

describe("policies that are more than a condition", () => {
  test("a function in a schema that the role may not use is called, as SELECT calls it", async () => {
    await db.query("revoke usage on schema private from authenticated");
    const { shown, truth } = await shownBy("hidden_helpers", "private.in_team(team)");
    expect([shown, truth]).toEqual([[1], [1]]);
    await db.query("grant usage on schema private to authenticated");
  });

  test("a policy that reads the row as a whole is asked of all of it", async () => {
    const { shown, truth } = await shownBy("whole_rows", "to_jsonb(whole_rows) ->> 'team' = '2'");
    expect([shown, truth]).toEqual([[2], [2]]);
  });

  // From PostgreSQL 18 on.
  test.skipIf(process.env.TEST_POSTGRES === "15")(
    "nothing is shown of a column that is computed when read",
    async () => {
      await shownBy("computed");
      await db.query("alter table computed add twice int generated always as (team * 2) virtual");
      await db.query("create policy p on computed for select using (twice is null or twice = 2)");
      const one = { key: "v", role: "authenticated", claims: { role: "authenticated", sub: users[0] } };
      expect(shown(await judged(await changesOf("computed", await described("computed")), [one]), one)).toEqual([]);
    },
  );

  test("nothing is shown where an image cannot tell: a claim of one token", async () => {
    expect((await shownBy("revocable", "auth.jwt() ->> 'jti' is distinct from 'revoked'")).shown).toEqual([]);
  });
});
