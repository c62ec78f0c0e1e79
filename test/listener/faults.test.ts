// Nothing lost, doubled, invented or out of order: whoever dies, and whenever.
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../../src/listener/migrate.ts";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { RecordingEdge } from "../support/recording-edge.ts";
import { type ListenerProcess, secret, startListener, until } from "./process.ts";

let postgres: TestPostgres;

beforeAll(async () => {
  postgres = await startPostgres();
}, 60_000);

afterAll(() => postgres?.stop());

/** A fresh database with one followed table, an edge, and what a test needs to write. */
async function arrange(name: string) {
  const admin = new pg.Client({ connectionString: postgres.url });
  await admin.connect();
  await admin.query(`create database ${name}`);
  await admin.end();
  const url = new URL(postgres.url);
  url.pathname = name;
  await migrate(url.href);
  const pool = new pg.Pool({ connectionString: url.href, max: 12 });
  pool.on("error", () => {});
  await pool.query("create table items (id int primary key, value int not null)");
  await pool.query("select realtime.subscribe('items')");
  const edge = await RecordingEdge.start(secret);
  const listeners: ListenerProcess[] = [];
  return {
    url: url.href,
    pool,
    edge,
    async listen(settings: Record<string, string> = {}) {
      const listener = await startListener(url.href, edge.url, settings);
      listeners.push(listener);
      return listener;
    },
    async clear() {
      await Promise.all(listeners.map((listener) => listener.end("SIGKILL")));
      await edge.stop();
      await pool.end();
    },
  };
}

const values = (edge: RecordingEdge) => edge.changes("public.items").map((change) => change.new?.value);

test("eight writers, rollbacks, a long transaction, a listener killed twice, an edge away: every commit once, rows in order", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = mulberry32(seed);
  const { pool, edge, listen, clear } = await arrange("stress");
  try {
    // The truth: a second trigger notes each change in the same transaction.
    await pool.query(`
      create table truth (at bigserial, id int, old_value int, new_value int);
      create function note() returns trigger language plpgsql as
        $$ begin insert into truth (id, old_value, new_value) values (coalesce(new.id, old.id), old.value, new.value); return null; end $$;
      create trigger note after insert or update or delete on items for each row execute function note();
      insert into items select n, 0 from generate_series(1, 40) n`);
    let listener = await listen();
    const endAt = Date.now() + 5_000;
    let next = 0;

    const long = (async () => {
      const client = await pool.connect();
      await client.query("begin; insert into items values (1000, 0)");
      await sleep(2_500);
      await client.query("update items set value = -1 where id = 1000; commit");
      client.release();
    })();

    const writers = Array.from({ length: 8 }, async () => {
      const client = await pool.connect();
      while (Date.now() < endAt) {
        // An early number of its own, rows in one order against deadlock.
        await client.query("begin; select pg_current_xact_id()");
        const ids = Array.from({ length: 1 + Math.floor(random() * 3) }, () => 1 + Math.floor(random() * 40)).sort(
          (a, b) => a - b,
        );
        for (const id of ids) {
          next += 1;
          const roll = random();
          if (roll < 0.1) await client.query("savepoint s");
          if (roll < 0.8) await client.query("update items set value = $2 where id = $1", [id, next]);
          else await client.query("insert into items values ($1, $2)", [2_000 + next, next]);
          if (roll < 0.1) await client.query("rollback to s");
        }
        await client.query(random() < 0.2 ? "rollback" : "commit");
        if (random() < 0.3) await sleep(random() * 10);
      }
      client.release();
    });

    const faults = (async () => {
      await sleep(800);
      await listener.end("SIGKILL");
      listener = await listen();
      await sleep(700);
      edge.answer = () => 503;
      await sleep(600);
      edge.answer = () => 200;
      await sleep(300);
      await listener.end("SIGKILL");
      await sleep(300);
      listener = await listen();
    })();
    // The outbox changes its slot all the while.
    const turns = (async () => {
      while (Date.now() < endAt) {
        await pool.query("select realtime.cdc_rotate()");
        await sleep(60);
      }
    })();
    await Promise.all([long, faults, turns, ...writers]);

    const { rows } = await pool.query<{ id: number; old_value: number | null; new_value: number }>(
      "select id, old_value, new_value from truth order by at",
    );
    await until(`all changes, seed ${seed}`, () => edge.changes().length >= rows.length, 25_000).catch(() => {});
    const seen = edge.changes().map((change) => ({
      id: change.new?.id,
      old_value: change.old?.value ?? null,
      new_value: change.new?.value,
    }));
    const key = (row: { id: unknown; old_value: unknown; new_value: unknown }) =>
      `${row.id} ${row.old_value} ${row.new_value}`;
    expect(seen.map(key).sort(), `seed ${seed}`).toEqual(rows.map(key).sort());

    const current = new Map<unknown, unknown>();
    const broken = seen.filter((row) => {
      const before = current.get(row.id) ?? null;
      current.set(row.id, row.new_value);
      return before !== row.old_value;
    });
    expect(broken, `per-row order, seed ${seed}`).toEqual([]);
    expect(rows.length).toBeGreaterThan(100);
  } finally {
    await clear();
  }
}, 60_000);

