// Fuzz of the socket: what some clients of a gateway send never reaches, delays or ends what their neighbours do.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { memoryOf } from "../../scripts/bench/proc.ts";
import { broadcast, Clients, eventually, join, uniqueName, type Version, versions } from "../support/clients.ts";
import { type Frame, Garbage } from "../support/garbage.ts";
import { childrenOf } from "../support/processes.ts";
import { binaryBroadcast, RawSocket } from "../support/raw-socket.ts";
import { startStack, type TestStack } from "../support/stack.ts";

/** Frames of garbage in all: `npm run fuzz` sends 100,000. */
const FRAMES = Number(process.env.FUZZ_FRAMES ?? 10_000);
const seed = Number(process.env.FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const ATTACKERS = 6;
const BURST = 100;
/** Frames over the limit come seldom: each costs its socket, and the test 5 MB. */
const TOO_LARGE_EVERY = 2_500;
const TOPICS = 300;
const NEIGHBOUR_EVERY_MS = 50;
/** Generous: the machine is shared, and an attacker's 5 MB and the neighbour's word go through one thread. */
const MAX_LATENCY_MS = 5_000;
/** Channels that nobody is in go to sleep after ten seconds; the short form has no time to wait for it. */
const SETTLE_MS = FRAMES > 20_000 ? 12_000 : 3_000;
/**
 * What the second half of the garbage may add to the memory that the first half has left. The garbage collector's room to
 * breathe was 70 to 105 MB, and as much after 10,000 frames as after 100,000.
 */
const MAX_GROWTH_BYTES = 250_000_000;

let stack: TestStack;

beforeAll(async () => {
  // One gateway for all: what one client does wrong happens where its neighbours live.
  stack = await startStack({ env: { REALTIME_GATEWAYS: "1" } });
});

afterAll(() => stack?.stop());

function workerd(): number {
  const child = childrenOf(stack.pid).find(({ command }) => command.includes("workerd"));
  if (child === undefined) throw new Error(`workerd is not running:\n${stack.logs()}`);
  return child.pid;
}

/** An attacker: sends, and comes again when it was put out, which only a frame over the limit may cause. */
class Attacker {
  readonly #garbage: Garbage;
  readonly #version: Version;
  #socket: RawSocket | undefined;
  /** The codes with which it was put out, and how often it had asked for that. */
  readonly closes: number[] = [];
  asked = 0;

  constructor(garbage: Garbage, version: Version) {
    this.#garbage = garbage;
    this.#version = version;
  }

  async #open(): Promise<RawSocket> {
    const socket = await RawSocket.open(stack.url, { vsn: this.#version, key: stack.anonKey });
    void socket.closed.then(({ code }) => {
      this.closes.push(code);
      if (this.#socket === socket) this.#socket = undefined;
    });
    this.#socket = socket;
    return socket;
  }

  /** Sends a burst and waits until the server has been through it. */
  async burst(frames: readonly Frame[]): Promise<void> {
    const socket = this.#socket ?? (await this.#open());
    for (const frame of frames) socket.sendRaw(frame);
    await Promise.race([socket.heartbeat(), socket.closed]);
    // Answers of every shape were read by now; a socket that never empties its mailbox would be this test's own leak.
    socket.frames.length = 0;
    socket.texts.length = 0;
    socket.binary.length = 0;
  }

  async tooLarge(): Promise<void> {
    const socket = this.#socket ?? (await this.#open());
    this.asked++;
    socket.sendRaw(this.#garbage.tooLarge());
    expect((await socket.closed).code).toBe(1009);
  }

  async run(frames: number): Promise<void> {
    for (let sent = 0; sent < frames; sent += BURST) {
      await this.burst(Array.from({ length: BURST }, () => this.#garbage.frame(this.#version)));
      if (this.#garbage.chance(BURST / TOO_LARGE_EVERY)) await this.tooLarge();
    }
  }

  close(): void {
    this.#socket?.close();
  }
}

const heartbeatSchema = z.object({ payload: z.object({ n: z.int(), at: z.number() }) });

/** Two sockets in a channel of their own: one says a number every 50 ms, the other must hear each, once and in order. */
async function neighbours(
  signal: AbortSignal,
): Promise<{ said: number; heard: number[]; slowest: number; odd: string[] }> {
  const topic = `realtime:${uniqueName("neighbours")}`;
  const open = (): Promise<RawSocket> => RawSocket.open(stack.url, { key: stack.anonKey });
  const [speaker, hearer] = [await open(), await open()];
  for (const socket of [speaker, hearer]) expect((await socket.join(topic)).status).toBe("ok");
  let said = 0;
  let slowest = 0;
  let read = 0;
  const heard: number[] = [];
  const odd: string[] = [];
  const listen = (): void => {
    for (const frame of hearer.frames.slice(read)) {
      read++;
      if (frame.event === "phx_reply") continue;
      const message = heartbeatSchema.safeParse(frame.payload);
      if (frame.event !== "broadcast" || frame.topic !== topic || !message.success) odd.push(JSON.stringify(frame));
      else {
        heard.push(message.data.payload.n);
        slowest = Math.max(slowest, performance.now() - message.data.payload.at);
      }
    }
  };
  while (!signal.aborted) {
    speaker.send("1", null, topic, "broadcast", {
      type: "broadcast",
      event: "n",
      payload: { n: ++said, at: performance.now() },
    });
    const next = performance.now() + NEIGHBOUR_EVERY_MS;
    // Looked at often, so that the latency is the server's and not this loop's.
    while (performance.now() < next) {
      listen();
      await sleep(5);
    }
  }
  await eventually(() => {
    listen();
    expect(heard).toHaveLength(said);
  });
  for (const socket of [speaker, hearer]) socket.close();
  return { said, heard, slowest, odd };
}

test(`${FRAMES} frames of garbage, and the neighbours never notice`, { timeout: 60_000 + FRAMES * 10 }, async () => {
  const pid = workerd();
  const topics = Array.from({ length: TOPICS }, (_, n) => `realtime:garbage ${n}`);
  const attackers = Array.from(
    { length: ATTACKERS },
    (_, n) => new Attacker(new Garbage(seed + n, topics), versions[n % versions.length] ?? "2.0.0"),
  );
  const half = FRAMES / ATTACKERS / 2;
  const stopping = new AbortController();
  const listening = neighbours(stopping.signal);
  try {
    await Promise.all(attackers.map((attacker) => attacker.run(half)));
    await sleep(SETTLE_MS);
    const warm = memoryOf(pid);
    await Promise.all(attackers.map((attacker) => attacker.run(half)));
    for (const attacker of attackers) await attacker.tooLarge();
    await sleep(SETTLE_MS);
    const growth = memoryOf(pid) - warm;
    process.stdout.write(
      `memory after one half ${Math.round(warm / 1e6)} MB, after both ${Math.round(growth / 1e6)} MB more\n`,
    );
    expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
  } catch (error) {
    throw new Error(`FUZZ_SEED=${seed}\n${stack.logs().slice(-2_000)}`, { cause: error });
  } finally {
    stopping.abort();
    for (const attacker of attackers) attacker.close();
  }
  const { said, heard, slowest, odd } = await listening;
  process.stdout.write(`neighbours: ${said} messages, the slowest ${Math.round(slowest)} ms\n`);
  expect(odd).toEqual([]);
  expect(heard).toEqual(Array.from({ length: said }, (_, n) => n + 1));
  expect(slowest).toBeLessThan(MAX_LATENCY_MS);
  // Nobody was put out for less than a frame over the limit, and the process is the one that was there before.
  for (const { closes, asked } of attackers) expect(closes).toEqual(Array.from({ length: asked }, () => 1009));
  expect(workerd()).toBe(pid);
});

test.each([600, 7_000, 100_000])("what is nested %i deep reaches nobody, and its room goes on", async (depth) => {
  const [room, nest] = [uniqueName("deep"), `${"[".repeat(depth)}${"]".repeat(depth)}`];
  const topic = `realtime:${room}`;
  const open = (): Promise<RawSocket> => RawSocket.open(stack.url, { key: stack.anonKey });
  const [culprit, neighbour] = [await open(), await open()];
  const config = { broadcast: { ack: true }, presence: { enabled: true } };
  for (const socket of [culprit, neighbour]) await socket.join(topic, config);
  culprit.sendRaw(`["1","t",${JSON.stringify(topic)},"presence",{"event":"track","payload":{"a":${nest}}}]`);
  culprit.sendRaw(`["1","b",${JSON.stringify(topic)},"broadcast",{"event":"x","payload":${nest}}]`);
  culprit.sendRaw(binaryBroadcast(topic, "x", new TextEncoder().encode(nest), 1));
  await culprit.heartbeat();
  const before = neighbour.frames.length;
  expect((await neighbour.ask(topic, "presence", { event: "track", payload: { n: 1 } })).status).toBe("ok");
  expect((await neighbour.ask(topic, "broadcast", { event: "x", payload: {} })).status).toBe("ok");
  const late = await open();
  expect((await late.join(topic, config)).status).toBe("ok");
  const [state] = await late.until("the state", 1, ({ event }) => event === "presence_state");
  expect(Object.values(state?.payload ?? {})).toEqual([{ metas: [expect.objectContaining({ n: 1 })] }]);
  expect(neighbour.frames.slice(before).map(({ event }) => event)).toEqual(["presence_diff", "phx_reply", "phx_reply"]);
  for (const socket of [culprit, neighbour, late]) socket.close();
});

test("after all that a new client joins, speaks and is heard", async () => {
  const clients = new Clients(stack);
  const room = uniqueName("afterwards");
  const [a, b] = [clients.open().channel(room), clients.open({ vsn: "1.0.0" }).channel(room)];
  const heard: unknown[] = [];
  b.on("broadcast", { event: "*" }, ({ payload }) => void heard.push(payload));
  await Promise.all([join(a), join(b)]);
  await broadcast(a, "x", { still: "here" });
  await eventually(() => expect(heard).toEqual([{ still: "here" }]));
  await clients.close();
});
