// The grammar of filters: `column=[not.]operator.value`, terms joined by commas (protocol.md §8.5).

const OPERATORS = {
  eq: true,
  neq: true,
  lt: true,
  lte: true,
  gt: true,
  gte: true,
  in: true,
  like: true,
  ilike: true,
  is: true,
  match: true,
  imatch: true,
  isdistinct: true,
} as const;

/** Terms of one filter: a change is judged by each of them. */
const MAX_TERMS = 10;

export type Operator = keyof typeof OPERATORS;

/** One term of a filter. The value of `in` is the text of a PostgreSQL array, braces included. */
export interface Term {
  readonly column: string;
  readonly operator: Operator;
  readonly value: string;
  readonly negated: boolean;
}

/** A filter that cannot be read; the message is that of protocol.md §8.4. */
export class BadFilter extends Error {
  override readonly name = "BadFilter";
  constructor(reason: string) {
    super(`Error parsing \`filter\` params: ${reason}`);
  }
}

/** Parses a filter into its terms, all of which a row must pass; none for a blank one. Throws BadFilter. */
export function parseFilter(text: string): Term[] {
  const trimmed = text.trim();
  if (trimmed === "") return [];
  const segments = segmentsOf(trimmed);
  if (segments.length > MAX_TERMS) throw new BadFilter(`a filter holds at most ${MAX_TERMS} terms`);
  return segments.map((segment) => parseTerm(segment.trim()));
}

/** Splits at the commas outside parentheses and quotes. A quote opens directly after `.`, `(` or `,` only. */
function segmentsOf(text: string): string[] {
  const segments: string[] = [];
  let [start, depth, quoted] = [0, 0, false];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (quoted) {
      if (char === "\\") at++;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = /[.(,]/.test(text[at - 1] ?? "");
    else if (char === "(") depth++;
    else if (char === ")") depth = Math.max(0, depth - 1);
    else if (char === "," && depth === 0) {
      segments.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return [...segments, text.slice(start)];
}

function parseTerm(segment: string): Term {
  if (segment === "") throw new BadFilter("filter must not contain empty segments (check for extra commas)");
  const equals = segment.indexOf("=");
  if (equals < 0) throw badParts(segment);
  const column = segment.slice(0, equals);
  const rest = segment.slice(equals + 1);
  const negated = rest.startsWith("not.");
  const [operator = "", ...dotted] = (negated ? rest.slice("not.".length) : rest).split(".");
  if (dotted.length === 0) throw badParts(operator);
  const value = dotted.join(".");
  if (!isOperator(operator)) throw badParts(operator, value);
  return { column, operator, value: operator === "in" ? arrayOf(value) : unquote(value), negated };
}

function badParts(...parts: string[]): BadFilter {
  return new BadFilter(`[${parts.map((part) => JSON.stringify(part)).join(", ")}]`);
}

function isOperator(text: string): text is Operator {
  return Object.hasOwn(OPERATORS, text);
}

function arrayOf(value: string): string {
  if (value.startsWith("(") && value.endsWith(")") && value.length > 1) return `{${value.slice(1, -1)}}`;
  throw new BadFilter("`in` filter value must be wrapped by parentheses");
}

/** A value that is entirely one double-quoted string is unquoted; any other is meant literally. */
function unquote(value: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/s.exec(value);
  return quoted?.[1] === undefined ? value : quoted[1].replace(/\\(.)/gs, "$1");
}
