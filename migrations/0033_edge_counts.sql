-- The edge counts messages that go.
do $$
begin
  if exists (select from pg_roles where rolname = 'nself_realtime_edge') then
    grant select, insert, update, delete on realtime.message_counts to nself_realtime_edge;
    drop policy if exists edge on realtime.message_counts;
    create policy edge on realtime.message_counts to nself_realtime_edge using (true) with check (true);
  end if;
end
$$;
