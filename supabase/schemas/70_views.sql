-- For live screens. security_invoker, so that the policy of the state rows decides who sees what.
create view public.held_locks with (security_invoker = true) as
select s.video_id, s.database_name::text as database_name, s.tenant_id, s.lock_id, s.lock_holder_user_id,
  s.lock_type::text as lock_type, s.fencing_token, s.locked_at, s.last_activity_at, s.lock_expires_at as expires_at,
  s.lock_ttl_seconds as ttl_seconds,
  case when s.has_line then holdfast.line_length(s.video_id, s.database_name) else 0 end as queue_length,
  clock_timestamp() as server_time
from public.video_database_state s
where s.lock_expires_at > clock_timestamp();
revoke all on table public.held_locks from public, anon, authenticated, service_role;
grant select on table public.held_locks to authenticated, service_role;
comment on view public.held_locks is
  'The locks that are held now, by the database''s clock, of the videos that the caller may see.';
comment on column public.held_locks.video_id is 'The video.';
comment on column public.held_locks.database_name is 'The video''s database.';
comment on column public.held_locks.tenant_id is 'The tenant that owns the video.';
comment on column public.held_locks.lock_id is 'The acquisition that holds it. A name, not a credential.';
comment on column public.held_locks.lock_holder_user_id is 'Who holds it.';
comment on column public.held_locks.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.held_locks.fencing_token is 'The token of the grant.';
comment on column public.held_locks.locked_at is 'Since when.';
comment on column public.held_locks.last_activity_at is 'When the holder was last active.';
comment on column public.held_locks.expires_at is 'When the lease ends, unless it is renewed.';
comment on column public.held_locks.ttl_seconds is 'Length of the lease in seconds, as last asked for.';
comment on column public.held_locks.queue_length is 'How many wait for it.';
comment on column public.held_locks.server_time is 'The database''s clock.';

create function holdfast.waiting(p_video_id uuid, p_database_name text)
returns table ("position" integer, lock_holder_user_id text, lock_type text, queued_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select l."position", l.lock_holder_user_id, l.lock_type, l.queued_at
  from holdfast.line(p_video_id, p_database_name) l;
end;
$$;
revoke all on function holdfast.waiting(uuid, text) from public, anon, authenticated, service_role;
grant execute on function holdfast.waiting(uuid, text) to authenticated, service_role;
comment on function holdfast.waiting(uuid, text) is
  'Who waits for the lock, without their lock_ids; for the view waiting_locks, which shows only locks that the caller may see.';

create view public.waiting_locks with (security_invoker = true) as
select s.video_id, s.database_name::text as database_name, s.tenant_id, w."position", w.lock_holder_user_id, w.lock_type,
  w.queued_at, clock_timestamp() as server_time
from public.video_database_state s
cross join lateral holdfast.waiting(s.video_id, s.database_name) w
where s.has_line;
revoke all on table public.waiting_locks from public, anon, authenticated, service_role;
grant select on table public.waiting_locks to authenticated, service_role;
comment on view public.waiting_locks is 'Who waits for which lock, of the videos that the caller may see.';
comment on column public.waiting_locks.video_id is 'The video.';
comment on column public.waiting_locks.database_name is 'The video''s database.';
comment on column public.waiting_locks.tenant_id is 'The tenant that owns the video.';
comment on column public.waiting_locks."position" is 'The place in the line, from 1 on.';
comment on column public.waiting_locks.lock_holder_user_id is 'Who waits.';
comment on column public.waiting_locks.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.waiting_locks.queued_at is 'Since when.';
comment on column public.waiting_locks.server_time is 'The database''s clock.';

-- For an operator: counts that depend on no log. Read from the rows themselves, so that no counter is a hot spot.
create view holdfast.lock_counts as
select 'held' as what, count(*) as locks
from public.video_database_state s where s.lock_expires_at > clock_timestamp()
union all
select 'lapsed', count(*)
from public.video_database_state s where s.lock_expires_at <= clock_timestamp()
union all
select 'waiting', count(*)
from holdfast.place p where p.kept_until > clock_timestamp()
union all
select 'ended in the last hour: ' || r.end_reason, count(h.lock_id)
from (values ('released'), ('expired'), ('taken_over'), ('force_released')) r (end_reason)
left join public.video_database_lock_history h
  on h.end_reason = r.end_reason and h.ended_at > clock_timestamp() - interval '1 hour'
group by r.end_reason
union all
select 'cancelled in the last hour', count(*)
from holdfast.cancellation c where c.cancelled_at > clock_timestamp() - interval '1 hour';
revoke all on table holdfast.lock_counts from public, anon, authenticated, service_role;
comment on view holdfast.lock_counts is 'How many locks are held, lapsed and not yet cleared, and waited for; how many leases ended in the last hour, and how.';
comment on column holdfast.lock_counts.what is 'What is counted.';
comment on column holdfast.lock_counts.locks is 'How many, over all tenants.';
