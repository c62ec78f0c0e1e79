// Conditions: the terms of a filter as they are kept, judged by the table once, at subscription, and cheap to test.
import type { Column, Table } from "../../protocol/tables.ts";
import type { Postgres } from "../ports.ts";
import { parseExact } from "../row.ts";
import { parseArray } from "./array-literals.ts";
import { type Kind, kindOf, type ValueType } from "./kinds.ts";
import { endsInEscape } from "./like.ts";
import type { Operator, Term } from "./parse.ts";
import { MAX_PATTERN_LENGTH } from "./patterns.ts";
import { compileRegex, UnsupportedPattern } from "./regex.ts";

/** One term, ready to be tested: plain data, since it is kept for the gateway's next life. */
export interface Condition extends ValueType {
  readonly column: string;
  readonly operator: Operator;
  readonly negated: boolean;
  /** Keys of what is compared with, null for NULL; of a pattern its text, of `is` its keyword. */
  readonly operands: readonly (string | null)[];
}

/** A term that the table does not allow. The message is the exception of protocol.md §8.4, from its SQLSTATE on. */
export class FilterRefused extends Error {
  override readonly name = "FilterRefused";
  constructor(reason: string, sqlstate = "P0001") {
    super(`ERROR ${sqlstate} (${CONDITION_NAMES.get(sqlstate) ?? "data_exception"}) ${reason}`);
  }
}

/** What PostgreSQL calls the errors that a value or a pattern can meet. */
const CONDITION_NAMES = new Map([
  ["P0001", "raise_exception"],
  ["0A000", "feature_not_supported"],
  ["22003", "numeric_value_out_of_range"],
  ["22007", "invalid_datetime_format"],
  ["22008", "datetime_field_overflow"],
  ["2201B", "invalid_regular_expression"],
  ["22025", "invalid_escape_sequence"],
  ["22P02", "invalid_text_representation"],
  ["22P03", "invalid_binary_representation"],
  ["54000", "program_limit_exceeded"],
  ["54001", "statement_too_complex"],
]);

const MAX_ELEMENTS = 100;
/** Longest value that is compared with, as PostgreSQL writes it: `1e100000` is short only as long as nobody reads it. */
const MAX_KEY_LENGTH = 10_000;
const KEYWORDS = ["null", "true", "false", "unknown"];

/** The column of a name, if the role may read it. Throws FilterRefused. */
export function readableColumn({ columns }: Table, role: string, name: string, use: "filter" | "select"): Column {
  const column = columns.find((candidate) => candidate.name === name);
  if (column?.readers.includes(role)) return column;
  throw new FilterRefused(`invalid column for ${use} ${name}`);
}

/**
 * Reads a term's value as the column's type reads it: what only PostgreSQL can read it is asked for, once. Throws
 * FilterRefused; rejects with whatever else when PostgreSQL is needed and away.
 */
export async function resolveTerm(term: Term, table: Table, role: string, postgres: Postgres): Promise<Condition> {
  const column = readableColumn(table, role, term.column, "filter");
  const operands = await operandsOf(term, column, postgres);
  const { operator, negated } = term;
  // Only an order needs the labels once the value has been read.
  const labels = ["lt", "lte", "gt", "gte"].includes(operator) ? { labels: column.labels } : {};
  return { column: column.name, type: column.type, ...labels, operator, negated, operands };
}

async function operandsOf(
  { operator, value }: Term,
  column: Column,
  postgres: Postgres,
): Promise<Condition["operands"]> {
  switch (operator) {
    case "is":
      return [keywordOf(value, column)];
    case "like":
    case "ilike":
      return [patternOf(operator, value, column)];
    case "match":
    case "imatch":
      return [await regexOf(operator, value, column, postgres)];
    case "in":
      return elementsOf(value, column, postgres);
    default:
      return keysOf([value], comparable(operator, column), column, postgres);
  }
}

function keywordOf(value: string, { type, sqlType }: Column): string {
  if (!KEYWORDS.includes(value)) {
    throw new FilterRefused("invalid value for is filter: must be null, true, false, or unknown");
  }
  if (value !== "null" && type !== "bool") {
    throw new FilterRefused(`is ${value} filter requires a boolean column, got ${sqlType}`);
  }
  return value;
}

