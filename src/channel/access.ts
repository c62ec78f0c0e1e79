// Access: who may see a row change and how much of it, put together of what is known of its table and of its row.
import type { Operation, TableDescription } from "../protocol/changes.ts";
import type { Access, Sight } from "../protocol/link.ts";

/** Who sees a row: by their role, and as themselves; the latter only where row-level security is asked. */
export interface Seen {
  readonly readers: Set<string>;
  readonly visible?: Set<string>;
}

/** The access to a change of which the row is seen by some, and, of an UPDATE, the row as it was. */
export function accessOf(table: TableDescription, operation: Operation, now: Seen, before: Seen | undefined): Access {
  const { columns, unauthorized } = rightsOf(table);
  const isDelete = operation === "DELETE" || operation === "TRUNCATE";
  return {
    ...sightOf(now),
    ...(columns && { columns }),
    ...(unauthorized && !isDelete && { unauthorized }),
    ...(before && beforeOf(now, before, table.primaryKey)),
  };
}

/** What is said of the row as it was: who sees it, where they are not those who see the new one. */
export function beforeOf(now: Seen, before: Seen, key: readonly string[]): Pick<Access, "before" | "key"> {
  const same = sameSet(now.readers, before.readers) && sameSet(now.visible, before.visible);
  return same ? { key } : { key, before: sightOf(before) };
}

export function sightOf({ readers, visible }: Seen): Sight {
  return { readers: [...readers], ...(visible && { visible: [...visible] }) };
}

function sameSet(a: ReadonlySet<string> = new Set(), b: ReadonlySet<string> = new Set()): boolean {
  return a.size === b.size && [...a].every((member) => b.has(member));
}

type ColumnRights = Pick<Access, "columns" | "unauthorized">;

const known = new WeakMap<TableDescription, ColumnRights>();

/** What the roles may read that do not read every column. */
function rightsOf(table: TableDescription): ColumnRights {
  const before = known.get(table);
  if (before !== undefined) return before;
  const columns: Record<string, string[]> = {};
  const unauthorized: string[] = [];
  for (const role of table.readers) {
    const names = table.columns.filter(({ readers }) => readers?.includes(role) !== false).map(({ name }) => name);
    if (names.length < table.columns.length) columns[role] = names;
    if (table.primaryKey.some((name) => !names.includes(name))) unauthorized.push(role);
  }
  const rights = {
    ...(Object.keys(columns).length > 0 && { columns }),
    ...(unauthorized.length > 0 && { unauthorized }),
  };
  known.set(table, rights);
  return rights;
}
