// What a name that nobody knows was meant to be.

/** Edits past which two names have nothing to do with each other. */
const MOST_EDITS = 3;

/** The name that takes the fewest edits, if it takes few. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((other) => ({ other, edits: editsBetween(name, other) }))
    .filter(({ edits }) => edits <= MOST_EDITS)
    .sort((a, b) => a.edits - b.edits);
  return best?.other;
}

/** How many characters are to be put in, left out or replaced to make one text of the other (Levenshtein). */
function editsBetween(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at);
  for (const [line, letter] of [...one].entries()) {
    const next = [line + 1];
    for (const [at, counterpart] of [...other].entries()) {
      const replaced = (row[at] ?? 0) + (letter === counterpart ? 0 : 1);
      next.push(Math.min(replaced, (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
