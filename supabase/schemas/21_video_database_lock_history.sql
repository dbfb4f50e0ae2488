-- How each lease ended. Written only by Holdfast's functions, and every write says "on conflict do nothing": bookkeeping never
-- stands in the way of ending a lease.
create table public.video_database_lock_history (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  lock_id uuid not null,
  tenant_id uuid not null,
  lock_holder_user_id text not null,
  lock_type holdfast.lock_type not null,
  lock_database_names text[],
  fencing_token bigint not null,
  locked_at timestamptz not null,
  ended_at timestamptz not null,
  end_reason holdfast.end_reason not null,
  ended_by text,
  -- P5: one lock_id, one lease. It leads by the lock, so that two callers who choose the same lock_id for
  -- different locks never meet, and nobody can use up another tenant's lock_id.
  constraint video_database_lock_history_pkey primary key (video_id, database_name, lock_id)
);

-- Serves the policy, also for a read of one video's entries: it has both, and so another tenant's are not even
-- read. The primary key would find them, and take the longer the more there are.
create index video_database_lock_history_tenant_id_video_id_ended_at_idx
  on public.video_database_lock_history (tenant_id, video_id, ended_at);
-- serves prune_lock_history() and holdfast.lock_counts; rows come nearly in this order, so a summary of each stretch will do
create index video_database_lock_history_ended_at_idx
  on public.video_database_lock_history using brin (ended_at) with (pages_per_range = 32, autosummarize = on);

alter table public.video_database_lock_history
  alter column video_id set statistics 0,
  alter column database_name set statistics 0,
  alter column lock_id set statistics 0,
  alter column tenant_id set statistics 0,
  alter column lock_holder_user_id set statistics 0,
  alter column fencing_token set statistics 0,
  alter column ended_by set statistics 0;

comment on table public.video_database_lock_history is
  'One row for each lease that ended, and how. Append-only, and outlives its video: it is what makes a repeated request answerable and a lost lease explainable.';
comment on column public.video_database_lock_history.video_id is 'The video; no foreign key, because the entry outlives it.';
comment on column public.video_database_lock_history.database_name is 'The video''s database.';
comment on column public.video_database_lock_history.lock_id is 'The acquisition that ended.';
comment on column public.video_database_lock_history.tenant_id is 'The tenant that owned the video at that time; its members may read the entry.';
comment on column public.video_database_lock_history.lock_holder_user_id is 'Who held it.';
comment on column public.video_database_lock_history.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.video_database_lock_history.lock_database_names is 'The sorted names of all databases that were acquired together; NULL for one alone.';
comment on column public.video_database_lock_history.fencing_token is 'The token of that grant.';
comment on column public.video_database_lock_history.locked_at is 'When it was granted.';
comment on column public.video_database_lock_history.ended_at is
  'When it ended: for expired, the moment it ran out, not the moment it was noticed.';
comment on column public.video_database_lock_history.end_reason is
  'released: by its holder; expired: ran out; taken_over: by the same holder from elsewhere; force_released: by the secret key, by an admin of the tenant, or because its row was deleted or moved.';
comment on column public.video_database_lock_history.ended_by is
  'Who released it by force: an admin''s user id, or service_role for the secret key. NULL otherwise.';

alter table public.video_database_lock_history enable row level security;

create policy video_database_lock_history_select_member on public.video_database_lock_history
  for select to authenticated
  using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]));

revoke all on table public.video_database_lock_history from public, anon, authenticated, service_role;
grant select on table public.video_database_lock_history to authenticated, service_role;
