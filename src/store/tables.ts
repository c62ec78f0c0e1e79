// Captured tables: what the row-change triggers are on.
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
  };
}
