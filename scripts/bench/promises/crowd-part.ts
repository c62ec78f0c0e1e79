// A part of a crowd: a process with some of its sockets. It opens them when told where, and says when all have heard a mark.
import { z } from "zod";
import type { Told } from "./crowd.ts";
import { Member, now } from "./member.ts";

const CONNECTING_AT_ONCE = 20;
/** Each socket beats once in so long, one after the other, so that beats are no burst of their own. */
const BEAT_MS = 20_000;

const order = z.union([
  z.object({ url: z.string(), topic: z.string(), sockets: z.int() }),
  z.object({ mark: z.string() }),
]);

const members: Member[] = [];
/** What is listened for, and by how many it was heard. */
let awaited: { readonly mark: string; heard: number; firstAt: number } | undefined;

function take(data: Buffer): void {
  if (awaited === undefined || !data.includes(awaited.mark)) return;
  const at = now();
  awaited.firstAt ||= at;
  awaited.heard++;
  if (awaited.heard < members.length) return;
  say({ mark: awaited.mark, firstAt: awaited.firstAt, lastAt: at });
  awaited = undefined;
}

async function open(url: string, topic: string, sockets: number): Promise<void> {
  let wanted = sockets;
  const connect = async (): Promise<void> => {
    while (wanted-- > 0) {
      const member = await Member.join({ url, topic });
      member.onFrame(take);
      member.onClose((code) => fail(new Error(`a socket was closed with ${code}`)));
      members.push(member);
    }
  };
  await Promise.all(Array.from({ length: CONNECTING_AT_ONCE }, connect));
  let next = 0;
  setInterval(() => members[next++ % members.length]?.beat(), BEAT_MS / sockets);
  say({ open: sockets });
}

function say(told: Told): void {
  process.send?.(told);
}

function fail(error: unknown): void {
  say({ error: error instanceof Error ? error.message : String(error) });
}

process.on("message", (message) => {
  const given = order.parse(message);
  if ("mark" in given) awaited = { mark: given.mark, heard: 0, firstAt: 0 };
  else open(given.url, given.topic, given.sockets).catch(fail);
});
// Ctrl+C reaches the whole group of processes: the bench decides who ends when.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => process.exit());
