-- The publication supabase_realtime: what it publishes is captured, so that an application's own migrations, which add
-- their tables to it, need no further command. Nothing is decoded from the log: the publication is a list of tables.
--
-- NS009: a published table cannot be unsubscribed while the publication is followed.

-- Whether the publication made it. What a person subscribes themselves stays when the publication lets go of it.
alter table realtime.subscriptions add column published boolean not null default false;
-- The listener writes its own setting here, so that it holds while none runs.
alter table realtime.settings add column follow_publication boolean not null default true;

-- What is published and can be captured as it is published, as `schema.table` or `schema.*`. A table of which only some rows
-- or columns are published is not among it: a subscription would show all of them. Nor is one whose name another could be
-- taken for.
create function realtime.cdc_published() returns table (table_name text, events text[])
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
  publication pg_publication;
begin
  select p.* into publication from pg_publication p
    join realtime.settings s on s.follow_publication where p.pubname = 'supabase_realtime';
  events := array_remove(array[case when publication.pubinsert then 'INSERT' end,
    case when publication.pubupdate then 'UPDATE' end, case when publication.pubdelete then 'DELETE' end], null);
  if cardinality(events) = 0 then
    return;
  end if;
  for table_name in
    select n.nspname || '.' || c.relname
    from pg_publication_rel r join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
    where r.prpubid = publication.oid and n.nspname <> 'realtime'
      and (n.nspname || c.relname) !~ '[.]' and c.relname <> '*'
      -- PostgreSQL 14 has neither conditions nor columns there.
      and to_jsonb(r) ->> 'prqual' is null and to_jsonb(r) ->> 'prattrs' is null
      and not realtime.cdc_is_foreign_within(c.oid)
  loop
    return next;
  end loop;
  if publication.puballtables then
    for table_name in
      select distinct n.nspname || '.*' from pg_namespace n join pg_class c on c.relnamespace = n.oid
      where c.relkind in ('r', 'p') and n.nspname not in ('realtime', 'pg_catalog', 'information_schema')
        and n.nspname !~ '^pg_(temp|toast)'
    loop
      return next;
    end loop;
  elsif to_regclass('pg_catalog.pg_publication_namespace') is not null then
    for table_name in
      select n.nspname || '.*' from pg_publication_namespace p join pg_namespace n on n.oid = p.pnnspid
      where p.pnpubid = publication.oid and n.nspname <> 'realtime'
    loop
      return next;
    end loop;
  end if;
end
$$;

-- Makes the subscriptions match the publication, if it is to be followed (null: as was said last), and leaves alone what a
-- person subscribed.
create function realtime.cdc_follow_publication(follow boolean default null) returns void
language sql set search_path = pg_catalog, pg_temp
begin atomic
  update realtime.settings set follow_publication = follow where follow_publication <> follow;
  delete from realtime.subscriptions s where s.published
    and not exists (select from realtime.cdc_published() p where p.table_name = s.table_name);
  -- Only what differs: a row that is in the way is locked, and written, even where it stays as it is.
  insert into realtime.subscriptions as s (table_name, events, published)
    select p.table_name, p.events, true from realtime.cdc_published() p
    left join realtime.subscriptions known on known.table_name = p.table_name
    where known.id is null or known.published and known.events <> p.events
  on conflict (table_name) do update set events = excluded.events, updated_at = now() where s.published;
end;

-- Whoever subscribes by name makes the subscription theirs.
create function realtime.cdc_own_subscription() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  new.published := false;
  return new;
end
$$;
create trigger own before update of filter on realtime.subscriptions
  for each row execute function realtime.cdc_own_subscription();

create function realtime.cdc_keep_published() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  kept text := (select min(p.table_name) from realtime.cdc_published() p join gone using (table_name));
begin
  if kept is not null then
    raise exception '"%" is in the publication supabase_realtime, which is followed', kept
      using errcode = 'NS009', hint = 'Take it out there: alter publication supabase_realtime drop '
        || case when kept like '%.*' then 'tables in schema ' || left(kept, -2) else 'table ' || kept end || ';';
  end if;
  return null;
end
$$;
create trigger keep_published after delete on realtime.subscriptions referencing old table as gone
  for each statement execute function realtime.cdc_keep_published();

-- Follows the publication at once where an event trigger may be made, for a second: the tables that it locks stay locked
-- until the user commits. The rest, and all of it elsewhere, the listener does. A failure here is never the user's failure.
create function realtime.cdc_on_publication() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  target oid;
  until timestamptz := clock_timestamp() + interval '1 second';
begin
  perform realtime.cdc_follow_publication();
  for target in select relid from realtime.cdc_difference() order by relid desc loop
    exit when clock_timestamp() > until;
    begin
      perform realtime.cdc_follow(target);
    exception when others then
      raise warning 'realtime could not follow the publication yet: %: %', target::pg_catalog.regclass, sqlerrm;
    end;
  end loop;
  for target in
    select r.prrelid from pg_publication p join pg_publication_rel r on r.prpubid = p.oid
    join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace
    where p.pubname = 'supabase_realtime' and (select follow_publication from realtime.settings)
      and n.nspname || '.' || c.relname not in (select table_name from realtime.subscriptions)
  loop
    raise warning 'realtime does not capture %: only some of its rows or columns are published, or its name holds a dot',
      target::pg_catalog.regclass using hint = 'Subscribe by name: select realtime.subscribe(table, filter => condition).';
  end loop;
exception when others then
  raise warning 'realtime could not follow the publication yet: %', sqlerrm;
end
$$;

do $$
declare
  routine regprocedure;
  shown text := current_setting('client_min_messages');
  logged text := current_setting('log_min_messages');
begin
  for routine in select oid::regprocedure from pg_proc where pronamespace = 'realtime'::regnamespace
      and proname in ('cdc_published', 'cdc_follow_publication', 'cdc_own_subscription', 'cdc_keep_published',
        'cdc_on_publication') loop
    execute format('revoke execute on function %s from public', routine);
  end loop;
  begin
    create event trigger nself_realtime_publication on ddl_command_end
      when tag in ('CREATE PUBLICATION', 'ALTER PUBLICATION', 'DROP PUBLICATION')
      execute function realtime.cdc_on_publication();
  exception when insufficient_privilege then
    null;
  end;
  -- Empty, for migrations that add to it. That the log is not written for decoding is no news here, nor in the server's log.
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    perform set_config('client_min_messages', 'error', true);
    begin
      perform set_config('log_min_messages', 'error', true);
    exception when insufficient_privilege then
      null;
    end;
    begin
      create publication supabase_realtime;
    exception when insufficient_privilege then
      null;
    end;
    perform set_config('client_min_messages', shown, true);
    if current_setting('log_min_messages') <> logged then
      perform set_config('log_min_messages', logged, true);
    end if;
  end if;
end
$$;
