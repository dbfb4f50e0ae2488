-- Purpose: acquire_lock(), one atomic decision in one call; and the pieces that renew and release share with it.

-- Who calls is decided here, from the role that the Data API switched to. The caller cannot set it, nor the token
-- that auth.uid() reads.
create function holdfast.caller_is_server() returns boolean
language plpgsql stable set search_path = ''
as $$
declare
  v_role constant text := current_setting('role');
begin
  -- the two usual roles first: they need no look at the catalog
  return v_role = 'service_role'
    or v_role <> 'authenticated'
    and pg_has_role(case v_role when 'none' then session_user else v_role end, 'service_role', 'usage');
end;
$$;
revoke all on function holdfast.caller_is_server() from public, anon, authenticated, service_role;
comment on function holdfast.caller_is_server() is
  'Whether the caller has the rights of service_role: the secret key, or a direct connection of the owner. Everybody else is a user, known by auth.uid().';

-- All errors of the API in one place. A refused lock is an answer; these are for what cannot be answered.
create function holdfast.refuse(p_error text, p_what text default null) returns void
language plpgsql set search_path = ''
as $$
begin
  case p_error
    when 'NOT_AUTHENTICATED' then
      raise exception using errcode = 'PT401', message = 'The token names no user',
        detail = 'auth.uid() is null: the token has no "sub" claim.',
        hint = 'Sign in, and send the user''s access token as Authorization: Bearer.';
    when 'FORBIDDEN' then
      raise exception using errcode = 'PT403', message = p_what,
        detail = 'The credentials are good, but do not give this right.',
        hint = 'See docs/security.md for who may do what.';
    when 'VIDEO_NOT_FOUND' then
      raise exception using errcode = 'PT404', message = 'There is no such video',
        detail = 'No video with this id belongs to a tenant of the caller.',
        hint = 'Check video_id, and that the caller is a member of the video''s tenant.';
    when 'LOCK_NOT_HELD' then
      raise exception using errcode = 'PT412', message = 'The lock is not held with this fencing token',
        detail = p_what,
        hint = 'Write nothing more under this token. Acquire the lock again, and read the data anew.';
    when 'TOKENS_USED_UP' then
      raise exception using errcode = 'PT500', message = 'The fencing tokens of this lock are used up',
        detail = 'fencing_token has reached the largest bigint, and a token never goes back.',
        hint = 'An administrator has to look at the state row: no real lock gets here.';
  end case;
end;
$$;
revoke all on function holdfast.refuse(text, text) from public, anon, authenticated, service_role;
comment on function holdfast.refuse(text, text) is
  'Raises an error of the API by its name. SQLSTATE PTnnn makes PostgREST answer with HTTP status nnn.';

create function holdfast.refuse_request(p_broken_rules text[]) returns void
language plpgsql set search_path = ''
as $$
begin
  raise exception using errcode = 'PT400', message = 'The request breaks a rule',
    detail = (
      select json_agg(json_build_object(
        'path', split_part(r, ' ', 1), 'message', substr(r, strpos(r, ' ') + 1)
      ))
      from unnest(p_broken_rules) as r
      where r is not null
    )::text,
    hint = 'Correct the arguments that the detail names.';
end;
$$;
revoke all on function holdfast.refuse_request(text[]) from public, anon, authenticated, service_role;
comment on function holdfast.refuse_request(text[]) is
  'Raises PT400. p_broken_rules: "argument what is wrong with it", NULL where the rule holds; the error''s detail is JSON, [{ path, message }].';

-- The pieces of an answer, as types: json_build_object() turns a row of them into an object with these names, in every
-- function alike, at a fraction of what a function that builds the object would cost.
create type holdfast.lock as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  expires_at timestamptz,
  ttl_seconds integer
);
comment on type holdfast.lock is 'A held lease, as its holder sees it.';

create type holdfast.holder as (
  lock_holder_user_id text,
  lock_type text,
  locked_at timestamptz,
  last_activity_at timestamptz,
  expires_at timestamptz,
  is_you boolean
);
comment on type holdfast.holder is 'Who holds a lock, as others see it: without the lock_id, which is of no use to them.';

create type holdfast.versions as (
  server_version integer,
  wasabi_version integer,
  wasabi_synced_at timestamptz
);
comment on type holdfast.versions is 'The versions of one database of a video.';

-- The decision. It reads, and writes at most once, and only if the row is still as it was read: compare-and-set on the
-- token and the expiry, one of which changes whenever a lease begins, is renewed or ends. So a refusal is a plain read
-- (P10), a grant is one update of one row, and of N simultaneous callers one finds the row unchanged (P2).
create function holdfast.acquire_lock(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl_seconds integer,
  p_take_over boolean
) returns json
-- UTC, because json shows a timestamptz in the session's time zone. One plan for all calls, kept by each session, as a plan
-- for the very arguments would be made anew each time (it can leave out what a missing lock_id does not need, and so
-- always looks cheaper); and no sequential scans in it, which look cheap while a table is small.
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_holder constant text := case when v_server then p_lock_holder_user_id else v_user::text end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_ttl constant interval := make_interval(secs => p_ttl_seconds);
  v_seen record;
  v_broken_rules text[];
  v_now timestamptz;
  v_lock_id uuid;
  v_token bigint;
  v_held boolean;
  v_mine boolean;
  v_ended_at timestamptz;
  v_end_reason text;
