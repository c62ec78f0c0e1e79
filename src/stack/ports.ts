// Whether TCP ports are free, asked before anything is started.

import { once } from "node:events";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Port } from "./config.ts";
import { StackError } from "./errors.ts";

const PATIENCE_MS = 5_000;

/**
 * @param afterKill whether a stack that was killed may still be letting go of its ports
 * @throws StackError naming the first port that cannot be listened on, and its setting
 */
export async function requireFree(ports: readonly Port[], afterKill: boolean): Promise<void> {
  const giveUpAt = Date.now() + (afterKill ? PATIENCE_MS : 0);
  for (const { number, host, setting } of ports) {
    for (let problem = await problemWith(number, host); problem; problem = await problemWith(number, host)) {
      if (problem === "no such address") {
        throw new StackError(
          `REALTIME_HOST: this machine has no address ${host}. Set it to 127.0.0.1, to 0.0.0.0 for all of its addresses, or to one of them.`,
        );
      }
      if (Date.now() >= giveUpAt) {
        throw new StackError(`Port ${number} on ${host} ${problem}. Set ${setting} to another port and try again.`);
      }
      await sleep(100);
    }
  }
}

export async function isFree(port: number, host: string): Promise<boolean> {
  return (await problemWith(port, host)) === undefined;
}

async function problemWith(port: number, host: string): Promise<string | undefined> {
  const server = createServer();
  try {
    server.listen(port, host);
    await once(server, "listening");
    return undefined;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EADDRINUSE") return "is taken by another program";
    if (code === "EACCES") return "needs rights that this user does not have, as most ports below 1024 do";
    if (code === "EADDRNOTAVAIL") return "no such address";
    throw error;
  } finally {
    server.close();
  }
}
