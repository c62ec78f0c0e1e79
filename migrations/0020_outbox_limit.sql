-- An outbox with a bound, feeds that wait apart, and what is told of both.
alter table realtime.settings
  -- Bytes. The listener writes its own setting here, so that the bound holds while no listener runs.
  add column outbox_limit bigint not null default 2000000000 check (outbox_limit > 0);

alter table realtime.cdc_consumers
  -- Since when capture is known to be off for the size of the outbox.
  add column stopped_at timestamptz,
  -- Transactions below this one may have written while capture was off and are not over: a gap is told again after them.
  add column gap_until xid8,
  -- What the listener says of itself.
  add column report jsonb not null default '{}';

-- Changes of feeds that are slow, that fail, or that have one which the edge refuses: they wait here, so that the place in
-- the outbox can go on without them.
create table realtime.cdc_parked (
  feed text not null,
  -- The change's, as the edge knows it.
  id text not null,
  -- The order of delivery, which is not that of ids.
  position bigint not null generated always as identity,
  xid text not null,
  relid oid not null,
  op "char" not null,
  at text not null,
  -- The change as the edge is sent it, and whether it is the last of its transaction.
  line text not null,
  last boolean not null,
  parked_at timestamptz not null default now(),
  -- Why the edge will never take it. It waits for a person; its feed is told of a gap in its place, and goes on.
  refused text,
  told boolean not null default false,
  primary key (feed, id)
);
create index cdc_parked_feed on realtime.cdc_parked (feed, position);
alter table realtime.cdc_parked enable row level security;

-- Bytes of all that waits, with its indexes.
create function realtime.cdc_size() returns bigint language sql set search_path = pg_catalog, pg_temp as $$
  select pg_total_relation_size('realtime.changes_a') + pg_total_relation_size('realtime.changes_b')
    + pg_total_relation_size('realtime.cdc_parked')
$$;

-- Stops capture: writers go on, and what they write is not captured. Not while somebody else changes the word: the lock
-- is given back at once, since whoever calls this may be inside a user's long transaction.
create function realtime.cdc_stop() returns void language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  key bigint := hashtextextended('realtime.cdc_ctl', 0);
begin
  if pg_try_advisory_lock(key) then
    perform setval('realtime.cdc_ctl', pg_sequence_last_value('realtime.cdc_ctl') | 3);
    perform pg_advisory_unlock(key);
  end if;
end
$$;

-- The bound without a listener: one statement in a hundred that writes to the outbox looks at its size. It never waits for
-- a lock, and no failure of it is the writer's.
create function realtime.cdc_guard() returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '1ms' as $$
begin
  if realtime.cdc_size() > (select outbox_limit from realtime.settings) then
    perform realtime.cdc_stop();
  end if;
exception when others then
  null;
end
$$;

-- For our own tables, which write to the outbox too.
create function realtime.cdc_guard_own() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform realtime.cdc_guard();
  return null;
end
$$;
create trigger cdc_guard after insert on realtime.messages
  for each statement when (random() < 0.01) execute function realtime.cdc_guard_own();
create trigger cdc_guard after insert or update or delete on realtime.channels
  for each statement when (random() < 0.01) execute function realtime.cdc_guard_own();
create trigger cdc_guard after insert or update or delete on realtime.channel_members
  for each statement when (random() < 0.01) execute function realtime.cdc_guard_own();