begin
  loop
    select s.tenant_id, s.fencing_token, s.lock_id, s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at,
      s.lock_expires_at, s.server_version, s.wasabi_version, s.wasabi_synced_at, h.end_reason, h.ended_at
    into v_seen
    from (select) as one_row_in_any_case
    left join public.video_database_state s on s.video_id = p_video_id and s.database_name = p_database_name
    left join public.video_database_lock_history h
      on h.video_id = p_video_id and h.database_name = p_database_name and h.lock_id = p_lock_id;
    v_now := clock_timestamp();
    if v_seen.tenant_id is null then
      -- never locked before: only the video says whose it is
      select v.tenant_id into v_seen.tenant_id from public.videos v where v.id = p_video_id;
    end if;
    if not v_server then
      perform from public.tenant_members m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
      if not found then
        v_seen.tenant_id := null;
      end if;
    end if;

    -- one expression for all that is usually right, as PostgreSQL sets up each one anew in every transaction
    if (
      v_seen.tenant_id is not null
      and (v_seen.fencing_token is not null or p_database_name ~ '^[a-z][a-z0-9_-]{0,62}$')
      and p_ttl_seconds between 1 and 3600 and char_length(v_holder) between 1 and 255
      and coalesce(p_lock_holder_user_id = v_holder, true)
      and p_take_over is not null and not (p_take_over and v_server)
    ) is not true then
      v_broken_rules := array_remove(array[
        case when p_video_id is null then 'video_id is required' end,
        case when (p_database_name ~ '^[a-z][a-z0-9_-]{0,62}$') is not true
          then 'database_name must match ^[a-z][a-z0-9_-]{0,62}$' end,
        case when (char_length(v_holder) between 1 and 255) is not true
          then 'lock_holder_user_id must be a string of 1 to 255 characters; it is required with the secret key' end,
        case when (p_ttl_seconds between 1 and 3600) is not true
          then 'ttl_seconds must be an integer from 1 to 3600' end,
        case when p_take_over is null then 'take_over must be true or false' end
      ], null);
      if v_holder is null and not v_server then
        perform holdfast.refuse('NOT_AUTHENTICATED');
      elsif v_broken_rules <> '{}' then
        perform holdfast.refuse_request(v_broken_rules);
      elsif p_lock_holder_user_id <> v_holder then
        perform holdfast.refuse('FORBIDDEN', 'A user can acquire a lock only for themselves');
      elsif v_server and p_take_over then
        perform holdfast.refuse('FORBIDDEN', 'take_over is a user''s right over their own lease; a server releases by force');
      end if;
      perform holdfast.refuse('VIDEO_NOT_FOUND');
    end if;
    -- for the log of the function that called; who gets it may see the video
    perform set_config('response.headers', '[{"x-tenant-id":"' || v_seen.tenant_id || '"}]', true);

    -- there is a lease on the row, or the acquisition has ended already
    if v_seen.lock_id is not null or v_seen.end_reason is not null then
      v_held := v_seen.lock_expires_at > v_now is true;
      v_mine := v_seen.lock_holder_user_id = v_holder and v_seen.lock_type = v_type;
      if p_lock_id is not null then
        v_end_reason := v_seen.end_reason;
        v_ended_at := v_seen.ended_at;
        if v_seen.lock_id = p_lock_id then
          if v_held and v_mine then
            -- P5: the same acquire again, the same grant. The row does not keep the length that was asked for: it is the
            -- time from the grant, or from the renewal that moved the expiry, to the expiry.
            return json_build_object(
              'acquired', true,
              'lock', row(
                p_video_id, p_database_name, p_lock_id, v_holder, v_type, v_seen.fencing_token, v_seen.locked_at,
                v_seen.lock_expires_at,
                least(3600, greatest(1, round(extract(epoch from v_seen.lock_expires_at - v_seen.last_activity_at))))
              )::holdfast.lock,
              'state', row(v_seen.server_version, v_seen.wasabi_version, v_seen.wasabi_synced_at)::holdfast.versions,
              'server_time', v_now
            );
          elsif not v_held then
            v_end_reason := 'expired';
            v_ended_at := v_seen.lock_expires_at;
          end if;
        end if;
        if v_end_reason is not null then
          -- P5: this acquisition has ended, and a request that was delayed does not begin it anew
          return json_build_object(
            'acquired', false,
            'reason', 'ended',
            'end_reason', v_end_reason,
            'ended_at', v_ended_at,
            'holder', case when v_held then row(
              v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.locked_at, v_seen.last_activity_at,
              v_seen.lock_expires_at, v_mine
            )::holdfast.holder end,
            'retry_after_ms', 0,
            'server_time', v_now
          );
        end if;
      end if;

      if v_held and not (p_take_over and v_mine) then
        return json_build_object(
          'acquired', false,
          'reason', 'held',
          'holder', row(
            v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.locked_at, v_seen.last_activity_at,
            v_seen.lock_expires_at, v_mine
          )::holdfast.holder,
          'retry_after_ms', ceil(extract(epoch from v_seen.lock_expires_at - v_now) * 1000)::bigint,
          'server_time', v_now
        );
      end if;
    end if;

    v_lock_id := coalesce(p_lock_id, gen_random_uuid());
    if v_seen.fencing_token is not null then
      if v_seen.fencing_token = 9223372036854775807 then
        perform holdfast.refuse('TOKENS_USED_UP');
      end if;
      v_token := v_seen.fencing_token + 1;
      update public.video_database_state s
      set lock_id = v_lock_id,
        lock_holder_user_id = v_holder,
        lock_type = v_type,
        locked_at = v_now,
        last_activity_at = v_now,
        lock_expires_at = v_now + v_ttl,
        fencing_token = v_token
      where s.video_id = p_video_id and s.database_name = p_database_name
        and s.fencing_token = v_seen.fencing_token
        and s.lock_expires_at is not distinct from v_seen.lock_expires_at;
    else
      insert into public.video_database_state as s (
        video_id, database_name, tenant_id, lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at,
        lock_expires_at, fencing_token
      )
      select p_video_id, p_database_name, v.tenant_id, v_lock_id, v_holder, v_type, v_now, v_now, v_now + v_ttl,
        1 + coalesce((
          select f.fencing_token from holdfast.fencing_floor f
          where f.video_id = p_video_id and f.database_name = p_database_name
        ), 0)
      from public.videos v
      where v.id = p_video_id and v.tenant_id = v_seen.tenant_id
      -- a video that is being deleted is gone when this has waited for it, and the next round says so
      for key share
      on conflict on constraint video_database_state_pkey do nothing
      returning s.fencing_token into v_token;
    end if;
    exit when found;
    -- Somebody else changed the row between the read and the write. Each round is another caller's success.
  end loop;

  -- P3: the write may have waited for the row while the clock went on; then the lease begins now. Nobody else can
  -- have had it in between, as the row is unchanged since it was read, and is ours until the transaction ends.
  if clock_timestamp() - v_now > interval '5 milliseconds' then
    v_now := clock_timestamp();
    update public.video_database_state s
    set locked_at = v_now, last_activity_at = v_now, lock_expires_at = v_now + v_ttl
    where s.video_id = p_video_id and s.database_name = p_database_name;
  end if;

  if v_seen.lock_id is not null then
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
      ended_at, end_reason
    )
    values (
      p_video_id, p_database_name, v_seen.lock_id, v_seen.tenant_id, v_seen.lock_holder_user_id, v_seen.lock_type,
      v_seen.fencing_token, v_seen.locked_at, least(v_seen.lock_expires_at, v_now),
      case when v_seen.lock_expires_at <= v_now then 'expired' else 'taken_over' end
    );
  end if;
  return json_build_object(
    'acquired', true,
    'lock', row(
      p_video_id, p_database_name, v_lock_id, v_holder, v_type, v_token, v_now, v_now + v_ttl, p_ttl_seconds
    )::holdfast.lock,
    'state', row(
      coalesce(v_seen.server_version, 0), coalesce(v_seen.wasabi_version, 0), v_seen.wasabi_synced_at
    )::holdfast.versions,
    'server_time', v_now
  );
