// Rows as filters see them: what PostgreSQL wrote as a number keeps its text, so that no digit is lost.
import { isObject, members } from "../protocol/json.ts";
import { plainDecimal } from "./filters/decimals.ts";

export type Row = Readonly<Record<string, unknown>>;

/** A number of a row. Text that looks like a number is none: a code `016` is not 16. */
export class Numeral {
  readonly text: string;
  #plain: string | undefined;

  constructor(text: string) {
    this.text = text;
  }

  /** The one spelling that equal numbers share. */
  get plain(): string {
    this.#plain ??= plainDecimal(this.text);
    return this.#plain;
  }
}

/** The value of a column; undefined when the row does not have it, whatever objects inherit. */
export function rowValue(row: Row, column: string): unknown {
  return Object.hasOwn(row, column) ? row[column] : undefined;
}

/** Reads the row that filters judge out of a change's data: the new row, or the old one of a DELETE. */
export function rowOf(data: string): Row {
  const change = parseExact(data);
  const row = isObject(change) ? (change.record ?? change.old_record) : undefined;
  return isObject(row) ? row : {};
}

/** The name of the table that a change's data is of: one of its first members, so no row is read for it. */
export function tableOf(data: string): string {
  for (const [name, value] of members(data)) if (name === "table") return String(JSON.parse(value));
  return "";
}

/** Parses JSON, its numbers as Numerals. */
export function parseExact(json: string): unknown {
  return JSON.parse(json, keepDigits);
}

function keepDigits(this: unknown, _key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? new Numeral(context?.source ?? String(value)) : value;
}
