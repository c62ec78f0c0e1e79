-- Capture of statements of any size, of rows that fit a filter, and of nothing that could fail the user's statement.
--
-- The first 10,000 rows of a statement are captured whole. Of the rest the keys are, 500 to a row of the outbox (op i, u
-- or d), and the listener reads the rows: an image costs 3 µs, a key a tenth of it. A table without a key that can be
-- read back is captured whole throughout.
alter table realtime.subscriptions
  add column options jsonb not null default '{}' check (jsonb_typeof(options) = 'object');

-- What the trigger function was made of: where that differs from what it would be made of now, it is made anew.
alter table realtime.cdc_tables
  add column filter text, add column filter_function text, add column definition text not null default '';

-- Key columns of a table whose rows can be read back by key: those of its primary key, or of the index that is its replica
-- identity. Null where there is none, where heirs of the table could hold a key twice, and where a key's type is a user's
-- own: reading one back would run their code with the listener's rights.
create function realtime.cdc_key(target oid) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
  select array_agg(a.attname::text order by k.position)
  from (
    select i.indrelid, i.indkey, i.indnkeyatts from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indrelid
    where i.indrelid = target and i.indisvalid and (i.indisprimary or i.indisreplident)
      and (c.relkind = 'p' or not c.relhassubclass)
    order by i.indisprimary desc limit 1
  ) i
  cross join unnest(i.indkey) with ordinality as k (attnum, position)
  join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
  join pg_catalog.pg_type t on t.oid = a.atttypid
  where k.position <= i.indnkeyatts
  having bool_and(t.oid < 16384 and t.typtype = 'b' and t.typcategory in ('N', 'S', 'D', 'T', 'U', 'B', 'I', 'V'))
$$;

