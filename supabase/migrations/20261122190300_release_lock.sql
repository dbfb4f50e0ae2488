-- Purpose: release_lock(). It ends the acquisition that the caller names, or their own, or by force whichever it is;
-- and it says the same when it is asked again.

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

create function holdfast.release_lock(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean
) returns json
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_targets constant integer := num_nonnulls(p_lock_id, p_lock_holder_user_id, nullif(p_force, false));
  v_holder text := coalesce(v_user::text, p_lock_holder_user_id);
  v_role text;
  v_tenant_id uuid;
  v_old public.video_database_state;
  v_ended public.video_database_lock_history;
  v_now timestamptz;
  v_reason text;
begin
  if v_user is null and not v_server then
    perform holdfast.refuse('NOT_AUTHENTICATED');
  elsif (
    p_video_id is not null and p_database_name is not null and p_force is not null
    and v_targets between v_server::integer and 1
    and coalesce(char_length(p_lock_holder_user_id) between 1 and 255, true)
  ) is not true then
    perform holdfast.refuse_request(array[
      case when p_video_id is null then 'video_id is required' end,
      case when p_database_name is null then 'database_name is required' end,
      case when p_force is null then 'force must be true or false' end,
      case when v_targets > 1 then 'lock_id excludes lock_holder_user_id and force: send one of them' end,
      case when v_server and v_targets = 0
        then 'lock_id is required with the secret key, or lock_holder_user_id, or force' end,
      case when char_length(p_lock_holder_user_id) not between 1 and 255
        then 'lock_holder_user_id must be a string of 1 to 255 characters' end
    ]);
  elsif p_lock_holder_user_id <> v_holder then
    perform holdfast.refuse('FORBIDDEN', 'A user can release only their own lock; an administrator releases by force');
  elsif p_force and not v_server then
    select (select m.role from public.tenant_members m where m.tenant_id = v.tenant_id and m.user_id = v_user)
    into v_role
    from public.videos v
    where v.id = p_video_id;
    if v_role is null then
      perform holdfast.refuse('VIDEO_NOT_FOUND');
    elsif v_role <> 'admin' then
      perform holdfast.refuse('FORBIDDEN', 'Only an administrator of the tenant can force a release');
    end if;
    -- by force it is whoever's
    v_holder := null;
  end if;

  loop
    select s.* into v_old
    from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_database_name;
    -- P6: the lease that the caller names, and only if it is theirs. Whether the caller may still see the video does not
    -- matter: who has lost that right should be able to let go.
    exit when (
      v_old.lock_id is not null
      and (p_lock_id is null or v_old.lock_id = p_lock_id)
      and (p_force or v_old.lock_type = v_type)
      and (v_holder is null or v_old.lock_holder_user_id = v_holder)
    ) is not true;

    update public.video_database_state s
    set lock_id = null,
      lock_holder_user_id = null,
      lock_type = null,
      locked_at = null,
      last_activity_at = null,
      lock_expires_at = null
    where s.video_id = p_video_id and s.database_name = p_database_name
      and s.fencing_token = v_old.fencing_token and s.lock_expires_at = v_old.lock_expires_at;
    if found then
      -- read now, after the row was had: a lease that ran out while this waited for it was not released, it expired
      v_now := clock_timestamp();
      v_reason := case
        when v_old.lock_expires_at <= v_now then 'expired' when p_force then 'force_released' else 'released'
      end;
      insert into public.video_database_lock_history (
        video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
        ended_at, end_reason
      )
      values (
        v_old.video_id, v_old.database_name, v_old.lock_id, v_old.tenant_id, v_old.lock_holder_user_id, v_old.lock_type,
        v_old.fencing_token, v_old.locked_at, least(v_old.lock_expires_at, v_now), v_reason
      );
      -- for the log of the function that called
      perform set_config('response.headers', '[{"x-tenant-id":"' || v_old.tenant_id || '"}]', true);
      if v_reason = 'expired' then
        return json_build_object('released', false, 'reason', 'expired', 'holder', null);
      end if;
      return json_build_object('released', true, 'lock', row(
        p_video_id, p_database_name, v_old.lock_id, v_old.lock_holder_user_id, v_old.lock_type, v_old.fencing_token,
        v_old.locked_at, v_now
      )::holdfast.released_lock);
    end if;
    -- the row changed between the read and the write: look again
  end loop;

  -- Nothing to end. Say why: from the history if it was the caller's, else from the row.
  if p_database_name !~ '^[a-z][a-z0-9_-]{0,62}$' then
    perform holdfast.refuse_request(array['database_name must match ^[a-z][a-z0-9_-]{0,62}$']);
  end if;
  v_holder := coalesce(v_user::text, p_lock_holder_user_id);
  if p_lock_id is not null then
    select h.* into v_ended
    from public.video_database_lock_history h
    where h.video_id = p_video_id and h.database_name = p_database_name and h.lock_id = p_lock_id
      and h.lock_type = v_type and (v_server or h.lock_holder_user_id = v_holder);
    if v_ended.end_reason = 'released' then
      perform set_config('response.headers', '[{"x-tenant-id":"' || v_ended.tenant_id || '"}]', true);
      return json_build_object('released', true, 'lock', row(
        p_video_id, p_database_name, p_lock_id, v_ended.lock_holder_user_id, v_ended.lock_type, v_ended.fencing_token,
        v_ended.locked_at, v_ended.ended_at
      )::holdfast.released_lock);
    end if;
    v_holder := coalesce(v_holder, v_ended.lock_holder_user_id);
  end if;
  select v.tenant_id into v_tenant_id
  from public.videos v
  where v.id = p_video_id
    and (v_server or (
      select true from public.tenant_members m where m.tenant_id = v.tenant_id and m.user_id = v_user
    ));
  if not found then
    if v_ended.end_reason is null then
      perform holdfast.refuse('VIDEO_NOT_FOUND');
    end if;
    -- theirs it was, but who holds it now is no longer theirs to know
    v_old := null;
    v_tenant_id := v_ended.tenant_id;
  end if;
  perform set_config('response.headers', '[{"x-tenant-id":"' || v_tenant_id || '"}]', true);
  v_now := clock_timestamp();
  return json_build_object(
    'released', false,
    'reason', coalesce(
      v_ended.end_reason, case when v_old.lock_expires_at > v_now then 'held_by_another' else 'not_held' end
    ),
    'holder', case when v_old.lock_expires_at > v_now then row(
      v_old.lock_holder_user_id, v_old.lock_type, v_old.locked_at, v_old.last_activity_at, v_old.lock_expires_at,
      v_old.lock_holder_user_id is not distinct from v_holder and v_old.lock_type = v_type
    )::holdfast.holder end
  );
