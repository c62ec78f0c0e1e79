// A load generator: a process of its own that holds all sockets of one server, publishes, and times what arrives.
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { type Dialect, dialects, numberIn } from "./dialects.ts";
import { type Answer, type Measurement, type Order, parseOrder } from "./orders.ts";
import { cpuOf } from "./proc.ts";
import { quantile } from "./statistics.ts";

const CONNECTING_AT_ONCE = 50;
const OPEN_LIMIT_MS = 20_000;
/** How long the last deliveries may take once nothing is published any more. */
const DRAIN_LIMIT_MS = 10_000;
/** Quiet time before a measurement: heartbeats are answered and written positions are on disk. */
const SETTLE_MS = 300;

const FILL_MS = 300;

interface Channel {
  readonly topic: string;
  readonly sockets: WebSocket[];
}

/** One publish and what has come of it. Times in milliseconds of `performance.now()`. */
interface Publish {
  readonly at: number;
  first: number;
  last: number;
}

class Load {
  readonly #dialect: Dialect;
  readonly #channels: readonly Channel[];
  readonly #socketsPerChannel: number;
  #publishes: Publish[] = [];
  #latencies: number[] = [];
  #received: () => void = () => undefined;

  constructor(dialect: Dialect, channels: readonly Channel[], socketsPerChannel: number) {
    this.#dialect = dialect;
    this.#channels = channels;
    this.#socketsPerChannel = socketsPerChannel;
    for (const { sockets } of channels) {
      for (const ws of sockets) {
        ws.on("message", (data) => this.#receive(data));
        ws.on("close", (code, reason) => fail(new Error(`a socket was closed with ${code} ${reason}`)));
      }
    }
  }

  #receive(data: WebSocket.RawData): void {
    const publish = Buffer.isBuffer(data) ? this.#publishes[numberIn(data) ?? -1] : undefined;
    if (publish === undefined) return;
    const now = performance.now();
    publish.first ||= now;
    publish.last = now;
    this.#latencies.push(now - publish.at);
    this.#received();
  }

  /** Publishes in all channels in turn, and from all sockets of a channel in turn. */
  #publish(): void {
    const number = this.#publishes.length;
    const channel = this.#channels[number % this.#channels.length];
    const turn = Math.floor(number / this.#channels.length);
    const socket = channel?.sockets[turn % this.#socketsPerChannel];
    if (channel === undefined || socket === undefined) throw new Error("there is no socket to publish from");
    this.#publishes.push({ at: performance.now(), first: 0, last: 0 });
    socket.send(this.#dialect.publish(channel.topic, number));
  }

  get #onTheWay(): number {
    return this.#publishes.length * this.#socketsPerChannel - this.#latencies.length;
  }

  async measure({ pid, pace, seconds }: Extract<Order, { kind: "measure" }>): Promise<Measurement> {
    await this.#settle();
    const [cpu, loadCpu] = [cpuOf(pid), cpuOf(process.pid)];
    const deliveriesPerSecond =
      "onTheWay" in pace ? await this.#saturate(pace.onTheWay, seconds) : await this.#pace(pace.perSecond, seconds);
    await this.#drained();

    const deliveries = this.#latencies.length;
    if (deliveries === 0) throw new Error(`nothing came of ${this.#publishes.length} publishes`);
    const spreads = this.#publishes.map(({ first, last }) => last - first);
    return {
      publishes: this.#publishes.length,
      deliveries,
      missing: this.#onTheWay,
      deliveriesPerSecond,
      cpu: (cpuOf(pid) - cpu) / deliveries,
      loadCpu: (cpuOf(process.pid) - loadCpu) / deliveries,
      p50: quantile(this.#latencies, 0.5),
      p99: quantile(this.#latencies, 0.99),
      spread: quantile(spreads, 0.5),
    };
  }

  async #settle(): Promise<void> {
    this.#publishes = [];
    this.#latencies = [];
    const { heartbeat } = this.#dialect;
    if (heartbeat !== undefined) for (const { sockets } of this.#channels) for (const ws of sockets) ws.send(heartbeat);
    await sleep(SETTLE_MS);
  }

  /** Publishes at an even pace. Both ways of publishing return the deliveries a second. */
  async #pace(perSecond: number, seconds: number): Promise<number> {
    const startedAt = performance.now();
    for (let elapsed = 0; elapsed < seconds; elapsed = (performance.now() - startedAt) / 1000) {
      while (this.#publishes.length < elapsed * perSecond) this.#publish();
      await sleep(1);
    }
    return this.#latencies.length / seconds;
  }

  async #saturate(onTheWay: number, seconds: number): Promise<number> {
    const most = onTheWay * this.#socketsPerChannel;
    const fill = (): void => {
      while (this.#onTheWay < most) this.#publish();
    };
    this.#received = fill;
    fill();
    // The queues have to fill before what comes out of them is the rate.
    await sleep(FILL_MS);
    const [startedAt, before] = [performance.now(), this.#latencies.length];
    await sleep(seconds * 1000);
    this.#received = () => undefined;
    return (this.#latencies.length - before) / ((performance.now() - startedAt) / 1000);
  }

  async #drained(): Promise<void> {
    const giveUpAt = performance.now() + DRAIN_LIMIT_MS;
    while (this.#onTheWay > 0 && performance.now() < giveUpAt) await sleep(5);
  }
}

async function open({ dialect, channels, socketsPerChannel }: Extract<Order, { kind: "open" }>): Promise<Load> {
  const language = dialects[dialect];
  const rooms = channels.map(({ topic }): Channel => ({ topic, sockets: [] }));
  const waiting = channels.flatMap(({ url, topic }, index) =>
    Array.from({ length: socketsPerChannel }, () => ({ url, topic, sockets: rooms[index]?.sockets })),
  );
  const connect = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      next.sockets?.push(await connected(next.url, next.topic, language));
    }
  };
  await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, connect));
  return new Load(language, rooms, socketsPerChannel);
}

async function connected(url: string, topic: string, dialect: Dialect): Promise<WebSocket> {
  const signal = AbortSignal.timeout(OPEN_LIMIT_MS);
  const ws = new WebSocket(url, { perMessageDeflate: false });
  await once(ws, "open", { signal });
  const join = dialect.join(topic);
  if (join === undefined) return ws;
  ws.send(join);
  for (;;) {
    const [data] = await once(ws, "message", { signal });
    if (dialect.isJoined(String(data))) return ws;
  }
}

function say(answer: Answer): void {
  process.send?.(answer);
}

function fail(error: unknown): void {
  say({ error: error instanceof Error ? error.message : String(error) });
}

let load: Load | undefined;

async function obey(order: Order): Promise<Answer> {
  if (order.kind === "open") {
    load = await open(order);
    return { done: "open" };
  }
  if (load === undefined) throw new Error("nothing to measure: the sockets were not opened");
  return { done: await load.measure(order) };
}

process.on("message", (message: unknown) => {
  obey(parseOrder(message)).then(say, fail);
});
// Ctrl+C reaches the whole group of processes: the bench decides who ends when.
process.on("SIGINT", () => undefined);
// Whoever gave the orders is gone.
process.on("disconnect", () => process.exit());
