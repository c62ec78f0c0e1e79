-- Which history this database is on. Restored from a dump or to an earlier moment, cloned, or failed over to, it goes on
-- as another one: what it then captures must never be taken for what was delivered before, and who follows is told that
-- something may be missing.
alter table realtime.cdc_consumers
  -- The history that the place is of.
  add column history text,
  -- Subscribers are still to be told that changes may be missing.
  add column gap boolean not null default false;

-- Cluster, database, timeline; and the branch, where Neon tells it.
create function realtime.cdc_history() returns text
language sql volatile set search_path = pg_catalog, pg_temp as $$
  select concat_ws('/', s.system_identifier, d.oid, left(pg_walfile_name(pg_current_wal_lsn()), 8),
    nullif(current_setting('neon.timeline_id', true), ''))
  from pg_control_system() s, pg_database d where d.datname = current_database()
$$;

-- Compares the history with that of the reader's place, and begins a new one where they differ: a new source, so that
-- numbers which are given again are told apart. `delivered` is the newest seq that the reader knows to have delivered.
--
-- In another database than the place is of, transaction numbers and table numbers mean something else: the place is now,
-- what waits is forgotten, and capture is taken off everything, to be put on anew by who follows the subscriptions.
create function realtime.cdc_recognise(delivered bigint default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $$
declare
  place realtime.cdc_consumers;
  here text := realtime.cdc_history();
  now_seen pg_snapshot := pg_current_snapshot();
  moved boolean;
  rewound boolean;
  item record;
begin
  select * into strict place from realtime.cdc_consumers where name = 'edge' for update;
  moved := place.system_id::text <> split_part(here, '/', 1) or split_part(place.history, '/', 2) <> split_part(here, '/', 2);
  moved := coalesce(moved, false);
  rewound := pg_snapshot_xmax(place.seen) > pg_snapshot_xmax(now_seen);
  if not moved and not rewound and coalesce(delivered <= (select last_value from realtime.changes_seq), true)
    and coalesce(place.history = here, true) then
    update realtime.cdc_consumers set history = here where name = 'edge' and history is null;
    return;
  end if;
  if moved then
    for item in
      select t.tgname, t.tgrelid::pg_catalog.regclass as relation from pg_catalog.pg_trigger t
      join pg_catalog.pg_proc p on p.oid = t.tgfoid and p.pronamespace = 'realtime'::pg_catalog.regnamespace
      where p.proname in (select function_name from realtime.cdc_tables)
    loop
      execute format('drop trigger %I on %s', item.tgname, item.relation);
    end loop;
    for item in select function_name, filter_function from realtime.cdc_tables where dropped_at is null loop
      execute format('drop function if exists realtime.%I()', item.function_name);
      if item.filter_function is not null then
        execute format('drop function if exists realtime.%I(record)', item.filter_function);
      end if;
    end loop;
    delete from realtime.cdc_tables;
    delete from realtime.changes_a;
    delete from realtime.changes_b;
  end if;
  update realtime.settings set source = gen_random_uuid();
  -- What waits and what comes get the new source alike, so their numbers must differ.
  perform setval('realtime.changes_seq', greatest((select last_value from realtime.changes_seq),
    (select max(seq) from realtime.changes_a), (select max(seq) from realtime.changes_b)));
  update realtime.cdc_consumers set history = here, system_id = split_part(here, '/', 1)::bigint, gap = true where name = 'edge';
  if moved or rewound then
    update realtime.cdc_consumers set seen = now_seen, target = null, page_seq = 0 where name = 'edge';
  end if;
end
$$;
revoke execute on function realtime.cdc_history(), realtime.cdc_recognise(bigint) from public;
