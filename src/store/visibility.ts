// Which rows somebody may see, as the policies of a table decide: one question for many rows and many viewers.
import * as z from "zod";
import type { PolicyQuestion } from "../protocol/viewers.ts";
import { type Query, StatementTooSlow } from "./database.ts";

/** See `realtime.visible`. */
const answer = z.object({
  visible: z.record(z.string(), z.array(z.number().int())),
  failed: z.record(z.string(), z.string()),
  left: z.array(z.string()),
});
export type VisibilityAnswer = z.output<typeof answer>;

/** After so long no further viewer is begun with, and so long the last one may take; milliseconds. */
const ENOUGH_MS = 500;
const PATIENCE_MS = 2_000;

/** The part of the store that asks for visibility. Throws what `Query` throws. */
export function visibilityStore(query: Query) {
  return {
    /** `outdated`: policies read more columns. `late`: it took too long. Null: there is no such table any more. */
    async ask(question: PolicyQuestion): Promise<VisibilityAnswer | "outdated" | "late" | null> {
      const { schema, table, columns, images, viewers } = question;
      try {
        const [row] = await query(
          z.object({ found: z.boolean(), answer: answer.nullable() }),
          `select t.found is not null as found,
             realtime.visible(t.found, $3::jsonb, $4::json, $5::text[], make_interval(secs => $6)) as answer
           from (select to_regclass(format('%I.%I', $1::text, $2::text)) as found) t`,
          [schema, table, JSON.stringify(viewers), `[${images.join(",")}]`, columns, ENOUGH_MS / 1_000],
          { statementTimeoutMs: PATIENCE_MS, readOnly: true },
        );
        if (row === undefined || !row.found) return null;
        return row.answer ?? "outdated";
      } catch (error) {
        if (error instanceof StatementTooSlow) return "late";
        throw error;
      }
    },
  };
}
