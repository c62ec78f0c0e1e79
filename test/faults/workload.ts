// The workload of the torture: writers that do all that transactions do, and the truth of what they committed.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { seededRandom } from "../support/world.ts";

/** A change as it is compared: what happened, and the stamps of the row before and after. No stamp is given twice. */
export interface Change {
  readonly op: "I" | "U" | "D";
  readonly before: number | null;
  readonly after: number | null;
}

/** A change that was committed. */
export interface TrueChange extends Change {
  readonly table: string;
  /** The change's transaction, and the transactions that were over when it was made. */
  readonly xid: number;
  readonly seen: Snapshot;
  /** Unix ms; the commit came later. */
  readonly at: number;
}

export interface Snapshot {
  readonly xmax: number;
  readonly inProgress: ReadonlySet<number>;
}

export const tables = ["accounts", "orders", "notes"] as const;
export const writers = 8;
const accounts = 40;
const mostOpen = 400;

/** The truth is written in the transaction itself, by a row trigger: before the statement trigger of capture has its turn. */
export const schema = `
  create sequence stamps;
  create table accounts (id int primary key, stamp bigint not null, text text);
  create table orders (id bigint generated always as identity primary key, stamp bigint not null, account int, text text);
  create table notes (stamp bigint not null, text text);
  create index on orders (account);
  create index on notes (stamp);
  create table truth (n bigint generated always as identity, of_table text, op text, before bigint, after bigint,
    xid xid8 default pg_current_xact_id(), seen text default pg_current_snapshot()::text,
    at double precision default date_part('epoch', clock_timestamp()) * 1000);
  create function tell() returns trigger language plpgsql as $$ begin
    insert into truth (of_table, op, before, after) values (tg_table_name, left(tg_op, 1), old.stamp, new.stamp);
    return null;
  end $$;
  create trigger tell after insert or update or delete on accounts for each row execute function tell();
  create trigger tell after insert or update or delete on orders for each row execute function tell();
  create trigger tell after insert or update or delete on notes for each row execute function tell();`;

const text = `repeat(md5(random()::text), 1 + (random() * 3)::int) || E'"\\n\\\\é🎈'`;

/** Statements, each by the numbers that chance gives it: multi-row, on contended rows, on several tables at once. */
const statements: readonly ((whole: (below: number) => number) => string)[] = [
  (whole) => `update accounts set stamp = nextval('stamps') where id = ${whole(accounts)}`,
  (whole) =>
    `update accounts set stamp = nextval('stamps'), text = ${text} where id between ${whole(accounts)} - 3 and ${whole(accounts)}`,
  (whole) => `insert into accounts values (${whole(accounts)}, nextval('stamps'), ${text})
    on conflict (id) do update set stamp = nextval('stamps')`,
  (whole) => `insert into orders (stamp, account, text)
    select nextval('stamps'), ${whole(accounts)}, ${text} from generate_series(1, ${1 + whole(20)})`,
  (whole) => `update orders set stamp = nextval('stamps') where account = ${whole(accounts)}`,
  // Answers a row for each that it changes: whoever counts them would count the inserted alone.
  (whole) => `with gone as (delete from orders where account = ${whole(accounts)} returning text),
      made as (insert into notes select nextval('stamps'), text from gone returning stamp)
    select from gone union all select from made`,
  () =>
    `delete from orders where id in (select id from orders order by id limit greatest(0, (select count(*) from orders) - ${mostOpen}))`,
  (whole) => `insert into notes select nextval('stamps'), ${text} from generate_series(1, ${1 + whole(5)})`,
  (whole) =>
    `update notes set stamp = nextval('stamps') where stamp % 50 = ${whole(50)} and stamp > (select max(stamp) from notes) - 300`,
  (
    whole,
  ) => `merge into accounts a using (values (${whole(accounts)}), (${whole(accounts)} + 1000)) v (id) on a.id = v.id
    when matched and a.id >= 1000 then delete
    when matched then update set stamp = nextval('stamps')
    when not matched then insert values (v.id, nextval('stamps'), 'merged')`,
  (whole) => `delete from accounts where id = ${whole(accounts)}`,
];

/** What a statement costs a writer and no more: another writer was in the way, or PostgreSQL is away. */
const expected = /^(40001|40P01|23505|57P0\d|08\d\d\d|25P02|25P03|55P03)$/;

