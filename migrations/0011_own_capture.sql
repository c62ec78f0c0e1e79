-- What the edge hears of our own tables: messages to send, registrations and memberships that have changed. It goes
-- through the outbox as row changes do, but nobody follows these tables, and no subscription governs their triggers.
do $do$
declare
  -- The number of the transaction comes before the word is read: TRUNCATE may have none yet, and whoever sees the bell
  -- disarmed must be in progress for the listener (see the doorbell).
  body text := $body$
declare
  xid xid8 := pg_current_xact_id();
  word bigint := pg_sequence_last_value('realtime.cdc_ctl'::pg_catalog.regclass);
begin
  if word & 3 = 0 then%s
  elsif word & 3 = 1 then%s
  else
    return null;
  end if;
  if found and word > 3 and word >> 2 > date_part('epoch', clock_timestamp()) then
    perform pg_notify('realtime:cdc', '');
  end if;
  return null;
end
$body$;
  -- A payload that is too large, or an image that cannot be made, arrives as none: the edge says that it was not sent.
  messages text := $sql$
    insert into realtime.SLOT (relid, op, new)
    select tg_relid, 'I', realtime.cdc_image(image) from (
      select m.id, m.topic, m.event, m.private,
        case when pg_column_size(m.payload) <= 16000000 then m.payload end as payload,
        case when octet_length(m.binary_payload) <= 16000000
          then translate(encode(m.binary_payload, 'base64'), E'\n', '') end as bytes
      from realtime_new m where m.extension = 'broadcast' and not m.skip_broadcast
    ) image;$sql$;
  -- Only names: the edge asks for what is true when it hears of them, so that hearing it twice or late does no harm.
  channels text := $sql$
    insert into realtime.SLOT (relid, op, new)
    select tg_relid, 'I', json_build_object('slug', slug) from (NAMES) names;$sql$;
  -- Of a channel that is gone its own report says all. Many users at once are all of them.
  members text := $sql$
    insert into realtime.SLOT (relid, op, new)
    select tg_relid, 'I', json_build_object('slug', c.slug, 'users',
        case when count(*) <= 100 then json_agg(distinct names.user_id) end)
      from realtime.channels c join (NAMES) names on names.channel_id = c.id group by c.slug;$sql$;
  by_operation text := $sql$
    if tg_op = 'INSERT' then%s
    elsif tg_op = 'UPDATE' then%s
    elsif tg_op = 'DELETE' then%s
    else%s
    end if;$sql$;
  capture record;
begin
  channels := format(by_operation,
    replace(channels, 'NAMES', 'select slug from realtime_new'),
    replace(channels, 'NAMES', 'select slug from realtime_new union select slug from realtime_old'),
    replace(channels, 'NAMES', 'select slug from realtime_old'),
    replace(channels, 'NAMES', 'select slug from realtime.channels'));
  members := format(by_operation,
    replace(members, 'NAMES', 'select channel_id, user_id from realtime_new'),
    replace(members, 'NAMES', 'select channel_id, user_id from realtime_new union select channel_id, user_id from realtime_old'),
    replace(members, 'NAMES', 'select channel_id, user_id from realtime_old'),
    replace(members, 'NAMES', 'select channel_id, user_id from realtime.channel_members'));

  for capture in
    select * from (values ('capture_messages', messages), ('capture_channels', channels), ('capture_members', members)) c (name, writes)
  loop
    execute format('create function realtime.%I() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as %L',
      capture.name, format(body, replace(capture.writes, 'SLOT', 'changes_a'), replace(capture.writes, 'SLOT', 'changes_b')));
    execute format('revoke execute on function realtime.%I() from public', capture.name);
  end loop;
end
$do$;

-- What a policy is probed with is no message.
create trigger capture_insert after insert on realtime.messages referencing new table as realtime_new
  for each statement when (current_setting('realtime.probing', true) is distinct from 'on')
  execute function realtime.capture_messages();

create trigger capture_insert after insert on realtime.channels referencing new table as realtime_new
  for each statement execute function realtime.capture_channels();
create trigger capture_update after update on realtime.channels referencing new table as realtime_new old table as realtime_old
  for each statement execute function realtime.capture_channels();
create trigger capture_delete after delete on realtime.channels referencing old table as realtime_old
  for each statement execute function realtime.capture_channels();
-- Before, while their names can be read.
create trigger capture_truncate before truncate on realtime.channels
  for each statement execute function realtime.capture_channels();

create trigger capture_insert after insert on realtime.channel_members referencing new table as realtime_new
  for each statement execute function realtime.capture_members();
create trigger capture_update after update on realtime.channel_members referencing new table as realtime_new old table as realtime_old
  for each statement execute function realtime.capture_members();
create trigger capture_delete after delete on realtime.channel_members referencing old table as realtime_old
  for each statement execute function realtime.capture_members();
create trigger capture_truncate before truncate on realtime.channel_members
  for each statement execute function realtime.capture_members();

-- A digest of the policies and grants on realtime.messages that the edge was told of last.
alter table realtime.cdc_consumers add column policies_told text;
