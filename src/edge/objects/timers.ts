// Time as a Durable Object has it: timers while it lives in memory, one alarm beyond that.
import type { Timers } from "../../protocol/timers.ts";

export function objectTimers(ctx: DurableObjectState): Timers {
  return {
    now: () => Date.now(),
    after: (ms, run) => {
      const timer = setTimeout(run, ms);
      return () => clearTimeout(timer);
    },
    alarm: (at) => ctx.waitUntil(wish(ctx.storage, at)),
  };
}

/** An object has one alarm: the earliest wish is set, and whoever is called too early wishes again. */
async function wish(storage: DurableObjectStorage, at: number): Promise<void> {
  const set = await storage.getAlarm();
  if (set === null || at < set) await storage.setAlarm(at);
}
