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

-- What its script has logged in the run that the delivery stands on: a JSON array of
-- lines, or nothing. Beside reason and position, as it is replaced and pruned with them.
alter table deliveries add column logs text not null default '';

-- These outlived what they may quote.
update deliveries set reason = '', position = ''
  where (reason <> '' or position <> '') and event_seq in (select seq from events where (pruned & 2) <> 0);

-- Scripts that are not run, by what they are: another version is another script.
create table quarantines (
  sha text primary key,
  script text not null,
  since integer not null,
  why text not null
);
