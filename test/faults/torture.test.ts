// Torture: eight writers, while listener, database and edge die again and again. Nothing is lost, doubled, invented or
// out of order. `npm run torture` is the long form; a failure names TORTURE_SEED, which repeats what chance decided.
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Clients, eventually, uniqueName } from "../support/clients.ts";
import { startStack, type TestStack } from "../support/stack.ts";
import { seededRandom } from "../support/world.ts";
import { Resuming, Stock } from "./followers.ts";
import { flawless, judge, replay, stretchOf } from "./verdict.ts";
import { type Change, dawdle, readStamps, readTruth, schema, tables, write, writers } from "./workload.ts";

/** Committed row changes at least. */
const CHANGES = Number(process.env.TORTURE_CHANGES ?? 5_000);
const isLong = CHANGES >= 50_000;
const seed = Number(process.env.TORTURE_SEED ?? Math.floor(Math.random() * 2 ** 31));
const kinds = ["listener", "postgres", "edge"] as const;
type Fault = (typeof kinds)[number];
const faults: Readonly<Record<Fault, number>> = isLong
  ? { listener: 20, postgres: 3, edge: 3 }
  : { listener: 3, postgres: 1, edge: 1 };
/** A run that makes no headway is ended: long before, on a machine that does nothing else. */
const LIMIT_MS = isLong ? 900_000 : 90_000;
const CATCH_UP_MS = isLong ? 60_000 : 15_000;
const MOST_BEHIND = 5_000;
const ROTATE_MS = 250;

let stack: TestStack;
let clients: Clients;

beforeAll(async () => {
  stack = await startStack();
  clients = new Clients(stack);
});

afterAll(async () => {
  await clients?.close();
  await stack?.stop();
});

test(
  `every committed change once, and in order: TORTURE_SEED=${seed}`,
  async () => {
    await ask(schema);
    for (const table of tables) await ask(`select realtime.subscribe('${table}')`);
    const resuming = tables.map((table) => new Resuming(stack, table));
    const client = clients.open({ heartbeatMs: 5_000 });
    const stock = tables.map((table) => new Stock(client.channel(uniqueName(table)), table));
    await using _followers = {
      [Symbol.asyncDispose]: async () => void (await Promise.all(resuming.map((r) => r.stop()))),
    };
    await eventually(() => {
      for (const { returns } of resuming) expect(returns).toBe(0);
      for (const { stretches } of stock) expect(stretches).toHaveLength(1);
    });

    const over = new AbortController();
    const giveUpAt = Date.now() + LIMIT_MS;
    let committed = 0;
    const delivered = (): number => resuming.reduce((sum, { changes }) => sum + changes.length, 0);
    const enough = (): boolean => over.signal.aborted || Date.now() > giveUpAt;
    const work = Array.from({ length: writers }, (_, n) =>
      write(stack.databaseUrl, seed + n, enough, async (rows) => {
        committed += rows;
        // Further behind than a resume reaches, a client is told so: that is not what is tested.
        while (committed - delivered() > MOST_BEHIND && !enough()) await sleep(20);
      }),
    );
    work.push(dawdle(stack.databaseUrl, seed, enough));
    const turns = rotate(over.signal);
    const lastEdgeDeath = await breakThings(() => ({ committed, delivered: delivered() }), enough);
    while (committed < CHANGES && !enough()) await sleep(50);
    // The stock client sees the end if it is back before.
    await eventually(() => {
      for (const { stretches } of stock) expect(stretches.at(-1)?.since).toBeGreaterThan(lastEdgeDeath);
    }, CATCH_UP_MS);
    await sleep(300);
    over.abort();
    await Promise.all([...work, turns]);

    const truth = await readTruth(stack.databaseUrl);
    const ofTable = (table: string) => truth.filter((change) => change.table === table);
    // What is missing is for the verdict to say.
    await eventually(() => expect(delivered()).toBeGreaterThanOrEqual(truth.length), CATCH_UP_MS).catch(
      () => undefined,
    );
    await sleep(500);
    expect(truth.length, "the run came to an end by itself").toBeGreaterThanOrEqual(CHANGES);
    for (const { table, changes, complaints, returns } of resuming) {
      expect({ table, complaints, ...judge(changes, ofTable(table)) }).toEqual({ table, complaints: [], ...flawless });
      expect(replay(changes), table).toEqual(await readStamps(stack.databaseUrl, table));
      // An edge that dies again before somebody is back is one return to them.
      expect(returns).toBeGreaterThan(0);
    }
    const bornAt = new Map(truth.map(({ after, before, at }) => [`${before} ${after}`, at]));
    for (const [n, { table, stretches }] of stock.entries()) {
      const feed = resuming[n]?.changes ?? [];
      const atOf = ({ before, after }: Change): number => bornAt.get(`${before} ${after}`) ?? 0;
      for (const { since, seen } of stretches.filter(({ seen }) => seen.length > 0)) {
        const stretch = stretchOf(feed, seen);
        expect(stretch, table).toMatchObject({ from: expect.any(Number) });
        if (typeof stretch === "string") continue;
        const unseen = feed.slice(0, stretch.from).filter((change) => atOf(change) > since);
        expect(unseen, `${table}: changed after the subscription stood, and not seen`).toEqual([]);
      }
      expect(stretches[0]?.seen[0], table).toEqual(feed[0]);
      const last = stretches.at(-1);
      if (last !== undefined && last.seen.length === 0) {
        const missed = feed.filter((change) => atOf(change) > last.since);
        expect(missed, `${table}: changed after the last subscription stood, and not seen`).toEqual([]);
      } else expect(last?.seen.at(-1), table).toEqual(feed.at(-1));
    }
    const counts = resuming.map(({ table, changes }) => `${changes.length} of ${table}`).join(", ");
    console.log(`torture: ${truth.length} changes (${counts}), seed ${seed}`);
  },
  LIMIT_MS + 3 * CATCH_UP_MS,
);

