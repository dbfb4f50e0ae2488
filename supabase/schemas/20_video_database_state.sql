-- The lock itself. One row for each database of a video says who holds it now. (Where a project had such a table already, it
-- has this shape by now: 19_adopt_state.sql.)
create table if not exists public.video_database_state (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  tenant_id uuid not null,
  server_version integer not null default 0,
  wasabi_version integer not null default 0,
  wasabi_synced_at timestamptz,
  lock_holder_user_id text,
  lock_type holdfast.lock_type,
  locked_at timestamptz,
  last_activity_at timestamptz,
  lock_id uuid,
  lock_expires_at timestamptz,
  lock_ttl_seconds integer,
  lock_database_names text[],
  fencing_token bigint not null default holdfast.clock_token(),
  has_line boolean not null default false,
  constraint video_database_state_pkey primary key (video_id, database_name),
  -- one foreign key for both columns: tenant_id cannot differ from the video's, nor stay behind when that changes
  constraint video_database_state_video_fkey foreign key (tenant_id, video_id)
    references public.videos (tenant_id, id) on update cascade on delete cascade,
  -- P9: a lock is held or it is not; half of one does not exist
  constraint video_database_state_lock_all_or_none_check check (
    num_nulls(
      lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at, lock_expires_at, lock_ttl_seconds
    ) % 7 = 0
  )
) with (
  -- Acquire, renew and release rewrite a row that no index has to learn of, as no index is on a column that they
  -- change. Such an update is heap-only (HOT) while the page has room for the new version: keep 30 % free for it.
  fillfactor = 70
);

-- serves the foreign key (cascades look a video's rows up by it) and the policy
create index if not exists video_database_state_tenant_id_video_id_idx
  on public.video_database_state (tenant_id, video_id);

-- The planner's estimates pass row level security by (Prefer: count=planned). Without statistics on these columns they say
-- nothing of one tenant, video or holder. No plan of Holdfast's needs them: it looks up by whole keys.
alter table public.video_database_state
  alter column video_id set statistics 0,
  alter column database_name set statistics 0,
  alter column tenant_id set statistics 0,
  alter column lock_holder_user_id set statistics 0,
  alter column lock_id set statistics 0,
  alter column fencing_token set statistics 0;

comment on table public.video_database_state is
  'One row for each database of a video: its versions, and the lease on it if one is held. A lock outlives an HTTP request, so it is a row.';
comment on column public.video_database_state.video_id is 'The video.';
comment on column public.video_database_state.database_name is 'The video''s database: layout, captions, …';
comment on column public.video_database_state.tenant_id is 'The tenant that owns the video; always equals videos.tenant_id.';
comment on column public.video_database_state.server_version is 'Version of the database on the server; advance_server_version() adds 1.';
comment on column public.video_database_state.wasabi_version is 'Version of the database in object storage.';
comment on column public.video_database_state.wasabi_synced_at is 'When it was last written to object storage.';
comment on column public.video_database_state.lock_holder_user_id is
  'Who holds the lease: a user''s id (lock_type client) or the name that a worker gave itself (server). NULL when free.';
comment on column public.video_database_state.lock_type is 'client: held by a signed-in user; server: by a caller with the secret key. NULL when free.';
comment on column public.video_database_state.locked_at is 'When the lease was granted, by the database''s clock. NULL when free.';
comment on column public.video_database_state.last_activity_at is 'When the holder was last active: the grant, or a renewal with active = true. NULL when free.';
comment on column public.video_database_state.lock_id is 'Names one acquisition. A name, not a credential. NULL when free.';
comment on column public.video_database_state.lock_expires_at is
  'The lease ends by itself at this moment of the database''s clock, whether or not the row is cleared. NULL when free.';
comment on column public.video_database_state.lock_ttl_seconds is
  'Length of the lease in seconds, as last asked for by its holder. NULL when free.';
comment on column public.video_database_state.lock_database_names is
  'The names, sorted, of all databases that were acquired together by database_names. NULL when free, or acquired alone.';
comment on column public.video_database_state.fencing_token is
  'Token of the newest grant: the database''s clock in microseconds, pushed past the previous token; it never goes back. A row that was never locked has the time of its making. Sources of the idea: fencing tokens, M. Kleppmann, "How to do distributed locking" (2016); sequencers, M. Burrows, "The Chubby lock service" (OSDI 2006); hybrid logical clocks, S. Kulkarni et al. (2014).';
comment on column public.video_database_state.has_line is
  'Whether acquire has to look at the line: a caller may wait for the lock, or may have cancelled an acquisition that is still to come.';

alter table public.video_database_state enable row level security;

create policy video_database_state_select_member on public.video_database_state
  for select to authenticated
  using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]));

revoke all on table public.video_database_state from public, anon, authenticated, service_role;
grant select on table public.video_database_state to authenticated, service_role;
-- a server keeps the versions itself; the lock columns are the functions' alone, for a server too
grant insert (video_id, database_name, tenant_id, server_version, wasabi_version, wasabi_synced_at),
  update (server_version, wasabi_version, wasabi_synced_at), delete
  on table public.video_database_state to service_role;
