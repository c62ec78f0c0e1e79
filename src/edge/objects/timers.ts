// Time as a Durable Object has it: timers while it lives in memory, one alarm beyond that.
import type { Timers } from "../../protocol/timers.ts";

export function objectTimers(ctx: DurableObjectState): Timers {
  // One wish after the other: of two that both found no alarm set, the last would win and not the earliest.
  let wishes = Promise.resolve();
  return {
    now: () => Date.now(),
    after: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    alarm: (at) => {
      wishes = wishes
        .then(() => wish(ctx.storage, at))
        .catch((error: unknown) => {
          console.error(JSON.stringify({ event: "alarm not set", at, reason: String(error) }));
        });
      ctx.waitUntil(wishes);
    },
  };
}

/** An object has one alarm: the earliest wish is set, and whoever is called too early wishes again. */
async function wish(storage: DurableObjectStorage, at: number): Promise<void> {
  const set = await storage.getAlarm();
  if (set === null || at < set) await storage.setAlarm(at);
}