end;
$$;
revoke all on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean)
  from public, anon, authenticated, service_role;
grant execute on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean) to authenticated, service_role;
comment on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean) is
  'What public.acquire_lock() does, with the owner''s rights on the lock columns.';

create function public.acquire_lock(
  video_id uuid, database_name text, lock_holder_user_id text default null, lock_id uuid default null,
  ttl_seconds integer default 120, take_over boolean default false
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.acquire_lock(video_id, database_name, lock_holder_user_id, lock_id, ttl_seconds, take_over);
end;
$$;
revoke all on function public.acquire_lock(uuid, text, text, uuid, integer, boolean)
  from public, anon, authenticated, service_role;
grant execute on function public.acquire_lock(uuid, text, text, uuid, integer, boolean) to authenticated, service_role;
comment on function public.acquire_lock(uuid, text, text, uuid, integer, boolean) is
  'Acquires the exclusive right to write one database of one video, as a lease that ends by itself.

video_id uuid, database_name text (^[a-z][a-z0-9_-]{0,62}$): what to lock.
lock_holder_user_id text (1 to 255 characters): who will hold it; required for a server, a user''s own id for a user.
lock_id uuid, default a new one: names this acquisition; choose it, and the call is safe to repeat.
ttl_seconds integer, 1 to 3600, default 120: length of the lease, in seconds.
take_over boolean, default false: a user takes the lease over from their own other acquisition.

Returns json: { acquired: true, lock, state, server_time }, or { acquired: false, reason: "held" | "ended", … }.
Raises PT400 (a rule is broken), PT401 (no user), PT403 (in another''s name), PT404 (no such video for the caller).';
