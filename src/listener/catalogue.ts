// What the captured tables are, ours among them: names, columns, keys, and who may read them.
import { createHash } from "node:crypto";
import type pg from "pg";
import type { RowSecurity } from "../protocol/changes.ts";
import { feedName } from "../protocol/topics.ts";

export interface Table {
  schema: string;
  table: string;
  /** Differs whenever anything else here does. */
  generation: number;
  /** Types by their short names, such as `int4`. Empty when the table is gone. `readers` where they are not the table's. */
  columns: { name: string; type: string; readers?: string[] }[];
  primaryKey: string[];
  rls: boolean;
  /** What decides who may see a row, where row-level security does; the edge says what its parts mean. */
  security: RowSecurity | null;
  /** Which of anon, authenticated, service_role may SELECT the table, or columns of it. */
  readers: string[];
}

/** A table as captured: `relid` may be a partition, and then `root` is the table that it is a part of. */
export interface Captured {
  root: string;
  /** Whether sessions that LISTEN are told of its changes. */
  notify: boolean;
  /** The name of its feed. */
  feed: string;
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

/** Claims that are of one token and not of who bears it, as texts in SQL name them. */
const volatile = `$re$'(exp|iat|nbf|jti)'$re$`;

/**
 * The functions of the schema auth by which policies learn who asks, as we and others are known to write them: lower case
 * and without spaces. Whoever has made their own, under these names, has them called.
 */
const knownFunctions = [
  ["jwt", "selectnullif(current_setting('request.jwt.claims',true),'')::jsonb"],
  [
    "jwt",
    "selectcoalesce(nullif(current_setting('request.jwt.claim',true),''),nullif(current_setting('request.jwt.claims',true),''))::jsonb",
  ],
  ["uid", "selectcoalesce(nullif(current_setting('request.jwt.claim.sub',true),''),auth.jwt()->>'sub')::uuid"],
  [
    "uid",
    "selectcoalesce(nullif(current_setting('request.jwt.claim.sub',true),''),(nullif(current_setting('request.jwt.claims',true),'')::jsonb->>'sub'))::uuid",
  ],
  ["role", "selectcoalesce(nullif(current_setting('request.jwt.claim.role',true),''),auth.jwt()->>'role')"],
  [
    "role",
    "selectcoalesce(nullif(current_setting('request.jwt.claim.role',true),''),(nullif(current_setting('request.jwt.claims',true),'')::jsonb->>'role'))::text",
  ],
]
  .map((pair) => `(${pair.map((text) => `'${text?.replaceAll("'", "''")}'`).join(", ")})`)
  .join(", ");

// A day after a table is gone its changes may still wait, so its names come from what capture recorded.
const statement = `
  with roles as materialized (
    select oid, rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
  ), known as materialized (
    select coalesce(json_agg(f.proname), '[]') as names
    from pg_proc f join (values ${knownFunctions}) k (name, source) on f.proname = k.name
      and lower(regexp_replace(f.prosrc, '\\s|;', '', 'g')) = k.source
    where f.pronamespace = to_regnamespace('auth') and f.pronargs = 0
  )
  select t.relid::text as relid, t.root_relid::text as root,
    coalesce(n.nspname, t.schema_name) as schema, coalesce(c.relname, t.table_name) as table,
    coalesce((select json_agg(case when may.columns = may.tables
        then json_build_object('name', a.attname, 'type', y.typname)
        else json_build_object('name', a.attname, 'type', y.typname, 'readers', may.columns) end order by a.attnum)
      from pg_attribute a join pg_type y on y.oid = a.atttypid
      cross join lateral (select
        coalesce(array_agg(r.rolname::text order by r.rolname), '{}') as tables,
        coalesce(array_agg(r.rolname::text order by r.rolname)
          filter (where has_column_privilege(r.oid, c.oid, a.attnum, 'select')), '{}') as columns
        from roles r where has_any_column_privilege(r.oid, c.oid, 'select')) may
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]') as columns,
    coalesce((select json_agg(a.attname order by k.position)
      from pg_index i cross join unnest(i.indkey) with ordinality k (attnum, position)
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
      where i.indrelid = c.oid and i.indisprimary), '[]') as "primaryKey",
    coalesce(c.relrowsecurity, true) as rls,
    case when c.relrowsecurity then json_build_object(
      'free', coalesce((select json_agg(r.rolname order by r.rolname) from roles r
        where realtime.passes_by(r.oid, c.oid)), '[]'),
      'columns', realtime.policy_columns(c.oid),
      'plain', coalesce((select json_agg(a.attname order by a.attnum)
        from pg_attribute a join pg_type y on y.oid = a.atttypid left join pg_collation l on l.oid = a.attcollation
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
          and y.typnamespace = 'pg_catalog'::regnamespace and coalesce(l.collisdeterministic, true)), '[]'),
      'known', (select names from known),
      'volatile', exists (select from pg_policy p where p.polrelid = c.oid and p.polcmd in ('r', '*')
        and (pg_get_expr(p.polqual, p.polrelid) ~ ${volatile} or exists (
          select from pg_depend d join pg_proc f on f.oid = d.refobjid
          where d.classid = 'pg_policy'::regclass and d.objid = p.oid and d.refclassid = 'pg_proc'::regclass
            and f.prosrc ~ ${volatile}))),
      'policies', coalesce((select json_agg(json_build_object('permissive', p.polpermissive,
          'roles', coalesce((select json_agg(r.rolname order by r.rolname) from roles r
            where exists (select from unnest(p.polroles) o (oid)
              where case when o.oid = 0 then true else pg_has_role(r.oid, o.oid, 'usage') end)), '[]'),
          'using', pg_get_expr(p.polqual, p.polrelid)) order by p.oid)
        from pg_policy p where p.polrelid = c.oid and p.polcmd in ('r', '*') and p.polqual is not null), '[]')) end as security,
    coalesce((select json_agg(r.rolname order by r.rolname) from roles r
      where has_schema_privilege(r.oid, n.oid, 'usage') and has_any_column_privilege(r.oid, c.oid, 'select')), '[]') as readers,
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
        const feed = feedName(table.schema, table.table);
        this.#known.set(relid, { captured: { root, notify, feed, table: { ...table, generation } }, readAt: now });
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
