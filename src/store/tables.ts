// Tables of the database: which are captured, and one to begin with.
import * as z from "zod";
import type { Query } from "./database.ts";

export type TableStore = ReturnType<typeof tableStore>;

export function tableStore(query: Query) {
  return {
    /** Whether changes of a table are captured; `*` stands for any schema or any table of it. */
    async isCaptured(schema: string, table: string): Promise<boolean> {
      const [found] = await query(
        z.object({ captured: z.boolean() }),
        `select exists (
           select from realtime.cdc_tables
           where dropped_at is null and ($1 = '*' or schema_name = $1) and ($2 = '*' or table_name = $2)
         ) as captured`,
        [schema, table],
      );
      return found?.captured ?? false;
    },

    /** A table that could be captured, to show by example: `public.todos` if it is there. Undefined: none has been made. */
    async example(): Promise<string | undefined> {
      const [found] = await query(
        z.object({ name: z.string() }),
        `select n.nspname || '.' || c.relname as name
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
           and n.nspname not in ('realtime', 'pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
         order by n.nspname || '.' || c.relname = 'public.todos' desc, n.nspname = 'public' desc, name limit 1`,
        [],
      );
      return found?.name;
    },
  };
}
