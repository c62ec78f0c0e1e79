// Kinds of values: what equality and order mean for the types of PostgreSQL, judged on rows as its JSON writes them.
import { utf8Length } from "../../protocol/json.ts";
import { Numeral } from "../row.ts";
import { compareDecimals } from "./decimals.ts";
import { byCodePoints, byDouble, byUnits, sortableTime, spanOf } from "./orders.ts";

export interface Kind {
  /** One spelling for all equal values. Undefined for what is no value of the type: it compares with nothing. */
  key(value: unknown): string | undefined;
  /** The order of keys; absent where PostgreSQL has none, or none that is had here. NaN: not comparable. */
  compare?(a: string, b: string): number;
  /** A literal as the value that a row would hold; undefined where only PostgreSQL can read it, or say what is wrong. */
  read?(literal: string): unknown;
  /** Patterns apply. */
  readonly isText?: true;
}

/** The type of a column as a condition keeps it: `labels` is there where an order of them is needed. */
export interface ValueType {
  readonly type: string;
  readonly labels?: readonly string[] | undefined;
}

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
const spelled =
  (spell: (text: string) => string | undefined) =>
  (value: unknown): string | undefined =>
    typeof value === "string" ? spell(value) : undefined;

const INTEGER = /^[ \t\n\r\v\f]*[+-]?\d{1,19}[ \t\n\r\v\f]*$/;
const DECIMAL = /^[ \t\n\r\v\f]*[+-]?(?:\d+\.?\d*|\.\d+)[ \t\n\r\v\f]*$/;
const FLOAT = /^[ \t\n\r\v\f]*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[ \t\n\r\v\f]*$/;
const BLANKS = /^[ \t\n\r\v\f]+|[ \t\n\r\v\f]+$/g;
const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;

const decimalKey = (value: unknown): string | undefined => {
  if (value instanceof Numeral) return value.plain;
  return value === "NaN" || value === "Infinity" || value === "-Infinity" ? value : undefined;
};

function integer(bits: bigint): Kind {
  const limit = 2n ** (bits - 1n);
  const read = (literal: string): Numeral | undefined => {
    if (!INTEGER.test(literal)) return undefined;
    const value = BigInt(literal.trim().replace(/^\+/, ""));
    return value >= -limit && value < limit ? new Numeral(String(value)) : undefined;
  };
  return { key: decimalKey, compare: compareDecimals, read };
}

const numeric: Kind = {
  key: decimalKey,
  compare: compareDecimals,
  read: (literal) => (DECIMAL.test(literal) ? new Numeral(literal.trim()) : undefined),
};

function float(round: (double: number) => number): Kind {
  return {
    // `-0` is `0`, and 1e2 is 100.
    key: (value) => (value instanceof Numeral ? String(round(Number(value.text))) : decimalKey(value)),
    compare: byDouble,
    read(literal) {
      if (!FLOAT.test(literal)) return undefined;
      const value = round(Number(literal));
      // Too large, or too small to be told from zero: PostgreSQL refuses both.
      const fits = Number.isFinite(value) && (value !== 0 || !/[1-9]/.test(literal.replace(/e.*/i, "")));
      return fits ? new Numeral(literal.trim()) : undefined;
    },
  };
}

const bool: Kind = {
  key: (value) => (typeof value === "boolean" ? String(value) : undefined),
  compare: byUnits,
  read: (literal) => BOOLEANS.get(literal.replace(BLANKS, "").toLowerCase()),
};

/** Every unique beginning of the words that PostgreSQL takes. */
const BOOLEANS = new Map<string, boolean>([
  ...["true", "yes"].flatMap((word) => beginnings(word, 1).map((text) => [text, true] as const)),
  ...["false", "no"].flatMap((word) => beginnings(word, 1).map((text) => [text, false] as const)),
  ["on", true],
  ["1", true],
  ...beginnings("off", 2).map((text) => [text, false] as const),
  ["0", false],
]);

function beginnings(word: string, from: number): string[] {
  return Array.from({ length: word.length - from + 1 }, (_, index) => word.slice(0, from + index));
}

const string: Kind = { key: text, compare: byCodePoints, read: (literal) => literal, isText: true };
/** What only has to be spelled as PostgreSQL spells it. */
const exact: Kind = { key: text };
const sorted: Kind = { key: text, compare: byUnits };
const time: Kind = { key: spelled(sortableTime), compare: byUnits };

const KINDS = new Map<string, Kind>([
  ["int2", integer(16n)],
  ["int4", integer(32n)],
  ["int8", integer(64n)],
  ["oid", { key: spelled((digits) => (/^\d+$/.test(digits) ? digits : undefined)), compare: compareDecimals }],
  ["numeric", numeric],
  ["float4", float(Math.fround)],
  ["float8", float(Number)],
  ["bool", bool],
  ["text", string],
  ["varchar", string],
  // Longer names are cut off by PostgreSQL.
  ["name", { ...string, read: (literal) => (utf8Length(literal) < 64 ? literal : undefined) }],
  // Blanks at the end are padding, except to patterns.
  ["bpchar", { ...string, key: spelled((padded) => padded.replace(/(?<! ) +$/, "")) }],
  ["uuid", { ...sorted, read: (literal) => (UUID.test(literal.toLowerCase()) ? literal.toLowerCase() : undefined) }],
  ["bytea", { key: spelled((hex) => hex.replace(/^\\x/, "")), compare: byUnits }],
  ["date", time],
  ["timestamp", time],
  ["timestamptz", time],
  ["time", sorted],
  ["interval", { key: spelled(spanOf), compare: compareDecimals }],
  ["jsonb", { key: jsonKey }],
  ...["timetz", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit", "pg_lsn"].map((name) => [name, exact] as const),
]);

/** How values of a type compare; undefined for a type that cannot be compared faithfully. */
export function kindOf({ type, labels = [] }: ValueType): Kind | undefined {
  if (type === "enum") return enumOf(labels);
  // An array of jsonb is not told from a jsonb array within one.
  if (!type.startsWith("_") || type === "_jsonb") return KINDS.get(type);
  const element = kindOf({ type: type.slice(1), labels });
  return element && { key: (value) => (Array.isArray(value) ? arrayKey(value, element) : undefined) };
}

function enumOf(labels: readonly string[]): Kind {
  return {
    key: text,
    compare: (a, b) => {
      const [x, y] = [labels.indexOf(a), labels.indexOf(b)];
      return x < 0 || y < 0 ? Number.NaN : x - y;
    },
    read: (literal) => (labels.includes(literal) ? literal : undefined),
  };
}

function arrayKey(values: readonly unknown[], element: Kind): string | undefined {
  const keys = values.map((value) => {
    if (value === null) return "null";
    const key = Array.isArray(value) ? arrayKey(value, element) : element.key(value);
    return key === undefined || Array.isArray(value) ? key : JSON.stringify(key);
  });
  return keys.includes(undefined) ? undefined : `[${keys.join(",")}]`;
}

function jsonKey(value: unknown): string | undefined {
  try {
    return JSON.stringify(plainJson(value));
  } catch (error) {
    // Nested too deeply for the stack: it compares with nothing.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

/** A JSON value in the form that all equal ones share: keys in order, numbers plain and marked as what they are. */
function plainJson(value: unknown): unknown {
  if (value instanceof Numeral) return { number: value.plain };
  if (Array.isArray(value)) return value.map(plainJson);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).sort(([a], [b]) => byUnits(a, b));
  return { members: members.map(([name, member]) => [name, plainJson(member)]) };
}
