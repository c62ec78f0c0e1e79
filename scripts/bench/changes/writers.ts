// What capture costs writers: eight clients, one row a transaction, beside NOTIFY in a trigger and logical decoding.
import { setTimeout as sleep } from "node:timers/promises";
import { type Summary, summaryOf } from "../statistics.ts";
import { pgbench } from "./pgbench.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import type { Subject } from "./subject.ts";

const CLIENTS = 8;
/** How often the log is read, as a client of a slot by SQL does. */
const POLL_MS = 100;
/** Rounds begin once what the one before left has been read. */
const SETTLE_MS = 300;
/** The listener has seen by then that changes come thick, and writers ring no bell. */
const WARM_UP_SECONDS = 1;

interface Variant {
  readonly name: string;
  readonly table: string;
  /** Reads what is written, until disposed of; without it whoever reads it anyway does. */
  consume?(subject: Subject): Promise<AsyncDisposable>;
  /** Nobody reads while it is measured. */
  unread?: true;
}

const variants: readonly Variant[] = [
  { name: "no capture", table: "writers_none" },
  { name: "ours, to the edge", table: "writers_ours" },
  { name: "ours, while nobody reads", table: "writers_ours", unread: true },
  { name: "NOTIFY in a row trigger", table: "writers_notify", consume: listening },
  { name: "logical slot (pgoutput, read by SQL)", table: "writers_slot", consume: decoding },
];

/** About 255 bytes as JSON. */
const columns = "id bigint generated always as identity primary key, user_id uuid, title text, body text, done boolean";
const insert = (table: string): string =>
  `insert into ${table} (user_id, title, body, done) values ('5b2f1d1c-7f0c-4d3e-9a51-0f6b8f1f2a11', 'a title of some words', '${"x".repeat(120)}', false)`;

/**
 * The two speeds of a disk: this one's, which leaves no CPU idle, and one that takes a millisecond longer to flush. The goal
 * of the first is for capture alone, since a listener and an edge on the same machine take part of the same CPU.
 */
const disks = [
  { name: "this disk", delay: 0, goals: { "ours, while nobody reads": 0.66 } },
  // The leader of a group of commits sleeps before it flushes, holding the lock: what a slow fsync does.
  { name: "flush 1 ms slower", delay: 1_000, goals: { "ours, to the edge": 0.85 } },
] as const;

export async function measureWriters(subject: Subject, { plan, signal, progress }: Context): Promise<Line[]> {
  const { db, stack } = subject;
  for (const table of new Set(variants.map((variant) => variant.table))) {
    await db.query(`create table ${table} (${columns})`);
  }
  await db.query("select realtime.subscribe('writers_ours')");
  await db.query(`create function bench_notify() returns trigger language plpgsql as $$
    begin perform pg_notify('bench', json_build_object('op', tg_op, 'new', new)::text); return null; end $$`);
  await db.query("create trigger n after insert on writers_notify for each row execute function bench_notify()");
  await db.query("create publication bench for table writers_slot");
  await db.query("alter system set commit_siblings = 0");

  const lines: Line[] = [];
  for (const disk of disks) {
    await db.query(`alter system set commit_delay = ${disk.delay}`);
    await db.query("select pg_reload_conf()");
    const found = new Map(variants.map(({ name }) => [name, { tps: [] as number[], cpu: [] as number[] }]));
    for (let turn = 1; turn <= plan.rounds; turn++) {
      progress(`writers, ${disk.name}, round ${turn} of ${plan.rounds}`);
      for (const variant of variants) {
        await db.query(`truncate ${variant.table}`);
        await db.query("checkpoint");
        await using _consumer = await variant.consume?.(subject);
        await sleep(SETTLE_MS);
        const load = { sql: insert(variant.table), clients: CLIENTS, seconds: plan.seconds };
        await pgbench(stack.databaseUrl, { ...load, seconds: WARM_UP_SECONDS }, signal);
        {
          using _pause = variant.unread ? subject.withoutListener() : undefined;
          const before = subject.cpu();
          const { count, tps } = await pgbench(stack.databaseUrl, load, signal);
          found.get(variant.name)?.tps.push(tps);
          found.get(variant.name)?.cpu.push((subject.cpu().postgres - before.postgres) / count);
        }
        await subject.drained();
      }
    }
    const base = summaryOf(found.get("no capture")?.tps ?? []);
    for (const { name } of variants) {
      const figures = found.get(name);
      const [tps, cpu] = [summaryOf(figures?.tps ?? []), summaryOf(figures?.cpu ?? [])];
      const ratio = tps.median / base.median;
      const goal = new Map<string, number>(Object.entries(disk.goals)).get(name);
      lines.push({
        what: `${disk.name}: ${name}`,
        measured: `×${round(ratio, 2)}   ${spread(tps)} tx/s   ${round(cpu.median)} µs CPU of PostgreSQL`,
        ...(goal !== undefined && { goal: `≥ ×${goal}`, isReached: ratio >= goal }),
      });
    }
  }
  await db.query("alter system reset commit_delay");
  await db.query("select pg_reload_conf()");
  return lines;
}

const spread = ({ median, lowest, highest }: Summary): string =>
  `${round(median)} (${round(lowest)}–${round(highest)})`;

async function listening(subject: Subject): Promise<AsyncDisposable> {
  const client = await subject.connect();
  client.on("notification", () => undefined);
  await client.query("listen bench");
  return { [Symbol.asyncDispose]: () => client.end() };
}

async function decoding(subject: Subject): Promise<AsyncDisposable> {
  const client = await subject.connect();
  await client.query("select pg_create_logical_replication_slot('bench', 'pgoutput')");
  const ended = new AbortController();
  const reading = (async () => {
    while (!ended.signal.aborted) {
      await client.query(
        "select count(*) from pg_logical_slot_get_binary_changes('bench', null, 10000, 'proto_version', '1', 'publication_names', 'bench')",
      );
      await sleep(POLL_MS);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      ended.abort();
      await reading;
      await client.query("select pg_drop_replication_slot('bench')");
      await client.end();
    },
  };
}
