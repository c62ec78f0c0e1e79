// Filters of row-change subscriptions: `column=eq.value` (protocol.md §8.5).
import { isObject } from "../protocol/json.ts";

/** A filter that every delivered row must pass. */
export interface Filter {
  readonly column: string;
  readonly value: string;
}

/** A row as filters see it: what PostgreSQL wrote as a number keeps its text, so that no digit is lost. */
export type Row = Readonly<Record<string, unknown>>;

/** A filter that cannot be used; the message is that of protocol.md §8.4. */
export class BadFilter extends Error {
  override readonly name = "BadFilter";
}

/** Parses a filter; undefined for a blank one. Throws BadFilter for anything but one `eq`. */
export function parseFilter(text: string): Filter | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return undefined;
  const equals = trimmed.indexOf("=");
  const dot = trimmed.indexOf(".", equals);
  if (equals <= 0 || dot < 0) throw badParams([trimmed]);
  const operator = trimmed.slice(equals + 1, dot);
  const value = unquote(trimmed.slice(dot + 1));
  if (operator !== "eq") throw badParams([operator, value]);
  return { column: trimmed.slice(0, equals).trim(), value };
}

function badParams(parts: string[]): BadFilter {
  return new BadFilter(`Error parsing \`filter\` params: [${parts.map((part) => JSON.stringify(part)).join(", ")}]`);
}

/** A value that is entirely one double-quoted string is unquoted; any other is meant literally. */
function unquote(value: string): string {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/s.exec(value);
  return quoted?.[1] === undefined ? value : quoted[1].replace(/\\(.)/gs, "$1");
}

/** Whether a row passes. A column that is null or not in the row passes nothing: filters fail closed. */
export function matches(filter: Filter, row: Row): boolean {
  const value = row[filter.column];
  if (value === null || value === undefined) return false;
  if (typeof value === "boolean") return booleanOf(filter.value) === value;
  if (value instanceof Numeral) return value.text === filter.value || sameNumber(value.text, filter.value);
  return value === filter.value;
}

/** A number of a row. Text that looks like a number is none: a code `016` is not 16. */
class Numeral {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

function booleanOf(text: string): boolean | undefined {
  const lower = text.toLowerCase();
  if (["true", "t", "yes", "on", "1"].includes(lower)) return true;
  return ["false", "f", "no", "off", "0"].includes(lower) ? false : undefined;
}

/** `1.0` is `1`, where both are numbers that a double holds exactly. */
function sameNumber(a: string, b: string): boolean {
  const [x, y] = [Number(a), Number(b)];
  return a.trim() !== "" && b.trim() !== "" && x === y && Math.abs(x) <= Number.MAX_SAFE_INTEGER;
}

/** Reads the row that filters judge out of a change's data: the new row, or the old one of a DELETE. */
export function rowOf(data: string): Row {
  const change: unknown = JSON.parse(data, keepDigits);
  const row = isObject(change) ? (change.record ?? change.old_record) : undefined;
  return isObject(row) ? row : {};
}

function keepDigits(this: unknown, _key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? new Numeral(context?.source ?? String(value)) : value;
}
