// Pages of long lists: a cursor is what the last row of a page is known by, opaque to whoever passes it on.
import * as z from "zod";
import { parseJson } from "../../protocol/json.ts";
import { Problem } from "./problem.ts";

/** Answer header with the cursor of the next page; absent on the last one. */
export const NEXT_HEADER = "realtime-next-cursor";

/** A page's size as a query has it. */
export function pageLimit(most: number) {
  return z.string().refine((text) => /^[1-9]\d*$/.test(text) && Number(text) <= most, {
    error: `must be a whole number from 1 to ${most}`,
  });
}

export function cursorOf(values: readonly string[]): string {
  return encodeURIComponent(JSON.stringify(values));
}

/** Reads a cursor. Throws `invalid_request` when it is none of ours. */
export function cursorIn<Schema extends z.ZodType>(cursor: string, schema: Schema): z.output<Schema> {
  const result = schema.safeParse(parseJson(decoded(cursor)));
  if (result.success) return result.data;
  throw new Problem("invalid_request", `cursor: take it from the header ${NEXT_HEADER} of the page before`);
}

/** A client may have undone the encoding already. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
