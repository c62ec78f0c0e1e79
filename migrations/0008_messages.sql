-- Messages as Supabase's functions, policies and statements know them too: by topic, with an extension, text or bytes.
alter table realtime.messages
  drop column event,
  alter column channel_id drop not null,
  alter column event_type drop not null,
  alter column payload drop not null,
  -- The channel's name, without the prefix `realtime:`.
  add column topic text,
  add column extension text not null default 'broadcast',
  add column event text,
  add column binary_payload bytea,
  -- Which of the two rooms of that name; what a channel is registered as goes before it.
  add column private boolean not null default false,
  add column inserted_at timestamp generated always as (sent_at at time zone 'UTC') stored,
  add column updated_at timestamp not null default (now() at time zone 'UTC'),
  -- A row that is only kept: it was sent already, and goes to nobody.
  add column skip_broadcast boolean not null default false,
  add column expires_at timestamp;

update realtime.messages m set event = m.event_type, topic = c.slug, private = c.type in ('private', 'direct'),
    skip_broadcast = true
  from realtime.channels c where c.id = m.channel_id;

alter table realtime.messages alter column topic set not null;
create index messages_topic_time on realtime.messages (topic, sent_at desc);
create index messages_expired on realtime.messages (expires_at) where expires_at is not null;

-- Both spellings of the event may be written; topic and channel each follow from the other, and the room from what the
-- channel is registered as. What a policy is probed with goes as it is.
create function realtime.messages_complete() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  channel record;
begin
  if tg_op = 'INSERT' or new.event_type is distinct from old.event_type then
    new.event_type := coalesce(new.event_type, new.event);
    new.event := new.event_type;
  else
    new.event_type := new.event;
  end if;
  select c.id, c.slug, c.type in ('private', 'direct') as private into channel
    from realtime.channels c where c.id = new.channel_id or new.channel_id is null and c.slug = new.topic;
  if found then
    new.channel_id := channel.id;
    new.topic := channel.slug;
    new.private := channel.private;
  end if;
  return new;
end
$$;
revoke execute on function realtime.messages_complete() from public;

create trigger messages_complete before insert or update on realtime.messages
  for each row when (current_setting('realtime.probing', true) is distinct from 'on')
  execute function realtime.messages_complete();

-- Row-level security says what of it a role may do: without a policy, nothing.
grant select, insert on realtime.messages to anon, authenticated, service_role;
