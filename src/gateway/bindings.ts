// Bindings: the row-change subscriptions of one channel, fitted to their tables and matched with changes.
import type { Joiner, Sight } from "../protocol/link.ts";
import type { Table } from "../protocol/tables.ts";
import { type Ask, type Condition, FilterRefused, readableColumn, resolveTerm } from "./filters/conditions.ts";
import { compileFilter, type Index, indexOf } from "./filters/filter.ts";
import type { Row } from "./row.ts";
import { exceptionMessage, feedOf, type Wish, WishRefused } from "./wishes.ts";

/** A subscription that stands, as it is kept. */
export interface BindingRecord {
  readonly id: number;
  readonly event: string;
  /** The object of the feed its changes come from; a wildcard has a feed of its own, `public.*` or `*.*`. */
  readonly feed: string;
  /** The table that it is for, where its feed has others too: one of every schema. Undefined: all of the feed. */
  readonly table: string | undefined;
  readonly conditions: readonly Condition[];
  /** Column names, those of the primary key included; undefined for all. */
  readonly select: readonly string[] | undefined;
  /** The roles that may read every column named here: another token may bring another role. Undefined: none is named. */
  readonly readers: readonly string[] | undefined;
  readonly bare: boolean;
  /** What was asked for: another role has it judged anew. */
  readonly wish: Wish;
}

/** The columns that a subscription takes of a row; `key` is the same for the same columns. */
export interface Selection {
  readonly key: string;
  readonly columns: ReadonlySet<string>;
}

/** A subscription that stands, as it is matched. */
export interface Binding {
  readonly record: BindingRecord;
  readonly selection: Selection | undefined;
  /** Where its filter asks for equality: what a row must hold to be for it. */
  readonly index: Index | undefined;
  passes(row: Row): boolean;
}

/**
 * Fits a subscription to its table, for one role. Throws WishRefused when the table does not allow it; rejects with
 * whatever else when PostgreSQL is needed and away.
 */
export async function resolveBinding(
  wish: Wish,
  table: Table,
  { role }: Pick<Joiner, "role">,
  postgres: Ask,
): Promise<Binding> {
  const { id, event, bare } = wish;
  try {
    const conditions = await Promise.all(wish.terms.map((term) => resolveTerm(term, table, role, postgres)));
    const select = wish.select && selectedColumns(wish.select, table, role);
    const readers = readersOf(table, [...conditions.map(({ column }) => column), ...(wish.select ?? [])]);
    const only = wish.schema === "*" && wish.table !== "*" ? wish.table : undefined;
    return compileBinding({ id, event, feed: feedOf(wish), table: only, conditions, select, readers, bare, wish });
  } catch (error) {
    if (!(error instanceof FilterRefused)) throw error;
    throw new WishRefused(exceptionMessage(wish, error.message));
  }
}

/** The roles that may read all of these columns. */
function readersOf({ columns }: Table, names: readonly string[]): string[] | undefined {
  const readers = columns.filter(({ name }) => names.includes(name)).map((column) => column.readers);
  return readers[0]?.filter((role) => readers.every((others) => others.includes(role)));
}

/** What is asked for and the primary key, in the table's order. */
function selectedColumns(select: readonly string[], table: Table, role: string): string[] {
  const wanted = new Set([
    ...select.map((name) => readableColumn(table, role, name, "select").name),
    ...table.primaryKey,
  ]);
  return table.columns.map(({ name }) => name).filter((name) => wanted.has(name));
}

/** A kept subscription as it is matched. */
export function compileBinding(record: BindingRecord): Binding {
  const { conditions, select } = record;
  const selection = select && { key: JSON.stringify(select), columns: new Set(select) };
  return { record, selection, index: indexOf(conditions), passes: compileFilter(conditions) };
}

/** A change as subscriptions see it. What has to be read out of its text is read when the first of them asks. */
export interface Change {
  readonly operation: string;
  /** The table's name, without its schema. */
  readonly table: string;
  readonly row: Row;
  /** How often its row was too long for a pattern, so far. */
  readonly undecided: number;
  /** Who may see it; absent: everybody. */
  readonly sight?: Sight | undefined;
  /** Roles that are told no more of it than that it is there. */
  readonly unauthorized?: readonly string[];
}

/** Whether a change is for a binding of somebody in this role. */
export function wants({ record, passes }: Binding, role: string, change: Omit<Change, "undecided">): boolean {
  const { operation } = change;
  if (operation === "TRUNCATE" || record.readers?.includes(role) === false) return false;
  if (record.event !== "*" && record.event !== operation) return false;
  if (record.table !== undefined && record.table !== change.table) return false;
  return record.conditions.length === 0 || passes(change.row);
}

/** Whether a change is for a binding whose role may know no more of it than that it is there (protocol.md §8.6). */
export function wantsUnread({ record }: Binding, { operation, table }: Change): boolean {
  if (record.event !== "*" && record.event !== operation) return false;
  return record.table === undefined || record.table === table;
}
