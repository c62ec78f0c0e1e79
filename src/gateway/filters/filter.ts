// Filters as they are tested: compiled once a subscription, with SQL's three truths, failing closed.
import type { Row } from "../row.ts";
import type { Condition } from "./conditions.ts";
import { type Kind, kindOf } from "./kinds.ts";
import type { Operator } from "./parse.ts";

/** True, false, or null for unknown: a row passes only what is true of it. */
type Truth = boolean | null;

/** What a row must have for any of several equal values: by it, subscriptions can be found instead of asked. */
export interface Index {
  readonly column: string;
  readonly type: string;
  readonly keys: readonly string[];
}

/** Compiles conditions into the one test that a row must pass. */
export function compileFilter(conditions: readonly Condition[]): (row: Row) => boolean {
  // Patterns cost the most: they come last.
  const ordered = [...conditions].sort((a, b) => Number(isPattern(a.operator)) - Number(isPattern(b.operator)));
  const tests = ordered.map((condition) => ({ ...condition, truthOf: truthOf(condition) }));
  return (row) =>
    tests.every(({ column, negated, truthOf }) => {
      const value = row.value(column);
      // Not in the row at all: a column that was dropped, or one that this change does not carry.
      return value !== undefined && truthOf(value, row) === !negated;
    });
}

/** The first condition by which a row's value leads to the subscription; undefined when none does. */
export function indexOf(conditions: readonly Condition[]): Index | undefined {
  const found = conditions.find(({ operator, negated }) => !negated && (operator === "eq" || operator === "in"));
  return found && { column: found.column, type: found.type, keys: found.operands.filter((key) => key !== null) };
}

/** The key under which an index finds a row. */
export function keyOf({ column, type }: Pick<Index, "column" | "type">, row: Row): string | undefined {
  const value = row.value(column);
  return value === undefined || value === null ? undefined : kindOf({ type })?.key(value);
}

function truthOf(condition: Condition): (value: unknown, row: Row) => Truth {
  const { operator, operands, column } = condition;
  const [operand] = operands;
  switch (operator) {
    case "is":
      return isTest(operand);
    case "like":
    case "ilike":
    case "match":
    case "imatch":
      return (value, row) =>
        typeof value === "string" ? row.matches.of(column, operator, operand ?? "", value) : null;
    default:
      return keyTest(condition, kindOf(condition));
  }
}

function isPattern(operator: Operator): boolean {
  return ["like", "ilike", "match", "imatch"].includes(operator);
}

function isTest(keyword: string | null | undefined): (value: unknown) => Truth {
  if (keyword === "true" || keyword === "false") return (value) => value === (keyword === "true");
  return (value) => value === null;
}

function keyTest({ operator, operands }: Condition, kind: Kind | undefined): (value: unknown) => Truth {
  const keys = new Set(operands);
  const [operand] = operands;
  const ordered = (key: string, fits: (order: number) => boolean): Truth => {
    const order = kind?.compare?.(key, operand ?? "") ?? Number.NaN;
    return Number.isNaN(order) ? null : fits(order);
  };
  const tests: Record<string, (key: string) => Truth> = {
    eq: (key) => key === operand,
    neq: (key) => key !== operand,
    isdistinct: (key) => key !== operand,
    in: (key) => keys.has(key) || (keys.has(null) ? null : false),
    lt: (key) => ordered(key, (order) => order < 0),
    lte: (key) => ordered(key, (order) => order <= 0),
    gt: (key) => ordered(key, (order) => order > 0),
    gte: (key) => ordered(key, (order) => order >= 0),
  };
  const test = tests[operator];
  return (value) => {
    if (value === null) return operator === "isdistinct" ? true : null;
    const key = kind?.key(value);
    return key === undefined || test === undefined ? null : test(key);
  };
}
