-- Capture follows tables and subscriptions one table at a time, each in a transaction of its own where the listener does
-- it: locks on two thousand tables at once would stop all of their writers.
drop function realtime.cdc_difference();
drop function realtime.cdc_wanted();

-- Every table that capture should be on, with its events: the subscription of a table before that of its schema, and
-- each partition with the root that it belongs to. `one` asks for one table.
create function realtime.cdc_wanted(one oid default null)
returns table (relid oid, root_relid oid, events text[], filter text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select distinct on (member.relid) member.relid::oid, c.oid, s.events, s.filter
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  -- By equal names: two thousand subscriptions by two thousand tables would take half a second.
  cross join lateral (values (n.nspname || '.' || c.relname), (n.nspname || '.*')) spelling (name)
  join realtime.subscriptions s on s.table_name = spelling.name
  cross join lateral (
    select c.oid::pg_catalog.regclass as relid
    union
    select t.relid from pg_partition_tree(c.oid) t
    join pg_catalog.pg_class leaf on leaf.oid = t.relid where c.relkind = 'p' and leaf.relkind in ('r', 'p')
  ) member
  where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not in ('realtime', 'pg_catalog', 'information_schema')
    and (one is null or member.relid = one)
    and (one is null or c.oid = one or c.oid in (select a.relid from pg_partition_ancestors(one) a))
    and (not c.relhassubclass or not realtime.cdc_is_foreign_within(c.oid))
    and (not c.relispartition or s.table_name = n.nspname || '.' || c.relname)
  order by member.relid, (s.table_name = n.nspname || '.' || c.relname) desc
$$;

-- Where capture is not as wanted: tables to put it on anew, and (without events) tables to take it off.
create function realtime.cdc_difference(one oid default null)
returns table (relid oid, root_relid oid, events text[], filter text)
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(w.relid, t.relid), coalesce(w.root_relid, t.root_relid), w.events, w.filter
  from realtime.cdc_wanted(one) w
  full join (select * from realtime.cdc_tables where dropped_at is null and (one is null or relid = one)) t on t.relid = w.relid
  left join pg_catalog.pg_class r on r.oid = w.root_relid
  left join pg_catalog.pg_namespace n on n.oid = r.relnamespace
  where (w.root_relid, w.events, realtime.cdc_definition(w.relid, w.filter), r.relname, n.nspname) is distinct from
    (t.root_relid, t.events, t.definition, t.table_name::pg_catalog.name, t.schema_name::pg_catalog.name)
  order by w.relid nulls first
$$;

-- Makes capture of one table match the subscriptions. Waits briefly for the lock of the table: its writers queue behind
-- who waits.
create function realtime.cdc_follow(target oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  step record;
begin
  perform pg_advisory_xact_lock(hashtextextended('realtime.cdc_tables', 0));
  for step in select * from realtime.cdc_difference(target) loop
    if step.events is null then
      perform realtime.cdc_uninstall(step.relid);
    else
      perform realtime.cdc_install(step.relid, step.root_relid, step.events, step.filter);
    end if;
  end loop;
end
$$;

-- Makes capture match the subscriptions, in this transaction and so for 200 tables at most, and returns of each table
-- where it could not why; where it matches already it takes no lock. With `exact` it sees to that table alone, and raises
-- what fails.
create or replace function realtime.cdc_reconcile(exact oid default null) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  step record;
  failures text[] := '{}';
begin
  for step in select * from realtime.cdc_difference() where exact is null or root_relid = exact limit case when exact is null then 200 end loop
    begin
      perform realtime.cdc_follow(step.relid);
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

-- Two seconds of patience for who asked by name, in turns that let the table's writers through.
create or replace function realtime.cdc_reconcile_patiently(exact oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  failure text;
  failures text[];
  missing bigint;
begin
  for turn in 1..8 loop
    begin
      failures := realtime.cdc_reconcile(exact);
      foreach failure in array failures loop
        raise warning 'row changes are not captured as wanted yet: %', failure;
      end loop;
      exit;
    exception when lock_not_available then
      if turn = 8 then
        raise exception 'the table is in use, and capture could not be changed within two seconds'
          using errcode = 'lock_not_available', hint = 'Try again, or end the transactions that hold the table.';
      end if;
    end;
    perform pg_sleep(0.05);
  end loop;
  if exact is null then
    select count(*) - cardinality(failures) into missing from realtime.cdc_difference();
    if missing > 0 then
      raise warning 'row changes of % more tables are captured as soon as the listener comes to them', missing;
    end if;
  end if;
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'nself_realtime_ddl' and evtenabled in ('O', 'A')) then
    raise notice 'tables made later are found by the listener, within two seconds: this database has no event trigger of ours';
  end if;
end
$$;

-- Sees to the tables of this command alone. A table that is made and gone with its session is none of ours.
create or replace function realtime.cdc_on_ddl() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  target oid;
begin
  -- A published table keeps its place in the publication under another name (0033, which may be yet to come).
  begin
    if to_regprocedure('realtime.cdc_follow_publication(boolean)') is not null then
      perform realtime.cdc_follow_publication();
    end if;
  exception when others then
    raise warning 'realtime could not follow the publication yet: %', sqlerrm;
  end;
  -- The subscriptions themselves change nothing by DDL, and a failure here is never the user's failure.
  if not exists (select from realtime.subscriptions) then
    return;
  end if;
  for target in
    select distinct member.relid::oid from (
      select c.oid, c.relkind from pg_event_trigger_ddl_commands() command
      join pg_catalog.pg_class c on c.oid = command.objid and command.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
      where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't'
    ) c
    cross join lateral (
      select c.oid::pg_catalog.regclass as relid
      union all select t.relid from pg_partition_tree(c.oid) t where c.relkind = 'p'
      -- A foreign table that became a partition has capture taken off the whole.
      union all select a.relid from pg_partition_ancestors(c.oid) a
      union all select i.inhparent::pg_catalog.regclass from pg_catalog.pg_inherits i where i.inhrelid = c.oid
      -- A partition that was let go is not below it any more, and still known to be.
      union all select t.relid::pg_catalog.regclass from realtime.cdc_tables t where t.root_relid = c.oid and t.dropped_at is null
    ) member
    order by 1
  loop
    begin
      if exists (select from realtime.cdc_difference(target)) then
        perform realtime.cdc_follow(target);
      end if;
    exception when others then
      raise warning 'realtime could not follow this change of tables: %: %', target::pg_catalog.regclass, sqlerrm;
    end;
  end loop;
exception when others then
  raise warning 'realtime could not follow this change of tables: %', sqlerrm;
end
$$;

-- Only who owns the schema calls any of this; trigger functions fire without a grant.
do $$
declare
  routine regprocedure;
begin
  for routine in select oid::regprocedure from pg_proc where pronamespace = 'realtime'::regnamespace
      and (proname like 'cdc\_%' and proname <> 'cdc_image' or proname = 'subscribe') loop
    execute format('revoke execute on function %s from public', routine);
  end loop;
end
$$;
