-- +goose Up

-- Times are microseconds since 1970, flags are 0 or 1.
create table events (
  seq integer primary key,
  id text not null unique,
  ref text not null,
  hook text not null,
  study text not null,
  stage text not null,
  kind text not null,
  trans_id text not null,
  form_id text not null,
  form_name text not null,
  wf_id text not null,
  wf_name text not null,
  received_at integer not null,
  traceparent text not null,
  refused_code text not null default '',
  refused_key text not null default '',
  refused_rule text not null default '',
  body blob not null
);
create index events_ref on events (ref);
create index events_record on events (trans_id);

-- Apart from events: an update there would write the body a second time.
create table answers (
  event_seq integer primary key,
  status integer not null,
  code text not null,
  detail text not null,
  gone_us integer not null,
  at integer not null
);

create table deliveries (
  seq integer primary key,
  id text not null unique,
  event_seq integer not null,
  hook text not null,
  route text not null,
  lane text not null,
  head integer not null,
  open integer not null,
  state text not null,
  owner text,
  due_at integer,
  wait integer not null,
  attempts integer not null default 0,
  begun_at integer,
  sent integer not null default 0,
  shape integer not null,
  script text not null,
  revision text not null,
  code text not null default '',
  reason text not null default '',
  position text not null default '',
  created_at integer not null,
  updated_at integer not null,
  ended_at integer
);
create unique index deliveries_head on deliveries (lane) where head = 1;
create index deliveries_behind on deliveries (lane, seq) where open = 1 and head = 0;
create index deliveries_due on deliveries (route, due_at) where head = 1 and due_at is not null;
create index deliveries_event on deliveries (event_seq);

create table messages (
  delivery_seq integer not null,
  n integer not null,
  content_type text not null,
  headers text not null,
  key blob not null,
  path blob not null,
  payload blob not null,
  primary key (delivery_seq, n)
); -- with a rowid: payloads of over 1 KB would take a page of their own each

create table attempts (
  delivery_seq integer not null,
  n integer not null,
  message integer not null,
  started_at integer not null,
  took_us integer not null,
  effect text not null,
  code text not null,
  target_status integer not null,
  reply_type text not null,
  reply blob not null,
  truncated integer not null,
  retry_after_us integer not null,
  detail text not null,
  primary key (delivery_seq, n)
) without rowid;

create table keys (
  hook text not null,
  key blob not null,
  sha blob not null,
  event_id text not null,
  expires_at integer not null,
  primary key (hook, key)
) without rowid;
create index keys_expiry on keys (expires_at);

create table nodes (
  id text primary key,
  name text not null,
  started_at integer not null,
  renewed_at integer not null
);

create table documents (
  sha text primary key,
  content blob not null,
  at integer not null
);

create table accepted (
  seq integer primary key,
  node text not null,
  revision text not null,
  config_sha text not null,
  scripts text not null,
  at integer not null
);
create index accepted_node on accepted (node, seq);

create table acts (
  seq integer primary key,
  at integer not null,
  actor text not null,
  act text not null,
  delivery_seq integer not null,
  reason text not null,
  was text not null,
  now text not null
);
create index acts_delivery on acts (delivery_seq);
