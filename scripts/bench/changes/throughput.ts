// Changes a second from commit to the sockets of ten subscribers.
import { now } from "./orders.ts";
import { pgbench } from "./pgbench.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import { cpuPer, type Subject } from "./subject.ts";
import { Subscribers } from "./subscribers.ts";

const SUBSCRIBERS = 10;
const ROWS = 10;
const CLIENTS = 4;
const GOAL = 20_000;
const DRAIN_LIMIT_MS = 60_000;
/** What is still under way when the writers stop may take this long, or the lag is growing. */
const STEADY_MS = 500;

export async function measureThroughput(subject: Subject, context: Context): Promise<Line[]> {
  const { db } = subject;
  await db.query("create table stream (id bigint generated always as identity primary key, user_id int, body text)");
  await db.query("select realtime.subscribe('stream')");
  const lines: Line[] = [];
  for (const packed of [true, false]) lines.push(...(await measure(subject, packed, context)));
  return lines;
}

/** With clients that take packed frames, as our own do, or with those that take one change a frame, as all others do. */
async function measure(subject: Subject, packed: boolean, { plan, signal, progress }: Context): Promise<Line[]> {
  const { stack } = subject;
  const joins = [{ topic: "realtime:stream" }];
  const plans = Array.from({ length: SUBSCRIBERS }, () => ({ key: stack.anonKey, packed, joins }));
  await using subscribers = await Subscribers.open(subject, "stream", plans);
  const clients = packed ? "packed" : "stock";
  const sql = `insert into stream (user_id, body) select n, '${"x".repeat(150)}' from generate_series(1, ${ROWS}) n`;
  const lines: Line[] = [];
  for (const offered of plan.offered) {
    progress(`throughput, ${clients}, ${offered === 0 ? "all that writers can" : `${round(offered)} changes/s`}`);
    const [before, loadBefore] = [subject.cpu(), await subscribers.reset()];
    const startedAt = now();
    const pace = offered === 0 ? {} : { rate: offered / ROWS };
    const { count } = await pgbench(
      stack.databaseUrl,
      { sql, clients: CLIENTS, seconds: plan.seconds, ...pace },
      signal,
    );
    const writtenAt = now();
    const changes = count * ROWS;
    const inTime = await subscribers.read();
    const { deliveries, lastAt, cpu } = await subscribers.until(changes * SUBSCRIBERS, DRAIN_LIMIT_MS);
    const used = cpuPer(changes, before, subject.cpu());
    const lag = Math.max(0, lastAt - writtenAt);
    const missing = changes * SUBSCRIBERS - deliveries;
    const sustained = changes / ((Math.max(lastAt, writtenAt) - startedAt) / 1_000);
    const committed = changes / ((writtenAt - startedAt) / 1_000);
    const isSteady = lag < STEADY_MS && missing === 0;
    lines.push({
      what: `${clients} clients, ${offered === 0 ? `all that ${CLIENTS} writers can` : `${round(offered)} changes/s offered`}`,
      measured:
        `${round(sustained)} changes/s delivered of ${round(committed)} committed, lag at the end ${round(lag)} ms` +
        `${missing > 0 ? `, ${round(missing)} deliveries never came` : ""}`,
      ...(offered === 0 && { goal: `≥ ${round(GOAL)}, no growing lag`, isReached: isSteady && sustained >= GOAL }),
    });
    lines.push({
      what: "  CPU a change, µs",
      measured:
        `PostgreSQL ${round(used.postgres)}, listener ${round(used.listener)}, edge ${round(used.edge)}, ` +
        `its ${SUBSCRIBERS} subscribers ${round((cpu - loadBefore.cpu) / changes)}; in time ${round((100 * inTime.deliveries) / (changes * SUBSCRIBERS))} %`,
    });
    await subject.drained();
  }
  return lines;
}
