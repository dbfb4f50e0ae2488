-- The heartbeat. It moves the expiry of the acquisition that it names, or says how that acquisition was lost. It never inserts,
-- takes or revives. A guarded write, which only shares the row, does not hold it up.
create function holdfast.renew_lock(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_ttl_seconds integer, p_active boolean, p_database_names text[]
) returns json
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_ttl constant integer := coalesce(p_ttl_seconds, 120);
  v_seen record;
  v_now timestamptz;
  v_expires timestamptz;
begin
  select s.xmin, s.xmax = '0' as unlocked, s.tenant_id, s.lock_id, s.lock_holder_user_id, s.lock_type, s.locked_at,
    s.lock_expires_at, s.lock_ttl_seconds, s.last_activity_at, s.lock_database_names, s.fencing_token, s.has_line
  into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  if not v_server then
    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
  end if;
  v_now := clock_timestamp();
  v_expires := greatest(v_seen.lock_expires_at, v_now + make_interval(secs => v_ttl));
  if (
    found and v_seen.unlocked and v_seen.lock_id = p_lock_id and v_seen.lock_type = v_type
    and (v_server or v_seen.lock_holder_user_id = v_user::text)
    and v_seen.lock_expires_at > v_now and v_seen.lock_database_names is null and p_database_names is null
    and v_ttl between 1 and 3600
  ) then
    update public.video_database_state s
    set lock_expires_at = v_expires,
      lock_ttl_seconds = v_ttl,
      last_activity_at = case when p_active is not false then v_now else s.last_activity_at end
    where s.video_id = p_video_id and s.database_name = p_database_name and s.xmin = v_seen.xmin;
    if found and clock_timestamp() - v_now > interval '5 milliseconds' then
      -- P3: it has waited for the row, which is its own now. As if nothing had been written, all is judged anew.
      update public.video_database_state s
      set lock_expires_at = v_seen.lock_expires_at,
        lock_ttl_seconds = v_seen.lock_ttl_seconds,
        last_activity_at = v_seen.last_activity_at
      where s.video_id = p_video_id and s.database_name = p_database_name;
    elsif found then
      return json_build_object(
        'renewed', true,
        'lock', row(
          p_video_id, p_database_name, p_lock_id, v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.fencing_token,
          v_seen.locked_at, v_expires, v_ttl
        )::holdfast.lock,
        'queue', json_build_object(
          'length', case when v_seen.has_line then holdfast.line_length(p_video_id, p_database_name) else 0 end
        ),
        'server_time', v_now
      );
    end if;
  end if;
  return holdfast.renew_in_turn(
    p_video_id, p_database_name, p_lock_id, v_ttl, coalesce(p_active, true), p_database_names, v_user, v_type
  );
end;
$$;
revoke all on function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[]) to authenticated, service_role;
comment on function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[]) is
  'What public.renew_lock() does, with the owner''s rights on the lock columns.';

create function public.renew_lock(
  video_id uuid, database_name text default null, lock_id uuid default null, ttl_seconds integer default null,
  active boolean default null, database_names text[] default null
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.renew_lock(video_id, database_name, lock_id, ttl_seconds, active, database_names);
end;
$$;
revoke all on function public.renew_lock(uuid, text, uuid, integer, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function public.renew_lock(uuid, text, uuid, integer, boolean, text[]) to authenticated, service_role;
comment on function public.renew_lock(uuid, text, uuid, integer, boolean, text[]) is
  'Keeps a lease: moves its expiry to ttl_seconds from now, never backwards. It never takes a lock that is not held.

video_id uuid, and database_name text (^[a-z][a-z0-9_-]{0,62}$) or database_names text[]: which lock, or all of a set or none.
lock_id uuid: the acquisition to renew.
ttl_seconds integer, 1 to 3600, default 120: how long it should last from now, in seconds.
active boolean, default true: false leaves last_activity_at alone (an open tab with nobody at it).

Returns json: { renewed: true, lock, queue: { length }, server_time } (with database_names: locks), or { renewed: false,
reason: "expired" | "taken_over" | "released" | "force_released" | "cancelled" | "not_held" | "busy", database_name, holder,
server_time }.
Raises PT400 (a rule is broken), PT401 (no user), PT404 (no such video for the caller).';