-- The statement that captures what is past the first 10,000 rows; $1 is the table. `matches` is the call of a filter, or
-- null. It runs inside a trigger function, which alone sees the transition tables, and the catalogue is asked at that
-- moment: columns may have been renamed since the function was made.
create function realtime.cdc_bulk(target oid, op "char", slot text, matches text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  image_of text := 'case when pg_column_size(%1$s) <= 16000000 then realtime.cdc_image(%1$s) end';
  -- The text of a key as JSON, which is a third faster than asking for JSON.
  key text := (select '''{''' || string_agg(format(' || %L || to_json(__nself_row.%I)',
                 case when position > 1 then ',' else '' end || to_json(name) || ':', name), '' order by position) || ' || ''}'''
               from unnest(realtime.cdc_key(target)) with ordinality as k (name, position));
  side text := case when op = 'D' then 'old' else 'new' end;
  fitting text := coalesce(' where ' || format(matches, '__nself_row.*'), '');
  pairs text := format('(select row_number() over () as k, coalesce(__nself_row.*) as r%s from realtime_new as __nself_row) n
      join (select row_number() over () as k, coalesce(__nself_row.*) as r%s from realtime_old as __nself_row) o using (k)%s',
    ', ' || key || ' as key', ', ' || key || ' as key',
    ' where ' || format(matches, 'n.r') || ' or ' || format(matches, 'o.r'));
  new_keys text := format('select row_number() over () as n, %s as key from realtime_%s as __nself_row%s offset 10000', key, side, fitting);
  old_keys text := format('select row_number() over () as n, %s as key from realtime_old as __nself_row offset 10000', key);
  -- Numbered keys in lists of 500.
  lists text := 'select (n - 1) / 500 as list, ''['' || string_agg(key, '','' order by n) || '']'' as keys from (%s) keys group by 1';
begin
  if key is null and op = 'U' then
    return format('insert into realtime.%I (relid, op, new, old) select $1, ''U'', %s, %s from %s order by k offset 10000',
      slot, format(image_of, 'n.r'), format(image_of, 'o.r'), pairs);
  elsif key is null then
    return format('insert into realtime.%I (relid, op, %s) select $1, %L, %s from realtime_%s as __nself_row%s offset 10000',
      slot, side, op, format(image_of, '__nself_row.*'), side, fitting);
  elsif op <> 'U' then
    return format('insert into realtime.%I (relid, op, %s) select $1, %L, keys::json from (%s) lists order by list',
      slot, side, lower(op::text), format(lists, new_keys));
  elsif matches is not null then
    new_keys := format('select row_number() over (order by k) as n, n.key from %s order by k offset 10000', pairs);
    old_keys := format('select row_number() over (order by k) as n, o.key from %s order by k offset 10000', pairs);
  end if;
  -- The keys before are said where they are not those after.
  return format('insert into realtime.%I (relid, op, new, old)
    select $1, ''u'', n.keys::json, case when o.keys <> n.keys then o.keys::json end
    from (%s) n join (%s) o using (list) order by list', slot, format(lists, new_keys), format(lists, old_keys));
end
$$;

-- The body of a trigger function. `matches` is the call of a filter on a row, with a place for the row, or null.
--
-- To the rules of 0005 these are added. A column may be called what a variable is called: the variable is meant. An update
-- is captured when the row fits the filter before or after it: who follows sees it enter and leave. The bell is not rung
-- where a full queue of notifications, or a transaction that is to be prepared, would make the user's commit fail. Where
-- names have to be looked up after images were made, the search_path is set again first. One statement in a hundred sees to
-- the bound of the outbox (0020): a trigger of the outbox itself would cost each of them 4 µs.
drop function realtime.cdc_body(boolean);
create function realtime.cdc_body(partitioned boolean, matches text) returns text
language plpgsql immutable set search_path = pg_catalog, pg_temp as $$
declare
  image_of text := 'case when pg_column_size(%1$s) <= 16000000 then realtime.cdc_image(%1$s) end';
  one text := $sql$
      insert into realtime.SLOT (relid, op, SIDE)
      select tg_relid, 'OP', IMAGE from realtime_SIDE as __nself_row WHERE limit 10000;
      get diagnostics counted = row_count;
      taken := taken or found;
      if counted operator(pg_catalog.=) 10000::pg_catalog.int8 then PATH
        execute realtime.cdc_bulk(tg_relid, 'OP', 'SLOT', MATCHES) using tg_relid;
      end if;$sql$;
  -- Old and new rows of an update come in the same order and pair by number; keys may change, so not by key.
  -- Only where rows move between partitions can a trigger swallow one and spoil the pairing.
  paired text := $sql$
      insert into realtime.SLOT (relid, op, new, old)
      select tg_relid, 'U', NEW_IMAGE, OLD_IMAGE
      from (select row_number() over () as k, coalesce(__nself_row.*) as r from realtime_new as __nself_row INNER) n
      join (select row_number() over () as k, coalesce(__nself_row.*) as r from realtime_old as __nself_row INNER) o using (k) PAIR_WHERE
      order by k limit 10000;
      get diagnostics counted = row_count;
      taken := taken or found;
      if counted operator(pg_catalog.=) 10000::pg_catalog.int8 then PATH
        execute realtime.cdc_bulk(tg_relid, 'U', 'SLOT', MATCHES) using tg_relid;
      end if;$sql$;
  inserted text;
  deleted text;
  branch text;
begin
  one := replace(replace(one, 'IMAGE', format(image_of, '__nself_row.*')), 'WHERE',
    coalesce('where ' || format(matches, '__nself_row.*'), ''));
  inserted := replace(replace(one, 'SIDE', 'new'), 'OP', 'I');
  deleted := replace(replace(one, 'SIDE', 'old'), 'OP', 'D');
  paired := replace(replace(paired, 'NEW_IMAGE', format(image_of, 'n.r')), 'OLD_IMAGE', format(image_of, 'o.r'));
  paired := replace(paired, 'PAIR_WHERE', coalesce('where ' || format(matches, 'n.r') || ' or ' || format(matches, 'o.r'), ''));
  paired := replace(paired, 'INNER', case when matches is null then 'limit 10000' else '' end);
  branch := replace(format($sql$
    if tg_op = 'INSERT' then%s
    elsif tg_op = 'UPDATE' then%s
    elsif tg_op = 'DELETE' then%s
    else
      insert into realtime.SLOT (relid, op) values (tg_relid, 'T');
      taken := true;
    end if;$sql$, inserted, case when partitioned then format($sql$
      if (select count(*) from realtime_new) = (select count(*) from realtime_old) then%s
      else%s
        PATH%s
      end if;$sql$, paired, deleted, inserted) else paired end, deleted), 'MATCHES', quote_nullable(matches));
  branch := replace(branch, 'PATH', $sql$
        perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);$sql$);
  return format($sql$
#variable_conflict use_variable
declare
  word bigint := pg_sequence_last_value(to_regclass('realtime.cdc_ctl'));
  ring boolean := false;
  counted bigint;
  taken boolean := false;
begin
  if word > 3 then
    ring := word >> 2 > date_part('epoch', clock_timestamp())
      and current_setting('max_prepared_transactions') = '0' and pg_notification_queue_usage() < 0.5;
  end if;
  if word & 3 = 0 then%s
  elsif word & 3 = 1 then%s
  else
    return null;
  end if;
  if ring and taken then
    perform pg_catalog.pg_notify('realtime:cdc', '');
  end if;
  if pg_catalog.random() operator(pg_catalog.<) 0.01::pg_catalog.float8 then
    perform realtime.cdc_guard();
  end if;
  return null;
end
$sql$, replace(branch, 'SLOT', 'changes_a'), replace(branch, 'SLOT', 'changes_b'));
end
$$;

-- Rows by key, for the listener: of each key past `after` its number, the key itself and the row as it is now (null where
-- there is none), to 8 MB at a time. Row-level security is not asked, and where it would have to be, this fails.
create function realtime.cdc_hydrate(target oid, keys json, after integer)
returns table (number integer, key text, image text)
language plpgsql stable set search_path = pg_catalog, pg_temp set row_security = off set lock_timeout = '2s'
  set timezone = 'UTC' set datestyle = 'ISO' set intervalstyle = 'postgres' set bytea_output = 'hex' set extra_float_digits = 1 as $$
declare
  bytes bigint := 0;
  statement text := (
    select format($sql$
      select k.number::integer, k.key::text, case when octet_length(r.image::text) <= 64000000 then r.image::text end
      from rows from (json_array_elements($1), json_to_recordset($1) as (%s)) with ordinality as k (key, %s, number)
      left join lateral (
        select case when pg_column_size(__nself_row.*) <= 16000000 then realtime.cdc_image(__nself_row.*) end as image
        from %s as __nself_row where %s limit 1) r on true
      where k.number > $2 order by k.number$sql$,
      string_agg(format('%I %s', a.attname, pg_catalog.format_type(a.atttypid, -1)), ', ' order by n.position),
      string_agg('k' || n.position, ', ' order by n.position),
      target::pg_catalog.regclass,
      string_agg(format('__nself_row.%I = k.k%s', a.attname, n.position), ' and ' order by n.position))
    from unnest(realtime.cdc_key(target)) with ordinality as n (name, position)
    join pg_catalog.pg_attribute a on a.attrelid = target and a.attname = n.name);
begin
  for number, key, image in execute coalesce(statement, 'select ordinality::integer, value::text, null::text
      from json_array_elements($1) with ordinality where ordinality > $2 order by 1') using keys, after
  loop
    return next;
    bytes := bytes + coalesce(octet_length(image), 0);
    exit when bytes > 8000000;
  end loop;
end
$$;
revoke execute on function realtime.cdc_key(oid), realtime.cdc_bulk(oid, "char", text, text),
  realtime.cdc_body(boolean, text), realtime.cdc_hydrate(oid, json, integer) from public;
