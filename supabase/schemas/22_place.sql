-- The line. A place is a small lease, too: it lapses unless its caller asks again. It has no foreign key, as checking one would
-- lock the state row; a place whose lock is gone lapses within a minute.
create table holdfast.place (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  lock_id uuid not null,
  lock_holder_user_id text not null,
  lock_type holdfast.lock_type not null,
  lock_database_names text[],
  queued_at timestamptz not null,
  kept_until timestamptz not null,
  constraint place_pkey primary key (video_id, database_name, lock_id, lock_type, lock_holder_user_id)
);
alter table holdfast.place enable row level security;
revoke all on table holdfast.place from public, anon, authenticated, service_role;

comment on table holdfast.place is
  'Who waits for a lock: one row for each database of each acquisition. First come, first served, by queued_at; the places of one set are equally old, so that two sets that overlap never wait for each other.';
comment on column holdfast.place.video_id is 'The video.';
comment on column holdfast.place.database_name is 'The video''s database.';
comment on column holdfast.place.lock_id is 'The acquisition that waits.';
comment on column holdfast.place.lock_holder_user_id is 'Who waits. A place belongs to its lock_id and its holder.';
comment on column holdfast.place.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column holdfast.place.lock_database_names is 'The sorted names of all databases that are asked for together; NULL for one alone.';
comment on column holdfast.place.queued_at is 'Since when, by the database''s clock, read while the state row was locked: it decides the order.';
comment on column holdfast.place.kept_until is 'The place lapses at this moment, unless its caller asks again before.';

-- Acquisitions that were released before their acquire came (a release overtook it). The acquire is then refused.
create table holdfast.cancellation (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  lock_id uuid not null,
  lock_type holdfast.lock_type not null,
  lock_holder_user_id text not null,
  cancelled_at timestamptz not null,
  constraint cancellation_pkey primary key (video_id, database_name, lock_id, lock_type, lock_holder_user_id)
);
alter table holdfast.cancellation enable row level security;
revoke all on table holdfast.cancellation from public, anon, authenticated, service_role;

comment on table holdfast.cancellation is
  'Acquisitions that ended before they began: their release came first. Kept for an hour at the least, then pruned.';
comment on column holdfast.cancellation.video_id is 'The video.';
comment on column holdfast.cancellation.database_name is 'The video''s database.';
comment on column holdfast.cancellation.lock_id is 'The acquisition that was cancelled.';
comment on column holdfast.cancellation.lock_type is 'client: by a signed-in user; server: by a caller with the secret key.';
comment on column holdfast.cancellation.lock_holder_user_id is
  'Whose acquisition: the user. Empty for a server, as all servers are one party for a lock_id.';
comment on column holdfast.cancellation.cancelled_at is 'When, by the database''s clock.';

create table holdfast.database_names (
  database_name holdfast.database_name not null,
  constraint database_names_pkey primary key (database_name)
);
alter table holdfast.database_names enable row level security;
revoke all on table holdfast.database_names from public, anon, authenticated, service_role;
comment on table holdfast.database_names is
  'The names that a video''s databases may have, so that a typo is an error and not a second lock. Empty, the default: any name that the pattern allows.';
comment on column holdfast.database_names.database_name is 'An allowed name.';
