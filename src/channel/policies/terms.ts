// Terms of policies: what an expression is worth for a row and a viewer, exactly as PostgreSQL has it, or not at all.
import { isObject } from "../../protocol/json.ts";
import type { Viewer } from "../../protocol/link.ts";

/** `other`: a column that can only be asked whether it is null. `claims`: the claims as text, before they are cast. */
export type Type = "bool" | "int" | "text" | "uuid" | "json" | "claims" | "other";
export type Row = Readonly<Record<string, unknown>>;
/** Null is SQL's, of any type. */
export type Value = unknown;

/** Only PostgreSQL can say: a value, or a spelling of one, that is not dealt with here. */
export class Beyond extends Error {
  override readonly name = "Beyond";
}

export interface Term {
  readonly type: Type;
  /** Whether its value depends on the row, or on the viewer. */
  readonly reads: { readonly row: boolean; readonly viewer: boolean };
  /** Throws Beyond. */
  value(row: Row, viewer: Viewer): Value;
  /** What it is made of. */
  readonly parts: readonly Term[];
  /** What a conjunction or disjunction is of. */
  readonly all?: readonly Term[];
  readonly any?: readonly Term[];
  /** The two sides of an equality. */
  readonly equal?: readonly [Term, Term];
}

const CANONICAL_UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;

export function constant(type: Type, value: Value): Term {
  return { type, reads: { row: false, viewer: false }, parts: [], value: () => value };
}

export function column(type: Type, name: string): Term {
  return {
    type,
    reads: { row: true, viewer: false },
    parts: [],
    value(row) {
      const value = Object.hasOwn(row, name) ? row[name] : undefined;
      if (value === undefined || (type === "int" && value !== null && !Number.isSafeInteger(value))) throw new Beyond();
      return value;
    },
  };
}

/** What a viewer's claims are worth. */
export function ofViewer(type: Type, value: (viewer: Viewer) => Value): Term {
  return { type, reads: { row: false, viewer: true }, parts: [], value: (_row, viewer) => value(viewer) };
}

/** A term whose value is that of another, changed where it is not null. */
export function mapped(type: Type, term: Term, change: (value: Value) => Value): Term {
  return combined(type, [term], (row, viewer) => {
    const value = term.value(row, viewer);
    return value === null ? null : change(value);
  });
}

/** A term made of others, nulls and all. */
export function combined(type: Type, terms: readonly Term[], value: (row: Row, viewer: Viewer) => Value): Term {
  const row = terms.some(({ reads }) => reads.row);
  const viewer = terms.some(({ reads }) => reads.viewer);
  return { type, reads: { row, viewer }, parts: terms, value };
}

/** The text of a JSON value, as `->>` has it. */
export function textOfJson(value: Value): Value {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return String(value);
  if (Number.isSafeInteger(value)) return String(value);
  throw new Beyond();
}

export function memberOfJson(value: Value, key: string): Value {
  if (!isObject(value)) return null;
  return Object.hasOwn(value, key) ? value[key] : null;
}

/** Casts a viewer's text; a row's is not cast, for one that PostgreSQL refuses would have to fail the viewer. */
export function uuidOfText(value: Value): Value {
  if (typeof value !== "string" || !CANONICAL_UUID.test(value)) throw new Beyond();
  return value.toLowerCase();
}

export function intOfText(value: Value, most: number): Value {
  if (typeof value !== "string" || !/^-?\d{1,15}$/.test(value) || Math.abs(Number(value)) > most) throw new Beyond();
  // Minus zero is zero.
  return Number(value) + 0;
}

export function boolOfText(value: Value): Value {
  if (value === "true") return true;
  if (value === "false") return false;
  throw new Beyond();
}

/** AND of SQL: false decides, then null. */
export function and(terms: readonly Term[]): Term {
  const [only] = terms;
  if (only !== undefined && terms.length === 1) return only;
  const value = (row: Row, viewer: Viewer): Value => {
    let result: Value = true;
    for (const term of terms) {
      const one = term.value(row, viewer);
      if (one === false) return false;
      if (one === null) result = null;
    }
    return result;
  };
  return { ...combined("bool", terms, value), all: terms };
}

/** OR of SQL: true decides, then null. */
export function or(terms: readonly Term[]): Term {
  const value = (row: Row, viewer: Viewer): Value => {
    let result: Value = false;
    for (const term of terms) {
      const one = term.value(row, viewer);
      if (one === true) return true;
      if (one === null) result = null;
    }
    return result;
  };
  return { ...combined("bool", terms, value), any: terms };
}

const comparisons: Record<string, (a: number, b: number) => boolean> = {
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
};

/** A comparison of two terms of one type; undefined where only PostgreSQL can compare: the order of texts is a collation's. */
export function compare(operator: string, a: Term, b: Term): Term | undefined {
  if (a.type !== b.type || !["bool", "int", "text", "uuid"].includes(a.type)) return undefined;
  const strictly = (test: (a: Value, b: Value) => boolean): Term =>
    combined("bool", [a, b], (row, viewer) => {
      const [left, right] = [a.value(row, viewer), b.value(row, viewer)];
      return left === null || right === null ? null : test(left, right);
    });
  if (operator === "=") return { ...strictly((left, right) => left === right), equal: [a, b] };
  if (operator === "<>") return strictly((left, right) => left !== right);
  const order = comparisons[operator];
  return order && a.type === "int" ? strictly((left, right) => order(Number(left), Number(right))) : undefined;
}

/** `a = ANY (list)`, or `a <> ALL (list)`. */
export function isAmong(a: Term, list: readonly Term[], negated: boolean): Term | undefined {
  const comparisons = list.map((item) => compare(negated ? "<>" : "=", a, item)).filter((term) => term !== undefined);
  if (comparisons.length < list.length || list.length === 0) return undefined;
  return negated ? and(comparisons) : or(comparisons);
}
