// Table subscriptions: which tables are captured, through the schema's own functions.
import * as z from "zod";
import type { Query } from "./database.ts";

/** A row of `realtime.subscriptions`. */
export interface TableSubscription {
  id: string;
  table_name: string;
  events: string[];
  filter: string | null;
  options: { notify?: boolean | undefined };
  created_at: Date;
  updated_at: Date;
}

/** What a subscription may say beside its target. */
export interface SubscriptionWish {
  events?: string[] | undefined;
  /** A condition on the table's columns, in SQL or as Supabase writes filters. */
  filter?: string | undefined;
  options?: TableSubscription["options"] | undefined;
}

const row = z.object({
  id: z.string(),
  table_name: z.string(),
  events: z.array(z.string()),
  filter: z.string().nullable(),
  options: z.object({ notify: z.boolean().optional() }),
  created_at: z.date(),
  updated_at: z.date(),
});
const COLUMNS = "id, table_name, events, filter, options, created_at, updated_at";

export type SubscriptionStore = ReturnType<typeof subscriptionStore>;

/** The part of the store that holds table subscriptions. Each call throws what `Query` throws. */
export function subscriptionStore(query: Query) {
  return {
    /** Captures a table: `schema.table`, `table` (of public) or `schema.*`. Throws StatementRefused with the reason. */
    async subscribe(
      target: string,
      { events, filter, options }: SubscriptionWish = {},
    ): Promise<TableSubscription | undefined> {
      // Named arguments: the defaults for what is left out stay in one place, the function's own signature.
      const given = ["target => $1"];
      const params: unknown[] = [target];
      if (events !== undefined) given.push(`events => $${params.push(events)}::text[]`);
      if (filter !== undefined) given.push(`filter => $${params.push(filter)}`);
      if (options !== undefined) given.push(`options => $${params.push(JSON.stringify(options))}::jsonb`);
      const [made] = await query(row, `select ${COLUMNS} from realtime.subscribe(${given.join(", ")})`, params);
      return made;
    },

    /** Ends the capture of a table, by its name or the subscription's id. Throws StatementRefused; undefined: none there. */
    async unsubscribe(target: string): Promise<TableSubscription | undefined> {
      const [ended] = await query(
        row,
        // A function that returns no row of its own still gives one, all null.
        `select ${COLUMNS} from realtime.unsubscribe($1) where id is not null`,
        [target],
      );
      return ended;
    },

    /** Ends the subscriptions of tables and schemas that are gone; answers how many. */
    async removeOrphans(): Promise<number> {
      const [answer] = await query(
        z.object({ removed: z.number() }),
        `select count(orphan.ended)::int as removed from (
           select (realtime.unsubscribe(s.id::text)).id as ended from realtime.subscriptions s
           where not exists (
             select from pg_catalog.pg_namespace n left join pg_catalog.pg_class c on c.relnamespace = n.oid
             where s.table_name in (n.nspname || '.*', n.nspname || '.' || c.relname))
         ) orphan`,
      );
      return answer?.removed ?? 0;
    },

    /** All subscriptions, newest first. */
    async list(): Promise<TableSubscription[]> {
      return query(row, `select ${COLUMNS} from realtime.subscriptions order by created_at desc, table_name`);
    },
  };
}
