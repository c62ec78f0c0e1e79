-- Which rows of a table, given as the images that capture made of them, somebody may see: what SELECT under their role
-- and claims would answer, asked of the table's own policies.

-- The columns that the SELECT policies of a table read, in its order; null where one of them cannot be had from an
-- image: it is computed when it is read, or the JSON of its type was made by a cast of its owner's.
create function realtime.policy_columns(target oid) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select case when bool_or(read and (a.attgenerated = 'v' or exists (
      select from pg_cast x where x.castsource = a.atttypid and x.casttarget in ('json'::regtype, 'jsonb'::regtype) and x.castfunc >= 16384
    ))) then null
    else coalesce(array_agg(a.attname::text order by a.attnum) filter (where read), '{}') end
  from pg_attribute a
  cross join lateral (select exists (
    -- Every policy depends on its table automatically, and normally where it reads whole rows of it.
    select from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = a.attrelid and p.polcmd in ('r', '*')
      and d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid
      and (d.refobjsubid = a.attnum or d.refobjsubid = 0 and d.deptype = 'n')
  ) as read) policies
  where a.attrelid = target and a.attnum > 0 and not a.attisdropped
$$;

-- Whether a role passes the row-level security of a table by, as PostgreSQL decides it for SELECT.
create function realtime.passes_by(acting oid, target oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select not c.relrowsecurity or r.rolsuper or r.rolbypassrls
    or not c.relforcerowsecurity and pg_has_role(r.oid, c.relowner, 'usage')
  from pg_class c, pg_roles r where c.oid = target and r.oid = acting
$$;

-- `viewers` is a list of {key, role, claims}, `images` a list of rows, whole or cut down to `columns` (null: whole).
-- Answers {"visible": {key: positions of images}, "failed": {key: message}, "left": [keys]}: a viewer whose policies raise
-- an error sees nothing, one that there was no time for is left over. Null: the policies read more than `columns`.
--
-- The policies are parsed as who calls this and run as the role: a function that they call may live in a schema that the
-- role may not use, and is found all the same, as it is in SELECT. Nothing of what is set or done stays behind.
create function realtime.visible(target regclass, viewers jsonb, images json, columns text[], patience interval)
returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  needed text[] := realtime.policy_columns(target);
  relation record;
  acting record;
  viewer record;
  everything jsonb := (select coalesce(jsonb_agg(n), '[]') from generate_series(0, json_array_length(images) - 1) n);
  seen jsonb;
  visible jsonb := '{}';
  failed jsonb := '{}';
  left_over jsonb := '[]';
  until timestamptz := clock_timestamp() + patience;
  problem text;
begin
  select c.oid, n.oid as schema, n.nspname, c.relname into relation
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = target;
  if columns is not null and not coalesce(needed, '{}') <@ columns then
    return null;
  end if;
  set local search_path to default;
  perform pg_catalog.set_config('realtime.images', images::text, true);
  for acting in
    -- "none" is no role but, to SET ROLE, the session's own.
    select r.oid, r.rolname as name, realtime.passes_by(r.oid, target) as free
    from pg_catalog.pg_roles r
    where r.rolname in (select v ->> 'role' from pg_catalog.jsonb_array_elements(viewers) v)
      and pg_catalog.has_schema_privilege(r.oid, relation.schema, 'usage')
      and pg_catalog.has_any_column_privilege(r.oid, target, 'select')
  loop
    if not acting.free then
      problem := realtime.prepare_visible(acting.oid, target, needed);
    end if;
    for viewer in
      select v ->> 'key' as key, v -> 'claims' as claims from pg_catalog.jsonb_array_elements(viewers) v
      where v ->> 'role' = acting.name
    loop
      if acting.free then
        visible := visible || pg_catalog.jsonb_build_object(viewer.key, everything);
        continue;
      end if;
      if problem is not null then
        failed := failed || pg_catalog.jsonb_build_object(viewer.key, problem);
        continue;
      end if;
      if pg_catalog.clock_timestamp() > until then
        left_over := left_over || pg_catalog.to_jsonb(viewer.key);
        continue;
      end if;
      begin
        perform pg_catalog.set_config('request.jwt.claims', viewer.claims::text, true),
          pg_catalog.set_config('request.jwt.claim.sub', coalesce(viewer.claims ->> 'sub', ''), true),
          pg_catalog.set_config('request.jwt.claim.role', acting.name, true),
          pg_catalog.set_config('role', acting.name, true);
        execute 'execute realtime_visible' into seen;
        raise exception using errcode = 'NS901';
      exception
        when sqlstate 'NS901' then visible := visible || pg_catalog.jsonb_build_object(viewer.key, seen);
        when others then failed := failed || pg_catalog.jsonb_build_object(viewer.key, sqlerrm);
      end;
    end loop;
  end loop;
  if exists (select from pg_catalog.pg_prepared_statements where name = 'realtime_visible') then
    deallocate realtime_visible;
  end if;
  return pg_catalog.jsonb_build_object('visible', visible, 'failed', failed, 'left', left_over);
end
$$;

-- Prepares the statement that `visible` runs for a role; or says why it cannot. What the policies say is written and read
-- under one search_path, the one that functions called by them are to find, so that every name means what it meant.
create function realtime.prepare_visible(acting oid, target oid, needed text[]) returns text
language plpgsql as $$
#variable_conflict use_variable
declare
  schema_name name;
  table_name name;
  permissive text;
  restrictive text;
begin
  if exists (select from pg_catalog.pg_prepared_statements where name operator(pg_catalog.=) 'realtime_visible') then
    deallocate realtime_visible;
  end if;
  if needed is null then
    return 'a policy reads a column whose value no captured row holds';
  end if;
  select n.nspname, c.relname into schema_name, table_name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
    where c.oid operator(pg_catalog.=) target;
  select pg_catalog.string_agg(q.quals, ' or ') filter (where q.polpermissive),
         pg_catalog.string_agg(q.quals, ' and ') filter (where not q.polpermissive)
    into permissive, restrictive
    from (
      select p.polpermissive, pg_catalog.format('(%s)', pg_catalog.pg_get_expr(p.polqual, p.polrelid)) as quals
      from pg_catalog.pg_policy p
      where p.polrelid operator(pg_catalog.=) target and p.polcmd in ('r', '*') and p.polqual is not null
        and exists (select from pg_catalog.unnest(p.polroles) r (oid)
          where case when r.oid operator(pg_catalog.=) 0::pg_catalog.oid then true
                     else pg_catalog.pg_has_role(acting, r.oid, 'usage') end)
    ) q;
  -- An image that lacks a column which is read was too large to be carried: nobody can say who may see it.
  execute pg_catalog.format($sql$
    prepare realtime_visible as
    select coalesce(pg_catalog.jsonb_agg(e.k operator(pg_catalog.-) 1), '[]')
    from pg_catalog.json_array_elements(pg_catalog.current_setting('realtime.images')::pg_catalog.json)
      with ordinality e (v, k)
    where not exists (select from pg_catalog.unnest(%L::pg_catalog.text[]) c where (e.v operator(pg_catalog.->) c) is null)
      and exists (select from pg_catalog.json_populate_record(null::%I.%I, e.v) as %I where (%s) and (%s))$sql$,
    needed, schema_name, table_name, table_name, coalesce(permissive, 'false'), coalesce(restrictive, 'true'));
  return null;
exception when others then
  return sqlerrm;
end
$$;

revoke execute on function realtime.policy_columns(oid), realtime.passes_by(oid, oid),
  realtime.visible(regclass, jsonb, json, text[], interval), realtime.prepare_visible(oid, oid, text[]) from public;
