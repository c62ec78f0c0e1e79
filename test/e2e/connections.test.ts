// How many sockets there may be at once: one bound for all gateways and all direct sockets together.
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { startStack, type TestStack } from "../support/stack.ts";

const MOST = 5;

let stack: TestStack;
let open: WebSocket[];
beforeEach(async () => {
  open = [];
  stack = await startStack({ env: { REALTIME_MAX_CONNECTIONS: String(MOST), REALTIME_GATEWAYS: "3" } });
});
afterEach(async () => {
  for (const socket of open) socket.terminate();
  await stack?.stop();
});

/** Asks for a socket, the shared one or a channel's own. Answers "open", or the status and the reason of the refusal. */
async function ask(channel?: string): Promise<string> {
  const path = channel === undefined ? "websocket" : `channels/${channel}/websocket`;
  const socket = new WebSocket(
    `${stack.url.replace("http", "ws")}/realtime/v1/${path}?apikey=${stack.anonKey}&vsn=2.0.0`,
  );
  const { promise, resolve } = Promise.withResolvers<string>();
  socket.on("open", () => {
    open.push(socket);
    resolve("open");
  });
  socket.on("error", (error) => resolve(error.message));
  socket.on("unexpected-response", async (_, response) => {
    let body = "";
    for await (const chunk of response) body += chunk;
    resolve(`${response.statusCode} ${body}`);
  });
  return promise;
}

const refused = `429 ${JSON.stringify({ error: "Too many connected users" })}`;

test("AC-177: of REALTIME_MAX_CONNECTIONS=5 the sixth socket is refused, whichever gateway it would get", async () => {
  for (let n = 0; n < MOST; n++) expect(await ask()).toBe("open");
  for (let n = 0; n < 3; n++) expect(await ask()).toBe(refused);
  expect(stack.logs()).toContain("as many sockets are open as may be: REALTIME_MAX_CONNECTIONS");
});

test("AC-177: direct sockets count as well, and no rush gets one too many in", async () => {
  const rush = Array.from({ length: 30 }, (_, n) => ask(n % 2 === 0 ? undefined : `room-${n}`));
  const answers = await Promise.all(rush);
  expect(answers.filter((answer) => answer !== "open").every((answer) => answer === refused)).toBe(true);
  expect(open.length).toBeLessThanOrEqual(MOST);
  // In a rush a place may be kept for somebody who no longer wants it; a moment later it is free.
  await eventuallyFull();
  expect(await ask("room-1")).toBe(refused);
  expect(await ask()).toBe(refused);
});

test("AC-177: the place of a socket that has closed, or died with its server, is free for any other", async () => {
  for (const channel of ["a", "b", "c", "d", undefined]) expect(await ask(channel)).toBe("open");
  expect(await ask("e")).toBe(refused);
  open.shift()?.close();
  await eventuallyFull();
  expect(await ask()).toBe(refused);
  open = [];
  await stack.killEdge();
  await eventuallyFull();
  expect(await ask()).toBe(refused);
});

/** Opens direct sockets on new channels until as many are open as may be. */
async function eventuallyFull(): Promise<void> {
  const giveUpAt = Date.now() + 15_000;
  for (let n = 0; open.length < MOST; n++) {
    if ((await ask(`more-${n}`)) === "open") continue;
    if (Date.now() > giveUpAt) throw new Error(`only ${open.length} get in`);
    await sleep(100);
  }
}
