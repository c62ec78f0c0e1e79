-- The role that the edge's SQL runs as: it may do what the edge asks for, and act as the roles that tokens name. Where it
-- cannot be made, SQL runs as the user of DATABASE_URL, which the listener says.
do $$
declare
  allowed text := case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end;
  remedy text := format('An administrator runs: create role nself_realtime_edge nologin noinherit; '
    'grant nself_realtime_edge to %I; grant anon, authenticated, service_role to nself_realtime_edge; '
    'then: select realtime.cdc_grant_edge();', current_user);
begin
  if not exists (select from pg_roles where rolname = 'nself_realtime_edge') then
    create role nself_realtime_edge nologin noinherit;
  end if;
  if not pg_has_role(current_user, 'nself_realtime_edge', allowed) then
    execute format('grant nself_realtime_edge to %I', current_user);
  end if;
  grant anon, authenticated, service_role to nself_realtime_edge;
exception when insufficient_privilege then
  raise warning 'the role nself_realtime_edge could not be made ready: %', sqlerrm using hint = remedy;
end
$$;

-- Gives the role what the statements of src/store need, also to be called again when they need more. The functions act as
-- who calls them, so that being allowed to call one gives no right; but following tables is done as the schema's owner.
create function realtime.cdc_grant_edge() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  target name;
  is_written boolean;
  routine regprocedure;
begin
  if not exists (select from pg_roles where rolname = 'nself_realtime_edge') then
    return;
  end if;
  grant usage on schema realtime to nself_realtime_edge;
  grant select on realtime.subscriptions, realtime.cdc_tables, realtime.cdc_consumers, realtime.cdc_parked,
    realtime.settings, realtime.cdc_ctl to nself_realtime_edge;
  grant update (refused, told), delete on realtime.cdc_parked to nself_realtime_edge;
  grant execute on all functions in schema realtime to nself_realtime_edge;
  alter default privileges in schema realtime grant execute on functions to nself_realtime_edge;
  for target, is_written in
    select c.relname, c.relname in ('channels', 'channel_members', 'messages', 'message_counts', 'presence', 'connections')
    from pg_class c where c.relnamespace = 'realtime'::regnamespace and c.relname in ('subscriptions', 'cdc_tables',
      'cdc_consumers', 'cdc_parked', 'settings', 'channels', 'channel_members', 'messages', 'message_counts', 'presence',
      'connections')
  loop
    if is_written then
      execute format('grant select, insert, update, delete on realtime.%I to nself_realtime_edge', target);
    end if;
    -- Row-level security is on, so that nobody else reads these tables by a grant made in passing.
    execute format('drop policy if exists edge on realtime.%I', target);
    execute format('create policy edge on realtime.%I to nself_realtime_edge using (true) with check (true)', target);
  end loop;
  for routine in select oid::regprocedure from pg_proc
      where pronamespace = 'realtime'::regnamespace and proname in ('subscribe', 'unsubscribe') loop
    execute format('alter function %s security definer', routine);
  end loop;
end
$$;
revoke execute on function realtime.cdc_grant_edge() from public;
select realtime.cdc_grant_edge();

-- Lets the role find names in every schema that has tables or functions of somebody's: what row-level security policies
-- name is looked up as it. To find is not to read. Called by the listener, since schemas come later too.
create function realtime.cdc_grant_schemas() returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '200ms' as $$
declare
  missing name;
begin
  for missing in
    select n.nspname from pg_namespace n, pg_roles r
    where r.rolname = 'nself_realtime_edge' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and not has_schema_privilege(r.oid, n.oid, 'usage')
      and has_schema_privilege(n.oid, 'usage with grant option')
  loop
    execute format('grant usage on schema %I to nself_realtime_edge', missing);
  end loop;
end
$$;
revoke execute on function realtime.cdc_grant_schemas() from public;
select realtime.cdc_grant_schemas();
