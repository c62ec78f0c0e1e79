// Regular expressions of PostgreSQL, run by an engine whose time grows with the text alone, whatever the pattern.
import { RE2JS } from "re2js";
import { MAX_PATTERN_LENGTH, type Pattern } from "./patterns.ts";

/** Largest program that a pattern may become, instructions. */
const MAX_PROGRAM = 1_000;

/** A pattern that PostgreSQL may know and this engine does not. */
export class UnsupportedPattern extends Error {
  override readonly name: string = "UnsupportedPattern";
}

/** A pattern that would become too large to match with. */
export class PatternTooLarge extends UnsupportedPattern {
  override readonly name = "PatternTooLarge";
}

/**
 * Compiles a pattern of which PostgreSQL has said that it is one. Throws UnsupportedPattern for back references,
 * lookaround, embedded options and other rare syntax. Letters, digits in words and spaces are what Unicode says,
 * whatever the collation of the column.
 */
export function compileRegex(pattern: string, ignoreCase: boolean): Pattern {
  const flags = RE2JS.DOTALL | (ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(translate(pattern), flags);
  } catch (error) {
    if (error instanceof UnsupportedPattern) throw error;
    throw new UnsupportedPattern("the pattern cannot be matched here", { cause: error });
  }
  const weight = compiled.programSize();
  if (weight > MAX_PROGRAM) throw new PatternTooLarge("the pattern repeats too much");
  // Not `test`: it is quicker by a table of states that a hostile text fills with 8 MB a pattern.
  return { weight, matches: (text) => compiled.matcher(text).find() };
}

const LETTERS = "\\p{L}\\p{M}";
const WORD = `${LETTERS}\\p{N}_`;
const SPACE = "\\t-\\r\\p{Z}";

/** Bracket expressions that mean the same to both, or are said in the engine's terms. */
const CLASSES = new Map([
  ...["digit", "punct", "cntrl", "print", "graph", "blank", "xdigit"].map((name) => [name, `[:${name}:]`] as const),
  ["alpha", LETTERS],
  ["alnum", `${LETTERS}\\p{N}`],
  ["word", WORD],
  ["upper", "\\p{Lu}"],
  ["lower", "\\p{Ll}"],
  ["space", SPACE],
]);

/** Escapes outside brackets. `\b` and `\B` are absent: here they mean backspace and backslash, there word boundaries. */
const ESCAPES = new Map([
  ...[..."tnrfva"].map((letter) => [letter, `\\${letter}`] as const),
  ["e", "\\x1b"],
  ["d", "[0-9]"],
  ["D", "[^0-9]"],
  ["w", `[${WORD}]`],
  ["W", `[^${WORD}]`],
  ["s", `[${SPACE}]`],
  ["S", `[^${SPACE}]`],
  ["A", "\\A"],
  ["Z", "\\z"],
]);
const ESCAPES_IN_BRACKETS = new Map([
  ...[..."tnrfva"].map((letter) => [letter, `\\${letter}`] as const),
  ["e", "\\x1b"],
  ["d", "0-9"],
  ["w", WORD],
  ["s", SPACE],
]);

const TOKENS = [
  // Alternatives, groups, anchors, any character.
  [/\(\?:|\((?![?*])|[)|^$.]/y, (text: string) => text],
  // Repetitions, the reluctant ones too: which text is found does not matter, only whether one is.
  [/(?:[*+?]|\{\d+(?:,\d*)?\})\??/y, (text: string) => text],
  [/\\([\s\S])/y, (_: string, letter = "") => escaped(letter, ESCAPES)],
  [/\[(\^?)(\]?(?:\[[:.=][^\]]*\]|\\[\s\S]|[^\]\\])*)\]/y, (_: string, not = "", body = "") => bracket(not, body)],
  [/[^()[\]{}\\*+?|^$.]/uy, (text: string) => text],
  // A brace that opens no repetition, and brackets that close nothing, stand for themselves.
  [/\{(?!\d)|[\]}]/y, (text: string) => `\\${text}`],
] as const;

function translate(pattern: string): string {
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new UnsupportedPattern(`a pattern holds at most ${MAX_PATTERN_LENGTH} characters`);
  }
  if (pattern.startsWith("***")) throw unsupported("***");
  let [translated, at] = ["", 0];
  while (at < pattern.length) {
    const found = tokenAt(pattern, at);
    if (found === undefined) throw unsupported(pattern.slice(at, at + 3));
    translated += found.text;
    at = found.end;
  }
  return translated;
}

function tokenAt(pattern: string, at: number): { text: string; end: number } | undefined {
  for (const [token, translated] of TOKENS) {
    token.lastIndex = at;
    const match = token.exec(pattern);
    if (match !== null) return { text: translated(match[0], match[1], match[2]), end: token.lastIndex };
  }
  return undefined;
}

function escaped(letter: string, known: ReadonlyMap<string, string>): string {
  const translated = known.get(letter);
  if (translated !== undefined) return translated;
  if (/[A-Za-z0-9]/.test(letter)) throw unsupported(`\\${letter}`);
  return literal(letter);
}

/** A bracket expression. The engine reads a first `]` as the end and `[` as a class, so both are escaped. */
function bracket(not: string, body: string): string {
  const inside = body.replace(
    /\[([:.=])([^\]]*?)\1\]|\\([\s\S])|([[\]^&~|])/g,
    (text: string, kind?: string, name = "", letter?: string, special?: string) => {
      if (special !== undefined) return `\\${special}`;
      if (letter !== undefined) return escaped(letter, ESCAPES_IN_BRACKETS);
      const translated = kind === ":" ? CLASSES.get(name) : undefined;
      if (translated === undefined) throw unsupported(text);
      return translated;
    },
  );
  return `[${not}${inside}]`;
}

function literal(character: string): string {
  return /[\w\s]/.test(character) || character > "\x7f" ? character : `\\${character}`;
}

function unsupported(syntax: string): UnsupportedPattern {
  return new UnsupportedPattern(`patterns with "${syntax}" are not supported`);
}
