-- Puts capture on a table and takes it off: one trigger function a table, one statement trigger an event.

-- A name of at most 63 bytes: one that is longer is cut and ends in a digest of the whole; so does one that
-- `apart` sets apart from an equal name.
create function realtime.cdc_name(wanted text, apart text default null) returns text
language plpgsql immutable set search_path = '' as $$
declare
  cut text := wanted;
begin
  if octet_length(wanted) <= 63 and apart is null then
    return wanted;
  end if;
  while octet_length(cut) > 50 loop
    cut := left(cut, -1);
  end loop;
  return cut || '_' || left(md5(coalesce(apart, wanted)), 12);
end
$$;

-- The session settings a table's images depend on, as clauses of its trigger function. Each costs a writer
-- 0.7 µs a statement, so a table pays only for the types it has.
create function realtime.cdc_settings(target oid) returns text
language sql stable set search_path = '' as $$
  select case
    when bool_and(plain) then ''
    when bool_and(plain or zoned) then ' set timezone = ''UTC'''
    else ' set timezone = ''UTC'' set datestyle = ''ISO'' set intervalstyle = ''postgres'''
      || ' set bytea_output = ''hex'' set extra_float_digits = 1'
  end
  from (
    select atttypid = any (array['bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'uuid',
             'json', 'jsonb', 'date', 'time', 'timestamp']::pg_catalog.regtype[]::oid[]) as plain,
           atttypid = any (array['timestamptz']::pg_catalog.regtype[]::oid[]) as zoned
    from pg_catalog.pg_attribute
    where attrelid = target and attnum > 0 and not attisdropped
  ) columns
$$;

-- The body of a trigger function. Rules it keeps, each the cure of a failure: no column is named (a rename
-- would break the user's writes), the row alias cannot be a column's name and is always read as alias.*,
-- to_json and not jsonb (which refuses \u0000), no exception block (a sub-transaction a statement), and
-- no image of a row so large that its JSON would pass 1 GB.
create function realtime.cdc_body(partitioned boolean) returns text
language plpgsql immutable set search_path = '' as $$
declare
  image text := 'case when pg_column_size(__nself_row.*) <= 200000000 then to_json(__nself_row.*) end';
  -- Old and new rows of an update come in the same order and pair by number; keys may change, so not by key.
  -- Only where rows move between partitions can a trigger swallow one and spoil the pairing.
  paired text := replace($sql$
      insert into realtime.SLOT (relid, op, new, old)
      select tg_relid, 'U', n.image, o.image
      from (select row_number() over () as k, IMAGE as image from realtime_new as __nself_row) n
      join (select row_number() over () as k, IMAGE as image from realtime_old as __nself_row) o using (k)
      order by k;$sql$, 'IMAGE', image);
  apart text := replace($sql$
      insert into realtime.SLOT (relid, op, old) select tg_relid, 'D', IMAGE from realtime_old as __nself_row;
      insert into realtime.SLOT (relid, op, new) select tg_relid, 'I', IMAGE from realtime_new as __nself_row;$sql$, 'IMAGE', image);
  branch text := replace($sql$
    if tg_op = 'INSERT' then
      insert into realtime.SLOT (relid, op, new) select tg_relid, 'I', IMAGE from realtime_new as __nself_row;
    elsif tg_op = 'UPDATE' then UPDATE_BLOCK
    elsif tg_op = 'DELETE' then
      insert into realtime.SLOT (relid, op, old) select tg_relid, 'D', IMAGE from realtime_old as __nself_row;
    else
      insert into realtime.SLOT (relid, op) values (tg_relid, 'T');
    end if;$sql$, 'IMAGE', image);
begin
  branch := replace(branch, 'UPDATE_BLOCK', case when partitioned then format($sql$
      if (select count(*) from realtime_new) = (select count(*) from realtime_old) then %s
      else %s
      end if;$sql$, paired, apart) else paired end);
  return format($sql$
declare
  word bigint := pg_sequence_last_value('realtime.cdc_ctl'::pg_catalog.regclass);
begin
  if word & 3 = 0 then%s
  elsif word & 3 = 1 then%s
  else
    return null;
  end if;
  if word > 3 then
    if found and word >> 2 > date_part('epoch', clock_timestamp()) then
      perform pg_notify('realtime:cdc', '');
    end if;
  end if;
  return null;
end
$sql$, replace(branch, 'SLOT', 'changes_a'), replace(branch, 'SLOT', 'changes_b'));
end
$$;

-- Takes capture off one table; leaves no trigger and no function behind.
create function realtime.cdc_uninstall(target oid) returns void
language plpgsql set search_path = '' as $$
declare
  entry realtime.cdc_tables;
  trigger_name name;
begin
  update realtime.cdc_tables set dropped_at = now()
    where relid = target and dropped_at is null returning * into entry;
  if not found then
    return;
  end if;
  for trigger_name in
    select t.tgname from pg_catalog.pg_trigger t
    join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where t.tgrelid = target and p.proname = entry.function_name and p.pronamespace = 'realtime'::pg_catalog.regnamespace
  loop
    execute format('drop trigger %I on %s', trigger_name, target::pg_catalog.regclass);
  end loop;
  execute format('drop function if exists realtime.%I()', entry.function_name);
end
$$;

-- Puts capture of the given events on one table, in place of what was there.
create function realtime.cdc_install(target oid, root oid, wanted text[]) returns void
language plpgsql set search_path = '' as $$
declare
  relation record;
  trigger_function text;
  event text;
begin
  perform realtime.cdc_uninstall(target);
  select n.nspname, c.relname, c.relkind, c.relispartition into strict relation
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = target;

  trigger_function := realtime.cdc_name('notify_' || relation.nspname || '_' || relation.relname);
  -- a_b.c and a.b_c want the same name: the second gets a digest of where it lives.
  if exists (select from pg_catalog.pg_proc where proname = trigger_function
             and pronamespace = 'realtime'::pg_catalog.regnamespace) then
    trigger_function := realtime.cdc_name('notify_' || relation.nspname || '_' || relation.relname,
      relation.nspname || '.' || relation.relname);
  end if;
  execute format('create function realtime.%I() returns trigger language plpgsql security definer set search_path = ''''%s as %L',
    trigger_function, realtime.cdc_settings(target), realtime.cdc_body(relation.relkind = 'p'));
  execute format('revoke execute on function realtime.%I() from public', trigger_function);

  -- Truncation is always captured: it deletes, inserts nothing, and no narrowing of events should hide it.
  foreach event in array wanted || '{TRUNCATE}'::text[] loop
    execute format('create trigger %I after %s on %s%s for each statement execute function realtime.%I()',
      realtime.cdc_name('realtime_' || lower(event) || '_' || relation.relname),
      event, target::pg_catalog.regclass,
      case event when 'INSERT' then ' referencing new table as realtime_new'
                 when 'UPDATE' then ' referencing new table as realtime_new old table as realtime_old'
                 when 'DELETE' then ' referencing old table as realtime_old'
                 else '' end,
      trigger_function);
  end loop;

  insert into realtime.cdc_tables (relid, root_relid, schema_name, table_name, function_name, events)
    select target, root, n.nspname, c.relname, trigger_function, wanted
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = root
  on conflict (relid) do update set root_relid = excluded.root_relid, schema_name = excluded.schema_name,
    table_name = excluded.table_name, function_name = excluded.function_name, events = excluded.events,
    installed_at = now(), dropped_at = null;
end
$$;
