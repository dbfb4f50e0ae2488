-- Tidiness. A lease that ran out is free for the next caller at once; this only clears the rows and writes the history of leases
-- that no acquire has come for. So do lapsed places, and cancellations that no acquire can be waiting behind any more.
create function holdfast.release_expired_locks(p_batch_size integer) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_released integer;
begin
  if (p_batch_size between 1 and 100000) is not true then
    perform holdfast.raise_invalid_request(array['batch_size must be an integer from 1 to 100000']);
  end if;
  -- skip locked: a row in use needs no clearing, and a clean-up must never make a caller wait
  with expired as materialized (
    select s.*
    from public.video_database_state s
    where s.lock_expires_at <= v_now
    order by s.lock_expires_at
    limit p_batch_size
    for no key update skip locked
  ), kept as (
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
      locked_at, ended_at, end_reason
    )
    select e.video_id, e.database_name, e.lock_id, e.tenant_id, e.lock_holder_user_id, e.lock_type, e.lock_database_names,
      e.fencing_token, e.locked_at, e.lock_expires_at, 'expired'
    from expired e
    on conflict do nothing
  )
  update public.video_database_state s
  set lock_id = null,
    lock_holder_user_id = null,
    lock_type = null,
    locked_at = null,
    last_activity_at = null,
    lock_expires_at = null,
    lock_ttl_seconds = null,
    lock_database_names = null
  from expired e
  where s.video_id = e.video_id and s.database_name = e.database_name;
  get diagnostics v_released = row_count;

  delete from holdfast.place p
  where p.ctid = any (array(
    select l.ctid from holdfast.place l where l.kept_until <= v_now limit p_batch_size for update skip locked
  ));
  delete from holdfast.cancellation c
  where c.ctid = any (array(
    select l.ctid from holdfast.cancellation l
    where l.cancelled_at < v_now - interval '1 hour' limit p_batch_size for update skip locked
  ));
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
  'Clears leases that ended by themselves, the oldest first, and writes their history; also places that lapsed, and cancellations older than an hour. Correctness never depends on it.

batch_size integer, 1 to 100000, default 10000: how many of each at most. Call it again while it returns as many.

Returns integer: how many leases it cleared.
Raises PT400 (a rule is broken).';