end;
$$;
revoke all on function holdfast.release_lock(uuid, text, uuid, text, boolean)
  from public, anon, authenticated, service_role;
grant execute on function holdfast.release_lock(uuid, text, uuid, text, boolean) to authenticated, service_role;
comment on function holdfast.release_lock(uuid, text, uuid, text, boolean) is
  'What public.release_lock() does, with the owner''s rights on the lock columns.';

create function public.release_lock(
  video_id uuid, database_name text, lock_id uuid default null, lock_holder_user_id text default null,
  force boolean default false
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.release_lock(video_id, database_name, lock_id, lock_holder_user_id, force);
end;
$$;
revoke all on function public.release_lock(uuid, text, uuid, text, boolean)
  from public, anon, authenticated, service_role;
grant execute on function public.release_lock(uuid, text, uuid, text, boolean) to authenticated, service_role;
comment on function public.release_lock(uuid, text, uuid, text, boolean) is
  'Ends a lease. Safe in a finally: nothing to release is an answer, and a repetition gets the answer of the first call.

video_id uuid, database_name text (^[a-z][a-z0-9_-]{0,62}$): which lock. And one of
lock_id uuid: the acquisition to end, if it is the caller''s;
lock_holder_user_id text (1 to 255 characters): for a server, whatever lease the server of this name holds;
force boolean, default false: whatever lease there is; for a server or an admin of the tenant.
A user who sends none of them releases their own lease.

Returns json: { released: true, lock }, or { released: false, reason: "expired" | "taken_over" | "force_released" |
"not_held" | "held_by_another", holder }.
Raises PT400 (a rule is broken), PT401 (no user), PT403 (not the caller''s to do), PT404 (no such video for the caller).';
