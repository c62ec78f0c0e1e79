// Tables of the database: which are captured and what they are, what literals of their types say, and one to begin with.
import * as z from "zod";
import { type Query, StatementRefused, StatementTooSlow } from "./database.ts";

/** A captured table (protocol/tables.ts says what its parts mean). */
const described = z.object({
  columns: z.array(
    z.object({
      name: z.string(),
      type: z.string(),
      sqlType: z.string(),
      labels: z
        .array(z.string())
        .nullable()
        .transform((labels) => labels ?? undefined),
      readers: z.array(z.string()),
    }),
  ),
  primaryKey: z.array(z.string()),
});
export type DescribedTable = z.output<typeof described>;

/** Most captured tables that subscriptions, and the names of rooms, are compared with: others are not found. */
const MAX_CAPTURED = 100_000;

/** What is asked for a join: PostgreSQL ends it before whoever asks gives up (edge/objects/patience.ts). */
const LIMITED = { statementTimeoutMs: 1_500 };

/** The type below all domains of the type whose oid an expression gives. */
const base = (oid: string): string => `(
  with recursive chain (oid, typtype, next) as (
    select y.oid, y.typtype, y.typbasetype from pg_type y where y.oid = ${oid}
    union all
    select y.oid, y.typtype, y.typbasetype from chain c join pg_type y on y.oid = c.next where c.typtype = 'd'
  ) select oid from chain where typtype <> 'd')`;

// A column that is not stored has no value in a captured row. Where a collation calls different texts equal, or a type
// is not PostgreSQL's own, no comparison made elsewhere can be right: such a column has no type here.
const DESCRIBE = `
  select coalesce(json_agg(json_build_object(
    'name', a.attname,
    'type', case
      when not coalesce(l.collisdeterministic, true) then ''
      when b.typtype = 'e' then 'enum'
      when e.oid is null then case when b.typnamespace = 'pg_catalog'::regnamespace then b.typname else '' end
      when e.typtype = 'e' then '_enum'
      when e.typnamespace = 'pg_catalog'::regnamespace then '_' || e.typname else '' end,
    'sqlType', format_type(a.atttypid, null),
    'labels', (select json_agg(x.enumlabel order by x.enumsortorder) from pg_enum x where x.enumtypid in (b.oid, e.oid)),
    'readers', coalesce((select json_agg(r.rolname order by r.rolname) from pg_roles r
      where r.rolname in ('anon', 'authenticated', 'service_role')
        and has_schema_privilege(r.oid, c.relnamespace, 'usage')
        and has_column_privilege(r.oid, c.oid, a.attnum, 'select')), '[]')
  ) order by a.attnum), '[]') as columns,
  coalesce((select json_agg(k.attname order by i.position)
    from pg_index x cross join unnest(x.indkey) with ordinality i (attnum, position)
    join pg_attribute k on k.attrelid = x.indrelid and k.attnum = i.attnum
    where x.indrelid = c.oid and x.indisprimary), '[]') as "primaryKey"
  from pg_class c
  left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> 'v'
  left join pg_collation l on l.oid = a.attcollation
  left join pg_type b on b.oid = ${base("a.atttypid")}
  left join pg_type e on e.oid = case when b.typlen = -1 and b.typcategory = 'A' then ${base("b.typelem")} end
  where c.oid = (
    select t.root_relid from realtime.cdc_tables t
    where t.dropped_at is null and t.schema_name = $1 and t.table_name = $2 limit 1)
  group by c.oid`;

// The images of rows are made under these settings; here they are made before the value is.
const LITERALS = (type: string): string => `
  with settings as materialized (
    select set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO, MDY', true),
      set_config('intervalstyle', 'postgres', true), set_config('bytea_output', 'hex', true),
      set_config('extra_float_digits', '1', true))
  select to_json(l.literal::pg_catalog."${type}")::text as json
  from settings cross join unnest($1::text[]) with ordinality l (literal, position) order by l.position`;

/** PostgreSQL's own message about a value or a pattern; undefined when the statement failed of something else. */
function faultOf(error: unknown): { fault: string; sqlstate: string } | undefined {
  if (!(error instanceof StatementRefused) || !/^(22|54)/.test(error.sqlstate)) return undefined;
  const fault = error.cause instanceof Error ? error.cause.message : error.message;
  return { fault, sqlstate: error.sqlstate };
}

export function tableStore(query: Query) {
  return {
    /**
     * What a captured table is; null when it is not captured. `*` stands for any schema or any table of it: of those only
     * whether anything is captured is said, with no columns.
     */
    async describe(schema: string, table: string): Promise<DescribedTable | null> {
      if (schema !== "*" && table !== "*") {
        const [found] = await query(described, DESCRIBE, [schema, table], LIMITED);
        return found ?? null;
      }
      const [found] = await query(
        z.object({ captured: z.boolean() }),
        `select exists (
           select from realtime.cdc_tables
           where dropped_at is null and ($1 = '*' or schema_name = $1) and ($2 = '*' or table_name = $2)
         ) as captured`,
        [schema, table],
        LIMITED,
      );
      return found?.captured === true ? { columns: [], primaryKey: [] } : null;
    },

    /** The names of captured tables. */
    async captured(): Promise<[schema: string, table: string][]> {
      const rows = await query(
        z.object({ schema_name: z.string(), table_name: z.string() }),
        `select distinct schema_name, table_name from realtime.cdc_tables where dropped_at is null
         order by schema_name, table_name limit ${MAX_CAPTURED}`,
      );
      return rows.map(({ schema_name, table_name }) => [schema_name, table_name]);
    },

    /** How many tables are captured. */
    async countCaptured(): Promise<number> {
      const [found] = await query(
        z.object({ count: z.number() }),
        `select count(distinct (schema_name, table_name))::int as count from realtime.cdc_tables where dropped_at is null`,
      );
      return found?.count ?? 0;
    },

    /**
     * Reads literals as values of a type of pg_catalog, each into the JSON that a captured row would hold of it; or
     * PostgreSQL's message about the first that it refuses.
     */
    async literals(
      type: string,
      literals: readonly string[],
    ): Promise<{ json: string[] } | { fault: string; sqlstate: string }> {
      if (!/^\w+$/.test(type)) throw new Error(`"${type}" is not the name of a type`);
      try {
        const rows = await query(z.object({ json: z.string() }), LITERALS(type), [[...literals]], LIMITED);
        return { json: rows.map(({ json }) => json) };
      } catch (error) {
        const fault = faultOf(error);
        if (fault === undefined) throw error;
        return fault;
      }
    },

    /** What PostgreSQL says is wrong with a regular expression; undefined: nothing. */
    async patternFault(pattern: string): Promise<string | undefined> {
      try {
        await query(z.object({ matches: z.boolean() }), "select '' ~ $1::text as matches", [pattern], LIMITED);
        return undefined;
      } catch (error) {
        if (error instanceof StatementTooSlow) return "PostgreSQL takes too long to compile it";
        const fault = faultOf(error);
        if (fault === undefined) throw error;
        return fault.fault.replace(/^invalid regular expression: /, "");
      }
    },

    /** A table that could be captured, to show by example: `public.todos` if it is there. Undefined: none has been made. */
    async example(): Promise<string | undefined> {
      const [found] = await query(
        z.object({ name: z.string() }),
        `select n.nspname || '.' || c.relname as name
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
           and n.nspname not in ('realtime', 'pg_catalog', 'information_schema') and n.nspname !~ '^pg_'
         order by n.nspname || '.' || c.relname = 'public.todos' desc, n.nspname = 'public' desc, name limit 1`,
        [],
      );
      return found?.name;
    },
  };
}
