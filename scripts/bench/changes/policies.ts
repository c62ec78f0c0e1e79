// Row-level security: changes a second when each may be seen by one of very many principals.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { userToken } from "../../../test/support/tokens.ts";
import { now } from "./orders.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import { cpuPer, type Subject } from "./subject.ts";
import { Subscribers } from "./subscribers.ts";

const ROWS = 20;
const WRITERS = 4;
const PROBE_LIMIT_MS = 5_000;
const LIMIT_MS = 120_000;
const MOST_ASKED = 1_000;

const policies = [
  { table: "policy_own", name: "user_id = auth.uid()", using: "user_id = auth.uid()", goal: 10_000, share: 1 },
  {
    table: "policy_member",
    name: "a member of the row's room",
    using: "exists (select from policy_members m where m.room = policy_member.room and m.user_id = auth.uid())",
    goal: 200,
    share: 0.2,
  },
] as const;

export async function measurePolicies(subject: Subject, { plan, signal, progress }: Context): Promise<Line[]> {
  const { db } = subject;
  const users = Array.from({ length: Math.max(...plan.principals) }, () => randomUUID());
  await db.query("create table policy_members (room uuid, user_id uuid, primary key (room, user_id))");
  await db.query("grant select on policy_members to authenticated");
  // A room has one member, so that either policy lets exactly one user see a row.
  await db.query("insert into policy_members select u, u from unnest($1::uuid[]) u", [users]);
  await db.query("analyze policy_members");
  const tokens = await Promise.all(users.map((user) => tokenOf(subject, user)));
  const lines: Line[] = [];
  const writers = await Promise.all(Array.from({ length: WRITERS }, () => subject.connect()));
  for (const { table, name, using, goal, share } of policies) {
    const changes = plan.policyChanges * share;
    await db.query(
      `create table ${table} (id bigint generated always as identity primary key, user_id uuid, room uuid, body text)`,
    );
    await db.query(`alter table ${table} enable row level security`);
    await db.query(`grant select on ${table} to authenticated`);
    await db.query(`create policy p on ${table} for select to authenticated using (${using})`);
    await db.query("select realtime.subscribe($1)", [table]);
    const write = (some: readonly string[], by = db) =>
      by.query(`insert into ${table} (user_id, room, body) select u, u, repeat('x', 100) from unnest($1::uuid[]) u`, [
        some,
      ]);
    for (const principals of plan.principals) {
      signal.throwIfAborted();
      progress(`policies, ${name}, ${principals} principals`);
      const what = `${name}: ${round(principals)} principals`;
      const joins = [{ topic: `realtime:${table}` }];
      const plans = tokens.slice(0, principals).map((key) => ({ key, joins }));
      await using subscribers = await Subscribers.open(subject, table, plans);
      await subscribers.reset();
      await write(users.slice(0, 1));
      const probe = await subscribers.until(1, PROBE_LIMIT_MS);
      if (probe.deliveries === 0) {
        lines.push({ what, measured: "not there: no row of a table with row-level security came" });
        break;
      }
      await subscribers.reset();
      const before = subject.cpu();
      const startedAt = now();
      let written = 0;
      const turns = async (writer: pg.Client): Promise<void> => {
        while (written < changes) {
          const from = written;
          written += ROWS;
          await write(
            Array.from({ length: ROWS }, (_, n) => users[(from + n) % principals] ?? ""),
            writer,
          );
        }
      };
      await Promise.all(writers.map(turns));
      const { deliveries, lastAt } = await subscribers.until(changes, LIMIT_MS);
      const rate = deliveries / ((lastAt - startedAt) / 1_000);
      const used = cpuPer(changes, before, subject.cpu());
      lines.push({
        what,
        measured:
          `${round(rate)} changes/s${deliveries === changes ? "" : `, ${deliveries} of ${changes} came`}; ` +
          `CPU a change: PostgreSQL ${round(used.postgres)}, listener ${round(used.listener)}, edge ${round(used.edge)} µs`,
        ...(principals === MOST_ASKED && { goal: `≥ ${round(goal)}`, isReached: rate >= goal }),
      });
      await subject.drained();
    }
  }
  await Promise.all(writers.map((writer) => writer.end()));
  return lines;
}

function tokenOf({ stack }: Subject, sub: string): Promise<string> {
  return userToken(stack, { sub });
}
