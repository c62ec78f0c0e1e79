// Pages of long lists: a cursor is what the last row of a page is known by, opaque to whoever passes it on.
import type { Context } from "hono";
import * as z from "zod";
import { parseJson } from "../../protocol/json.ts";
import { Problem } from "./problem.ts";

/** Answer header with the cursor of the next page; absent on the last one. */
export const NEXT_HEADER = "realtime-next-cursor";

/** Rows of a page, unless fewer are asked for. */
export const MAX_PAGE = 10_000;

/** What a row is known by in the order of its list. */
export type Place = readonly (string | number)[];

const places = z.array(z.union([z.string(), z.number()]));

/** The fields with which a query asks for a page; `usual` says how many rows it has when nobody says. */
export function pageFields(most: number, usual = `${most}`) {
  return {
    limit: z
      .string()
      .refine((text) => /^[1-9]\d*$/.test(text) && Number(text) <= most, {
        error: `must be a whole number from 1 to ${most}`,
      })
      .meta({ type: "integer", minimum: 1, maximum: most, description: `Rows of the page; left out: ${usual}.` })
      .optional(),
    cursor: z
      .string()
      .max(2_000)
      .meta({ description: `Where the page begins: what the header ${NEXT_HEADER} of the page before has.` })
      .optional(),
  };
}

/** A query for a page of a list. */
export interface Paging {
  readonly limit?: string | undefined;
  readonly cursor?: string | undefined;
}

/** How long the page is to be that a query asks for. */
export function sizeOf({ limit }: Paging): number {
  return Number(limit ?? MAX_PAGE);
}

/**
 * The page of rows that begin with it: there is a next one if there are more than fit. `placeOf` says what the last row of
 * a page is known by.
 */
export function cut<Row>(c: Context, rows: readonly Row[], size: number, placeOf: (row: Row) => Place): Row[] {
  const page = rows.slice(0, size);
  const last = page.at(-1);
  if (rows.length > size && last !== undefined) tellNext(c, placeOf(last));
  return page;
}

/** The page of a list that is at hand as a whole, by ascending places. */
export function pageOf<Row>(c: Context, rows: readonly Row[], paging: Paging, placeOf: (row: Row) => Place): Row[] {
  const start = paging.cursor === undefined ? undefined : cursorIn(paging.cursor, places);
  const sorted = rows.map((row) => ({ row, place: placeOf(row) })).sort((a, b) => compare(a.place, b.place));
  const left = start === undefined ? sorted : sorted.filter(({ place }) => compare(place, start) > 0);
  return cut(c, left, sizeOf(paging), ({ place }) => place).map(({ row }) => row);
}

/** Tells where the next page begins: after this place. */
export function tellNext(c: Context, place: Place): void {
  c.header(NEXT_HEADER, encodeURIComponent(JSON.stringify(place)));
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

function compare(a: Place, b: Place): number {
  for (const [at, one] of a.entries()) {
    const other = b[at];
    if (other === undefined || one > other) return 1;
    if (one < other) return -1;
  }
  return 0;
}
