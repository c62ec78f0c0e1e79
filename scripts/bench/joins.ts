// Joins: how long a join takes, public and private, and how often PostgreSQL is asked. What `npm run bench:joins` runs.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { WebSocket } from "ws";
import { z } from "zod";
import { startStack, type TestStack } from "../../test/support/stack.ts";
import { userToken } from "../../test/support/tokens.ts";
import { quantile } from "./statistics.ts";

const JOINS = 300;
const JOINS_OF_ONE_USER = 1_000;
const ANSWER_MS = 15_000;
/** PostgreSQL's sessions tell what they have counted at the latest ten seconds after they fell idle. */
const STATISTICS_MS = 11_000;

const policy = `
  create policy bench on realtime.messages for select to authenticated using (realtime.topic() like 'private-%')`;

const replySchema = z.object({ status: z.string() });
const frameSchema = z.tuple([z.unknown(), z.string().nullable(), z.string(), z.string(), z.unknown()]);

/** One socket, on which one channel after another is joined and left. */
class Joiner {
  readonly #ws: WebSocket;
  readonly #waiting = new Map<string, (status: string) => void>();
  #ref = 0;

  private constructor(ws: WebSocket) {
    this.#ws = ws;
    ws.on("message", (data) => {
      const [, ref, , event, payload] = frameSchema.parse(JSON.parse(data.toString()));
      if (event === "phx_reply" && ref !== null) this.#waiting.get(ref)?.(replySchema.parse(payload).status);
    });
  }

  static async open({ url }: TestStack, key: string): Promise<Joiner> {
    const ws = new WebSocket(`${url.replace(/^http/, "ws")}/realtime/v1/websocket?apikey=${key}&vsn=2.0.0`);
    await once(ws, "open");
    return new Joiner(ws);
  }

  #ask(topic: string, event: string, payload: object): Promise<string> {
    const ref = String(++this.#ref);
    const answer = new Promise<string>((resolve) => this.#waiting.set(ref, resolve));
    // A leave that names another join than the one that stands is ignored.
    const joinRef = event === "phx_join" ? ref : null;
    this.#ws.send(JSON.stringify([joinRef, ref, `realtime:${topic}`, event, payload]));
    const late = sleep(ANSWER_MS, undefined, { ref: false }).then(() => {
      throw new Error(`no answer to ${event} of ${topic}`);
    });
    return Promise.race([answer, late]).finally(() => this.#waiting.delete(ref));
  }

  /** Joins. @returns how long it took, milliseconds. Rejects when the join is refused */
  async join(topic: string, isPrivate: boolean): Promise<number> {
    const startedAt = performance.now();
    const status = await this.#ask(topic, "phx_join", { config: { private: isPrivate } });
    if (status !== "ok") throw new Error(`the join of ${topic} was refused`);
    return performance.now() - startedAt;
  }

  async leave(topic: string): Promise<void> {
    await this.#ask(topic, "phx_leave", {});
  }

  close(): void {
    this.#ws.close();
  }
}

interface Row {
  readonly what: string;
  readonly took: number[];
}

async function measure(stack: TestStack): Promise<Row[]> {
  const joiner = await Joiner.open(stack, await newToken(stack, "one"));
  const holder = await Joiner.open(stack, stack.serviceKey);
  const rows: Row[] = [];
  for (const isPrivate of [false, true]) {
    const name = isPrivate ? "private" : "public";
    const cold: number[] = [];
    const warm: number[] = [];
    const strange: number[] = [];
    for (let n = 0; n < JOINS; n++) {
      cold.push(await joiner.join(`${name}-${n}`, isPrivate));
      await joiner.leave(`${name}-${n}`);
    }
    const room = `${name}-warm`;
    await holder.join(room, isPrivate);
    for (let n = 0; n <= JOINS; n++) {
      const took = await joiner.join(room, isPrivate);
      if (n > 0) warm.push(took);
      await joiner.leave(room);
    }
    for (let n = 0; n < JOINS; n++) {
      const stranger = await Joiner.open(stack, await newToken(stack, `user ${n}`));
      strange.push(await stranger.join(room, isPrivate));
      stranger.close();
    }
    rows.push(
      { what: `${name}, cold: a channel that nobody is in`, took: cold },
      { what: `${name}, warm: a user who was there`, took: warm },
      { what: `${name}, a user who was never there`, took: strange },
    );
  }
  joiner.close();
  holder.close();
  return rows;
}

/** How often policies were asked for so many joins of one user to one channel; undefined: nothing asks them here. */
async function authorizations(stack: TestStack, db: pg.Client): Promise<number | undefined> {
  const found = await db.query(
    "select from pg_proc where pronamespace = 'realtime'::regnamespace and proname = 'authorize'",
  );
  if (found.rowCount === 0) return undefined;
  const before = await calls(db);
  const joiner = await Joiner.open(stack, await newToken(stack, "two"));
  for (let n = 0; n < JOINS_OF_ONE_USER; n++) {
    await joiner.join("private-counted", true);
    await joiner.leave("private-counted");
  }
  joiner.close();
  return (await calls(db)) - before;
}

async function calls(db: pg.Client): Promise<number> {
  await sleep(STATISTICS_MS);
  const { rows } = await db.query<{ calls: number }>(
    "select calls::int from pg_stat_user_functions where schemaname = 'realtime' and funcname = 'authorize'",
  );
  return rows[0]?.calls ?? 0;
}

function newToken({ jwtSecret }: TestStack, sub: string): Promise<string> {
  return userToken({ jwtSecret }, { sub });
}

if (process.argv.length > 2) {
  console.error(
    "usage: npm run bench:joins\n\nMeasures joins on a stack of its own, on free ports of loopback, in under a minute.",
  );
  process.exit(2);
}
const stack = await startStack();
const db = new pg.Client({ connectionString: stack.databaseUrl });
try {
  await db.connect();
  await db.query("alter system set track_functions = 'pl'");
  await db.query("select pg_reload_conf()");
  await db.query(policy);
  const rows = await measure(stack);
  const width = Math.max(...rows.map(({ what }) => what.length));
  console.log(`${"join, ms".padEnd(width)}     p50     p99`);
  for (const { what, took } of rows) {
    const [p50, p99] = [0.5, 0.99].map((share) => quantile(took, share).toFixed(1).padStart(8));
    console.log(`${what.padEnd(width)}${p50}${p99}`);
  }
  const asked = await authorizations(stack, db);
  const said =
    asked === undefined ? "realtime.authorize is missing: nothing to count" : `${asked} calls of realtime.authorize`;
  console.log(`\n${JOINS_OF_ONE_USER} private joins of one user to one channel: ${said}`);
} finally {
  await db.end();
  await stack.stop();
}
