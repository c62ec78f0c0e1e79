// The listener as the database knows it.
import * as z from "zod";
import type { Query } from "./database.ts";

export type ListenerStore = ReturnType<typeof listenerStore>;

/** The part of the store that tells of the listener. Throws what `Query` throws. */
export function listenerStore(query: Query) {
  return {
    /** Whether a listener reads the outbox now. */
    async isReady(): Promise<boolean> {
      const [row] = await query(
        z.object({ ready: z.boolean() }),
        "select exists (select from realtime.cdc_consumers where lease_until > clock_timestamp()) as ready",
      );
      return row?.ready ?? false;
    },
  };
}
