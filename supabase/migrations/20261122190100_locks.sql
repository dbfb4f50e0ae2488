-- Purpose: the lock itself. One row for each database of a video says who holds it now; the history says how
-- each lease before it ended. Both are written only by the functions of the migrations that follow.

-- As types, not as checks: PostgreSQL reads a table's check constraints anew for each statement that writes a row, which
-- took a third of the time of an acquire; a domain is checked where a value enters, and is kept ready.
create domain public.database_name as text
  constraint database_name_check check (value ~ '^[a-z][a-z0-9_-]{0,62}$');
create domain public.lock_type as text
  constraint lock_type_check check (value in ('client', 'server'));
create domain public.lock_end_reason as text
  constraint lock_end_reason_check check (value in ('released', 'expired', 'taken_over', 'force_released'));

comment on domain public.database_name is 'Name of one database of a video: layout, captions, …';
comment on domain public.lock_type is 'client: held by a signed-in user; server: by a caller with the secret key.';
comment on domain public.lock_end_reason is
  'released: by its holder; expired: ran out; taken_over: by the same user from elsewhere; force_released: by the secret key, by an admin of the tenant, or because its row was deleted.';

create table public.video_database_state (
  video_id uuid not null,
  database_name public.database_name not null,
  tenant_id uuid not null,
  server_version integer not null default 0,
  wasabi_version integer not null default 0,
  wasabi_synced_at timestamptz,
  lock_holder_user_id text,
  lock_type public.lock_type,
  locked_at timestamptz,
  last_activity_at timestamptz,
  lock_id uuid,
  lock_expires_at timestamptz,
  fencing_token bigint not null default 0,
  constraint video_database_state_pkey primary key (video_id, database_name),
  -- one foreign key for both columns: tenant_id cannot differ from the video's, nor stay behind when that changes
  constraint video_database_state_video_fkey foreign key (tenant_id, video_id)
    references public.videos (tenant_id, id) on update cascade on delete cascade,
  -- P9: a lock is held or it is not; half of one does not exist
  constraint video_database_state_lock_all_or_none_check check (
    num_nulls(lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at, lock_expires_at) % 6 = 0
  )
) with (
  -- Acquire, renew and release rewrite a row that no index has to learn of, as no index is on a column that they
  -- change. Such an update is heap-only (HOT) while the page has room for the new version: keep 30 % free for it.
  fillfactor = 70
);

-- serves the foreign key (cascades look a video's rows up by it) and the policy
create index video_database_state_tenant_id_video_id_idx on public.video_database_state (tenant_id, video_id);

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
  'The lease ends by itself at this moment of the database''s clock, whether or not anybody clears the row. NULL when free.';
comment on column public.video_database_state.fencing_token is
  'Token of the newest grant; grows by 1 at every grant and never goes back. Source of the idea: fencing tokens, M. Kleppmann, "How to do distributed locking" (2016); sequencers, M. Burrows, "The Chubby lock service" (OSDI 2006).';

create table public.video_database_lock_history (
  video_id uuid not null,
  database_name public.database_name not null,
  lock_id uuid not null,
  tenant_id uuid not null,
  lock_holder_user_id text not null,
  lock_type public.lock_type not null,
  fencing_token bigint not null,
  locked_at timestamptz not null,
  ended_at timestamptz not null,
  end_reason public.lock_end_reason not null,
  -- P5: one lock_id, one lease. It leads by the lock, so that two callers who choose the same lock_id for
  -- different locks never meet, and nobody can use up another tenant's lock_id.
  constraint video_database_lock_history_pkey primary key (video_id, database_name, lock_id)
);

-- serves the policy, and a tenant's newest entries
create index video_database_lock_history_tenant_id_ended_at_idx
  on public.video_database_lock_history (tenant_id, ended_at);

comment on table public.video_database_lock_history is
  'One row for each lease that ended, and how. Append-only, and outlives its video: it is what makes a repeated request answerable and a lost lease explainable.';
comment on column public.video_database_lock_history.video_id is 'The video; no foreign key, because the entry outlives it.';
comment on column public.video_database_lock_history.database_name is 'The video''s database.';
comment on column public.video_database_lock_history.lock_id is 'The acquisition that ended.';
comment on column public.video_database_lock_history.tenant_id is 'The tenant that owned the video at that time; its members may read the entry.';
comment on column public.video_database_lock_history.lock_holder_user_id is 'Who held it.';
comment on column public.video_database_lock_history.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.video_database_lock_history.fencing_token is 'The token of that grant.';
comment on column public.video_database_lock_history.locked_at is 'When it was granted.';
comment on column public.video_database_lock_history.ended_at is
  'When it ended: for expired, the moment it ran out, not the moment somebody noticed.';
comment on column public.video_database_lock_history.end_reason is
  'released: by its holder; expired: ran out; taken_over: by the same user from elsewhere; force_released: by the secret key, by an admin of the tenant, or because its row was deleted.';

alter table public.video_database_state enable row level security;
alter table public.video_database_lock_history enable row level security;

create policy video_database_state_select_member on public.video_database_state
  for select to authenticated
  using (tenant_id = any (array(
    select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())
  )));