test("SIGTERM waits for what is in flight, stores it and frees the lease: the next one starts at once and repeats nothing", async () => {
  const { pool, edge, listen, clear } = await arrange("drain");
  try {
    const first = await listen();
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = 0;
    edge.answer = async () => {
      asked += 1;
      await held;
      return 200;
    };
    await pool.query("insert into items values (1, 1)");
    await until("a batch in flight", () => asked === 1);
    const ended = first.end("SIGTERM");
    await sleep(200);
    release();
    expect(await ended).toBe(0);
    expect(edge.batches).toHaveLength(1);
    const second = await listen();
    await pool.query("insert into items values (2, 2)");
    await until("the second change", () => edge.batches.length === 2, 8_000);
    expect(edge.batches.map(({ changes }) => changes.length)).toEqual([1, 1]);
    expect((await second.health()).body.epoch).toBe(2);
  } finally {
    await clear();
  }
});

test("a second listener stands by, takes over under a new epoch, and the first cannot store any more", async () => {
  const { pool, edge, listen, clear } = await arrange("takeover");
  try {
    const first = await listen();
    await until("the lease", async () => (await first.health()).body.leaseHolder);
    const second = await listen();
    await until("standby", async () => (await second.health()).body.state === "standby");
    await pool.query("insert into items values (1, 1)");
    await until("a change", () => edge.batches.length === 1);
    // A process that sleeps past its lease and wakes up believing that it still holds it.
    first.freeze(true);
    await pool.query("update realtime.cdc_consumers set lease_until = '-infinity'");
    await until("the take-over", async () => (await second.health()).body.leaseHolder);
    first.freeze(false);
    await until("the first to notice", () => first.log.some((line) => line.includes("took the lease")));
    await pool.query("insert into items values (2, 2)");
    await until("the second change", () => values(edge).length === 2);
    expect(edge.batches.at(-1)?.header.epoch).toBe(2);
  } finally {
    await clear();
  }
});

test("when a listener is killed the next one takes over long before the lease would end", async () => {
  const { pool, edge, listen, clear } = await arrange("killed");
  try {
    const first = await listen();
    await until("the lease", async () => (await first.health()).body.leaseHolder);
    const second = await listen();
    await first.end("SIGKILL");
    await pool.query("insert into items values (1, 1)");
    await until("the change", () => edge.batches.length === 1, 6_000);
    expect((await second.health()).body).toMatchObject({ leaseHolder: true, epoch: 2 });
  } finally {
    await clear();
  }
});

test("a listener that the edge calls outdated stops, and comes back under a newer epoch", async () => {
  const { pool, edge, listen, clear } = await arrange("fenced");
  try {
    edge.answer = ({ header }) => (header.epoch < 2 ? 409 : 200);
    const listener = await listen();
    await pool.query("insert into items values (1, 1)");
    await until("giving up", () => listener.log.some((line) => line.includes("newer listener")));
    expect((await listener.health()).status).toBe(503);
    await until("the new epoch", () => edge.changes("public.items").some(({ op }) => op === "I"), 15_000);
    // The database knew of no newer epoch, so it was set back: what it gives is not what it gave before.
    expect(edge.changes("public.items").map(({ op }) => op)).toEqual(["G", "I"]);
    expect(edge.batches.at(-1)?.header).toMatchObject({ epoch: 2, redelivered: true });
  } finally {
    await clear();
  }
}, 30_000);

