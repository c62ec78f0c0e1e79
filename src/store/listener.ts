// The listener, as the database knows it.
import * as z from "zod";
import type { Query } from "./database.ts";

export type ListenerStore = ReturnType<typeof listenerStore>;

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
  };
}