create policy video_database_lock_history_select_member on public.video_database_lock_history
  for select to authenticated
  using (tenant_id = any (array(
    select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())
  )));

revoke all on table public.video_database_state, public.video_database_lock_history
  from public, anon, authenticated, service_role;
grant select on table public.video_database_state, public.video_database_lock_history to authenticated, service_role;
-- a server keeps the versions itself; the lock columns are the functions' alone, for a server too
grant insert (video_id, database_name, tenant_id, server_version, wasabi_version, wasabi_synced_at),
  update (server_version, wasabi_version, wasabi_synced_at), delete
  on table public.video_database_state to service_role;

-- What the Data API does not expose: the schema of the code that runs with more rights than its caller.
create schema holdfast;
revoke all on schema holdfast from public;
grant usage on schema holdfast to authenticated, service_role;
comment on schema holdfast is 'Holdfast''s inside: never exposed by the Data API; called by the functions of the same name in public.';

-- P4 has to hold across the deletion of the state row too, so a deleted row leaves its token behind, and its
-- lease, if one was held, in the history. A token from one global sequence would do without this table, but it
-- would tell each tenant how busy the others are, and restart at a logical failover.
create table holdfast.fencing_floor (
  video_id uuid not null,
  database_name public.database_name not null,
  fencing_token bigint not null,
  constraint fencing_floor_pkey primary key (video_id, database_name)
);

alter table holdfast.fencing_floor enable row level security;
revoke all on table holdfast.fencing_floor from public, anon, authenticated, service_role;

comment on table holdfast.fencing_floor is 'The last token of locks whose state row was deleted; a new state row goes on from it.';
comment on column holdfast.fencing_floor.video_id is 'The video; no foreign key, because the token outlives it.';
comment on column holdfast.fencing_floor.database_name is 'The video''s database.';
comment on column holdfast.fencing_floor.fencing_token is 'The highest token that was granted for this lock.';

create function holdfast.keep_what_outlives_the_row() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if old.fencing_token > 0 then
    insert into holdfast.fencing_floor as f (video_id, database_name, fencing_token)
    values (old.video_id, old.database_name, old.fencing_token)
    on conflict (video_id, database_name)
      do update set fencing_token = greatest(f.fencing_token, excluded.fencing_token);
  end if;
  if old.lock_id is not null then
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token,
      locked_at, ended_at, end_reason
    )
    values (
      old.video_id, old.database_name, old.lock_id, old.tenant_id, old.lock_holder_user_id, old.lock_type,
      old.fencing_token, old.locked_at, least(old.lock_expires_at, v_now),
      case when old.lock_expires_at <= v_now then 'expired' else 'force_released' end
    );
  end if;
  return null;
end;
$$;
revoke all on function holdfast.keep_what_outlives_the_row() from public, anon, authenticated, service_role;
comment on function holdfast.keep_what_outlives_the_row() is
  'Trigger: a deleted state row leaves its fencing token in holdfast.fencing_floor and its lease in the history.';

create trigger video_database_state_keep_what_outlives_the_row
  after delete on public.video_database_state
  for each row execute function holdfast.keep_what_outlives_the_row();

create function holdfast.refuse_truncate() returns trigger
language plpgsql set search_path = ''
as $$
begin
  raise exception using
    errcode = 'feature_not_supported',
    message = format('%I.%I cannot be truncated', tg_table_schema, tg_table_name),
    detail = 'TRUNCATE would forget fencing tokens, and an old one would be granted again.',
    hint = 'Use DELETE.';
end;
$$;
revoke all on function holdfast.refuse_truncate() from public, anon, authenticated, service_role;
comment on function holdfast.refuse_truncate() is 'Trigger: TRUNCATE passes row triggers by, so it is refused where tokens would be lost.';

create trigger video_database_state_refuse_truncate
  before truncate on public.video_database_state
  for each statement execute function holdfast.refuse_truncate();
