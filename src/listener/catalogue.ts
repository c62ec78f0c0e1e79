// What the captured tables are, ours among them: names, columns, keys, and who may read them.
import { createHash } from "node:crypto";
import type pg from "pg";

export interface Table {
  schema: string;
  table: string;
  /** Differs whenever anything else here does. */
  generation: number;
  /** Types by their short names, such as `int4`. Empty when the table is gone. */
  columns: { name: string; type: string }[];
  primaryKey: string[];
  rls: boolean;
  /** Which of anon, authenticated, service_role may SELECT the table. */
  readers: string[];
}

/** A table as captured: `relid` may be a partition, and then `root` is the table that it is a part of. */
export interface Captured {
  root: string;
  /** Whether sessions that LISTEN are told of its changes. */
  notify: boolean;
  table: Table;
}

/** Whether a table is ours: its changes are for the edge itself, and nobody can follow them. */
export function isOwn({ schema }: Table): boolean {
  return schema === "realtime";
}

interface Row extends Omit<Table, "generation"> {
  relid: string;
  root: string;
  notify: boolean;
}

// A day after a table is gone its changes may still wait, so its names come from what capture recorded.
const statement = `
  select t.relid::text as relid, t.root_relid::text as root,
    coalesce(n.nspname, t.schema_name) as schema, coalesce(c.relname, t.table_name) as table,
    coalesce((select json_agg(json_build_object('name', a.attname, 'type', y.typname) order by a.attnum)
      from pg_attribute a join pg_type y on y.oid = a.atttypid
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as columns,
    coalesce((select json_agg(a.attname order by k.position)
      from pg_index i cross join unnest(i.indkey) with ordinality k (attnum, position)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
      where i.indrelid = c.oid and i.indisprimary), '[]') as "primaryKey",
    coalesce(c.relrowsecurity, true) as rls,
    coalesce((select json_agg(r.rolname order by r.rolname) from pg_roles r
      where r.rolname in ('anon', 'authenticated', 'service_role')
        and has_schema_privilege(r.oid, n.oid, 'usage') and has_table_privilege(r.oid, c.oid, 'select')), '[]') as readers,
    coalesce((select s.options -> 'notify' <> 'false' from realtime.subscriptions s
      where s.table_name in (n.nspname || '.' || c.relname, n.nspname || '.*') and s.options ? 'notify'
      order by s.table_name = n.nspname || '.*' limit 1), true) as notify
  from (
    select relid, root_relid, schema_name, table_name from realtime.cdc_tables
    union all select oid, oid, 'realtime', relname from pg_class
      where relnamespace = 'realtime'::regnamespace and relname in ('messages', 'channels', 'channel_members')
  ) t
  left join pg_class c on c.oid = t.root_relid
  left join pg_namespace n on n.oid = c.relnamespace
  where t.relid = any ($1::oid[])`;

/** How long a description is trusted, milliseconds: DDL shows in the feed after this. */
const freshFor = 500;

export class Catalogue {
  #client: pg.ClientBase;
  #known = new Map<string, { captured: Captured; readAt: number }>();

  constructor(client: pg.ClientBase) {
    this.#client = client;
  }

  /** Describes the tables; one that capture does not know (any more) is not in the answer. */
  async describe(relids: ReadonlySet<string>): Promise<Map<string, Captured>> {
    const now = performance.now();
    const stale = [...relids].filter((relid) => now - (this.#known.get(relid)?.readAt ?? -Infinity) > freshFor);
    if (stale.length > 0) {
      const { rows } = await this.#client.query<Row>({ name: "describe", text: statement, values: [stale] });
      for (const { relid, root, notify, ...table } of rows) {
        const generation = createHash("sha256").update(JSON.stringify(table)).digest().readUInt32BE();
        this.#known.set(relid, { captured: { root, notify, table: { ...table, generation } }, readAt: now });
      }
    }
    const answer = new Map<string, Captured>();
    for (const relid of relids) {
      const known = this.#known.get(relid);
      if (known) answer.set(relid, known.captured);
    }
    return answer;
  }
}
