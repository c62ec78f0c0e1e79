-- Filters of subscriptions: read token by token and written anew, so that nothing but comparisons of the table's columns
-- can be in one, and evaluated as the role that may do nothing.

-- A condition on `image.column` from a filter in SQL's form (status = 'open' and price > 5) or Supabase's (status=eq.open).
-- Raises NS005 and says where it does not understand. Whether types fit is seen when it is first evaluated.
create function realtime.cdc_condition(target oid, filter text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  columns text[] := array(select attname::text from pg_catalog.pg_attribute
                          where attrelid = target and attnum > 0 and not attisdropped order by attnum);
  rest text := btrim(filter, E' \t\r\n');
  condition text := '';
  depth integer := 0;
  may_open boolean := true;
  token text;
  name text;
  part text[];
begin
  if length(filter) > 1000 then
    raise exception 'the filter is longer than 1000 characters' using errcode = 'NS005';
  end if;
  part := regexp_match(rest, '^([^=<>!\s]+)=(not\.)?(eq|neq|lt|lte|gt|gte|like|ilike|is|in)\.(.*)$');
  if part is not null then
    name := btrim(part[1], '"');
    if name <> all (columns) then
      raise exception 'the table has no column "%" for the filter to ask', name
        using errcode = 'NS005', hint = 'Its columns are: ' || array_to_string(columns, ', ');
    end if;
    if part[3] = 'is' and lower(part[4]) not in ('null', 'true', 'false', 'unknown') then
      raise exception 'a filter with "is" takes null, true, false or unknown' using errcode = 'NS005';
    end if;
    if part[3] = 'in' and part[4] !~ '^\(.+\)$' then
      raise exception 'a filter with "in" takes a list such as (1,2,3)' using errcode = 'NS005';
    end if;
    return case when part[2] is null then '' else 'not ' end || format('(image.%I %s)', name, case part[3]
      when 'is' then 'is ' || lower(part[4])
      when 'in' then 'in (' || (select string_agg(quote_literal(btrim(v[1], ' "')), ', ')
        from regexp_matches(substr(part[4], 2, length(part[4]) - 2), '("[^"]*"|[^,]+)', 'g') v) || ')'
      when 'like' then 'like ' || quote_literal(replace(part[4], '*', '%'))
      when 'ilike' then 'ilike ' || quote_literal(replace(part[4], '*', '%'))
      else case part[3] when 'eq' then '=' when 'neq' then '<>' when 'lt' then '<' when 'lte' then '<='
                        when 'gt' then '>' else '>=' end || ' ' || quote_literal(part[4]) end);
  end if;
  while rest <> '' loop
    part := regexp_match(rest,
      '^(?:(''(?:[^'']|'''')*'')|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![[:alnum:]_])|("(?:[^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*)|(<>|!=|<=|>=|=|<|>)|([(),]))\s*');
    if part is null then
      raise exception 'the filter is not understood at: %', left(rest, 40)
        using errcode = 'NS005', hint = 'It compares columns with values, such as: status = ''open'' and (price > 5 or price is null).';
    end if;
    rest := regexp_replace(rest,
      '^(?:''(?:[^'']|'''')*''|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![[:alnum:]_])|"(?:[^"]|"")+"|[[:alpha:]_][[:alnum:]_$]*|<>|!=|<=|>=|=|<|>|[(),])\s*', '');
    if part[1] is not null then
      token := quote_literal(replace(substr(part[1], 2, length(part[1]) - 2), '''''', ''''));
    elsif part[2] is not null then
      token := part[2];
    elsif part[3] is not null and lower(part[3]) in ('and', 'or', 'not', 'is', 'null', 'true', 'false', 'unknown',
        'in', 'like', 'ilike', 'between', 'distinct', 'from') then
      token := lower(part[3]);
    elsif part[3] is not null then
      name := case when part[3] like '"%' then replace(substr(part[3], 2, length(part[3]) - 2), '""', '"') else part[3] end;
      -- As SQL reads it first, then as it is spelt.
      if part[3] not like '"%' and lower(name) = any (columns) then
        name := lower(name);
      end if;
      if name <> all (columns) then
        raise exception 'the table has no column "%" for the filter to ask', name
          using errcode = 'NS005', hint = 'Its columns are: ' || array_to_string(columns, ', ') || '. Values stand in single quotes.';
      end if;
      token := format('image.%I', name);
    else
      token := coalesce(part[4], part[5]);
    end if;
    -- What opens behind a name or a value would be a call.
    if token = '(' and not may_open then
      raise exception 'the filter may call no function, at: (%', left(rest, 40) using errcode = 'NS005';
    end if;
    depth := depth + case token when '(' then 1 when ')' then -1 else 0 end;
    if depth < 0 then
      raise exception 'the filter closes a parenthesis that it has not opened' using errcode = 'NS005';
    end if;
    may_open := part[4] is not null or token in ('(', ',', 'and', 'or', 'not', 'in', 'between', 'like', 'ilike', 'from');
    condition := condition || token || ' ';
  end loop;
  if depth > 0 or condition = '' then
    raise exception 'the filter ends too early' using errcode = 'NS005';
  end if;
  return condition;
end
$$;

-- Makes the function that says whether a row fits, and returns its name. A row of which that cannot be said, because its
-- columns are others by now, does not fit, and the user's write goes on.
create function realtime.cdc_make_filter(target oid, filter text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  condition text := realtime.cdc_condition(target, filter);
  -- No part of it is a user's word: it becomes part of the trigger function.
  name text := realtime.cdc_name('matches_' || target,
    array(select proname::text from pg_catalog.pg_proc where pronamespace = 'realtime'::pg_catalog.regnamespace));
  body text;
begin
  -- First without its safeguard, so that what PostgreSQL has to say of the condition is said now.
  foreach body in array array['', ' exception when others then return false;'] loop
    if body <> '' then
      execute format('drop function realtime.%I(record)', name);
    end if;
    begin
      execute format('create function realtime.%I(image record) returns boolean language plpgsql stable security definer set search_path = pg_catalog, pg_temp as %L',
        name, format('begin return coalesce((%s), false);%s end', condition, body));
      execute format('revoke execute on function realtime.%I(record) from public', name);
      execute format('grant execute on function realtime.%I(record) to %I', name, current_user);
      grant create on schema realtime to nself_realtime_capture;
      execute format('alter function realtime.%I(record) owner to nself_realtime_capture', name);
      revoke create on schema realtime from nself_realtime_capture;
      execute format('select realtime.%I(r) from (select (null::%s).*) r', name, target::pg_catalog.regclass);
    exception when others then
      raise exception 'the filter does not fit the table: %', sqlerrm using errcode = 'NS005', detail = filter;
    end;
  end loop;
  return name;
end
$$;

-- What a table's trigger function is made of; a new version of its body is a new number here.
create function realtime.cdc_definition(target oid, filter text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select concat_ws(' ', '14', realtime.cdc_settings(target), filter, case when filter is not null then
    (select md5(string_agg(concat_ws(' ', attname, atttypid, atttypmod), ',' order by attnum))
     from pg_catalog.pg_attribute where attrelid = target and attnum > 0 and not attisdropped) end)
$$;

-- Money is written as the session's locale has it.
create or replace function realtime.cdc_settings(target oid) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select case
    when bool_and(plain) then ''
    when bool_and(plain or zoned) then ' set timezone = ''UTC'''
    else ' set timezone = ''UTC'' set datestyle = ''ISO'' set intervalstyle = ''postgres'''
      || ' set bytea_output = ''hex'' set extra_float_digits = 1'
      || case when bool_or(money) then ' set lc_monetary = ''C''' else '' end
  end
  from (
    select atttypid = any (array['bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'uuid',
             'json', 'jsonb', 'date', 'time', 'timestamp']::pg_catalog.regtype[]::oid[]) as plain,
           atttypid = any (array['timestamptz']::pg_catalog.regtype[]::oid[]) as zoned,
           atttypid = any (array['money', '_money']::pg_catalog.regtype[]::oid[]) as money
    from pg_catalog.pg_attribute
    where attrelid = target and attnum > 0 and not attisdropped
  ) columns
$$;

-- Takes capture off one table; leaves no trigger and no function behind.
create or replace function realtime.cdc_uninstall(target oid) returns void
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
  if entry.filter_function is not null then
    execute format('drop function if exists realtime.%I(record)', entry.filter_function);
  end if;
end
$$;

-- Puts capture of the given events on one table, in place of what was there; of rows that fit `filter`, if there is one.
drop function realtime.cdc_install(oid, oid, text[]);
create function realtime.cdc_install(target oid, root oid, wanted text[], filter text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  relation record;
  trigger_function text;
  filter_function text;
  settings text := realtime.cdc_settings(target);
  event text;
begin
  perform realtime.cdc_uninstall(target);
  select n.nspname, c.relname, c.relkind into strict relation
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = target;
  if filter is not null then
    filter_function := realtime.cdc_make_filter(target, filter);
  end if;

  -- a_b.c and a.b_c want the same name.
  trigger_function := realtime.cdc_name('notify_' || relation.nspname || '_' || relation.relname,
    array(select proname::text from pg_catalog.pg_proc where pronamespace = 'realtime'::pg_catalog.regnamespace));
  execute format('create function realtime.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp%s as %L',
    trigger_function, settings, realtime.cdc_body(relation.relkind = 'p',
      'realtime.' || filter_function || '(%s)'));
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

  insert into realtime.cdc_tables (relid, root_relid, schema_name, table_name, function_name, events, settings,
      filter, filter_function, definition)
    select target, root, n.nspname, c.relname, trigger_function, wanted, settings, filter,
      filter_function, realtime.cdc_definition(target, filter)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = root
  on conflict (relid) do update set root_relid = excluded.root_relid, schema_name = excluded.schema_name,
    table_name = excluded.table_name, function_name = excluded.function_name, events = excluded.events,
    settings = excluded.settings, filter = excluded.filter, filter_function = excluded.filter_function,
    definition = excluded.definition, installed_at = now(), dropped_at = null;
end
$$;

-- Follows a table (or every table of a schema) and returns the subscription. Again: replaces its events, filter, options.
-- Options: {"notify": false} sends no `realtime:table:schema.table` notification to sessions that LISTEN.
-- NS005 now is a filter that is not understood or does not fit, NS008 an unknown option.
drop function realtime.subscribe(text, text[], text);
create function realtime.subscribe(target text, events text[] default null, filter text default null, options jsonb default null)
returns realtime.subscriptions
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  wanted text[];
  stray text;
  name text := realtime.cdc_target(target);
  condition text := nullif(btrim(filter), '');
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
  if condition is not null and name like '%.*' then
    raise exception 'a filter asks the columns of one table, and "%" is many', name
      using errcode = 'NS005', hint = 'Follow the table by name.';
  end if;
  if jsonb_typeof(coalesce(options, '{}')) <> 'object' or coalesce(options, '{}') - 'notify' <> '{}'
    or jsonb_typeof(coalesce(options -> 'notify', 'true')) <> 'boolean' then
    raise exception 'these are no options of a subscription: %', options
      using errcode = 'NS008', hint = 'The option is {"notify": false}.';
  end if;
  -- In the documented order, whatever the order given.
  wanted := array(select e from unnest('{INSERT,UPDATE,DELETE}'::text[]) with ordinality as t (e, n)
                  where e = any (wanted) order by n);
  insert into realtime.subscriptions as s (table_name, events, filter, options)
    values (name, wanted, condition, coalesce(subscribe.options, '{}'))
  on conflict (table_name) do update set events = excluded.events, filter = excluded.filter, options = excluded.options,
    updated_at = now()
  returning s.* into result;
  perform realtime.cdc_reconcile_patiently((
    select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname || '.' || c.relname = name));
  return result;
end
$$;
