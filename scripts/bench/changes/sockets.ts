// Subscribers' sockets, in a process of their own: they join, and count the row changes that come.
import { once } from "node:events";
import { WebSocket } from "ws";
import { cpuOf } from "../proc.ts";
import { type Answer, now, type Order, parseOrder, type SocketPlan } from "./orders.ts";

const CONNECTING_AT_ONCE = 20;
const JOIN_LIMIT_MS = 60_000;
const HEARTBEAT_MS = 1_000;
const heartbeat = JSON.stringify([null, "0", "phoenix", "heartbeat", {}]);
const change = Buffer.from('"postgres_changes",{"ids"');
const stands = Buffer.from("Subscribed to PostgreSQL");
const refused = Buffer.from('"status":"error"');

const sockets: WebSocket[] = [];
let deliveries = 0;
let lastAt = 0;

async function connect(url: string, table: string, { key, packed = false, joins }: SocketPlan): Promise<void> {
  const signal = AbortSignal.timeout(JOIN_LIMIT_MS);
  const ws = new WebSocket(`${url}?apikey=${key}&vsn=2.0.0&packed=${packed}`, { perMessageDeflate: false });
  sockets.push(ws);
  await once(ws, "open", { signal });
  await new Promise<void>((resolve, reject) => {
    let standing = 0;
    signal.addEventListener("abort", () => reject(new Error("a subscription did not stand in time")), { once: true });
    ws.on("close", (code) => fail(new Error(`a socket was closed with ${code}`)));
    ws.on("message", (data: Buffer) => {
      const changes = count(data, change);
      if (changes > 0) {
        deliveries += changes;
        lastAt = now();
      } else if (data.includes(refused)) reject(new Error(`a subscription was refused: ${data}`));
      else if (data.includes(stands) && ++standing === joins.length) resolve();
    });
    for (const [n, { topic, filter }] of joins.entries()) {
      const wish = { event: "*", schema: "public", table, ...(filter && { filter }) };
      const ref = String(n + 1);
      ws.send(JSON.stringify([ref, ref, topic, "phx_join", { config: { postgres_changes: [wish] } }]));
    }
  });
}

function count(data: Buffer, mark: Buffer): number {
  let found = 0;
  for (let at = data.indexOf(mark); at >= 0; at = data.indexOf(mark, at + mark.length)) found++;
  return found;
}

async function obey(order: Order): Promise<void> {
  if (order.kind === "open") {
    const waiting = [...order.sockets];
    const next = async (): Promise<void> => {
      for (let plan = waiting.pop(); plan; plan = waiting.pop()) await connect(order.url, order.table, plan);
    };
    await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, next));
  }
  if (order.kind === "reset") deliveries = 0;
  say({ deliveries, lastAt, cpu: cpuOf(process.pid) });
}

function say(answer: Answer): void {
  process.send?.(answer);
}

function fail(error: unknown): void {
  say({ error: error instanceof Error ? error.message : String(error) });
}

process.on("message", (message) => void obey(parseOrder(message)).catch(fail));
// Ctrl+C reaches the whole group of processes: the bench decides who ends when.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => process.exit());
// A reader that never says anything is cut off.
setInterval(() => {
  for (const ws of sockets) if (ws.readyState === WebSocket.OPEN) ws.send(heartbeat);
}, HEARTBEAT_MS);
