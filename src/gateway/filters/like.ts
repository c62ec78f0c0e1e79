// LIKE and ILIKE: `%` stands for any text, `_` for one character, `\` takes the next character as it is.

import type { Pattern } from "./patterns.ts";

/** What of a pattern stands between two `%`: characters, null for `_`. */
type Piece = readonly (string | null)[];

/** A pattern that ends in its escape character, which PostgreSQL refuses. */
export function endsInEscape(pattern: string): boolean {
  return /(?:^|[^\\])(?:\\\\)*\\$/s.test(pattern);
}

/**
 * Compiles a pattern. Each piece is looked for from where the one before it ended and never again from further left, so
 * a text costs its length times that of the longest piece at most. `ignoreCase` folds as Unicode does, whatever the
 * collation of the column.
 */
export function compileLike(pattern: string, ignoreCase: boolean): Pattern {
  const prepare = ignoreCase ? foldCase : (text: string): string => text;
  const pieces = piecesOf(prepare(pattern));
  const [first = [], ...others] = pieces;
  const last = others.pop();
  const weight = Math.max(1, ...others.map((piece) => (piece.includes(null) ? piece.length : 1)));
  const matches = (raw: string): boolean => {
    const text = prepare(raw);
    let at = matchAt(text, 0, first);
    if (at === undefined) return false;
    if (last === undefined) return at === text.length;
    for (const piece of others) {
      at = find(text, at, piece);
      if (at === undefined) return false;
    }
    const start = startOfLast(text, last.length);
    return start !== undefined && start >= at && matchAt(text, start, last) === text.length;
  };
  return { weight, matches };
}

function piecesOf(pattern: string): Piece[] {
  const pieces: (string | null)[][] = [[]];
  const characters = [...pattern];
  for (let at = 0; at < characters.length; at++) {
    const character = characters[at] ?? "";
    if (character === "%") pieces.push([]);
    else pieces.at(-1)?.push(character === "_" ? null : character === "\\" ? (characters[++at] ?? "") : character);
  }
  return pieces;
}

/** Where the piece ends that begins at `from`; undefined when it does not. */
function matchAt(text: string, from: number, piece: Piece): number | undefined {
  let at = from;
  for (const character of piece) {
    if (at >= text.length) return undefined;
    if (character === null) at += widthAt(text, at);
    else if (text.startsWith(character, at)) at += character.length;
    else return undefined;
  }
  return at;
}

/** Where the piece ends that begins leftmost at `from` or later. */
function find(text: string, from: number, piece: Piece): number | undefined {
  if (!piece.includes(null)) {
    const literal = piece.join("");
    const at = text.indexOf(literal, from);
    return at < 0 ? undefined : at + literal.length;
  }
  for (let at = from; at <= text.length; at += widthAt(text, at)) {
    const end = matchAt(text, at, piece);
    if (end !== undefined) return end;
  }
  return undefined;
}

/** Where the last `count` characters of the text begin. */
function startOfLast(text: string, count: number): number | undefined {
  let at = text.length;
  for (let left = count; left > 0; left--) {
    if (at === 0) return undefined;
    at -= at > 1 && widthAt(text, at - 2) === 2 ? 2 : 1;
  }
  return at;
}

/** A character beyond the basic plane takes two units. */
function widthAt(text: string, at: number): number {
  return (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
}

/** Lower case, each character by itself: JavaScript's own minds the end of a word (Σ) and makes two of one (İ). */
export function foldCase(text: string): string {
  return text.replace(/[Σİ]/g, (character) => (character === "Σ" ? "σ" : "i")).toLowerCase();
}