test("PostgreSQL restarts under it: the listener comes back by itself and nothing is missing", async () => {
  const { pool, edge, listen, clear } = await arrange("restart");
  try {
    const listener = await listen();
    await pool.query("insert into items values (1, 1)");
    await until("the first change", () => values(edge).length === 1);
    await postgres.restart();
    await until("a write", () =>
      pool.query("insert into items values (2, 2)").then(
        () => true,
        () => false,
      ),
    );
    await until("the second change", () => values(edge).length === 2);
    expect(values(edge)).toEqual([1, 2]);
    await until("health", async () => (await listener.health()).status === 200);
  } finally {
    await clear();
  }
}, 30_000);

test("a wrong secret delivers nothing, says which setting it is, and loses nothing", async () => {
  const { pool, edge, listen, clear } = await arrange("secrets");
  try {
    const wrong = await listen({ REALTIME_LISTENER_SECRET: "another-secret-altogether-than-ours" });
    await pool.query("insert into items values (1, 1)");
    await until("the complaint", () => wrong.log.some((line) => line.includes("REALTIME_LISTENER_SECRET")));
    expect(edge.forged).toBeGreaterThan(0);
    expect((await wrong.health()).status).toBe(503);
    await wrong.end("SIGTERM");
    expect(wrong.log.join("\n")).not.toContain("another-secret-altogether-than-ours");
    await listen();
    await until("the change", () => values(edge).length === 1);
  } finally {
    await clear();
  }
});

test("one feed's slow batch does not hold up another feed, and what comes meanwhile goes as one batch", async () => {
  const { pool, edge, listen, clear } = await arrange("lanes");
  try {
    await pool.query("create table others (id int); select realtime.subscribe('others')");
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = 0;
    edge.answer = async ({ header }) => {
      asked += 1;
      if (header.feed === "public.items") await held;
      return 200;
    };
    await listen();
    await pool.query("insert into items values (1, 1)");
    await until("the slow batch", () => asked === 1);
    for (let n = 2; n <= 5; n += 1) await pool.query("insert into items values ($1, $1)", [n]);
    await pool.query("insert into others values (1)");
    await until("the other feed", () => edge.changes("public.others").length === 1);
    expect(values(edge)).toEqual([]);
    release();
    await until("the slow feed", () => values(edge).length === 5);
    expect(
      edge.batches.filter(({ header }) => header.feed === "public.items").map(({ changes }) => changes.length),
    ).toEqual([1, 4]);
  } finally {
    await clear();
  }
});

test("where transactions can be prepared the bell stays off, and a prepared change arrives when it commits", async () => {
  const own = await startPostgres({ max_prepared_transactions: "5" });
  const edge = await RecordingEdge.start(secret);
  await migrate(own.url);
  const db = new pg.Client({ connectionString: own.url });
  await db.connect();
  const listener = await startListener(own.url, edge.url);
  try {
    await db.query("create table items (id int primary key, value int)");
    await db.query("select realtime.subscribe('items')");
    await until("polling", async () => (await listener.health()).body.state === "polling");
    await db.query("begin; insert into items values (1, 1); prepare transaction 'later'");
    await db.query("insert into items values (2, 2)");
    await until("the plain change", () => values(edge).length === 1);
    await db.query("commit prepared 'later'");
    await until("the prepared change", () => values(edge).length === 2);
    expect(values(edge)).toEqual([2, 1]);
  } finally {
    await listener.end("SIGTERM");
    await db.end();
    await edge.stop();
    await own.stop();
  }
}, 60_000);

test("a quiet listener sleeps, and a writer's bell wakes it at once", async () => {
  const { pool, edge, listen, clear } = await arrange("quiet");
  try {
    const listener = await listen();
    await until("sleep", async () => (await listener.health()).body.state === "armed");
    const waits: number[] = [];
    for (let n = 1; n <= 10; n += 1) {
      const startedAt = performance.now();
      await pool.query("insert into items values ($1, $1)", [n]);
      await until("the change", () => edge.changes().length === n);
      waits.push(performance.now() - startedAt);
      await sleep(30);
    }
    // Without the bell a change waits for the next fetch of each second, half a second on the average.
    expect(waits.sort((a, b) => a - b)[5]).toBeLessThan(250);
  } finally {
    await clear();
  }
});

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** A small seeded generator of numbers in [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
