-- As types, not as checks: PostgreSQL reads a table's check constraints anew for each statement that writes a row, which
-- took a third of the time of an acquire; a domain is checked where a value enters, and is kept ready.
create domain holdfast.database_name as text
  constraint database_name_check check (value ~ '^[a-z][a-z0-9_-]{0,62}$');
create domain holdfast.lock_type as text
  constraint lock_type_check check (value in ('client', 'server'));
create domain holdfast.end_reason as text
  constraint end_reason_check check (value in ('released', 'expired', 'taken_over', 'force_released'));

comment on domain holdfast.database_name is 'Name of one database of a video: layout, captions, …';
comment on domain holdfast.lock_type is 'client: held by a signed-in user; server: by a caller with the secret key.';
comment on domain holdfast.end_reason is
  'released: by its holder; expired: ran out; taken_over: by the same holder from elsewhere; force_released: by the secret key, by an admin of the tenant, or because its row was deleted or moved.';

-- The pieces of an answer, as types: json_build_object() turns a row of them into an object with these names, in every
-- function alike, at a fraction of what a function that builds the object would cost.
create type holdfast.versions as (
  server_version integer,
  wasabi_version integer,
  wasabi_synced_at timestamptz
);
comment on type holdfast.versions is 'The versions of one database of a video.';

create type holdfast.lock as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  expires_at timestamptz,
  ttl_seconds integer
);
comment on type holdfast.lock is 'A held lease, as its holder sees it.';

create type holdfast.lock_of_set as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  expires_at timestamptz,
  ttl_seconds integer,
  state holdfast.versions
);
comment on type holdfast.lock_of_set is 'A held lease, one of several that were acquired together, with the versions of its database.';

create type holdfast.released_lock as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  released_at timestamptz
);
comment on type holdfast.released_lock is
  'A lease that was released. All of it is in the history, so that a repeated release gets the same answer.';

create type holdfast.holder as (
  lock_holder_user_id text,
  lock_type text,
  locked_at timestamptz,
  last_activity_at timestamptz,
  expires_at timestamptz,
  is_you boolean
);
comment on type holdfast.holder is 'Who holds a lock, as others see it: without the lock_id, which is of no use to them.';

create type holdfast.queue as (
  "position" integer,
  length integer
);
comment on type holdfast.queue is 'The line for a lock: the caller''s own position from 1 on (NULL without a place), and how many wait.';
