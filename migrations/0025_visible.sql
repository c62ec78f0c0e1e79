-- Which rows of a table, given as the images that capture made of them, somebody may see: what SELECT under their role
-- and claims would answer, asked of the table's own policies.

-- Whether the SELECT policies of a table read rows as a whole, its own or another's. No dependency tells of that: a
-- reference to a whole row, attribute 0, stands in the expression alone.
create function realtime.reads_whole_rows(target oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  select exists (
    select from pg_policy where polrelid = target and polcmd in ('r', '*') and polqual::text ~ ':varattno 0 ')
$$;

-- The columns that the SELECT policies of a table read, in its order; null where one of them cannot be had from an
-- image: it is computed when it is read, or the JSON of its type was made by a cast of its owner's.
create function realtime.policy_columns(target oid) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select case when bool_or(read and (a.attgenerated = 'v' or exists (
      select from pg_cast x where x.castsource = a.atttypid and x.casttarget in ('json'::regtype, 'jsonb'::regtype) and x.castfunc >= 16384
    ))) then null
    else coalesce(array_agg(a.attname::text order by a.attnum) filter (where read), '{}') end
  from pg_attribute a
  cross join lateral (select realtime.reads_whole_rows(target) or exists (
    select from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
    where p.polrelid = a.attrelid and p.polcmd in ('r', '*')
      and d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum
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
-- Answers {"visible": {key: positions of images}, "failed": {key: message}, "left": [keys]}: of a viewer whose policies raise
-- an error for some rows only the others are shown, one that there was no time for is left over. Null: the policies read
-- more than `columns`.
--
-- The policies are parsed as who calls this and run as the role: a function that they call may live in a schema that the
-- role may not use, and is found all the same, as it is in SELECT. Nothing of what is set or done stays behind.
create function realtime.visible(target regclass, viewers jsonb, images json, columns text[], patience interval)
returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  needed text[] := realtime.policy_columns(target);
  whole_row boolean := realtime.reads_whole_rows(target);
  acting record;
  own jsonb[];
  at integer;
  everything jsonb := (select coalesce(jsonb_agg(n), '[]') from generate_series(0, json_array_length(images) - 1) n);
  -- An image that lacks a column which is read was too large to be carried: nobody can say who may see it.
  incomplete integer[];
  seen integer[];
  keys text[] := '{}';
  positions jsonb[] := '{}';
  failed jsonb := '{}';
  left_over text[] := '{}';
  until timestamptz := clock_timestamp() + patience;
  -- Those whose policies fail may not use up the time of the others.
  until_apart timestamptz := clock_timestamp() + patience / 4;
  apart json[];
  problem text;
begin
  if columns is not null and not coalesce(needed, '{}') <@ columns then
    return null;
  end if;
  select coalesce(array_agg(e.k::integer), '{}') into incomplete
    from json_array_elements(images) with ordinality e (v, k)
    where exists (select from unnest(needed) c (name) where e.v -> c.name is null);
  set local search_path to default;
  perform pg_catalog.set_config('realtime.images', images::text, true);
  for acting in
    -- "none" is no role but, to SET ROLE, the session's own.
    select r.oid, r.rolname as name, realtime.passes_by(r.oid, target) as free
    from pg_catalog.pg_roles r
    where r.rolname in (select v ->> 'role' from pg_catalog.jsonb_array_elements(viewers) v)
      and pg_catalog.has_schema_privilege(r.oid, (select c.relnamespace from pg_catalog.pg_class c where c.oid = target), 'usage')
      and pg_catalog.has_any_column_privilege(r.oid, target, 'select')
  loop
    select pg_catalog.array_agg(v) into own from pg_catalog.jsonb_array_elements(viewers) v where v ->> 'role' = acting.name;
    problem := case when not acting.free then realtime.prepare_visible(acting.oid, target, needed, whole_row) end;
    at := 1;
    while at <= pg_catalog.cardinality(own) loop
      if acting.free then
        keys := pg_catalog.array_append(keys, own[at] ->> 'key');
        positions := pg_catalog.array_append(positions, everything);
        at := at + 1;
      elsif problem is not null then
        failed := failed || pg_catalog.jsonb_build_object(own[at] ->> 'key', problem);
        at := at + 1;
      elsif pg_catalog.clock_timestamp() > until then
        left_over := pg_catalog.array_append(left_over, own[at] ->> 'key');
        at := at + 1;
      else
        -- One sub-transaction for as many as go well; it is always undone.
        begin
          perform pg_catalog.set_config('request.jwt.claim.role', acting.name, true),
            pg_catalog.set_config('role', acting.name, true);
          while at <= pg_catalog.cardinality(own) and pg_catalog.clock_timestamp() <= until loop
            perform pg_catalog.set_config('request.jwt.claims', (own[at] -> 'claims')::text, true),
              pg_catalog.set_config('request.jwt.claim.sub', coalesce(own[at] -> 'claims' ->> 'sub', ''), true);
            execute 'execute realtime_visible' into seen;
            keys := pg_catalog.array_append(keys, own[at] ->> 'key');
            positions := pg_catalog.array_append(positions, (
              select coalesce(pg_catalog.jsonb_agg(k - 1), '[]') from pg_catalog.unnest(seen) k where k <> all (incomplete)));
            at := at + 1;
          end loop;
          raise exception using errcode = 'NS901';
        exception
          when sqlstate 'NS901' then null;
          when others then
            failed := failed || pg_catalog.jsonb_build_object(own[at] ->> 'key', sqlerrm);
            apart := coalesce(apart, array(select pg_catalog.json_array_elements(images)));
            keys := pg_catalog.array_append(keys, own[at] ->> 'key');
            positions := pg_catalog.array_append(positions, '[]');
            for n in 1 .. case when pg_catalog.cardinality(apart) > 1 then pg_catalog.cardinality(apart) else 0 end loop
              exit when pg_catalog.clock_timestamp() > until_apart;
              begin
                perform pg_catalog.set_config('realtime.images', pg_catalog.json_build_array(apart[n])::text, true),
                  pg_catalog.set_config('request.jwt.claim.role', acting.name, true),
                  pg_catalog.set_config('role', acting.name, true),
                  pg_catalog.set_config('request.jwt.claims', (own[at] -> 'claims')::text, true),
                  pg_catalog.set_config('request.jwt.claim.sub', coalesce(own[at] -> 'claims' ->> 'sub', ''), true);
                execute 'execute realtime_visible' into seen;
                if seen is not null and n <> all (incomplete) then
                  positions[pg_catalog.cardinality(positions)] :=
                    positions[pg_catalog.cardinality(positions)] || pg_catalog.to_jsonb(n - 1);
                end if;
                raise exception using errcode = 'NS901';
              exception when others then null;
              end;
            end loop;
            at := at + 1;
        end;
      end if;
    end loop;
  end loop;
  if exists (select from pg_catalog.pg_prepared_statements where name = 'realtime_visible') then
    deallocate realtime_visible;
  end if;
  return pg_catalog.jsonb_build_object('failed', failed, 'left', pg_catalog.to_jsonb(left_over), 'visible', (
    select coalesce(pg_catalog.jsonb_object_agg(v.of, v.shown), '{}')
    from rows from (pg_catalog.unnest(keys), pg_catalog.unnest(positions)) as v (of, shown)));
end
$$;

-- Prepares the statement that `visible` runs for a role; or says why it cannot. What the policies say is written and read
-- under one search_path, the one that functions called by them are to find, so that every name means what it meant.
create function realtime.prepare_visible(acting oid, target oid, needed text[], whole_row boolean) returns text
language plpgsql as $$
#variable_conflict use_variable
declare
  schema_name name;
  table_name name;
  permissive text;
  restrictive text;
  ends text;
  condition text;
  names text;
  definitions text;
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
  select pg_catalog.string_agg(q.quals, ' or ' order by q.polname desc) filter (where q.polpermissive),
         pg_catalog.string_agg(pg_catalog.format('case when %s then ', q.quals), '' order by q.polname)
           filter (where not q.polpermissive),
         pg_catalog.repeat(' end', pg_catalog.count(*) filter (where not q.polpermissive)::pg_catalog.int4)
    into permissive, restrictive, ends
    from (
      select p.polname, p.polpermissive, pg_catalog.format('(%s)', pg_catalog.pg_get_expr(p.polqual, p.polrelid)) as quals
      from pg_catalog.pg_policy p
      where p.polrelid operator(pg_catalog.=) target and p.polcmd in ('r', '*') and p.polqual is not null
        and exists (select from pg_catalog.unnest(p.polroles) r (oid)
          where case when r.oid operator(pg_catalog.=) 0::pg_catalog.oid then true
                     else pg_catalog.pg_has_role(acting, r.oid, 'usage') end)
    ) q;
  -- In PostgreSQL's own order, for one that decides spares the error of another: restrictive policies one after the other by
  -- their names, then the permissive ones from the last name to the first. "Or false" keeps the planner from making joins
  -- of their sub-queries, as it does not in row-level security, and is gone before the rest is ordered by cost.
  condition := pg_catalog.concat(restrictive, '(', coalesce(permissive, 'false'), ')', ends, ' or false');
  if whole_row or pg_catalog.cardinality(needed) operator(pg_catalog.=) 0 then
    execute pg_catalog.format($sql$
      prepare realtime_visible as
      select pg_catalog.array_agg(e.k::pg_catalog.int4)
      from pg_catalog.json_array_elements(pg_catalog.current_setting('realtime.images')::pg_catalog.json)
        with ordinality e (v, k)
      where exists (select from pg_catalog.json_populate_record(null::%I.%I, e.v) as %I where %s)$sql$,
      schema_name, table_name, table_name, condition);
    return null;
  end if;
  -- Only the columns that are read, all rows in one go.
  select pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum),
         pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname),
           pg_catalog.format_type(a.atttypid, a.atttypmod), 'collate ' operator(pg_catalog.||) c.name), ', ' order by a.attnum)
    into names, definitions
    from pg_catalog.pg_attribute a left join lateral (
      select pg_catalog.format('%I.%I', n.nspname, l.collname) as name
      from pg_catalog.pg_collation l join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) l.collnamespace
      where l.oid operator(pg_catalog.=) a.attcollation
    ) c on true
    where a.attrelid operator(pg_catalog.=) target and a.attname operator(pg_catalog.=) any (needed);
  execute pg_catalog.format($sql$
    prepare realtime_visible as
    select pg_catalog.array_agg(__nself_k::pg_catalog.int4)
    from rows from (pg_catalog.json_to_recordset(pg_catalog.current_setting('realtime.images')::pg_catalog.json) as (%s))
      with ordinality as %I (%s, __nself_k)
    where %s$sql$,
    definitions, table_name, names, condition);
  return null;
exception when others then
  return sqlerrm;
end
$$;

revoke execute on function realtime.policy_columns(oid), realtime.passes_by(oid, oid), realtime.reads_whole_rows(oid),
  realtime.visible(regclass, jsonb, json, text[], interval), realtime.prepare_visible(oid, oid, text[], boolean) from public;
