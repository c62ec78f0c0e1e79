// A backlog: what was written while the listener was away, until the edge has all of it.
import { childrenOf } from "../../../test/support/processes.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import { cpuPer, type Subject } from "./subject.ts";

const ROWS = 100;

export async function measureBacklog(subject: Subject, { plan, signal, progress }: Context): Promise<Line[]> {
  const { db, stack } = subject;
  await db.query("create table backlog (id bigint generated always as identity primary key, body text)");
  await db.query("select realtime.subscribe('backlog')");
  const lines: Line[] = [];
  // The second time the feed keeps as many messages as it can: it must not matter.
  for (const turn of ["an empty feed", "a full feed"]) {
    signal.throwIfAborted();
    progress(`a backlog of ${round(plan.backlog)} changes, ${turn}`);
    const listener = childrenOf(stack.pid).find(({ command }) => command.includes("listener/main.ts"));
    if (listener === undefined) throw new Error("the stack runs without a listener");
    process.kill(listener.pid, "SIGSTOP");
    for (let n = 0; n < plan.backlog; n += ROWS) {
      await db.query(`insert into backlog (body) select repeat('x', 150) from generate_series(1, ${ROWS})`);
    }
    await stack.killListener();
    const [before, startedAt] = [subject.cpu(), performance.now()];
    await subject.drained();
    const took = performance.now() - startedAt;
    const used = cpuPer(plan.backlog, before, subject.cpu());
    lines.push({
      what: turn,
      measured:
        `${round(plan.backlog / (took / 1_000))} changes/s; CPU a change: PostgreSQL ${round(used.postgres)}, ` +
        `listener ${round(used.listener)}, edge ${round(used.edge)} µs`,
    });
  }
  return lines;
}
