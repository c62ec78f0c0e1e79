// Bindings: the row-change subscriptions of one channel, as the client wrote them and as the gateway matches them.
import { isObject } from "../protocol/json.ts";
import { MAX_NAME_LENGTH } from "../protocol/limits.ts";
import type { Access } from "../protocol/link.ts";
import { feedName, feedObject } from "../protocol/topics.ts";
import { BadFilter, type Filter, matches, parseFilter, type Row } from "./filters.ts";

/** One subscription that is understood. `event` is an operation, or `*`. */
export interface Binding {
  readonly id: number;
  readonly event: string;
  /** The object of the feed its changes come from; a wildcard has a feed of its own, `public.*` or `*.*`. */
  readonly feed: string;
  readonly filter: Filter | undefined;
  /** How it is named in messages about it. */
  readonly description: string;
}

/** A subscription that cannot be served, with the message for the client. */
export interface BadBinding {
  readonly error: string;
}

/** Narrows to a subscription that is understood. */
export function isServed(binding: Binding | BadBinding): binding is Binding {
  return !("error" in binding);
}

const ID_BITS = 0x7ff_ffff;

/** Ids for subscriptions: non-zero, and the same for equal ones (protocol.md §3.4, §0 rule 2). */
export function bindingIds(entries: readonly unknown[]): number[] {
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
export function echoBindings(entries: readonly unknown[]): object[] {
  const ids = bindingIds(entries);
  return entries.map((entry, index) => ({ ...(isObject(entry) ? entry : {}), id: ids[index] }));
}

/** Reads one subscription (protocol.md §8.1). */
export function parseBinding(entry: unknown, id: number): Binding | BadBinding {
  if (!isObject(entry)) return { error: noParams(entry) };
  const { schema, table, filter } = entry;
  if (
    (typeof schema !== "string" && typeof table !== "string") ||
    !isOptionalString(schema) ||
    !isOptionalString(table)
  ) {
    return { error: noParams(entry) };
  }
  if (filter !== undefined && typeof filter !== "string") return { error: noParams(entry) };
  if ((schema ?? "").length > MAX_NAME_LENGTH || (table ?? "").length > MAX_NAME_LENGTH) {
    return { error: `Names of schemas and tables hold at most ${MAX_NAME_LENGTH} characters` };
  }
  const event = eventOf(entry.event);
  const names = { schema: schema ?? "public", table: table ?? "*" };
  try {
    return {
      id,
      event,
      feed: feedObject(names.schema === "*" ? "*.*" : feedName(names.schema, names.table)),
      filter: parseFilter(filter ?? ""),
      description: `[event: ${event}, schema: ${names.schema}, table: ${names.table}, filters: [${filter ?? ""}], select: nil]`,
    };
  } catch (error) {
    if (error instanceof BadFilter) return { error: error.message };
    throw error;
  }
}

function isOptionalString(value: unknown): value is string | undefined {
  return value === undefined || typeof value === "string";
}

function eventOf(event: unknown): string {
  const upper = typeof event === "string" ? event.toUpperCase() : "*";
  return ["INSERT", "UPDATE", "DELETE"].includes(upper) ? upper : "*";
}

function noParams(entry: unknown): string {
  return `No subscription params provided. Please provide at least a \`schema\` or \`table\` to subscribe to: ${JSON.stringify(entry)}`;
}

/** Whether a change is for a binding. `row` is read only when there is a filter to ask. */
export function wants(binding: Binding, operation: string, row: () => Row): boolean {
  if (operation === "TRUNCATE") return false;
  if (binding.event !== "*" && binding.event !== operation) return false;
  return binding.filter === undefined || matches(binding.filter, row());
}

/**
 * Whether a role may see a change. The role needs SELECT on the table; where row-level security decides row by row,
 * only the role that passes it by does.
 */
export function mayRead(access: Access | undefined, role: string): boolean {
  if (access === undefined) return true;
  return access.readers.includes(role) && (!access.rls || role === "service_role");
}
