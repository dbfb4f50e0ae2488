-- Purpose: renew_lock(), the heartbeat. It moves the expiry of the acquisition that it names, or says how that
-- acquisition was lost. It never inserts, takes or revives.

create function holdfast.renew_lock(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_ttl_seconds integer, p_active boolean
) returns json
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_holder text := v_user::text;
  v_seen public.video_database_state;
  v_tenant_id uuid;
  v_reason text;
  v_now timestamptz;
begin
  if v_user is null and not v_server then
    perform holdfast.refuse('NOT_AUTHENTICATED');
  end if;
  if (
    p_video_id is not null and p_database_name ~ '^[a-z][a-z0-9_-]{0,62}$' and p_lock_id is not null
    and p_ttl_seconds between 1 and 3600 and p_active is not null
  ) is not true then
    perform holdfast.refuse_request(array[
      case when p_video_id is null then 'video_id is required' end,
      case when (p_database_name ~ '^[a-z][a-z0-9_-]{0,62}$') is not true
        then 'database_name must match ^[a-z][a-z0-9_-]{0,62}$' end,
      case when p_lock_id is null then 'lock_id is required' end,
      case when (p_ttl_seconds between 1 and 3600) is not true
        then 'ttl_seconds must be an integer from 1 to 3600' end,
      case when p_active is null then 'active must be true or false' end
    ]);
  end if;
  select v.tenant_id into v_tenant_id
  from public.videos v
  where v.id = p_video_id
    and (v_server or (
      select true from public.tenant_members m where m.tenant_id = v.tenant_id and m.user_id = v_user
    ));
  if not found then
    perform holdfast.refuse('VIDEO_NOT_FOUND');
  end if;
  -- for the log of the function that called
  perform set_config('response.headers', '[{"x-tenant-id":"' || v_tenant_id || '"}]', true);

  -- Renewal has to judge the expiry after it has the row (P3): it may have waited for a guarded write, and a lease
  -- that ran out meanwhile must stay lost. So it locks first, and only what is the caller's own.
  select s.* into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name and s.lock_id = p_lock_id
    and s.lock_type = v_type and (v_server or s.lock_holder_user_id = v_holder)
  for no key update;
  v_now := clock_timestamp();
  if v_seen.lock_expires_at > v_now then
    update public.video_database_state s
    set lock_expires_at = greatest(s.lock_expires_at, v_now + make_interval(secs => p_ttl_seconds)),
      last_activity_at = case when p_active then v_now else s.last_activity_at end
    where s.video_id = p_video_id and s.database_name = p_database_name
    returning s.* into v_seen;
    return json_build_object(
      'renewed', true,
      'lock', row(
        p_video_id, p_database_name, p_lock_id, v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.fencing_token,
        v_seen.locked_at, v_seen.lock_expires_at, p_ttl_seconds
      )::holdfast.lock,
      'server_time', v_now
    );
  end if;

  -- Lost. The row says so while nobody has cleared it, the history afterwards.
  if v_seen.lock_id is not null then
    v_reason := 'expired';
  else
    select h.end_reason, h.lock_holder_user_id into v_reason, v_holder
    from public.video_database_lock_history h
    where h.video_id = p_video_id and h.database_name = p_database_name and h.lock_id = p_lock_id
      and h.lock_type = v_type and (v_server or h.lock_holder_user_id = v_holder);
  end if;
  select s.* into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  v_now := clock_timestamp();
  return json_build_object(
    'renewed', false,
    'reason', coalesce(v_reason, 'not_held'),
    'holder', case when v_seen.lock_expires_at > v_now then row(
      v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.locked_at, v_seen.last_activity_at, v_seen.lock_expires_at,
      v_seen.lock_holder_user_id is not distinct from coalesce(v_user::text, v_holder) and v_seen.lock_type = v_type
    )::holdfast.holder end,
    'server_time', v_now
  );
end;
$$;
revoke all on function holdfast.renew_lock(uuid, text, uuid, integer, boolean)
  from public, anon, authenticated, service_role;
grant execute on function holdfast.renew_lock(uuid, text, uuid, integer, boolean) to authenticated, service_role;
comment on function holdfast.renew_lock(uuid, text, uuid, integer, boolean) is
  'What public.renew_lock() does, with the owner''s rights on the lock columns.';

create function public.renew_lock(
  video_id uuid, database_name text, lock_id uuid, ttl_seconds integer default 120, active boolean default true
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.renew_lock(video_id, database_name, lock_id, ttl_seconds, active);
end;
$$;
revoke all on function public.renew_lock(uuid, text, uuid, integer, boolean)
  from public, anon, authenticated, service_role;
grant execute on function public.renew_lock(uuid, text, uuid, integer, boolean) to authenticated, service_role;
comment on function public.renew_lock(uuid, text, uuid, integer, boolean) is
  'Keeps a lease: moves its expiry to ttl_seconds from now, never backwards. It never takes a lock that is not held.

video_id uuid, database_name text (^[a-z][a-z0-9_-]{0,62}$), lock_id uuid: the acquisition to renew.
ttl_seconds integer, 1 to 3600, default 120: how long it should last from now, in seconds.
active boolean, default true: false leaves last_activity_at alone (an open tab with nobody at it).

Returns json: { renewed: true, lock, server_time }, or { renewed: false, reason: "expired" | "taken_over" | "released" |
"force_released" | "not_held", holder, server_time }.
Raises PT400 (a rule is broken), PT401 (no user), PT404 (no such video for the caller).';
