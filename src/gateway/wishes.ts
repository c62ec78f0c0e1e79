// Wishes: row-change subscriptions as clients write them, and what is said of those that cannot be had.
import { isObject } from "../protocol/json.ts";
import { MAX_NAME_LENGTH } from "../protocol/limits.ts";
import { feedName, feedObject } from "../protocol/topics.ts";
import { BadFilter, parseFilter, type Term } from "./filters/parse.ts";

/** A subscription as it is asked for: understood, but no table has been asked yet. */
export interface Wish {
  readonly id: number;
  /** An operation, or `*`. */
  readonly event: string;
  readonly schema: string;
  readonly table: string;
  readonly terms: readonly Term[];
  /** Column names; undefined for all. */
  readonly select: readonly string[] | undefined;
  /** Of a topic that names a table: changes go as frames of their own events (protocol.md §3.6), failures untold. */
  readonly bare: boolean;
}

/** A subscription that cannot be had; the message is for the client (protocol.md §8.4). */
export class WishRefused extends Error {
  override readonly name = "WishRefused";
}

const ID_BITS = 0x7ff_ffff;

/** Ids for subscriptions: non-zero, and the same for equal ones (protocol.md §3.4, §0 rule 2). */
export function wishIds(entries: readonly unknown[]): number[] {
  const byText = new Map<string, number>();
  const taken = new Set<number>();
  return entries.map((entry) => {
    const text = JSON.stringify(entry);
    let id = byText.get(text) ?? hash(text);
    while (!byText.has(text) && (id === 0 || taken.has(id))) id = (id + 1) & ID_BITS;
    byText.set(text, id);
    taken.add(id);
    return id;
  });
}

/** FNV-1a, folded to the 27 bits that clients have seen so far. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  return (value >>> 0) & ID_BITS;
}

/** The entries as the join reply echoes them: verbatim, in order, each with its id. */
export function echoWishes(entries: readonly unknown[]): object[] {
  const ids = wishIds(entries);
  return entries.map((entry, index) => ({ ...(isObject(entry) ? entry : {}), id: ids[index] }));
}

/** Reads one subscription (protocol.md §8.1). Throws WishRefused. */
export function parseWish(entry: unknown, id: number): Wish {
  const names = isObject(entry) ? namesOf(entry) : undefined;
  if (!isObject(entry) || names === undefined) {
    throw new WishRefused(
      `No subscription params provided. Please provide at least a \`schema\` or \`table\` to subscribe to: ${inspect(entry)}`,
    );
  }
  const isWildcard = names.schema === "*" || names.table === "*";
  const select = selectOf(entry.select);
  if (select !== undefined && isWildcard) throw wildcard("Column selection is");
  const terms = termsOf(names.filter);
  if (terms.length > 0 && isWildcard) throw wildcard("Filters are");
  return { id, event: eventOf(entry.event), schema: names.schema, table: names.table, terms, select, bare: false };
}

interface Names {
  readonly schema: string;
  readonly table: string;
  readonly filter: string;
}

/** The accepted sets of keys are {schema, table, filter}, {schema, table}, {schema} and {table}, all of them strings. */
function namesOf({ schema, table, filter }: Record<string, unknown>): Names | undefined {
  if (schema === undefined && table === undefined) return undefined;
  if (filter !== undefined && (schema === undefined || table === undefined)) return undefined;
  const [schemaName, tableName, filterText] = [orElse(schema, "public"), orElse(table, "*"), orElse(filter, "")];
  if (schemaName === undefined || tableName === undefined || filterText === undefined) return undefined;
  if (schemaName.length > MAX_NAME_LENGTH || tableName.length > MAX_NAME_LENGTH) {
    throw new WishRefused(`Names of schemas and tables hold at most ${MAX_NAME_LENGTH} characters`);
  }
  return { schema: schemaName, table: tableName, filter: filterText };
}

/** A string, or what stands for an absent one; undefined for anything else. */
function orElse(value: unknown, absent: string): string | undefined {
  if (value === undefined) return absent;
  return typeof value === "string" ? value : undefined;
}

function termsOf(filter: string): Term[] {
  try {
    return parseFilter(filter);
  } catch (error) {
    if (error instanceof BadFilter) throw new WishRefused(error.message);
    throw error;
  }
}

/** Column names; undefined for none asked for, which stands for all. */
function selectOf(select: unknown): string[] | undefined {
  if (select === undefined || select === null) return undefined;
  if (!Array.isArray(select)) {
    throw new WishRefused(
      'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]',
    );
  }
  const names = select.filter((name) => typeof name === "string");
  return names.length === 0 ? undefined : names;
}

function wildcard(what: string): WishRefused {
  const remedy = "Provide an explicit schema and table name.";
  return new WishRefused(`${what} not supported for wildcard subscriptions. ${remedy}`);
}

function eventOf(event: unknown): string {
  const upper = typeof event === "string" ? event.toUpperCase() : "*";
  return ["INSERT", "UPDATE", "DELETE"].includes(upper) ? upper : "*";
}

/** The subscription of a topic that names tables itself, `schema[:table[:filter]]` (protocol.md §3.6). */
export function topicWish(schema: string, table: string | undefined, filter: string | undefined): Wish {
  const entry = { schema, ...(table === undefined ? {} : { table }), ...(filter === undefined ? {} : { filter }) };
  return { ...parseWish(entry, 1), bare: true };
}

/** The object of the feed that a subscription's changes come from. */
export function feedOf({ schema, table }: Wish): string {
  return feedObject(schema === "*" ? "*.*" : feedName(schema, table));
}

/** The message about a table that nobody captures. */
export function notCapturedMessage(wish: Wish): string {
  return `Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: ${describe(wish)}`;
}

/** The message about a table that does not allow what is asked. */
export function exceptionMessage(wish: Wish, exception: string): string {
  return `Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: ${describe(wish)}. Exception: ${exception}`;
}

function describe({ event, schema, table, terms, select }: Wish): string {
  const filters = terms.map(
    ({ column, operator, value, negated }) => `{${[column, operator, value].map(inspect).join(", ")}, ${negated}}`,
  );
  return `[event: ${event}, schema: ${schema}, table: ${table}, filters: [${filters.join(", ")}], select: ${inspect(select)}]`;
}

/** A value as upstream writes it in its messages, in the syntax of Elixir. */
function inspect(value: unknown): string {
  if (value === undefined || value === null) return "nil";
  if (Array.isArray(value)) return `[${value.map(inspect).join(", ")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const members = Object.keys(value).sort();
  return `%{${members.map((name) => `${JSON.stringify(name)} => ${inspect(value[name])}`).join(", ")}}`;
}
