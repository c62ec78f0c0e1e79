// The service is down, and whoever writes to its tables does not notice.

import { rm } from "node:fs/promises";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startPostgres, type TestPostgres } from "../support/postgres.ts";
import { newHome, startStack } from "../support/stack.ts";

const ROUNDS = 4;
const WRITES = 200;

let postgres: TestPostgres;
let home: string;
let sql: pg.Client;
beforeAll(async () => {
  postgres = await startPostgres();
  home = await newHome();
  sql = new pg.Client({ connectionString: postgres.url });
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await postgres?.stop();
  await rm(home, { recursive: true, force: true });
});

/** Milliseconds of each of so many transactions that insert, change and delete a row. */
async function write(): Promise<number[]> {
  const times: number[] = [];
  for (let n = 0; n < WRITES; n++) {
    const before = performance.now();
    await sql.query(`begin; insert into followed values (0, 'new'); update followed set note = 'old' where id = 0;
      delete from followed where id = 0; commit`);
    times.push(performance.now() - before);
  }
  return times;
}

const median = (numbers: number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

// In turns, so that a machine that is busy is busy for both.
test("AC-072: with the service down writes succeed, and take no more than twice as long as with it", {
  timeout: 120_000,
}, async () => {
  const [up, down]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    const stack = await startStack({ home, env: { DATABASE_URL: postgres.url } });
    if (round === 0) {
      await sql.query("create table followed (id int, note text)");
      await sql.query("select realtime.subscribe('followed')");
    }
    up.push(...(await write()));
    await stack.stop();
    down.push(...(await write()));
  }
  expect(median(down)).toBeLessThan(2 * median(up));
});
