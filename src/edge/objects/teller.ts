// The teller: brings an object's tally to the directory, in batches and never on a message's path.
import { type Tallied, Tally } from "../../gateway/tally.ts";
import type { Timers } from "../../protocol/timers.ts";

/** What is counted within this long is told together. */
const GATHER_MS = 1_000;

/** A tally that tells the directory by itself. */
export function toldTally(ctx: DurableObjectState, timers: Timers, tell: (tallied: Tallied) => Promise<void>): Tally {
  const tally = new Tally(() => {
    timers.after(GATHER_MS, () => {
      const tallied = tally.take();
      ctx.waitUntil(tell(tallied).catch(() => tally.putBack(tallied)));
    });
  });
  return tally;
}
