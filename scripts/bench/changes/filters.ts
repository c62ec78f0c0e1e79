// Filters: what a change costs the edge when very many subscribers each ask for one id.
import { setTimeout as sleep } from "node:timers/promises";
import { now } from "./orders.ts";
import type { Context } from "./plans.ts";
import { type Line, round } from "./result.ts";
import { cpuPer, type Subject } from "./subject.ts";
import { Subscribers } from "./subscribers.ts";

const FEW = 10;
const ROWS = 10;
const PAUSE_MS = 20;
const CHANGES = 4_000;
const LIMIT_MS = 60_000;

export async function measureFilters(subject: Subject, { plan, signal, progress }: Context): Promise<Line[]> {
  const { db } = subject;
  await db.query("create table filtered (id int, body text)");
  await db.query("select realtime.subscribe('filtered')");
  const few = { sockets: FEW, channels: 1 };
  const many = { sockets: plan.filterSockets, channels: plan.filterChannels };
  const lines: Line[] = [];
  let base: number | undefined;
  for (const { sockets, channels } of [few, many]) {
    signal.throwIfAborted();
    const subscriptions = sockets * channels;
    progress(`filters, ${round(subscriptions)} subscriptions`);
    const plans = Array.from({ length: sockets }, (_, socket) => ({
      key: subject.stack.anonKey,
      joins: Array.from({ length: channels }, (_, channel) => ({
        topic: `realtime:filtered-${channel}`,
        filter: `id=eq.${socket * channels + channel}`,
      })),
    }));
    const joinedFrom = now();
    await using subscribers = await Subscribers.open(subject, "filtered", plans);
    const joinMs = now() - joinedFrom;
    await sleep(500);
    await subscribers.reset();
    const before = subject.cpu();
    const startedAt = now();
    for (let at = 0; at < CHANGES; at += ROWS) {
      const ids = Array.from({ length: ROWS }, (_, n) => ((at + n) * 7) % subscriptions);
      await db.query("insert into filtered select id, repeat('x', 150) from unnest($1::int[]) id", [ids]);
      await sleep(PAUSE_MS);
    }
    const { deliveries, lastAt } = await subscribers.until(CHANGES, LIMIT_MS);
    const used = cpuPer(CHANGES, before, subject.cpu());
    base ??= used.edge;
    lines.push({
      what: `${round(subscriptions)} subscriptions with id=eq.X`,
      measured:
        `edge ${round(used.edge)} µs CPU a change (×${round(used.edge / base, 2)}), ` +
        `${round(deliveries / ((lastAt - startedAt) / 1_000))} changes/s, ${deliveries} of ${CHANGES} came; ` +
        `${round(joinMs / subscriptions, 1)} ms a join`,
    });
  }
  return lines;
}
