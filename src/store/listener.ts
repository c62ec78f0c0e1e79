// The listener, as the database knows it.
import * as z from "zod";
import type { Query } from "./database.ts";

const state = z.object({
  leading: z.boolean(),
  report: z.object({
    state: z.string().optional(),
    polling: z.string().nullish(),
    edgeFailing: z.object({ since: z.string(), reason: z.string(), feed: z.string() }).nullish(),
  }),
  outbox_bytes: z.number(),
  outbox_limit: z.number(),
  capturing: z.boolean(),
  stopped_at: z.string().nullable(),
  parked: z.array(
    z.object({
      feed: z.string(),
      changes: z.number(),
      refused: z.number(),
      since: z.string(),
      reason: z.string().nullable(),
    }),
  ),
});

/** What the database knows of the listener, the outbox and the feeds that are parked. */
export type ListenerState = z.output<typeof state>;

/** The part of the store that tells of the listener. Each call throws what `Query` throws. */
export function listenerStore(query: Query) {
  return {
    /** Whether a listener leads at this moment, and what is inserted into `realtime.messages` reaches it. */
    async isReady(): Promise<boolean> {
      const [found] = await query(
        z.object({ ready: z.boolean() }),
        `select exists (
           select from realtime.cdc_consumers
           where name = 'edge' and owner is not null and lease_until > clock_timestamp()
         ) and exists (
           select from pg_catalog.pg_trigger
           where tgrelid = 'realtime.messages'::regclass and tgname = 'capture_insert' and tgenabled in ('O', 'A')
         ) and (select last_value & 3 from realtime.cdc_ctl) <> 3 as ready`,
      );
      return found?.ready ?? false;
    },

    async state(): Promise<ListenerState> {
      const [found] = await query(z.object({ state }), "select realtime.cdc_status() as state");
      if (found === undefined) throw new Error("realtime.cdc_status has answered nothing");
      return found.state;
    },
  };
}
