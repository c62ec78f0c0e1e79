// How long a row change takes: from the INSERT, and from its commit, to a subscriber's socket.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { WebSocket } from "ws";
import { quantile } from "../statistics.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import type { Subject } from "./subject.ts";

const WRITERS = 4;
const LAST_MS = 5_000;
const goals = { p50: 10, p99: 20, pace: 100 } as const;

interface Written {
  readonly issuedAt: number;
  answeredAt: number;
  arrivedAt: number;
}

export async function measureLatency(subject: Subject, { plan, signal, progress }: Context): Promise<Line[]> {
  const { db, stack } = subject;
  await db.query("create table paced (id int primary key, body text)");
  await db.query("select realtime.subscribe('paced')");
  const written = new Map<number, Written>();
  const ws = new WebSocket(
    `${stack.url.replace(/^http/, "ws")}/realtime/v1/websocket?apikey=${stack.anonKey}&vsn=2.0.0`,
  );
  let stands = false;
  ws.on("message", (data: Buffer) => {
    const [, id] = /"record":\{"id":(\d+)/.exec(data.toString()) ?? [];
    const change = written.get(Number(id));
    if (change) change.arrivedAt = performance.now();
    else if (data.includes("Subscribed to PostgreSQL")) stands = true;
  });
  await once(ws, "open");
  const wish = { event: "*", schema: "public", table: "paced" };
  ws.send(JSON.stringify(["1", "1", "realtime:paced", "phx_join", { config: { postgres_changes: [wish] } }]));
  const writers = new pg.Pool({ connectionString: stack.databaseUrl, max: WRITERS });
  const lines: Line[] = [];
  try {
    for (const giveUpAt = performance.now() + LAST_MS; !stands; await sleep(10)) {
      if (performance.now() > giveUpAt) throw new Error("the subscription did not stand in time");
    }
    let id = 0;
    for (const pace of plan.paces) {
      progress(`latency at ${pace}/s`);
      // Long enough for the listener to be as quiet, or as busy, as the rate makes it.
      await sleep(1_500);
      ws.send(JSON.stringify([null, "0", "phoenix", "heartbeat", {}]));
      written.clear();
      const startedAt = performance.now();
      const endAt = startedAt + plan.paceSeconds * 1_000;
      const asked: Promise<void>[] = [];
      // Arrivals that do not wait for one another, as those of many users.
      for (let due = startedAt; due < endAt; due += (-Math.log(1 - Math.random()) * 1_000) / pace) {
        signal.throwIfAborted();
        const wait = due - performance.now();
        if (wait > 1) await sleep(wait);
        asked.push(insert(writers, ++id, written));
      }
      await Promise.all(asked);
      const all = [...written.values()];
      for (
        const giveUpAt = performance.now() + LAST_MS;
        all.some(({ arrivedAt }) => arrivedAt === 0);
        await sleep(10)
      ) {
        if (performance.now() > giveUpAt) break;
      }
      lines.push(lineOf(pace, all));
    }
  } finally {
    ws.terminate();
    await writers.end();
  }
  return lines;
}

async function insert(writers: pg.Pool, id: number, written: Map<number, Written>): Promise<void> {
  const change: Written = { issuedAt: performance.now(), answeredAt: 0, arrivedAt: 0 };
  written.set(id, change);
  const text = "insert into paced values ($1, $2)";
  await writers.query({ name: "insert", text, values: [id, "x".repeat(150)] });
  change.answeredAt = performance.now();
}

function lineOf(pace: number, all: readonly Written[]): Line {
  const arrived = all.filter(({ arrivedAt }) => arrivedAt > 0);
  const at = (values: number[]) => [0.5, 0.99].map((share) => quantile(values, share));
  const [p50 = 0, p99 = 0] = at(arrived.map(({ arrivedAt, answeredAt }) => arrivedAt - answeredAt));
  const [issued50 = 0, issued99 = 0] = at(arrived.map(({ arrivedAt, issuedAt }) => arrivedAt - issuedAt));
  const missing = all.length - arrived.length;
  return {
    what: `${round(pace)}/s`,
    measured:
      `commit → socket p50 ${round(p50, 1)} ms, p99 ${round(p99, 1)} ms; INSERT → socket ${round(issued50, 1)}, ` +
      `${round(issued99, 1)}${missing > 0 ? `; ${missing} never came` : ""}`,
    ...(pace === goals.pace && {
      goal: `p50 < ${goals.p50} ms, p99 < ${goals.p99} ms`,
      isReached: missing === 0 && p50 < goals.p50 && p99 < goals.p99,
    }),
  };
}