-- Tells every feed that it may have missed something: a change of kind G, which takes its way through the outbox. Rooms
-- ask anew what their channels are registered as and who their members are.
create function realtime.cdc_tell_gap(slot text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  execute format($sql$
    insert into realtime.%I (relid, op, new)
    select root_relid, 'G'::"char", null::json from realtime.cdc_tables where dropped_at is null group by root_relid
    union all select 'realtime.channels'::regclass, 'I', json_build_object('slug', slug) from realtime.channels
    union all select 'realtime.channel_members'::regclass, 'I', json_build_object('slug', slug) from realtime.channels$sql$,
    coalesce(slot, case when pg_sequence_last_value('realtime.cdc_ctl') & 1 = 0 then 'changes_a' else 'changes_b' end));
end
$$;

-- Starts capture again where it was stopped, once all that was captured is delivered: empties what can be emptied and
-- tells the gap. Returns whether it did. For the leading listener.
create function realtime.cdc_resume() returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '50ms' as $$
declare
  slot text;
  free text;
  unread boolean;
  snapshot pg_snapshot;
begin
  foreach slot in array '{changes_b,changes_a}'::text[] loop
    begin
      execute format('lock table realtime.%I in access exclusive mode', slot);
    exception when lock_not_available then
      -- A transaction that wrote before the stop is not over.
      continue;
    end;
    execute format(
      'select exists (select from realtime.%1$I c, realtime.cdc_consumers r where c.xid >= pg_snapshot_xmax(r.seen))
         or exists (select from realtime.%1$I c where c.xid in
              (select pg_snapshot_xip(r.seen) from realtime.cdc_consumers r))', slot)
      into unread;
    if unread then
      return false;
    end if;
    execute format('truncate realtime.%I', slot);
    free := slot;
  end loop;
  if realtime.cdc_size() > (select outbox_limit * 0.9 from realtime.settings) then
    return false;
  end if;
  free := coalesce(free, 'changes_a');
  perform realtime.cdc_tell_gap(free);
  perform realtime.cdc_lock();
  perform setval('realtime.cdc_ctl',
    (pg_sequence_last_value('realtime.cdc_ctl') & ~3::bigint) | case free when 'changes_a' then 0 else 1 end);
  -- Whoever saw the word before it changed is in progress for this snapshot.
  snapshot := pg_current_snapshot();
  update realtime.cdc_consumers set stopped_at = null, gap_until =
    case when exists (select pg_snapshot_xip(snapshot)) then pg_snapshot_xmax(snapshot) end;
  return true;
end
$$;

-- What the leading listener does every second: keeps the bound, tells a gap again once the transactions of that time
-- are over, keeps its report, and empties the table of what was parked. Returns how large the outbox is and whether
-- capture is off.
create function realtime.cdc_watch(bound bigint, listener_report jsonb) returns table (bytes bigint, stopped boolean)
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
begin
  update realtime.settings set outbox_limit = bound where outbox_limit <> bound;
  bytes := realtime.cdc_size();
  if bytes > bound then
    perform realtime.cdc_stop();
  end if;
  stopped := pg_sequence_last_value('realtime.cdc_ctl') & 3 = 3;
  if not stopped and exists (select from realtime.cdc_consumers
      where gap_until <= pg_snapshot_xmin(pg_current_snapshot())) then
    perform realtime.cdc_tell_gap();
    update realtime.cdc_consumers set gap_until = null;
  end if;
  update realtime.cdc_consumers set report = listener_report,
    stopped_at = case when stopped then coalesce(stopped_at, clock_timestamp()) end;
  return next;
end
$$;

-- Gives up what of a feed is parked; a gap is kept in its place, and what a person is to decide on.
create function realtime.cdc_give_up(of_feed text) returns void
language sql set search_path = pg_catalog, pg_temp
begin atomic
  delete from realtime.cdc_parked p where p.feed = of_feed and p.refused is null
    and p.position < (select max(position) from realtime.cdc_parked where feed = of_feed and refused is null);
  update realtime.cdc_parked set op = 'G', line = '', last = true where feed = of_feed and refused is null;
end;

-- For a person: has the refused changes of a feed (null: of all) sent again, before what waits; or drops them. Each
-- returns how many.
create function realtime.retry_refused(of_feed text default null) returns bigint
language sql set search_path = pg_catalog, pg_temp
begin atomic
  with retried as (
    update realtime.cdc_parked set refused = null, told = false
    where refused is not null and feed = coalesce(of_feed, feed) returning 1)
  select count(*) from retried;
end;

create function realtime.drop_refused(of_feed text default null) returns bigint
language sql set search_path = pg_catalog, pg_temp
begin atomic
  with dropped as (
    delete from realtime.cdc_parked where refused is not null and told and feed = coalesce(of_feed, feed) returning 1)
  select count(*) from dropped;
end;

-- All that `nself realtime status` says of row changes. A listener that died has left an old report.
create function realtime.cdc_status() returns jsonb language sql stable set search_path = pg_catalog, pg_temp as $$
  select jsonb_build_object(
    'leading', c.owner is not null and c.lease_until > clock_timestamp(),
    'report', case when c.owner is not null and c.lease_until > clock_timestamp() then c.report else '{}'::jsonb end,
    'outbox_bytes', realtime.cdc_size(),
    'outbox_limit', s.outbox_limit,
    'capturing', (select last_value & 3 <> 3 from realtime.cdc_ctl),
    'stopped_at', c.stopped_at,
    'parked', coalesce((
      select jsonb_agg(jsonb_build_object('feed', feed, 'changes', changes, 'refused', refused, 'since', since,
        'reason', reason) order by since)
      from (
        select feed, count(*) filter (where refused is null) as changes, count(refused) as refused,
          min(parked_at) as since, max(refused) as reason
        from realtime.cdc_parked group by feed order by min(parked_at) limit 100) feeds), '[]'))
  from realtime.cdc_consumers c, realtime.settings s where c.name = 'edge'
$$;

do $$
declare
  routine regprocedure;
begin
  for routine in select oid::regprocedure from pg_proc where pronamespace = 'realtime'::regnamespace
      and proname in ('cdc_size', 'cdc_stop', 'cdc_guard', 'cdc_guard_own', 'cdc_tell_gap', 'cdc_resume', 'cdc_watch', 'cdc_give_up',
        'retry_refused', 'drop_refused', 'cdc_status') loop
    execute format('revoke execute on function %s from public', routine);
  end loop;
end
$$;
