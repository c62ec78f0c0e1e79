-- Broadcasts from SQL, as Supabase's functions send them (protocol.md §6.8): each inserts into realtime.messages.
--
-- They act as who calls them, as Supabase's do: what the policies on realtime.messages do not allow is not sent. A
-- trigger that is to send whoever writes its table is `security definer`. What fails is a warning and never the
-- caller's failure.

-- The edge decides by limits of its own and of the channel; what none of them can allow is not even kept.
create function realtime.check_payload_size(bytes integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if bytes > 10000000 then
    raise exception 'the payload is larger than 10000000 bytes';
  end if;
  if bytes > 1000000 then
    raise warning 'WarnSendingBroadcastMessage: the payload is larger than 1000000 bytes: it is sent only where a channel allows that';
  end if;
end
$$;

-- Sends JSON. The payload gets the message's id as `id` if it has none.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  message_id uuid := gen_random_uuid();
begin
  begin
    if not payload ? 'id' then
      payload := jsonb_set(payload, '{id}', to_jsonb(message_id));
    end if;
    perform realtime.check_payload_size(octet_length(payload::text));
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (id, payload, event, topic, private, extension)
      values (message_id, payload, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end
$$;

-- Sends bytes, which clients of protocol 1.0.0 do not get.
create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  begin
    perform realtime.check_payload_size(octet_length(payload));
    perform set_config('realtime.topic', topic, true);
    insert into realtime.messages (binary_payload, event, topic, private, extension)
      values (payload, event, topic, private, 'broadcast');
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end
$$;

-- Sends the change of a row to a private channel; for triggers, one call a row.
create function realtime.broadcast_changes(topic_name text, event_name text, operation text, table_name text,
  table_schema text, new record, old record, level text default 'ROW') returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation in ('INSERT', 'UPDATE', 'DELETE') then
    perform realtime.send(
      jsonb_build_object('schema', table_schema, 'table', table_name, 'operation', operation, 'record', new, 'old_record', old),
      event_name, topic_name);
  else
    raise exception 'Unexpected operation type: %', operation;
  end if;
exception when others then
  raise exception 'Failed to process the row: %', sqlerrm;
end
$$;
