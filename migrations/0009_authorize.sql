-- What somebody may do in a private channel: their membership, or else the policies on realtime.messages, asked by
-- probes that are undone (protocol.md §12).

-- What policies call to learn who asks. A database that has them, has its own.
do $$
begin
  create schema if not exists auth;
  grant usage on schema auth to anon, authenticated, service_role;
  if to_regprocedure('auth.jwt()') is null then
    create function auth.jwt() returns jsonb language sql stable set search_path = pg_catalog, pg_temp as
      $fn$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $fn$;
  end if;
  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid language sql stable set search_path = pg_catalog, pg_temp as
      $fn$ select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), auth.jwt() ->> 'sub')::uuid $fn$;
  end if;
  if to_regprocedure('auth.role()') is null then
    create function auth.role() returns text language sql stable set search_path = pg_catalog, pg_temp as
      $fn$ select coalesce(nullif(current_setting('request.jwt.claim.role', true), ''), auth.jwt() ->> 'role') $fn$;
  end if;
  if to_regprocedure('auth.email()') is null then
    create function auth.email() returns text language sql stable set search_path = pg_catalog, pg_temp as
      $fn$ select auth.jwt() ->> 'email' $fn$;
  end if;
exception when insufficient_privilege then
  raise warning 'no right to complete the schema auth: policies that call auth.uid(), auth.jwt() or auth.role() will fail';
end
$$;

-- Answers {"channel": {"id", "type", "metadata"} | null, "read": {"broadcast", "presence"}, "write": {"broadcast",
-- "presence", "persistence"}, "fault"}, each right "granted", "denied", or "failed" where a policy raised an error, the
-- first of which is the fault. `user_id`
-- is who may be a member; `claims` and `headers` are what policies see. Nothing of it stays behind, and `topic` is the
-- only thing that policies see of the rows they are asked about, apart from the extension.
create function realtime.authorize(topic text, acting_role text, user_id text, claims jsonb, headers jsonb)
returns jsonb language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_variable
declare
  channel jsonb;
  is_member boolean := false;
  probes uuid[] := array[gen_random_uuid(), gen_random_uuid()];
  readable text[] := '{}';
  read_failed boolean := false;
  writes jsonb := '{}';
  extension text;
  fault text;
begin
  select jsonb_build_object('id', c.id, 'type', c.type, 'metadata', c.metadata),
      exists (select from realtime.channel_members m where m.channel_id = c.id and m.user_id = authorize.user_id)
    into channel, is_member
    from realtime.channels c where c.slug = authorize.topic;
  if is_member then
    return jsonb_build_object('channel', channel,
      'read', jsonb_build_object('broadcast', 'granted', 'presence', 'granted'),
      'write', jsonb_build_object('broadcast', 'granted', 'presence', 'granted', 'persistence', 'granted'));
  end if;
  -- "none" is no role but, to SET ROLE, the session's own. A role that we may not take may do nothing here.
  if not exists (select from pg_roles r where r.rolname = acting_role and pg_has_role(current_user, r.oid,
      case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end)) then
    return jsonb_build_object('channel', channel,
      'read', jsonb_build_object('broadcast', 'denied', 'presence', 'denied'),
      'write', jsonb_build_object('broadcast', 'denied', 'presence', 'denied', 'persistence', 'denied'));
  end if;

  begin
    perform set_config('realtime.probing', 'on', true);
    insert into realtime.messages (id, topic, extension)
      values (probes[1], authorize.topic, 'broadcast'), (probes[2], authorize.topic, 'presence');
    perform set_config('realtime.topic', authorize.topic, true),
      set_config('request.jwt.claims', claims::text, true),
      set_config('request.jwt.claim.sub', coalesce(claims ->> 'sub', ''), true),
      set_config('request.jwt.claim.role', acting_role, true),
      set_config('request.headers', headers::text, true);
    -- Functions that policies call look their names up where the database says.
    set local search_path to default;
    perform pg_catalog.set_config('role', acting_role, true);
    begin
      select pg_catalog.array_agg(m.extension) into readable from realtime.messages m where m.id = any (probes);
    exception when others or assert_failure then
      read_failed := true;
      fault := sqlerrm;
    end;
    foreach extension in array '{broadcast,presence,persistence}'::text[] loop
      begin
        insert into realtime.messages (topic, extension) values (authorize.topic, extension);
        writes := writes || pg_catalog.jsonb_build_object(extension, 'granted');
        -- One probe must not be in the way of the next.
        raise exception using errcode = 'NS900';
      exception
        when sqlstate 'NS900' then null;
        when insufficient_privilege then writes := writes || pg_catalog.jsonb_build_object(extension, 'denied');
        when others or assert_failure then
          writes := writes || pg_catalog.jsonb_build_object(extension, 'failed');
          fault := coalesce(fault, sqlerrm);
      end;
    end loop;
    raise exception using errcode = 'NS901';
  exception when sqlstate 'NS901' then null;
  end;

  return jsonb_build_object('channel', channel, 'fault', fault, 'write', writes, 'read', (
    select jsonb_object_agg(e, case when read_failed then 'failed' when e = any (readable) then 'granted' else 'denied' end)
    from unnest('{broadcast,presence}'::text[]) e));
end
$$;
revoke execute on function realtime.authorize(text, text, text, jsonb, jsonb) from public;
