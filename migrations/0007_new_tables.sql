-- Tables made, attached, altered or dropped later: capture follows at once where an event trigger may be made.
-- Elsewhere the listener calls realtime.cdc_reconcile() every two seconds.
create function realtime.cdc_on_ddl() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  failure text;
begin
  -- The subscriptions themselves change nothing by DDL, and a failure here is never the user's failure.
  if exists (select from realtime.subscriptions) then
    foreach failure in array realtime.cdc_reconcile() loop
      raise warning 'realtime could not follow this change of tables: %', failure;
    end loop;
  end if;
exception when others then
  raise warning 'realtime could not follow this change of tables: %', sqlerrm;
end
$$;
revoke execute on function realtime.cdc_on_ddl() from public;

do $$
begin
  create event trigger nself_realtime_ddl on ddl_command_end
    when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE')
    execute function realtime.cdc_on_ddl();
exception when insufficient_privilege then
  raise notice 'no right to make an event trigger: new tables are found within two seconds';
end
$$;