/** Writes until `enough`; goes on after every failure that a fault or another writer explains, and throws any other. */
export async function write(
  url: string,
  seed: number,
  enough: () => boolean,
  committed: (rows: number) => Promise<void>,
) {
  const random = seededRandom(seed);
  const whole = (below: number): number => Math.floor(random() * below);
  let client: pg.Client | undefined;
  while (!enough()) {
    try {
      client ??= await connected(url);
      await committed(await transact(client, random, whole));
      if (random() < 0.2) await sleep(random() * 10);
    } catch (error) {
      const code = error instanceof pg.DatabaseError ? (error.code ?? "") : "";
      if (error instanceof pg.DatabaseError && !expected.test(code)) throw error;
      const isAlive = error instanceof pg.DatabaseError && /^(4|23|55)/.test(code);
      if (isAlive && (await client?.query("rollback").catch(() => undefined))) continue;
      await client?.end().catch(() => undefined);
      client = undefined;
      await sleep(50);
    }
  }
  await client?.end().catch(() => undefined);
}

/** Transactions that others do not wait for, each open for seconds, until `enough`. */
export async function dawdle(url: string, seed: number, enough: () => boolean): Promise<void> {
  const random = seededRandom(seed);
  while (!enough()) {
    const client = await connected(url).catch(() => undefined);
    try {
      await client?.query("begin; insert into notes values (nextval('stamps'), 'slow')");
      await sleep(500 + random() * 2_000);
      await client?.query("insert into notes values (nextval('stamps'), 'slow'); commit");
    } catch (error) {
      if (error instanceof pg.DatabaseError && !expected.test(error.code ?? "")) throw error;
    } finally {
      await client?.end().catch(() => undefined);
    }
  }
}

async function connected(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    connectionTimeoutMillis: 2_000,
    query_timeout: 20_000,
    // Writers get in each other's way on purpose, and a second of waiting each time is not what is tested.
    options: "-c deadlock_timeout=20ms",
  });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

/** @returns how many rows were changed and committed */
async function transact(client: pg.Client, random: () => number, whole: (below: number) => number): Promise<number> {
  let rows = 0;
  const change = async (): Promise<number> => {
    const statement = statements[whole(statements.length)];
    return statement === undefined ? 0 : ((await client.query(statement(whole))).rowCount ?? 0);
  };
  await client.query(random() < 0.1 ? "begin isolation level repeatable read" : "begin");
  // A number taken long before the first change makes the order of numbers differ from that of commits.
  if (random() < 0.3) await client.query("select pg_current_xact_id()");
  const length = random() < 0.05 ? 40 : 1 + whole(8);
  for (let step = 0; step < length; step++) {
    if (random() < 0.15) {
      await client.query("savepoint here");
      const changed = await change();
      if (random() < 0.5) await client.query("rollback to here");
      else rows += changed;
    } else rows += await change();
    if (random() < 0.03) await sleep(random() * 20);
  }
  const isKept = random() < 0.85;
  await client.query(isKept ? "commit" : "rollback");
  return isKept ? rows : 0;
}

/** All that was committed, in no order that matters. */
export async function readTruth(url: string): Promise<TrueChange[]> {
  const client = await connected(url);
  try {
    const { rows } = await client.query<{
      of_table: string;
      op: Change["op"];
      before: string;
      after: string;
      xid: string;
      seen: string;
      at: number;
    }>("select of_table, op, before, after, xid, seen, at from truth");
    return rows.map(({ of_table, op, before, after, xid, seen, at }) => ({
      table: of_table,
      op,
      before: stampOf(before),
      after: stampOf(after),
      xid: Number(xid),
      seen: snapshotOf(seen),
      at,
    }));
  } finally {
    await client.end();
  }
}

/** The stamps of the rows that a table holds now. */
export async function readStamps(url: string, table: string): Promise<Set<number>> {
  const client = await connected(url);
  try {
    const { rows } = await client.query<{ stamp: string }>(`select stamp from ${table}`);
    return new Set(rows.map(({ stamp }) => Number(stamp)));
  } finally {
    await client.end();
  }
}

function stampOf(text: string | null): number | null {
  return text === null ? null : Number(text);
}

function snapshotOf(text: string): Snapshot {
  const [, xmax = "", inProgress = ""] = text.split(":");
  return { xmax: Number(xmax), inProgress: new Set(inProgress.split(",").filter(Boolean).map(Number)) };
}
