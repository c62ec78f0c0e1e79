// The verdict: what a feed delivered against what was committed. Pure.
import type { Change, TrueChange } from "./workload.ts";

/** What is wrong with a feed, each in words that name the change; all empty when it is as it should be. */
export interface Verdict {
  readonly missing: readonly string[];
  readonly invented: readonly string[];
  readonly doubled: readonly string[];
  /** Changes of a row that came before what they changed. */
  readonly rowsOutOfOrder: readonly string[];
  /** Changes that came before one that their writer could see. */
  readonly writersOutOfOrder: readonly string[];
}

export const flawless: Verdict = { missing: [], invented: [], doubled: [], rowsOutOfOrder: [], writersOutOfOrder: [] };

/** Most flaws of a kind that are told. */
const most = 10;

export const nameOf = ({ op, before, after }: Change): string => `${op} ${before ?? ""}>${after ?? ""}`;

/** Judges what came of one table, in the order in which it came. */
export function judge(delivered: readonly Change[], truth: readonly TrueChange[]): Verdict {
  const committed = new Map(truth.map((change) => [nameOf(change), change]));
  const names = delivered.map(nameOf);
  const seen = new Set<string>();
  const doubled = names.filter((name) => seen.size === seen.add(name).size);
  return {
    missing: [...committed.keys()].filter((name) => !seen.has(name)).slice(0, most),
    invented: [...seen].filter((name) => !committed.has(name)).slice(0, most),
    doubled: doubled.slice(0, most),
    rowsOutOfOrder: rowsOutOfOrder(delivered).slice(0, most),
    writersOutOfOrder: writersOutOfOrder(names.flatMap((name) => committed.get(name) ?? [])).slice(0, most),
  };
}

/** The stamps of the rows that a table holds after these changes. */
export function replay(delivered: readonly Change[]): Set<number> {
  const alive = new Set<number>();
  for (const { before, after } of delivered) {
    if (before !== null) alive.delete(before);
    if (after !== null) alive.add(after);
  }
  return alive;
}

/** A row's change names the stamp that the change before it gave: what is not there yet, or no more, is out of order. */
function rowsOutOfOrder(delivered: readonly Change[]): string[] {
  const alive = new Set<number>();
  return delivered
    .filter(({ before, after }) => {
      if (after !== null) alive.add(after);
      return before !== null && !alive.delete(before);
    })
    .map(nameOf);
}

/**
 * A change must come after all changes of every transaction that was over when it was made. Goes from the end to the
 * beginning, with the transactions of what comes later at hand, the lowest number last.
 */
function writersOutOfOrder(delivered: readonly TrueChange[]): string[] {
  const flaws: string[] = [];
  const later: number[] = [];
  for (const change of delivered.toReversed()) {
    const { xid, seen } = change;
    for (let at = later.length - 1; at >= 0; at--) {
      const other = later[at] ?? seen.xmax;
      if (other >= seen.xmax) break;
      if (other !== xid && !seen.inProgress.has(other)) {
        flaws.push(`${nameOf(change)} of ${xid} came before changes of ${other}, which it could see`);
        break;
      }
    }
    insert(later, xid);
  }
  return flaws;
}

/** Inserts into a list in falling order, unless it is there. */
function insert(list: number[], value: number): void {
  let at = list.length;
  while (at > 0 && (list[at - 1] ?? value) < value) at--;
  if (list[at - 1] !== value) list.splice(at, 0, value);
}

/** The stretch of a feed that a subscriber saw, or what is wrong with it: within a stretch nothing may be missing. */
export function stretchOf(feed: readonly Change[], seen: readonly Change[]): { from: number; to: number } | string {
  const names = new Map(feed.map((change, at) => [nameOf(change), at]));
  const [first] = seen;
  const from = first === undefined ? undefined : names.get(nameOf(first));
  if (from === undefined) return `the first change seen, ${first && nameOf(first)}, is not of the feed`;
  const wrong = seen.findIndex((change, at) => names.get(nameOf(change)) !== from + at);
  if (wrong >= 0) {
    const due = feed[from + wrong];
    return `after ${wrong} changes, ${seen[wrong] && nameOf(seen[wrong])} came instead of ${due && nameOf(due)}`;
  }
  return { from, to: from + seen.length };
}
