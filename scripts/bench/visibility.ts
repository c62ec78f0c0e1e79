// How many row changes a second can be judged for so many viewers: by compiled policies, and by PostgreSQL.
// Runs alone: `node scripts/bench/visibility.ts`. A judgement of one change for all viewers counts once.
import pg from "pg";
import type { Policies } from "../../src/channel/ports.ts";
import { Viewers } from "../../src/channel/viewers.ts";
import { Visibility } from "../../src/channel/visibility.ts";
import { Catalogue } from "../../src/listener/catalogue.ts";
import { migrate } from "../../src/listener/migrate.ts";
import type { RowChange } from "../../src/protocol/changes.ts";
import { startPostgres } from "../../test/support/postgres.ts";

const userOf = (n: number): string => `6f1c3a9e-0000-4000-8000-${String(n).padStart(12, "0")}`;
const POLICIES = {
  "own rows, compiled": "owner = auth.uid()",
  "own rows or public, restrictive, compiled":
    "owner = (select auth.uid()) or (is_public and auth.jwt() ->> 'aal' = 'aal2')",
  "own rows, by PostgreSQL": "coalesce(owner = (select auth.uid()), false)",
  "teams by membership, by PostgreSQL":
    "exists (select from members m where m.of_team = team and m.who = (select auth.uid()))",
};
const SECONDS = 3;

const postgres = await startPostgres();
try {
  await migrate(postgres.url);
  const db = new pg.Client({ connectionString: postgres.url });
  await db.connect();
  await db.query(`
    create table members (of_team int, who uuid, primary key (who, of_team));
    insert into members select n % 50, ('6f1c3a9e-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid from generate_series(0, 999) n;
    grant usage on schema public to authenticated; grant select on members to authenticated; analyze members`);
  const policies: Policies = {
    async ask({ schema, table, columns, images, viewers }) {
      const { rows } = await db.query(
        "select realtime.visible(format('%I.%I', $1::text, $2::text)::regclass, $3, $4, $5, '0.5 s') as answer",
        [schema, table, JSON.stringify(viewers), `[${images.join(",")}]`, columns],
      );
      const { visible, left } = rows[0].answer;
      return { visible: new Map(Object.entries(visible)), left };
    },
    unjudged: (_table, viewers, reason) => console.log(`  (${viewers.length} viewers not judged: ${reason})`),
  };
  for (const [index, [title, using]] of Object.entries(POLICIES).entries()) {
    const name = `t${index}`;
    await db.query(`create table ${name} (id int primary key, owner uuid, team int, is_public boolean, note text);
      alter table ${name} enable row level security; grant select on ${name} to authenticated;
      create policy p on ${name} for select using (${using})`);
    await db.query("select realtime.subscribe($1)", [name]);
    const { rows } = await db.query("select $1::regclass::oid::text as relid", [name]);
    const described = await new Catalogue(db).describe(new Set([rows[0].relid]));
    const table = described.get(rows[0].relid)?.table;
    if (table === undefined) throw new Error(`${name} is not described`);
    for (const batch of [1, 1_000]) {
      const figures: string[] = [];
      for (const count of [1, 10, 100, 1_000]) {
        const viewers = new Viewers();
        const role = "authenticated";
        viewers.set(
          "g",
          Array.from({ length: count }, (_, n) => ({ key: `v${n}`, role, claims: { role, sub: userOf(n) } })),
        );
        const visibility = new Visibility(viewers, policies, { now: Date.now, after: () => () => {}, alarm: () => {} });
        const columns = JSON.stringify(table.columns.map((column) => ({ name: column.name, type: column.type })));
        const changes = Array.from({ length: batch }, (_, n): RowChange => {
          const record = JSON.stringify({
            id: n,
            owner: userOf(n),
            team: n % 50,
            is_public: false,
            note: "n".repeat(200),
          });
          return { id: String(n), operation: "INSERT", data: `{"columns":${columns},"record":${record}}`, table };
        });
        let judged = 0;
        const from = performance.now();
        while (performance.now() < from + SECONDS * 1_000) {
          await visibility.judge(changes, async () => {});
          judged += batch;
        }
        figures.push(`${count}: ${Math.round((judged * 1_000) / (performance.now() - from)).toLocaleString("en")}/s`);
      }
      console.log(`${title}, ${batch} changes a batch. Viewers: ${figures.join(", ")}`);
    }
  }
  await db.end();
} finally {
  await postgres.stop();
}
