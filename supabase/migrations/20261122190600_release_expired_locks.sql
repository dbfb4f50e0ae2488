-- Purpose: tidiness. A lease that ran out is free for the next caller at once; this only clears the rows and writes the
-- history of leases that nobody came for.

create function holdfast.release_expired_locks(p_batch_size integer) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_released integer;
begin
  if (p_batch_size between 1 and 100000) is not true then
    perform holdfast.refuse_request(array['batch_size must be an integer from 1 to 100000']);
  end if;
  -- skip locked: a row that somebody is working on needs no clearing, and a clean-up must never make anybody wait
  with expired as materialized (
    select s.*
    from public.video_database_state s
    where s.lock_expires_at <= v_now
    order by s.lock_expires_at
    limit p_batch_size
    for no key update skip locked
  ), cleared as (
    update public.video_database_state s
    set lock_id = null,
      lock_holder_user_id = null,
      lock_type = null,
      locked_at = null,
      last_activity_at = null,
      lock_expires_at = null
    from expired e
    where s.video_id = e.video_id and s.database_name = e.database_name
    returning e.*
  )
  insert into public.video_database_lock_history (
    video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at, ended_at,
    end_reason
  )
  select c.video_id, c.database_name, c.lock_id, c.tenant_id, c.lock_holder_user_id, c.lock_type, c.fencing_token,
    c.locked_at, c.lock_expires_at, 'expired'
  from cleared c;
  get diagnostics v_released = row_count;
  return v_released;
end;
$$;
revoke all on function holdfast.release_expired_locks(integer) from public, anon, authenticated, service_role;
grant execute on function holdfast.release_expired_locks(integer) to service_role;
comment on function holdfast.release_expired_locks(integer) is
  'What public.release_expired_locks() does, with the owner''s rights on the lock columns.';

create function public.release_expired_locks(batch_size integer default 10000) returns integer
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.release_expired_locks(batch_size);
end;
$$;
revoke all on function public.release_expired_locks(integer) from public, anon, authenticated, service_role;
grant execute on function public.release_expired_locks(integer) to service_role;
comment on function public.release_expired_locks(integer) is
  'Clears leases that ended by themselves, the oldest first, and writes their history. Correctness never depends on it.

batch_size integer, 1 to 100000, default 10000: how many at most. Call it again while it returns as many.

Returns integer: how many leases it cleared.
Raises PT400 (a rule is broken).';

-- Every minute where there is pg_cron. Without it everything holds too; rows of lapsed leases then stay until their
-- lock is next acquired.
do $$
begin
  if not exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
    raise notice 'pg_cron is not available here: release_expired_locks() is not scheduled. Nothing depends on it; see docs/operations.md.';
    return;
  end if;
  create extension if not exists pg_cron;
  perform cron.schedule('holdfast-release-expired-locks', '* * * * *', 'select public.release_expired_locks()');
exception when others then
  raise notice 'pg_cron could not be used (%): release_expired_locks() is not scheduled. Nothing depends on it; see docs/operations.md.', sqlerrm;
end;
$$;
