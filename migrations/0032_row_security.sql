-- Who reads our tables by SQL: members what belongs to their channels, and nobody else anything.

-- The user of the token, as the server knows them: `sub`, or the Hasura claim. Null where there is none.
create function realtime.user_id() returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
  select coalesce(claims ->> 'sub', claims -> 'https://hasura.io/jwt/claims' ->> 'x-hasura-user-id',
    claims ->> 'x-hasura-user-id')
  from (select nullif(current_setting('request.jwt.claims', true), '')::jsonb as claims) token
$$;

-- Past the row-level security of the members themselves, which asks this.
create function realtime.is_member(channel_id uuid) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select exists (select from realtime.channel_members m
    where m.channel_id = is_member.channel_id and m.user_id = realtime.user_id())
$$;
revoke execute on function realtime.user_id(), realtime.is_member(uuid) from public;
grant execute on function realtime.user_id(), realtime.is_member(uuid) to anon, authenticated, service_role;

grant select on realtime.channels, realtime.channel_members, realtime.presence to anon, authenticated, service_role;
create policy members_see_channels on realtime.channels for select to anon, authenticated
  using (realtime.is_member(id));
create policy members_see_members on realtime.channel_members for select to anon, authenticated
  using (realtime.is_member(channel_id));
create policy members_see_presence on realtime.presence for select to anon, authenticated
  using (realtime.is_member(channel_id));
-- Those that policies are probed with belong to no channel, so nobody gets into a room by this.
create policy members_see_messages on realtime.messages for select to anon, authenticated
  using (channel_id is not null and realtime.is_member(channel_id));

-- Users are text here and auth.uid() is a uuid: with these, policies may compare the two as they stand.
create function realtime.text_is_uuid(text, uuid) returns boolean language sql immutable strict
  return $1 operator(pg_catalog.=) $2::text;
create function realtime.uuid_is_text(uuid, text) returns boolean language sql immutable strict
  return $1::text operator(pg_catalog.=) $2;
revoke execute on function realtime.text_is_uuid(text, uuid), realtime.uuid_is_text(uuid, text) from public;
grant execute on function realtime.text_is_uuid(text, uuid), realtime.uuid_is_text(uuid, text)
  to anon, authenticated, service_role;
do $$
begin
  create operator public.= (leftarg = text, rightarg = uuid, function = realtime.text_is_uuid, commutator = operator(public.=));
  create operator public.= (leftarg = uuid, rightarg = text, function = realtime.uuid_is_text, commutator = operator(public.=));
exception when duplicate_function then
  -- The application compares the two in its own way, and goes on doing so.
  raise warning 'the schema public has an operator of its own for text = uuid or uuid = text: ours are not made';
when insufficient_privilege or undefined_object or invalid_schema_name then
  raise warning 'no right to make operators in the schema public: policies must write auth.uid()::text';
end
$$;
