// What was promised in numbers, measured on a running stack by real sockets. All times in milliseconds.
import { execFile } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import type { TestStack } from "../../../test/support/stack.ts";
import { Crowd } from "./crowd.ts";
import { Member, now, type Place } from "./member.ts";

const cli = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));
/** Between two samples, so that no sample waits for the one before. */
const PAUSE_MS = 10;
const SETTLE_MS = 500;

function placeIn({ url, anonKey }: TestStack, room: string): Place {
  const socket = `${url.replace(/^http/, "ws")}/realtime/v1/websocket?apikey=${anonKey}&vsn=2.0.0`;
  return { url: socket, topic: `realtime:${room}` };
}

/** A broadcast, from its sender's socket to another's. */
export async function measureDelivery(stack: TestStack, samples: number): Promise<number[]> {
  const place = placeIn(stack, "delivery");
  using sender = await Member.join(place);
  using receiver = await Member.join(place);
  return await sampled(samples, async (mark) => {
    const heard = receiver.hears(mark);
    const sentAt = now();
    sender.send("broadcast", { type: "broadcast", event: "message", payload: { mark } });
    const at = await heard;
    receiver.beat();
    return at - sentAt;
  });
}

/** What one member tracks, until another one's socket hears of it. */
export async function measurePresence(stack: TestStack, samples: number): Promise<number[]> {
  const place = placeIn(stack, "presence");
  const presence = { presence: { key: "", enabled: true } };
  using tracker = await Member.join(place, presence);
  using observer = await Member.join(place, presence);
  return await sampled(samples, async (mark) => {
    const heard = observer.hears(mark);
    const sentAt = now();
    tracker.send("presence", { type: "presence", event: "track", payload: { mark } });
    const at = await heard;
    observer.beat();
    return at - sentAt;
  });
}

/** A row, from the moment at which its writer knows that it is committed, to a subscriber's socket. */
export async function measureChanges(stack: TestStack, samples: number): Promise<number[]> {
  const db = new pg.Client({ connectionString: stack.databaseUrl });
  await db.connect();
  try {
    await db.query("create table if not exists measured (id int generated always as identity primary key, mark text)");
    await db.query("select realtime.subscribe('measured')");
    const wish = { event: "INSERT", schema: "public", table: "measured" };
    using subscriber = await Member.join(placeIn(stack, "changes"), {
      postgres_changes: [wish],
      postgres_changes_options: { wait: true },
    });
    return await sampled(samples, async (mark) => {
      const heard = subscriber.hears(mark);
      await db.query("insert into measured (mark) values ($1)", [mark]);
      const committedAt = now();
      const at = await heard;
      subscriber.beat();
      // It may well be there before the writer has its answer.
      return Math.max(0, at - committedAt);
    });
  } finally {
    await db.end();
  }
}

/** Of each broadcast to a crowd: from the first of its sockets to hear it to the last, and from the request to the last. */
export interface FanOut {
  readonly firstToLast: number[];
  readonly sentToLast: number[];
}

/** Broadcasts to all sockets of a crowd. Rejects when one of them hears nothing. */
export async function measureFanOut(stack: TestStack, sockets: number, samples: number): Promise<FanOut> {
  await using crowd = await Crowd.gather(placeIn(stack, "fan-out"), sockets);
  await sleep(SETTLE_MS);
  return await fanOut(stack, crowd, samples);
}

async function fanOut(stack: TestStack, crowd: Crowd, samples: number): Promise<FanOut> {
  const sentToLast: number[] = [];
  using sender = await Member.join(placeIn(stack, "fan-out"));
  const firstToLast = await sampled(samples, async (mark) => {
    const heard = crowd.hears(mark);
    // The parts of the crowd have to know what they listen for.
    await sleep(SETTLE_MS / 5);
    const sentAt = now();
    sender.send("broadcast", { type: "broadcast", event: "message", payload: { mark } });
    const { firstAt, lastAt } = await heard;
    sender.beat();
    sentToLast.push(lastAt - sentAt);
    return lastAt - firstAt;
  });
  return { firstToLast, sentToLast };
}

export interface Held {
  /** How long it took until all sockets were open and joined. */
  readonly openedIn: number;
  /** What `nself realtime status` says: connections. */
  readonly connections: number;
  readonly firstToLast: number;
  readonly sentToLast: number;
}

/** Holds so many sockets at once, has the command line count them and broadcast to them. Rejects when one hears nothing. */
export async function measureHeld(stack: TestStack, sockets: number): Promise<Held> {
  const startedAt = now();
  await using crowd = await Crowd.gather(placeIn(stack, "held"), sockets);
  const openedIn = now() - startedAt;
  await sleep(SETTLE_MS);
  const connections = await connectionsIn(stack);
  const mark = `"mark":"held ${startedAt}"`;
  const heard = crowd.hears(mark);
  await sleep(SETTLE_MS);
  const sentAt = now();
  await nself(stack, "broadcast", "held", "message", `{${mark}}`);
  const { firstAt, lastAt } = await heard;
  return { openedIn, connections, firstToLast: lastAt - firstAt, sentToLast: lastAt - sentAt };
}

/** The number in the status that people read. */
async function connectionsIn(stack: TestStack): Promise<number> {
  const { stdout } = await nself(stack, "status");
  const [, count = ""] = /✓ ([\d,]+) active connections?/.exec(stdout) ?? [];
  return Number(count.replaceAll(",", ""));
}

function nself({ home }: TestStack, ...args: string[]): Promise<{ stdout: string }> {
  const env = { PATH: process.env.PATH, NSELF_HOME: home, XDG_CONFIG_HOME: "/nonexistent" };
  return promisify(execFile)(process.execPath, [cli, "realtime", ...args], { env });
}

let marks = 0;

/** Takes samples one after the other, each with a mark of its own. */
async function sampled(samples: number, take: (mark: string) => Promise<number>): Promise<number[]> {
  const taken: number[] = [];
  while (taken.length < samples) {
    taken.push(await take(`mark ${++marks}.`));
    await sleep(PAUSE_MS);
  }
  return taken;
}
