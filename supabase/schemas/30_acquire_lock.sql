-- The decision, as it usually is. Over 70 lines: in one piece, as helpers cost 12 % here. It reads, and writes at most once,
-- and only if the row is still the version that was read: compare-and-set on xmin, which covers lease, token, versions and tenant at once. So a
-- refusal is a plain read (P10), a grant is one update of one row, and of N simultaneous callers one finds the row as it was
-- (P2). All else, and what turns out to be unusual, goes to acquire_in_turn().
create function holdfast.acquire_lock(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl_seconds integer,
  p_take_over boolean, p_queue_seconds integer, p_database_names text[]
) returns json
-- UTC, because json shows a timestamptz in the session's time zone. One plan for all calls, kept by each session, as a plan
-- for the very arguments would be made anew each time (it can leave out what a missing lock_id does not need, and so
-- always looks cheaper); and no sequential scans in it, which look cheap while a table is small. lock_timeout is P11's.
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_holder constant text := case when v_server then p_lock_holder_user_id else v_user::text end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_ttl constant integer := coalesce(p_ttl_seconds, 120);
  v_before constant timestamptz := clock_timestamp();
  v_now timestamptz;
  v_seen record;
  v_lock_id uuid;
  v_token bigint;
begin
  -- Free means that nobody shares the row either, so no guarded write is open; and one that comes from now on reads a later
  -- clock than v_before, finds no live lease, and fails. That is why the clock was read before the row.
  select s.xmin, s.xmax = '0' and (s.lock_expires_at > v_before) is not true as free, s.tenant_id, s.fencing_token,
    s.lock_id, s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at,
    s.lock_database_names, s.has_line, s.server_version, s.wasabi_version, s.wasabi_synced_at, h.end_reason
  into v_seen
  from public.video_database_state s
  left join public.video_database_lock_history h
    on h.video_id = p_video_id and h.database_name = p_database_name and h.lock_id = p_lock_id
  where s.video_id = p_video_id and s.database_name = p_database_name;
  if not v_server then
    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
  end if;

  -- one expression for all that is usual, as PostgreSQL sets up each one anew in every transaction
  if (
    found and not v_seen.has_line and p_database_names is null
    and v_ttl between 1 and 3600 and char_length(v_holder) between 1 and 255
    and (p_lock_holder_user_id is null or v_server or lower(p_lock_holder_user_id) = v_holder)
    and (p_queue_seconds is null or p_queue_seconds between 0 and 60 and (p_queue_seconds = 0 or p_lock_id is not null))
    and v_seen.end_reason is null and (p_lock_id is null or v_seen.lock_id is distinct from p_lock_id)
  ) then
    if v_seen.free then
      -- read after the row: the lease before this one has ended by now
      v_now := clock_timestamp();
      v_lock_id := coalesce(p_lock_id, gen_random_uuid());
      v_token := greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint);
      update public.video_database_state s
      set lock_id = v_lock_id,
        lock_holder_user_id = v_holder,
        lock_type = v_type,
        locked_at = v_now,
        last_activity_at = v_now,
        lock_expires_at = v_now + make_interval(secs => v_ttl),
        lock_ttl_seconds = v_ttl,
        lock_database_names = null,
        fencing_token = v_token
      where s.video_id = p_video_id and s.database_name = p_database_name and s.xmin = v_seen.xmin;
      if found then
        if v_seen.lock_id is not null or clock_timestamp() - v_now > interval '5 milliseconds' then
          -- P3: the write may have waited for the row. The lease begins now, then, and who waited is asked for their right again.
          if clock_timestamp() - v_now > interval '5 milliseconds' then
            if not holdfast.may_see(p_video_id, v_user) then
              perform holdfast.raise_error('VIDEO_NOT_FOUND');
            end if;
            v_now := clock_timestamp();
            v_token := greatest(v_token, (date_part('epoch', v_now) * 1000000)::bigint);
            update public.video_database_state s
            set locked_at = v_now, last_activity_at = v_now, lock_expires_at = v_now + make_interval(secs => v_ttl),
              fencing_token = v_token
            where s.video_id = p_video_id and s.database_name = p_database_name;
          end if;
          if v_seen.lock_id is not null then
            insert into public.video_database_lock_history (
              video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names,
              fencing_token, locked_at, ended_at, end_reason
            )
            values (
              p_video_id, p_database_name, v_seen.lock_id, v_seen.tenant_id, v_seen.lock_holder_user_id, v_seen.lock_type,
              v_seen.lock_database_names, v_seen.fencing_token, v_seen.locked_at, v_seen.lock_expires_at, 'expired'
            )
            on conflict do nothing;
          end if;
        end if;
        return json_build_object(
          'acquired', true,
          'lock', row(
            p_video_id, p_database_name, v_lock_id, v_holder, v_type, v_token, v_now, v_now + make_interval(secs => v_ttl),
            v_ttl
          )::holdfast.lock,
          'state', row(v_seen.server_version, v_seen.wasabi_version, v_seen.wasabi_synced_at)::holdfast.versions,
          'server_time', v_now
        );
      end if;
    elsif v_seen.lock_expires_at > v_before and p_take_over is not true and coalesce(p_queue_seconds, 0) = 0 then
      v_now := clock_timestamp();
      return json_build_object(
        'acquired', false,
        'reason', 'held',
        'database_name', p_database_name,
        'holder', row(
          v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.locked_at, v_seen.last_activity_at,
          v_seen.lock_expires_at, v_seen.lock_holder_user_id = v_holder and v_seen.lock_type = v_type
        )::holdfast.holder,
        'queue', row(null, 0)::holdfast.queue,
        'retry_after_ms', greatest(0, ceil(extract(epoch from v_seen.lock_expires_at - v_now) * 1000))::bigint,
        'server_time', v_now
      );
    end if;
  end if;
  return holdfast.acquire_in_turn(
    p_video_id, p_database_name, p_lock_holder_user_id, p_lock_id, v_ttl, coalesce(p_take_over, false),
    coalesce(p_queue_seconds, 0), p_database_names, v_user, v_holder, v_type
  );
