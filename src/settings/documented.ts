// The settings as people read them: in `npm start -- --help`, and in docs/configuration.md.
import type * as z from "zod";

export interface Documented {
  readonly name: string;
  readonly says: string;
  /** What holds without it; empty: nothing does. */
  readonly otherwise: string;
}

/** Reads names, meanings and defaults off the schemas; one that says nothing of itself is told of by another. */
export function documented(shape: Readonly<Record<string, z.ZodType>>): Documented[] {
  return Object.entries(shape).flatMap(([name, schema]) => {
    const { description, otherwise = schema.safeParse(undefined).data ?? "" } = schema.meta() ?? {};
    return description === undefined ? [] : [{ name, says: description, otherwise: String(otherwise) }];
  });
}
