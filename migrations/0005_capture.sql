-- Puts capture on a table and takes it off: one trigger function a table, one statement trigger an event.

-- A name of at most 63 bytes that is not among those taken: one that is longer is cut and ends in a digest of the
-- whole, one that is taken ends in a digest too.
create function realtime.cdc_name(wanted text, taken text[]) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  cut text := wanted;
  name text := wanted;
  turn integer := 0;
begin
  while octet_length(cut) > 50 loop
    cut := left(cut, -1);
  end loop;
  while octet_length(name) > 63 or name = any (taken) loop
    name := cut || '_' || left(md5(wanted || case when turn > 0 then turn::text else '' end), 12);
    turn := turn + 1;
  end loop;
  return name;
end
$$;

-- The session settings a table's images depend on, as clauses of its trigger function. Each costs a writer
-- 0.7 µs a statement, so a table pays only for the types it has.
create function realtime.cdc_settings(target oid) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
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

-- The JSON of a row; null where it cannot be made, such as one that would pass 1 GB: a user's write never fails of it.
-- A column's type may bring a cast to json, which is its owner's code. So this runs as a role that may do nothing, which
-- also owns it; nothing here writes, so the block of the exception costs no transaction number.
do $$
declare
  creator name := current_user;
  acting text := current_setting('role');
begin
  grant usage, create on schema realtime to nself_realtime_capture;
  set local role nself_realtime_capture;
  create function realtime.cdc_image(image record) returns json
  language plpgsql stable security definer as $image$
  begin
    return pg_catalog.to_json(image);
  exception when others then
    return null;
  end
  $image$;
  revoke execute on function realtime.cdc_image(record) from public;
  execute format('grant execute on function realtime.cdc_image(record) to %I', creator);
  perform set_config('role', acting, true);
  revoke usage, create on schema realtime from nself_realtime_capture;
exception when insufficient_privilege then
  raise exception '% may not act as role "nself_realtime_capture"', current_user
    using errcode = 'insufficient_privilege',
          hint = format('An administrator runs: grant nself_realtime_capture to %I;', current_user);
end
$$;

-- The body of a trigger function. Rules it keeps, each the cure of a failure: no column is named (a rename
-- would break the user's writes), the row alias cannot be a column's name and is always read as alias.*,
-- to_json and not jsonb (which refuses \u0000), no exception block around what writes (a sub-transaction a
-- statement), no image of a row so large that its JSON would fill the memory, and no name looked up once
-- images were made: the code of a cast may have left another search_path behind.
create function realtime.cdc_body(partitioned boolean) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  image text := 'case when pg_column_size(__nself_row.*) <= 16000000 then realtime.cdc_image(__nself_row.*) end';
  -- Old and new rows of an update come in the same order and pair by number; keys may change, so not by key.
  -- Only where rows move between partitions can a trigger swallow one and spoil the pairing.
  paired text := replace($sql$
      insert into realtime.SLOT (relid, op, new, old)
      select tg_relid, 'U', n.image, o.image
      from (select row_number() over () as k, IMAGE as image from realtime_new as __nself_row) n
      join (select row_number() over () as k, IMAGE as image from realtime_old as __nself_row) o using (k)
      order by k;$sql$, 'IMAGE', image);
  apart text := replace($sql$
      insert into realtime.SLOT (relid, op, new, old)
      select tg_relid, 'D'::"char", null::json, IMAGE from realtime_old as __nself_row
      union all select tg_relid, 'I'::"char", IMAGE, null::json from realtime_new as __nself_row;$sql$, 'IMAGE', image);
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
  ring boolean := word > 3 and word >> 2 > date_part('epoch', clock_timestamp());
begin
  if word & 3 = 0 then%s
  elsif word & 3 = 1 then%s
  else
    return null;
  end if;
  if ring and found then
    perform pg_catalog.pg_notify('realtime:cdc', '');
  end if;
  return null;
end
$sql$, replace(branch, 'SLOT', 'changes_a'), replace(branch, 'SLOT', 'changes_b'));
end
$$;

-- Takes capture off one table; leaves no trigger and no function behind.
create function realtime.cdc_uninstall(target oid) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
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
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  relation record;
  trigger_function text;
  settings text := realtime.cdc_settings(target);
  event text;
begin
  perform realtime.cdc_uninstall(target);
  select n.nspname, c.relname, c.relkind, c.relispartition into strict relation
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = target;

  -- a_b.c and a.b_c want the same name.
  trigger_function := realtime.cdc_name('notify_' || relation.nspname || '_' || relation.relname,
    array(select proname::text from pg_catalog.pg_proc where pronamespace = 'realtime'::pg_catalog.regnamespace));
  execute format('create function realtime.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp%s as %L',
    trigger_function, settings, realtime.cdc_body(relation.relkind = 'p'));
  execute format('revoke execute on function realtime.%I() from public', trigger_function);

  -- Truncation is always captured: it deletes, inserts nothing, and no narrowing of events should hide it.
  foreach event in array wanted || '{TRUNCATE}'::text[] loop
    execute format('create trigger %I after %s on %s%s for each statement execute function realtime.%I()',
      realtime.cdc_name('realtime_' || lower(event) || '_' || relation.relname,
        array(select tgname::text from pg_catalog.pg_trigger where tgrelid = target)),
      event, target::pg_catalog.regclass,
      case event when 'INSERT' then ' referencing new table as realtime_new'
                 when 'UPDATE' then ' referencing new table as realtime_new old table as realtime_old'
                 when 'DELETE' then ' referencing old table as realtime_old'
                 else '' end,
      trigger_function);
  end loop;

  insert into realtime.cdc_tables (relid, root_relid, schema_name, table_name, function_name, events, settings)
    select target, root, n.nspname, c.relname, trigger_function, wanted, settings
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = root
  on conflict (relid) do update set root_relid = excluded.root_relid, schema_name = excluded.schema_name,
    table_name = excluded.table_name, function_name = excluded.function_name, events = excluded.events,
    settings = excluded.settings, installed_at = now(), dropped_at = null;
end
$$;