end;
$$;
revoke all on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  from public, anon, authenticated, service_role;
grant execute on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  to authenticated, service_role;
comment on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[]) is
  'What public.acquire_lock() does, with the owner''s rights on the lock columns.';

create function public.acquire_lock(
  video_id uuid, database_name text default null, lock_holder_user_id text default null, lock_id uuid default null,
  ttl_seconds integer default null, take_over boolean default null, queue_seconds integer default null,
  database_names text[] default null
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.acquire_lock(
    video_id, database_name, lock_holder_user_id, lock_id, ttl_seconds, take_over, queue_seconds, database_names
  );
end;
$$;
revoke all on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  from public, anon, authenticated, service_role;
grant execute on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  to authenticated, service_role;
comment on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[]) is
  'Acquires the exclusive right to write one database of a video, or several at once, as a lease that ends by itself.

video_id uuid: the video. And one of
database_name text (^[a-z][a-z0-9_-]{0,62}$): the database to lock;
database_names text[], 1 to 16 different ones: all of them or none, with one lock_id and one token.
lock_holder_user_id text (1 to 255 characters): who will hold it; required for a server, a user''s own id for a user.
lock_id uuid, default a new one: names this acquisition; choose it, and the call is safe to repeat.
ttl_seconds integer, 1 to 3600, default 120: length of the lease, in seconds.
take_over boolean, default false: take the lease over from one''s own other acquisition.
queue_seconds integer, 0 to 60, default 0: if refused, a place in the line for so long; ask again to keep it. Needs a lock_id.

Returns json: { acquired: true, lock, state, server_time } (with database_names: locks), or { acquired: false, reason:
"held" | "queued" | "busy" | "ended", database_name, holder, queue, retry_after_ms, server_time }.
Raises PT400 (a rule is broken), PT401 (no user), PT403 (in another''s name), PT404 (no such video for the caller). Where
another transaction takes the row between the read and the write and keeps it, 55P03 stands for busy.';
