-- What row-level security policies read: the topic that a join or a message asks for.
create function realtime.topic() returns text
language sql stable set search_path = pg_catalog, pg_temp
return current_setting('realtime.topic', true);

revoke execute on function realtime.topic() from public;
grant usage on schema realtime to anon, authenticated, service_role;
grant execute on function realtime.topic() to anon, authenticated, service_role;
