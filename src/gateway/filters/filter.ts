// Filters as they are tested: compiled once a subscription, with SQL's three truths, failing closed.
import type { Row } from "../row.ts";
import type { Condition } from "./conditions.ts";
import { type Kind, kindOf } from "./kinds.ts";
import { compileLike } from "./like.ts";
import { matchesWithin, type Pattern } from "./patterns.ts";
import { compileRegex } from "./regex.ts";

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
  const tests = conditions.map((condition) => ({ ...condition, truthOf: truthOf(condition) }));
  return (row) =>
    tests.every(({ column, negated, truthOf }) => {
      const value = row.value(column);
      // Not in the row at all: a column that was dropped, or one that this change does not carry.
      return value !== undefined && truthOf(value) === !negated;
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

function truthOf(condition: Condition): (value: unknown) => Truth {
  const { operator, operands } = condition;
  const [operand] = operands;
  switch (operator) {
    case "is":
      return isTest(operand);
    case "like":
    case "ilike":
      return textTest(compileLike(operand ?? "", operator === "ilike"));
    case "match":
    case "imatch":
      return textTest(compileRegex(operand ?? "", operator === "imatch"));
    default:
      return keyTest(condition, kindOf(condition));
  }
}

function isTest(keyword: string | null | undefined): (value: unknown) => Truth {
  if (keyword === "true" || keyword === "false") return (value) => value === (keyword === "true");
  return (value) => value === null;
}

function textTest(pattern: Pattern): (value: unknown) => Truth {
  return (value) => (typeof value === "string" ? matchesWithin(pattern, value) : null);
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
