// Results: one line a figure, with the goal beside it where cdc.md or design.md sets one.

export interface Line {
  readonly what: string;
  readonly measured: string;
  readonly goal?: string;
  /** Whether the goal is reached; undefined where there is none, or where it cannot be told here. */
  readonly isReached?: boolean;
}

export function render(sections: readonly { readonly title: string; readonly lines: readonly Line[] }[]): string {
  const all = sections.flatMap(({ lines }) => lines);
  const [what, measured] = [widest(all.map((line) => line.what)), widest(all.map((line) => line.measured))];
  return sections
    .map(({ title, lines }) => {
      const rows = lines.map((line) => {
        const verdict = line.isReached === undefined ? "" : line.isReached ? " ✓" : " ✗";
        return `  ${line.what.padEnd(what)}  ${line.measured.padEnd(measured)}  ${line.goal ?? ""}${verdict}`.trimEnd();
      });
      return [title, ...rows].join("\n");
    })
    .join("\n\n");
}

export const round = (value: number, digits = 0): string =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function widest(texts: readonly string[]): number {
  return Math.max(0, ...texts.map(({ length }) => length));
}
