// Viewers: principals of feeds, apart from what changes with every token.
import type { Claims } from "./claims.ts";
import { isObject, type JsonText } from "./json.ts";
import type { Viewer } from "./link.ts";

/** Claims of a token and not of who bears it: with them everybody would be judged anew after every refresh. */
export const VOLATILE: ReadonlySet<string> = new Set(["exp", "iat", "nbf", "jti"]);

/** Which rows viewers may see, as the policies of a table decide now. */
export interface PolicyQuestion {
  readonly schema: string;
  readonly table: string;
  /** The columns that images hold; null: all that the table has. */
  readonly columns: readonly string[] | null;
  /** Rows as JSON objects, at most some thousands. */
  readonly images: readonly JsonText[];
  readonly viewers: readonly Viewer[];
}

/** The viewer that these claims make, by the key that `digest` gives their text. */
export async function viewerOf(
  { role, all }: Pick<Claims, "role" | "all">,
  digest: (text: string) => Promise<string>,
): Promise<Viewer> {
  const claims = Object.fromEntries(Object.entries(all).filter(([name]) => !VOLATILE.has(name)));
  return { key: await digest(JSON.stringify([role, sorted(claims)])), role, claims };
}

/** A value with the members of all its objects in one order: equal values have equal texts. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isObject(value)) return value;
  const names = Object.keys(value).sort();
  return Object.fromEntries(names.map((name) => [name, sorted(value[name])]));
}
