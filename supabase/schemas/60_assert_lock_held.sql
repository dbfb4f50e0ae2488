-- What makes a lease safe to rely on. A holder can stall past its lease and wake up still believing, so the database refuses a
-- write that comes with an old token: check and write are one transaction, and the check shares the state row, so that no
-- grant can come in between.
-- Sources of the idea: M. Kleppmann, "How to do distributed locking" (2016); sequencers in M. Burrows, "The Chubby lock
-- service for loosely-coupled distributed systems" (OSDI 2006).

create function holdfast.check_token(p_video_id uuid, p_database_name text, p_token bigint, p_lock_id uuid) returns void
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_seen public.video_database_state;
begin
  if v_user is null and not v_server then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  if not v_server and not holdfast.may_see(p_video_id, v_user) then
    -- before anything is locked: nobody reaches into another tenant's rows, not even to share one for a moment
    perform holdfast.raise_lock_not_held(p_video_id, p_database_name, p_token, p_lock_id, v_user, null);
  end if;
  -- The video before the state row, as its deletion takes them. And no waiting for a lock: the caller may hold guarded rows
  -- which a deletion that has the video wants. Sleeping is no edge in the wait graph, so there is no deadlock to break.
  for v_try in 0..6 loop
    perform
    from public.videos v
    join public.video_database_state s on s.video_id = v.id
    where v.id = p_video_id and s.video_id = p_video_id and s.database_name = p_database_name
    for key share of v skip locked
    -- renewals and releases go beside it, grants do not
    for key share of s skip locked;
    exit when found;
    perform
    from public.video_database_state s
    join public.videos v on v.id = s.video_id
    where s.video_id = p_video_id and s.database_name = p_database_name;
    if not found then
      perform holdfast.raise_lock_not_held(p_video_id, p_database_name, p_token, p_lock_id, v_user, null);
    elsif v_try = 6 then
      perform holdfast.raise_error('LOCK_BUSY', format(
        'Another transaction is changing the lock on %s of video %s, or the video itself.', p_database_name, p_video_id
      ));
    end if;
    perform pg_sleep(0.001 * (1 << v_try));
  end loop;
  -- P3: read behind the lock, by a statement of its own. A statement that locks "for key share" gives the row as it was when the
  -- statement began, although a release may have been committed between that and the lock.
  select s.* into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  if current_setting('transaction_isolation') <> 'read committed' then
    perform holdfast.refuse_old_snapshot(p_video_id, p_database_name);
  end if;
  -- P3: the clock is read after the row was had
  if v_seen.fencing_token = p_token and v_seen.lock_expires_at > clock_timestamp()
    and (p_lock_id is null or v_seen.lock_id = p_lock_id)
  then
    if v_server then
      return;
    end if;
    -- Knowing a token authorizes nobody: for a user it counts only with the user's own lease.
    if v_seen.lock_type = 'client' and v_seen.lock_holder_user_id = v_user::text then
      perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
      if found then
        return;
      end if;
    end if;
  end if;
  perform holdfast.raise_lock_not_held(p_video_id, p_database_name, p_token, p_lock_id, v_user, v_seen);
end;
$$;
revoke all on function holdfast.check_token(uuid, text, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function holdfast.check_token(uuid, text, bigint, uuid) to authenticated, service_role;
comment on function holdfast.check_token(uuid, text, bigint, uuid) is
  'Returns if the token is that of a live lease on this very lock, which then cannot be granted anew until the transaction ends; else raises PT412, or PT503 while the lock or its video is being changed.';

create function holdfast.refuse_old_snapshot(p_video_id uuid, p_database_name text) returns void
language plpgsql set search_path = ''
as $$
begin
  -- Such a transaction sees the row as it was at its first statement, and may share it even if it has changed since. To lock
  -- it for a write is refused then, with 40001.
  perform
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name
  for no key update skip locked;
  if not found then
    perform holdfast.raise_error('LOCK_BUSY', format(
      'Another transaction is changing the lock on %s of video %s.', p_database_name, p_video_id
    ));
  end if;
end;
$$;
revoke all on function holdfast.refuse_old_snapshot(uuid, text) from public, anon, authenticated, service_role;
comment on function holdfast.refuse_old_snapshot(uuid, text) is
  'At repeatable read and serializable: raises 40001 if the state row has changed since the transaction''s snapshot, PT503 while it is being changed.';

create function holdfast.raise_lock_not_held(
  p_video_id uuid, p_database_name text, p_token bigint, p_lock_id uuid, p_user uuid,
  p_seen public.video_database_state
) returns void
language plpgsql set search_path = ''
as $$
declare
  v_why constant text := case
    when not holdfast.may_see(p_video_id, p_user) then 'names no lock of a video that the caller may see'
    when p_token is null then 'was not sent: x-fencing-token or fencing_token has to be the token of the grant'
    when p_seen is null or p_seen.lock_id is null and p_seen.fencing_token is distinct from p_token
      then 'is no grant''s that is held: nobody holds this lock'
    when p_seen.fencing_token <> p_token then 'is not the newest grant''s'
    when p_seen.lock_id is null then 'was given back: the lease was released or cleared'
    when p_seen.lock_expires_at <= clock_timestamp()
      then format('belongs to a lease that ended at %s', p_seen.lock_expires_at)
    when p_seen.lock_id <> p_lock_id then 'belongs to another acquisition than x-lock-id names'
    else 'belongs to another holder'
  end;
begin
  perform holdfast.raise_error('LOCK_NOT_HELD', format(
    'Token %s for %s of video %s %s.', coalesce(p_token::text, 'null'), coalesce(p_database_name, 'null'),
    coalesce(p_video_id::text, 'null'), v_why
  ));
end;
$$;
revoke all on function holdfast.raise_lock_not_held(uuid, text, bigint, uuid, uuid, public.video_database_state)
  from public, anon, authenticated, service_role;
comment on function holdfast.raise_lock_not_held(uuid, text, bigint, uuid, uuid, public.video_database_state) is
  'Raises PT412 with a text that says which lock, and why the token is not good for it.';

create function public.assert_lock_held(video_id uuid, database_name text, fencing_token bigint) returns void
language plpgsql security invoker set search_path = ''
as $$
begin
  perform holdfast.check_token(video_id, database_name, fencing_token, null);
end;
$$;
revoke all on function public.assert_lock_held(uuid, text, bigint) from public, anon, authenticated, service_role;
grant execute on function public.assert_lock_held(uuid, text, bigint) to authenticated, service_role;
comment on function public.assert_lock_held(uuid, text, bigint) is
  'For use inside a transaction that writes what the lock protects. Until that transaction ends nobody else can be granted the lock.

video_id uuid, database_name text: which lock.
fencing_token bigint: the token of the caller''s grant. For a user it must be of their own lease; for a server, of any.

Returns nothing.
Raises PT412 (the token is not the current, live one: the right to write is gone), PT503 (the lock or its video is being
changed just now; try again), PT401 (no user).';
