-- Ends the acquisition that the caller names, or their own, or by force any; also one that has not begun. And it gives the same
-- answer when it is asked again. The usual case in one piece, all else in release_in_turn().
create function holdfast.release_lock(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean,
  p_database_names text[]
) returns json
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_old record;
  v_now timestamptz;
begin
  select s.xmin, s.xmax = '0' as unlocked, s.database_name, s.tenant_id, s.lock_id, s.lock_holder_user_id, s.lock_type,
    s.locked_at, s.lock_expires_at, s.lock_database_names, s.fencing_token
  into v_old
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  -- P6: the lease that the caller names, and only if it is theirs. Whether the caller may still see the video does not
  -- matter: who has lost that right should be able to let go.
  if (
    v_old.lock_id = p_lock_id and v_old.lock_type = v_type and v_old.unlocked
    and (v_server or v_old.lock_holder_user_id = v_user::text)
    and v_old.lock_database_names is null and p_database_names is null
    and p_lock_holder_user_id is null and p_force is not true
  ) then
    update public.video_database_state s
    set lock_id = null,
      lock_holder_user_id = null,
      lock_type = null,
      locked_at = null,
      last_activity_at = null,
      lock_expires_at = null,
      lock_ttl_seconds = null
    where s.video_id = p_video_id and s.database_name = p_database_name and s.xmin = v_old.xmin;
    if found then
      -- read now, after the row was had: a lease that ran out while this waited for it was not released, it expired
      v_now := clock_timestamp();
      insert into public.video_database_lock_history (
        video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
        ended_at, end_reason
      )
      -- the row's name is of the type already: to check the argument against its pattern anew took 4 % of a pair
      values (
        p_video_id, v_old.database_name, v_old.lock_id, v_old.tenant_id, v_old.lock_holder_user_id, v_old.lock_type,
        v_old.fencing_token, v_old.locked_at, least(v_old.lock_expires_at, v_now),
        case when v_old.lock_expires_at <= v_now then 'expired' else 'released' end
      )
      on conflict do nothing;
      if v_old.lock_expires_at <= v_now then
        return json_build_object('released', false, 'reason', 'expired', 'holder', null);
      end if;
      return json_build_object('released', true, 'lock', row(
        p_video_id, p_database_name, v_old.lock_id, v_old.lock_holder_user_id, v_old.lock_type, v_old.fencing_token,
        v_old.locked_at, v_now
      )::holdfast.released_lock);
    end if;
  end if;
  return holdfast.release_in_turn(
    p_video_id, p_database_name, p_lock_id, p_lock_holder_user_id, coalesce(p_force, false), p_database_names, v_user, v_type
  );
end;
$$;
revoke all on function holdfast.release_lock(uuid, text, uuid, text, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function holdfast.release_lock(uuid, text, uuid, text, boolean, text[]) to authenticated, service_role;
comment on function holdfast.release_lock(uuid, text, uuid, text, boolean, text[]) is
  'What public.release_lock() does, with the owner''s rights on the lock columns.';

create function public.release_lock(
  video_id uuid, database_name text default null, lock_id uuid default null, lock_holder_user_id text default null,
  force boolean default null, database_names text[] default null
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.release_lock(video_id, database_name, lock_id, lock_holder_user_id, force, database_names);
end;
$$;
revoke all on function public.release_lock(uuid, text, uuid, text, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function public.release_lock(uuid, text, uuid, text, boolean, text[]) to authenticated, service_role;
comment on function public.release_lock(uuid, text, uuid, text, boolean, text[]) is
  'Ends a lease. Safe in a finally: nothing to release is an answer, and a repetition gets the answer of the first call.

video_id uuid, and database_name text (^[a-z][a-z0-9_-]{0,62}$) or database_names text[]: which lock, or several. And one of
lock_id uuid: the acquisition to end, if it is the caller''s. Before its acquire has come, or while it waits, this cancels it;
lock_holder_user_id text (1 to 255 characters): for a server, the lease that the server of this name holds; for a user, their
own id: any lease of theirs;
force boolean, default false: any lease, or with lock_id that one only; for a server or an admin of the tenant.

Returns json: { released: true, lock } (with database_names: locks), or { released: false, reason: "expired" | "taken_over" |
"force_released" | "cancelled" | "not_held" | "held_by_another" | "busy", holder }.
Raises PT400 (a rule is broken), PT401 (no user), PT403 (not the caller''s to do), PT404 (no such video for the caller).';
