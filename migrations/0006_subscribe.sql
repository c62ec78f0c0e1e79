-- Which tables are followed: subscribe, unsubscribe, and the one function that makes capture match.
-- Errors: NS001 bad form of a target, NS002 no such table, NS003 not a table, NS004 bad event name,
-- NS005 filter not supported, NS006 no such subscription, NS007 a table that may not be followed.

-- Whether rows of the table live in a foreign one too, as partitions or heirs: PostgreSQL keeps no account of what a
-- statement did there, and refuses the statement where a trigger asks for it.
create function realtime.cdc_is_foreign_within(target oid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
  with recursive family as (
    select target as relid
    union select i.inhrelid from pg_catalog.pg_inherits i join family on i.inhparent = family.relid
  )
  select exists (select from family join pg_catalog.pg_class c on c.oid = family.relid where c.relkind = 'f')
$$;

-- Every table that capture should be on, with its events: the subscription of a table before that of its
-- schema, and each partition with the root that it belongs to.
create function realtime.cdc_wanted() returns table (relid oid, root_relid oid, events text[])
language sql stable set search_path = pg_catalog, pg_temp as $$
  select distinct on (member.relid) member.relid::oid, c.oid, s.events
  from realtime.subscriptions s
  join pg_catalog.pg_namespace n on starts_with(s.table_name, n.nspname || '.')
  join pg_catalog.pg_class c on c.relnamespace = n.oid and s.table_name in (n.nspname || '.' || c.relname, n.nspname || '.*')
  cross join lateral (
    select c.oid::pg_catalog.regclass as relid
    union
    select t.relid from pg_partition_tree(c.oid) t
    join pg_catalog.pg_class leaf on leaf.oid = t.relid where leaf.relkind in ('r', 'p')
  ) member
  where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not in ('realtime', 'pg_catalog', 'information_schema')
    and (not c.relhassubclass or not realtime.cdc_is_foreign_within(c.oid))
    and (not c.relispartition or s.table_name = n.nspname || '.' || c.relname)
  order by member.relid, (s.table_name = n.nspname || '.' || c.relname) desc
$$;

-- Where capture is not as wanted: tables to put it on anew, and (without events) tables to take it off.
create function realtime.cdc_difference() returns table (relid oid, root_relid oid, events text[])
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(w.relid, t.relid), coalesce(w.root_relid, t.root_relid), w.events
  from realtime.cdc_wanted() w
  full join (select * from realtime.cdc_tables where dropped_at is null) t on t.relid = w.relid
  left join pg_catalog.pg_class r on r.oid = w.root_relid
  left join pg_catalog.pg_namespace n on n.oid = r.relnamespace
  where (w.root_relid, w.events, realtime.cdc_settings(w.relid), r.relname, n.nspname) is distinct from
    (t.root_relid, t.events, t.settings, t.table_name::pg_catalog.name, t.schema_name::pg_catalog.name)
  order by w.relid nulls first
$$;

-- Makes capture match the subscriptions, and returns of each table where it could not why; where it matches already
-- it takes no lock. With `exact` it sees to that table alone, and raises what fails. Waits briefly for the lock of
-- each table: the writers of a table queue behind who waits.
create function realtime.cdc_reconcile(exact oid default null) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  step record;
  failures text[] := '{}';
begin
  if not exists (select from realtime.cdc_difference()) then
    return failures;
  end if;
  perform pg_advisory_xact_lock(hashtextextended('realtime.cdc_tables', 0));
  for step in select * from realtime.cdc_difference() where exact is null or root_relid = exact loop
    begin
      if step.events is null then
        perform realtime.cdc_uninstall(step.relid);
      else
        perform realtime.cdc_install(step.relid, step.root_relid, step.events);
      end if;
    exception when others then
      if exact is not null then
        raise;
      end if;
      failures := failures || format('%s: %s', step.relid::pg_catalog.regclass, sqlerrm);
    end;
  end loop;
  return failures;
end
$$;

-- The same for who asked by name: two seconds of patience, in turns that let the table's writers through.
create function realtime.cdc_reconcile_patiently(exact oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  failure text;
begin
  for turn in 1..8 loop
    begin
      foreach failure in array realtime.cdc_reconcile(exact) loop
        raise warning 'row changes are not captured as wanted yet: %', failure;
      end loop;
      return;
    exception when lock_not_available then
      if turn = 8 then
        raise exception 'the table is in use, and capture could not be changed within two seconds'
          using errcode = 'lock_not_available', hint = 'Try again, or end the transactions that hold the table.';
      end if;
    end;
    perform pg_sleep(0.05);
  end loop;
end
$$;

-- The name under which a target is kept: `schema.table` or `schema.*`, as the catalogue spells it. An exact
-- spelling wins, then SQL's reading of it (quotes kept, the rest folded); a bare table is in public.
create function realtime.cdc_target(target text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  parts text[];
  spelling text := btrim(coalesce(target, ''));
  found_name text;
  found_table record;
begin
  if spelling ~ '^[^.]+\.\*$' then
    parts := array[btrim(left(spelling, -2), '"'), '*'];
    if not exists (select from pg_catalog.pg_namespace where nspname = parts[1]) then
      raise exception 'there is no schema "%"', parts[1] using errcode = 'NS002';
    end if;
    if parts[1] in ('realtime', 'pg_catalog', 'information_schema') then
      raise exception 'schema "%" may not be followed', parts[1] using errcode = 'NS007';
    end if;
    return parts[1] || '.*';
  end if;
  begin
    parts := parse_ident(spelling);
  exception when others then
    parts := null;
  end;
  select n.nspname || '.' || c.relname as name, c.oid, c.relkind, c.relpersistence into found_table
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind not in ('i', 'I', 't', 'S', 'c') and (
    n.nspname || '.' || c.relname in (spelling, 'public.' || spelling)
    or (n.nspname, c.relname) in (
      (parts[1]::pg_catalog.name, parts[2]::pg_catalog.name), ('public', parts[1]::pg_catalog.name))
      and cardinality(parts) = case when n.nspname = parts[1] and c.relname = parts[2] then 2 else 1 end)
  order by n.nspname || '.' || c.relname = spelling desc, n.nspname || '.' || c.relname = 'public.' || spelling desc
  limit 1;
  found_name := found_table.name;
  if found_name is null then
    if parts is null or cardinality(parts) > 2 then
      raise exception '"%" is not the name of a table', target
        using errcode = 'NS001', hint = 'Write schema.table, schema.* or the bare name of a table in public.';
    end if;
    raise exception 'there is no table "%"', array_to_string(
        case when cardinality(parts) = 1 then array['public'] || parts else parts end, '.')
      using errcode = 'NS002', hint = 'Create the table first, or check the spelling: schema.table.';
  end if;
  if found_table.relkind not in ('r', 'p') then
    raise exception '"%" is not a table', found_name
      using errcode = 'NS003', hint = 'Row changes are captured from tables; follow the tables behind it.';
  end if;
  if found_table.relpersistence = 't' then
    raise exception '"%" is a temporary table', found_name
      using errcode = 'NS003', hint = 'Only the session that made it can see its rows.';
  end if;
  if realtime.cdc_is_foreign_within(found_table.oid) then
    raise exception '"%" has a foreign table among its partitions or heirs', found_name
      using errcode = 'NS003', hint = 'PostgreSQL does not tell what changes there; follow the other partitions by name.';
  end if;
  if found_name ~ '^(realtime|pg_catalog|information_schema)\.' then
    raise exception 'table "%" may not be followed', found_name using errcode = 'NS007';
  end if;
  return found_name;
end
$$;

-- Follows a table (or every table of a schema) and returns the subscription. Again: replaces its events.
create function realtime.subscribe(target text, events text[] default null, filter text default null)
returns realtime.subscriptions
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  wanted text[];
  stray text;
  result realtime.subscriptions;
begin
  select array_agg(distinct upper(btrim(e))) into wanted
    from unnest(events) e where btrim(e) <> '';
  wanted := case when wanted is null or '*' = any (wanted) or 'ALL' = any (wanted)
    then '{INSERT,UPDATE,DELETE}' else wanted end;
  select e into stray from unnest(wanted) e where e <> all ('{INSERT,UPDATE,DELETE}'::text[]) limit 1;
  if stray is not null then
    raise exception '"%" is not an event', stray
      using errcode = 'NS004', hint = 'Events are INSERT, UPDATE and DELETE, separated by commas.';
  end if;
  if btrim(filter) <> '' then
    raise exception 'a subscription cannot filter rows yet: "%"', filter
      using errcode = 'NS005', hint = 'Leave the filter out here and give it where the client listens.';
  end if;
  -- In the documented order, whatever the order given.
  wanted := array(select e from unnest('{INSERT,UPDATE,DELETE}'::text[]) with ordinality as t (e, n)
                  where e = any (wanted) order by n);
  insert into realtime.subscriptions as s (table_name, events) values (realtime.cdc_target(target), wanted)
  on conflict (table_name) do update set events = excluded.events, filter = null, updated_at = now()
  returning s.* into result;
  perform realtime.cdc_reconcile_patiently((
    select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname || '.' || c.relname = result.table_name));
  return result;
end
$$;

-- Stops following: by the table's name or the subscription's id. Returns the subscription that was.
create function realtime.unsubscribe(target text) returns realtime.subscriptions
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  spelling text := btrim(coalesce(target, ''));
  result realtime.subscriptions;
begin
  -- The name may be that of a table which is gone, so it is looked up among the subscriptions only.
  delete from realtime.subscriptions where id = (
    select id from realtime.subscriptions
    where id::text = lower(spelling)
       or table_name in (spelling, 'public.' || spelling, lower(spelling), 'public.' || lower(spelling),
                         replace(spelling, '"', ''), 'public.' || replace(spelling, '"', ''))
    order by table_name = spelling desc, table_name = 'public.' || spelling desc limit 1)
  returning * into result;
  if not found then
    raise exception 'there is no subscription "%"', target
      using errcode = 'NS006', hint = 'Give a followed table, schema.*, or the id of a subscription.';
  end if;
  perform realtime.cdc_reconcile_patiently((
    select root_relid from realtime.cdc_tables
    where dropped_at is null and schema_name || '.' || table_name = result.table_name limit 1));
  return result;
end
$$;

-- Only who owns the schema calls any of this; trigger functions fire without a grant.
do $$
declare
  routine regprocedure;
begin
  for routine in select oid::regprocedure from pg_proc
                 where pronamespace = 'realtime'::regnamespace and proname not in ('topic', 'cdc_image') loop
    execute format('revoke execute on function %s from public', routine);
  end loop;
end
$$;
