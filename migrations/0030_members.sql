-- Members: how many a channel may have, and how somebody becomes one by joining a presence channel.

-- The most members of a channel; null: any number. Metadata that names no number sets no limit.
create function realtime.most_members(type text, metadata jsonb) returns integer
language sql immutable set search_path = pg_catalog, pg_temp
begin atomic
  select least(
    case when type = 'direct' then 2 end,
    case when jsonb_typeof(metadata -> 'max_members') = 'number'
      then least(greatest(floor((metadata ->> 'max_members')::numeric), 0), 2147483647)::integer end);
end;
revoke execute on function realtime.most_members(text, jsonb) from public;

-- By trigger, so that members who are added by SQL are counted as well. A member who is there already stays.
create function realtime.members_limited() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  most integer;
begin
  select realtime.most_members(c.type, c.metadata) into most from realtime.channels c where c.id = new.channel_id;
  -- An upsert of who is there already comes here as an insert, also where the channel holds more than it may by now.
  if most is null or exists (select from realtime.channel_members m
      where m.channel_id = new.channel_id and m.user_id = new.user_id) then
    return new;
  end if;
  -- Two who come at once must not both find the last place free.
  perform from realtime.channels c where c.id = new.channel_id for no key update;
  if (select count(*) from realtime.channel_members m
      where m.channel_id = new.channel_id and m.user_id <> new.user_id and m.id <> new.id) >= most then
    raise exception 'the channel is full: it has % members at most', most
      using errcode = 'NS010', hint = 'Remove a member first, or raise max_members in its metadata';
  end if;
  return new;
end
$$;
revoke execute on function realtime.members_limited() from public;

create trigger members_limited before insert or update of channel_id, user_id on realtime.channel_members
  for each row execute function realtime.members_limited();

-- Whether a user is in the presence channel of a topic, or (`entering`) gets in by joining it: everybody does, unless it
-- is by invitation only or full. Who is nobody in particular can be no member, and is in where everybody gets in.
create function realtime.enter(topic text, user_id text, entering boolean) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  channel record;
  invite_only boolean;
begin
  select c.id, c.metadata, realtime.most_members(c.type, c.metadata) as most into channel
    from realtime.channels c where c.slug = topic and c.type = 'presence';
  if not found then
    return true;
  end if;
  invite_only := channel.metadata -> 'invite_only' = 'true'::jsonb;
  if user_id is null then
    return invite_only is not true and channel.most is null;
  end if;
  if exists (select from realtime.channel_members m where m.channel_id = channel.id and m.user_id = user_id) then
    return true;
  end if;
  if not entering or invite_only is true then
    return false;
  end if;
  insert into realtime.channel_members (channel_id, user_id) values (channel.id, user_id) on conflict do nothing;
  return true;
exception when sqlstate 'NS010' then
  return false;
end
$$;
revoke execute on function realtime.enter(text, text, boolean) from public;
