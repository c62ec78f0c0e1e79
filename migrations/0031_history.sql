-- History: messages of registered channels in two stages. A message is kept for its time; when it goes it is counted, and
-- counts by the hour stay for 30 days. They are made only then, so that no two senders wait for each other's count.
create table realtime.message_counts (
  channel_id uuid not null references realtime.channels on delete cascade,
  hour timestamptz not null,
  event_type text not null,
  count bigint not null,
  last_sent timestamptz not null,
  primary key (channel_id, hour, event_type)
);
create index message_counts_hour on realtime.message_counts (hour);
alter table realtime.message_counts enable row level security;
select realtime.cdc_grant_edge();

-- The number of a message in its channel: of those that were sent in one millisecond it tells which came first.
alter table realtime.messages add column seq bigint;

-- Keeps messages of a registered channel, by its id: one that was made again is another. [{"id", "seq", "event", "body", "hex", "sender", "at"}], `body` the JSON
-- text of a broadcast and `hex` the bytes of a binary one, `at` unix ms. A message that is there already stays as it is,
-- and one of a channel that is gone is not kept. They were sent, and are sent to nobody again.
create function realtime.keep_messages(channel uuid, messages json) returns void
language sql set search_path = pg_catalog, pg_temp
begin atomic
  insert into realtime.messages
      (id, seq, channel_id, topic, private, event_type, event, payload, binary_payload, sender_id, sent_at, skip_broadcast)
    select m.id, m.seq, c.id, c.slug, c.type in ('private', 'direct'), m.event, m.event,
      case when m.body ? 'payload' then m.body -> 'payload' else m.body end, decode(m.hex, 'hex'), m.sender,
      to_timestamp(m.at / 1000), true
    from realtime.channels c, (
      select id, seq, event, body::jsonb as body, hex, sender, at
      from json_to_recordset(messages) as r (id uuid, seq bigint, event text, body text, hex text, sender text, at double precision)
    ) m
    where c.id = keep_messages.channel
    on conflict (id) do nothing;
end;
revoke execute on function realtime.keep_messages(uuid, json) from public;

-- When a message goes: at its own time, else so long after it was sent.
create function realtime.goes_at(sent_at timestamptz, expires_at timestamp, ttl interval) returns timestamptz
language sql immutable set search_path = pg_catalog, pg_temp
begin atomic
  select coalesce(expires_at at time zone 'UTC', sent_at + ttl);
end;
revoke execute on function realtime.goes_at(timestamptz, timestamp, interval) from public;

-- Deletes messages whose time is over, and counts them; answers how many, and of which topics. With `explicit`, a message's
-- own time does not matter. At most `most` of each kind at once, found by an index: who has fewer deleted is done.
create function realtime.expire_messages(ttl interval, explicit boolean, most integer, out deleted bigint, out topics text[])
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
  old tid[];
begin
  if explicit then
    old := array(select m.ctid from realtime.messages m where m.sent_at < now() - ttl order by m.sent_at limit most);
  else
    old := array(select m.ctid from realtime.messages m where m.expires_at is null and m.sent_at < now() - ttl
        order by m.sent_at limit most)
      || array(select m.ctid from realtime.messages m where m.expires_at < now() at time zone 'UTC'
        order by m.expires_at limit most);
  end if;
  with gone as (
    delete from realtime.messages m where m.ctid = any (old)
    returning m.channel_id, m.topic, m.event_type, m.sent_at, m.extension
  ), counted as (
    insert into realtime.message_counts as k (channel_id, hour, event_type, count, last_sent)
    select g.channel_id, date_trunc('hour', g.sent_at), g.event_type, count(*), max(g.sent_at) from gone g
    where g.channel_id is not null and g.event_type is not null and g.extension = 'broadcast'
    group by 1, 2, 3
    on conflict (channel_id, hour, event_type) do update
      set count = k.count + excluded.count, last_sent = greatest(k.last_sent, excluded.last_sent)
  )
  select count(*), coalesce(array_agg(distinct g.topic), '{}') into deleted, topics from gone g;
  delete from realtime.message_counts k where k.hour < now() - interval '30 days';
end
$$;
revoke execute on function realtime.expire_messages(interval, boolean, integer) from public;
