-- +goose Up

-- The record that a delivery's messages were made of, on a route that enriches. By
-- hook and event, as they are pruned: the oldest first.
create table snapshots (
  delivery_seq bigint primary key,
  event_seq bigint not null,
  hook text not null,
  read_at bigint not null,
  record bytea not null
);
create index snapshots_event on snapshots (hook, event_seq);
