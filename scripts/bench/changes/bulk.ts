// One statement that changes very many rows, with capture and without.
import { summaryOf } from "../statistics.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import type { Subject } from "./subject.ts";

const GOAL = 2.5;
const tables = ["bulk_none", "bulk_ours"] as const;

export async function measureBulk(subject: Subject, { plan, signal, progress }: Context): Promise<Line[]> {
  const { db } = subject;
  for (const table of tables) {
    await db.query(`create table ${table} (id int primary key, value int, body text)`);
    await db.query(`insert into ${table} select n, 0, repeat('x', 180) from generate_series(1, ${plan.bulkRows}) n`);
  }
  await db.query("select realtime.subscribe('bulk_ours')");
  const took = { bulk_none: [] as number[], bulk_ours: [] as number[] };
  const behind: number[] = [];
  for (let turn = 1; turn <= plan.rounds; turn++) {
    progress(`bulk, round ${turn} of ${plan.rounds}`);
    for (const table of tables) {
      signal.throwIfAborted();
      await db.query(`vacuum ${table}`);
      await db.query("checkpoint");
      const startedAt = performance.now();
      await db.query(`update ${table} set value = value + 1`);
      const endedAt = performance.now();
      took[table].push(endedAt - startedAt);
      await subject.drained();
      if (table === "bulk_ours") behind.push(performance.now() - endedAt);
    }
  }
  const [none, ours] = [summaryOf(took.bulk_none), summaryOf(took.bulk_ours)];
  const ratio = ours.median / none.median;
  return [
    { what: "no capture", measured: `${round(none.median)} ms` },
    {
      what: "ours",
      measured: `×${round(ratio, 2)}   ${round(ours.median)} ms`,
      goal: `≤ ×${GOAL}`,
      isReached: ratio <= GOAL,
    },
    { what: "ours, commit → the edge has all of it", measured: `${round(summaryOf(behind).median)} ms` },
  ];
}
