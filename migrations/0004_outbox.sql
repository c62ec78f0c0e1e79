-- Where captured row changes wait for the listener: two slots, emptied in turn by truncation.
create sequence realtime.changes_seq;

create table realtime.changes_a (
  seq bigint not null default nextval('realtime.changes_seq'),
  xid xid8 not null default pg_current_xact_id(),
  relid oid not null,
  op "char" not null,
  at timestamptz not null default clock_timestamp(),
  new json,
  old json
) with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create index changes_a_xid on realtime.changes_a (xid);
create index changes_a_seq on realtime.changes_a (seq);

create table realtime.changes_b (like realtime.changes_a including defaults)
  with (autovacuum_enabled = off, toast.autovacuum_enabled = off);
create index changes_b_xid on realtime.changes_b (xid);
create index changes_b_seq on realtime.changes_b (seq);

-- The control word, a sequence because reading one costs a microsecond and is not subject to snapshots.
-- Low two bits: 0 write slot a, 1 write slot b, 3 capture off. The rest: ring the bell until that unix second.
create sequence realtime.cdc_ctl minvalue 0;
select setval('realtime.cdc_ctl', 0);

-- Tables with capture installed. A row outlives its table (dropped_at) while changes of it may wait.
create table realtime.cdc_tables (
  relid oid primary key,
  root_relid oid not null,
  schema_name text not null,
  table_name text not null,
  function_name text not null,
  events text[] not null,
  -- What the function was given of cdc_settings: a column that came later may need more.
  settings text not null,
  installed_at timestamptz not null default now(),
  dropped_at timestamptz
);
create unique index cdc_tables_function on realtime.cdc_tables (function_name) where dropped_at is null;

-- The reader's lease and place. It has read what `seen` sees; while `target` is set it is inside the
-- difference from `seen` to `target`, past `page_seq`.
create table realtime.cdc_consumers (
  name text primary key,
  epoch bigint not null default 0,
  owner uuid,
  -- The owner's session: when it is gone the lease is free before its time.
  owner_pid integer,
  owner_started timestamptz,
  lease_until timestamptz not null default '-infinity',
  seen pg_snapshot not null,
  target pg_snapshot,
  page_seq bigint not null default 0,
  system_id bigint not null
);
insert into realtime.cdc_consumers (name, seen, system_id)
select 'edge', pg_current_snapshot(), system_identifier from pg_control_system();

-- One row: who this database is to the edge. A change's identity is this and its seq.
create table realtime.settings (
  single boolean primary key default true check (single),
  source uuid not null default gen_random_uuid()
);
insert into realtime.settings default values;

alter table realtime.changes_a enable row level security;
alter table realtime.changes_b enable row level security;
alter table realtime.cdc_tables enable row level security;
alter table realtime.cdc_consumers enable row level security;
alter table realtime.settings enable row level security;

-- Both functions read the control word and write it back, so they exclude each other.
create function realtime.cdc_lock() returns void language sql set search_path = pg_catalog, pg_temp
begin atomic
  select pg_advisory_xact_lock(hashtextextended('realtime.cdc_ctl', 0));
end;

-- Asks writers to ring for so many seconds from now; 0 asks them to stop.
create function realtime.cdc_ring(seconds integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  until_second bigint := case when seconds > 0
    then floor(date_part('epoch', clock_timestamp()))::bigint + seconds else 0 end;
begin
  perform realtime.cdc_lock();
  perform setval('realtime.cdc_ctl',
    (until_second << 2) | (pg_sequence_last_value('realtime.cdc_ctl') & 3));
end
$$;

-- Empties the slot that is not written and makes it the one that is. Returns whether it did: not while the
-- slot holds a change that the reader has not read, nor while any transaction holds the slot, nor for nothing.
create function realtime.cdc_rotate() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
  word bigint;
  spare text;
  unread boolean;
begin
  perform realtime.cdc_lock();
  word := pg_sequence_last_value('realtime.cdc_ctl');
  if word & 2 <> 0 or not exists (select from realtime.changes_a) and not exists (select from realtime.changes_b) then
    return false;
  end if;
  spare := case when word & 1 = 0 then 'changes_b' else 'changes_a' end;
  execute format('lock table realtime.%I in access exclusive mode', spare);
  execute format(
    'select exists (select from realtime.%I c, realtime.cdc_consumers r
       where not pg_visible_in_snapshot(c.xid, r.seen))', spare)
    into unread;
  if unread then
    return false;
  end if;
  execute format('truncate realtime.%I', spare);
  perform setval('realtime.cdc_ctl', word # 1);
  delete from realtime.cdc_tables t where dropped_at < now() - interval '1 day'
    and not exists (select from realtime.changes_a c where c.relid = t.relid)
    and not exists (select from realtime.changes_b c where c.relid = t.relid);
  return true;
exception when lock_not_available then
  return false;
end
$$;