/**
 * Faults in an order that chance decides, spread over the work; now and then one comes while another is not over.
 * @returns when the edge died last, unix ms
 */
async function breakThings(
  counts: () => { committed: number; delivered: number },
  enough: () => boolean,
): Promise<number> {
  const random = seededRandom(seed);
  let before = 0;
  let edgeDiedAt = 0;
  const strike = async (fault: Fault): Promise<void> => {
    if (fault === "edge") edgeDiedAt = Date.now();
    await { listener: stack.killListener, postgres: stack.crashPostgres, edge: stack.killEdge }[fault]();
  };
  const order = kinds
    .flatMap((fault) => Array.from({ length: faults[fault] }, () => ({ fault, at: random() })))
    .sort((a, b) => a.at - b.at);
  for (let n = 0; n < order.length && !enough(); n++) {
    const isDue = ({ committed, delivered } = counts()): boolean =>
      // What the fault before held up has arrived: what is dead already cannot die.
      committed > (CHANGES * (n + 1)) / (order.length + 2) && delivered > before;
    while (!isDue() && !enough()) await sleep(20);
    const [first, second] = order.slice(n);
    const isPair = second !== undefined && second.fault !== first?.fault && random() < 0.3;
    const struck = first && strike(first.fault);
    if (isPair) {
      n++;
      await sleep(random() * 200);
      await strike(second.fault);
    }
    await struck;
    before = counts().committed;
  }
  return edgeDiedAt;
}

/** The outbox changes its slot all the while. */
async function rotate(signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await ask("select realtime.cdc_rotate()").catch(() => undefined);
    await sleep(ROTATE_MS);
  }
}

async function ask(sql: string): Promise<void> {
  const db = new pg.Client({ connectionString: stack.databaseUrl, query_timeout: 10_000 });
  db.on("error", () => undefined);
  try {
    await db.connect();
    await db.query(sql);
  } finally {
    await db.end().catch(() => undefined);
  }
}