function patternOf(operator: Operator, pattern: string, column: Column): string {
  if (kindOf(column)?.isText !== true) {
    throw new FilterRefused(`operator ${operator} requires a text-compatible column type, got ${column.sqlType}`);
  }
  if (pattern.length > MAX_PATTERN_LENGTH) {
    throw new FilterRefused(`a pattern holds at most ${MAX_PATTERN_LENGTH} characters`, "54000");
  }
  if (operator.endsWith("like") && endsInEscape(pattern)) {
    throw new FilterRefused("LIKE pattern must not end with escape character", "22025");
  }
  return pattern;
}

async function regexOf(operator: Operator, value: string, column: Column, postgres: Postgres): Promise<string> {
  const pattern = patternOf(operator, value, column);
  const fault = await postgres.patternFault(pattern);
  if (fault !== undefined) throw new FilterRefused(`invalid regular expression for ${operator} filter: ${fault}`);
  try {
    compileRegex(pattern, operator === "imatch");
  } catch (error) {
    if (error instanceof UnsupportedPattern) throw new FilterRefused(`${operator} filter: ${error.message}`, "0A000");
    throw error;
  }
  return pattern;
}

async function elementsOf(literal: string, column: Column, postgres: Postgres): Promise<Condition["operands"]> {
  const kind = comparable("in", column);
  const elements = parseArray(literal);
  if (elements === undefined) throw new FilterRefused(`malformed array literal: "${literal}"`, "22P02");
  if (elements.length > MAX_ELEMENTS) {
    throw new FilterRefused(`too many values for \`in\` filter. Maximum ${MAX_ELEMENTS}`);
  }
  const values = elements.filter((element) => element !== null);
  const keys = await keysOf(values, kind, column, postgres);
  return values.length === elements.length ? keys : [...keys, null];
}

/** How the column's values compare, if the operator can be had for them. Throws FilterRefused: never a guess. */
function comparable(operator: Operator, column: Column): Kind {
  const kind = kindOf(column);
  const isOrder = ["lt", "lte", "gt", "gte"].includes(operator);
  const isList = operator === "in" && column.type.startsWith("_");
  if (kind !== undefined && !isList && (!isOrder || kind.compare !== undefined)) return kind;
  const reason = `operator ${operator} is not supported on columns of type ${column.sqlType}`;
  throw new FilterRefused(reason, "0A000");
}

async function keysOf(
  literals: readonly string[],
  kind: Kind,
  column: Column,
  postgres: Postgres,
): Promise<readonly string[]> {
  const read = literals.map((literal) => kind.read?.(literal));
  const unread = literals.filter((_, index) => read[index] === undefined);
  const asked = unread.length === 0 ? [] : await askFor(unread, column, postgres);
  return read.map((value) => {
    const key = kind.key(value === undefined ? asked.shift() : value);
    if (key !== undefined && key.length <= MAX_KEY_LENGTH) return key;
    throw new FilterRefused(`a value given cannot be compared with columns of type ${column.sqlType}`, "0A000");
  });
}

/** Has PostgreSQL read literals. Those of enums are among their labels or wrong: the type is a user's, and not asked. */
async function askFor(literals: readonly string[], { type, sqlType, labels = [] }: Column, postgres: Postgres) {
  const [wrong = ""] = literals;
  if (type === "enum") throw new FilterRefused(`invalid input value for enum ${sqlType}: "${wrong}"`, "22P02");
  const answer = await postgres.literals(type === "_enum" ? "_text" : type, literals);
  if ("fault" in answer) throw new FilterRefused(answer.fault, answer.sqlstate);
  const values = answer.json.map(readJson);
  if (type === "_enum") {
    const stray = [values]
      .flat(Number.POSITIVE_INFINITY)
      .find((label) => label !== null && !labels.includes(String(label)));
    if (stray !== undefined) {
      throw new FilterRefused(`invalid input value for enum ${sqlType.replace(/\[\]$/, "")}: "${stray}"`, "22P02");
    }
  }
  return values;
}

function readJson(json: string): unknown {
  try {
    return parseExact(json);
  } catch (error) {
    if (error instanceof RangeError) throw new FilterRefused("a value given is nested too deeply", "54001");
    throw error;
  }
}
