-- Channels, members, messages, presence, subscriptions, connections. Both documented spellings of a column
-- work: the canonical one is written, the other is generated from it.
create table realtime.channels (
  id uuid primary key default gen_random_uuid(),
  slug text not null unique check (slug <> ''),
  name text not null,
  type text not null default 'public' check (type in ('public', 'private', 'presence', 'direct')),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index channels_type on realtime.channels (type);

create table realtime.channel_members (
  id uuid primary key default gen_random_uuid(),
  channel_id uuid not null references realtime.channels on delete cascade,
  user_id text not null check (user_id <> ''),
  role text not null default 'member' check (role in ('member', 'moderator', 'admin')),
  joined_at timestamptz not null default now(),
  unique (channel_id, user_id)
);
create index channel_members_user on realtime.channel_members (user_id);

create table realtime.messages (
  id uuid primary key default gen_random_uuid(),
  channel_id uuid not null references realtime.channels on delete cascade,
  event_type text not null,
  payload jsonb not null,
  sender_id text,
  sent_at timestamptz not null default now(),
  event text generated always as (event_type) stored,
  created_at timestamptz generated always as (sent_at) stored
);
create index messages_channel_time on realtime.messages (channel_id, sent_at desc);
create index messages_event_type on realtime.messages (event_type);
create index messages_time on realtime.messages (sent_at);

create table realtime.presence (
  id uuid primary key default gen_random_uuid(),
  user_id text not null check (user_id <> ''),
  channel_id uuid references realtime.channels on delete cascade,
  status text not null default 'online' check (status in ('online', 'away', 'offline')),
  metadata jsonb not null default '{}',
  last_seen_at timestamptz not null default now(),
  last_seen timestamptz generated always as (last_seen_at) stored
);
-- No channel is presence everywhere, and there is one such row a user too.
create unique index presence_user_channel on realtime.presence
  (user_id, coalesce(channel_id, '00000000-0000-0000-0000-000000000000'));
create index presence_channel on realtime.presence (channel_id);
create index presence_status on realtime.presence (status, last_seen_at);

create table realtime.subscriptions (
  id uuid primary key default gen_random_uuid(),
  table_name text not null unique,
  events text[] not null default '{INSERT,UPDATE,DELETE}',
  filter text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table realtime.connections (
  id uuid primary key default gen_random_uuid(),
  connection_id text not null unique,
  user_id text,
  status text not null default 'connected' check (status in ('connected', 'disconnected')),
  connected_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  metadata jsonb not null default '{}',
  last_seen timestamptz generated always as (last_seen_at) stored,
  last_ping timestamptz generated always as (last_seen_at) stored
);
create index connections_user on realtime.connections (user_id);
create index connections_status on realtime.connections (status, last_seen_at);

alter table realtime.channels enable row level security;
alter table realtime.channel_members enable row level security;
alter table realtime.messages enable row level security;
alter table realtime.presence enable row level security;
alter table realtime.subscriptions enable row level security;
alter table realtime.connections enable row level security;
