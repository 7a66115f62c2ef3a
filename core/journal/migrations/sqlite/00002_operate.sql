-- +goose Up

-- What an auditor asks: under which configuration it came, and of what it is a
-- second run. The salt keeps digests of short contents from being guessed; it goes
-- with the contents.
alter table events add column revision text not null default '';
alter table events add column origin text not null default '';
alter table events add column salt blob;
alter table events add column pruned integer not null default 0;
create index events_refused on events (seq) where refused_code <> '';
create index events_origin on events (origin) where origin <> '';
create index answers_gone on answers (event_seq) where gone_us > 0;
create index answers_code on answers (code, event_seq) where code not in ('delivered', 'accepted', 'skipped', 'ignored');

-- Each change of a delivery is one version of it.
alter table deliveries add column version integer not null default 1;
alter table deliveries add column origin text not null default '';
create index deliveries_state on deliveries (state, seq)
  where state in ('waiting', 'unknown', 'held', 'dead', 'cancelled', 'rejected', 'skipped');
create index deliveries_state_event on deliveries (state, event_seq)
  where state in ('waiting', 'unknown', 'held', 'dead', 'cancelled', 'rejected', 'skipped');
create index deliveries_code on deliveries (code, seq) where code not in ('', 'delivered');

alter table acts add column event_id text not null default '';

-- A row is what one transaction did. A chain is one writer of one process: the hash
-- of each row is over the one before.
create table audit (
  seq integer primary key,
  chain text not null,
  n integer not null,
  at integer not null,
  entries blob not null,
  hash blob not null
);
create unique index audit_chain on audit (chain, n);
create index audit_at on audit (at);
create index accepted_revision on accepted (revision, at);

-- How far a hook's contents have been pruned.
create table pruned (
  hook text not null,
  what text not null,
  upto integer not null,
  primary key (hook, what)
);
