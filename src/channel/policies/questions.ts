// Questions: which images of rows viewers may see, asked of the policies in PostgreSQL, in parts that are soon answered.
import { type JsonText, mapMembers } from "../../protocol/json.ts";
import type { Viewer } from "../../protocol/link.ts";
import type { PolicyQuestion } from "../../protocol/viewers.ts";
import type { Policies } from "../ports.ts";

/** Images times viewers of one question, and their length together. */
const MAX_JUDGEMENTS = 50_000;
const MAX_LENGTH = 1_000_000;
/** Viewers of one question: their claims travel with it. */
const MAX_VIEWERS = 500;

/** One row to be judged, and the keys of those who may see it. */
export interface Case {
  readonly image: JsonText;
  readonly visible: Set<string>;
}

/** A table of whose policies is asked, and the columns that they read; null: all. */
export type AskedTable = Pick<PolicyQuestion, "schema" | "table" | "columns">;

/**
 * Has the policies say which of the cases these viewers may see, and notes it there. Answers those who could not be judged
 * before it is over, or alone were too slow: they see nothing. Rejects when PostgreSQL is away.
 */
export async function askAll(
  policies: Policies,
  table: AskedTable,
  cases: readonly Case[],
  viewers: readonly Viewer[],
  isOver: () => boolean,
): Promise<Viewer[]> {
  const unjudged: Viewer[] = [];
  for (const part of partsOf(table, cases)) {
    const atOnce = Math.max(1, Math.min(MAX_VIEWERS, Math.floor(MAX_JUDGEMENTS / part.length)));
    let waiting = chunks(viewers, atOnce);
    for (let some = waiting.shift(); some !== undefined; some = waiting.shift()) {
      if (isOver()) {
        unjudged.push(...some);
        continue;
      }
      const answer = await policies.ask({ ...table, images: part.map(([image]) => image), viewers: some });
      if (answer === "outdated") return askAll(policies, { ...table, columns: null }, cases, viewers, isOver);
      if (answer === "late") {
        if (some.length === 1) unjudged.push(...some);
        else waiting = [...chunks(some, Math.ceil(some.length / 2)), ...waiting];
        continue;
      }
      for (const [key, positions] of answer.visible) {
        for (const position of positions) for (const one of part[position]?.[1] ?? []) one.visible.add(key);
      }
      const left = new Set(answer.left);
      if (left.size > 0) waiting = [some.filter(({ key }) => left.has(key)), ...waiting];
    }
  }
  return unjudged;
}

type Part = [image: JsonText, cases: Case[]][];

/** The distinct images of all cases, as far as policies read them, in parts that one question can hold. */
function partsOf({ columns }: AskedTable, cases: readonly Case[]): Part[] {
  const read = columns && new Set(columns);
  const distinct = new Map<JsonText, Case[]>();
  for (const one of cases) {
    const image =
      read === null ? one.image : mapMembers(one.image, (name, text) => (read.has(name) ? text : undefined));
    const same = distinct.get(image);
    if (same === undefined) distinct.set(image, [one]);
    else same.push(one);
  }
  const parts: Part[] = [];
  let length = Number.POSITIVE_INFINITY;
  for (const entry of distinct) {
    length += entry[0].length;
    if (length > MAX_LENGTH || (parts.at(-1)?.length ?? 0) >= MAX_JUDGEMENTS) {
      parts.push([]);
      length = entry[0].length;
    }
    parts.at(-1)?.push(entry);
  }
  return parts;
}

function chunks<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, at) => items.slice(at * size, (at + 1) * size));
}
