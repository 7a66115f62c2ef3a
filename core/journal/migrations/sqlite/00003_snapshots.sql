-- +goose Up

-- The record that a delivery's messages were made of, on a route that enriches. By
-- hook and event, as they are pruned: the oldest first.
create table snapshots (
  delivery_seq integer primary key,
  event_seq integer not null,
  hook text not null,
  read_at integer not null,
  record blob not null
);
create index snapshots_event on snapshots (hook, event_seq);
