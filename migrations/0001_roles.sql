-- The schema, the three roles that tokens name, and the powerless one that images of rows are made as. An existing
-- role is left as it is.
--
-- Every function of the schema resolves names in pg_catalog first and in the caller's temporary schema last: left out
-- of the path that schema would come first, and a temporary table could pose as a type.
create schema if not exists realtime;
revoke all on schema realtime from public;

do $$
declare
  wanted text;
  allowed text := case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end;
  missing text[] := '{}';
  remedy text := '';
begin
  foreach wanted in array array['anon', 'authenticated', 'service_role', 'nself_realtime_capture'] loop
    if not exists (select from pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin noinherit', wanted);
      exception when insufficient_privilege then
        missing := missing || wanted;
        remedy := remedy || format('create role %I nologin noinherit%s; ', wanted,
                                   case when wanted = 'service_role' then ' bypassrls' else '' end);
        continue;
      end;
      if wanted = 'service_role' then
        begin
          alter role service_role bypassrls;
        exception when insufficient_privilege then
          raise warning 'service_role does not bypass row-level security'
            using hint = 'An administrator runs: alter role service_role bypassrls;';
        end;
      end if;
    end if;
    -- Reading as a role (set local role) needs membership in it, and who makes a role is not yet allowed that.
    if not pg_has_role(current_user, wanted, allowed) then
      begin
        execute format('grant %I to %I', wanted, current_user);
      exception when insufficient_privilege then
        raise warning '% may not act as role "%"', current_user, wanted
          using hint = format('An administrator runs: grant %I to %I;', wanted, current_user);
      end;
    end if;
  end loop;
  -- All at once, so that an administrator is asked once.
  if missing <> '{}' then
    raise exception 'missing roles that % may not create: %', current_user, array_to_string(missing, ', ')
      using errcode = 'insufficient_privilege',
            hint = format('An administrator runs: %sgrant anon, authenticated, service_role, nself_realtime_capture to %I;',
                          remedy, current_user);
  end if;
end
$$;
