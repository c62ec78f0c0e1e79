// Rows as filters see them: what PostgreSQL wrote as a number keeps its text, so that no digit is lost.
import { type JsonText, members } from "../protocol/json.ts";
import { plainDecimal } from "./filters/decimals.ts";

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

/** A row, of which only those columns are read that somebody filters by. */
export class Row {
  readonly #texts: ReadonlyMap<string, JsonText>;
  readonly #values = new Map<string, unknown>();

  constructor(row: JsonText) {
    this.#texts = new Map(members(row));
  }

  /** The value of a column, its numbers as Numerals; undefined when the row does not have it, or it cannot be read. */
  value(column: string): unknown {
    if (this.#values.has(column)) return this.#values.get(column);
    const text = this.#texts.get(column);
    const value = text === undefined ? undefined : read(text);
    this.#values.set(column, value);
    return value;
  }
}

function read(text: JsonText): unknown {
  if (/^[-\d]/.test(text)) return new Numeral(text);
  if (!/^[[{]/.test(text)) return JSON.parse(text);
  try {
    return parseExact(text);
  } catch (error) {
    // Nested too deeply for the stack, which a row of whoever may write one can be.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** The row that filters judge of a change's data: the new row, or the old one of a DELETE. */
export function rowOf(data: JsonText): Row {
  const parts = new Map(members(data));
  return new Row(parts.get("record") ?? parts.get("old_record") ?? "{}");
}

/** The name of the table that a change's data is of: one of its first members, so no row is read for it. */
export function tableOf(data: JsonText): string {
  for (const [name, value] of members(data)) if (name === "table") return String(JSON.parse(value));
  return "";
}

/** Parses JSON, its numbers as Numerals. Throws RangeError for what is nested too deeply. */
export function parseExact(json: JsonText): unknown {
  return JSON.parse(json, keepDigits);
}

function keepDigits(this: unknown, _key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" ? new Numeral(context?.source ?? String(value)) : value;
}
