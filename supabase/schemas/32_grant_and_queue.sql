-- The pieces of acquire_in_turn() that write or answer. Who calls the ones that write has locked the rows.

create function holdfast.grant_locks(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_type text, p_ttl integer, p_now timestamptz
) returns timestamptz
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz := p_now;
begin
  insert into public.video_database_lock_history (
    video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
    locked_at, ended_at, end_reason
  )
  select s.video_id, s.database_name, s.lock_id, s.tenant_id, s.lock_holder_user_id, s.lock_type, s.lock_database_names,
    s.fencing_token, s.locked_at, least(s.lock_expires_at, p_now),
    case when s.lock_expires_at <= p_now then 'expired' else 'taken_over' end
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = any (p_names) and s.lock_id is not null
  on conflict do nothing;
  delete from holdfast.place p
  where p.video_id = p_video_id and p.database_name = any (p_names)
    and (p.lock_id = p_lock_id and p.lock_holder_user_id = p_holder and p.lock_type = p_type or p.kept_until <= p_now);
  delete from holdfast.cancellation c
  where c.video_id = p_video_id and c.database_name = any (p_names) and c.cancelled_at < p_now - interval '1 hour';
  update public.video_database_state s
  set lock_id = p_lock_id,
    lock_holder_user_id = p_holder,
    lock_type = p_type,
    locked_at = p_now,
    last_activity_at = p_now,
    lock_expires_at = p_now + make_interval(secs => p_ttl),
    lock_ttl_seconds = p_ttl,
    lock_database_names = p_set,
    has_line = s.has_line and holdfast.has_line(s.video_id, s.database_name),
    -- one for all of a set
    fencing_token = greatest((date_part('epoch', p_now) * 1000000)::bigint, (
      select max(t.fencing_token) + 1
      from public.video_database_state t
      where t.video_id = p_video_id and t.database_name = any (p_names)
    ))
  where s.video_id = p_video_id and s.database_name = any (p_names);
  -- P3: the write may have waited for a lock on the whole table. The lease begins now, then, and the right is asked for again.
  if clock_timestamp() - p_now > interval '5 milliseconds' then
    if not holdfast.may_see(p_video_id, case when p_type = 'client' then p_holder::uuid end) then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    v_now := clock_timestamp();
    update public.video_database_state s
    set locked_at = v_now, last_activity_at = v_now, lock_expires_at = v_now + make_interval(secs => p_ttl),
      fencing_token = greatest(s.fencing_token, (date_part('epoch', v_now) * 1000000)::bigint)
    where s.video_id = p_video_id and s.database_name = any (p_names);
  end if;
  return v_now;
end;
$$;
revoke all on function holdfast.grant_locks(uuid, text[], text[], uuid, text, text, integer, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.grant_locks(uuid, text[], text[], uuid, text, text, integer, timestamptz) is
  'Gives the rows, which the caller has locked for a grant and judged, to one acquisition; the leases before it go into the history. Returns when the lease began.';

create function holdfast.queue_up(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_type text, p_queue_seconds integer
) returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz;
begin
  -- read while the rows are locked: the next one to have them is later in line
  v_now := clock_timestamp();
  perform
  from unnest(p_names) n
  where (select count(*) from holdfast.line(p_video_id, n)) >= 1000
    or (select count(*) from holdfast.line(p_video_id, n) l
      where l.lock_holder_user_id = p_holder and l.lock_type = p_type) >= 10;
  if found then
    return false;
  end if;
  insert into holdfast.place as p (
    video_id, database_name, lock_id, lock_holder_user_id, lock_type, lock_database_names, queued_at, kept_until
  )
  select p_video_id, n, p_lock_id, p_holder, p_type, p_set, v_now, v_now + make_interval(secs => p_queue_seconds)
  from unnest(p_names) n
  on conflict on constraint place_pkey do update
    set queued_at = excluded.queued_at, kept_until = excluded.kept_until,
      lock_database_names = excluded.lock_database_names;
  -- the row is always written: a caller who read it before finds it changed, and looks at the line
  update public.video_database_state s
  set has_line = true
  where s.video_id = p_video_id and s.database_name = any (p_names);
  return true;
end;
$$;
revoke all on function holdfast.queue_up(uuid, text[], text[], uuid, text, text, integer)
  from public, anon, authenticated, service_role;
comment on function holdfast.queue_up(uuid, text[], text[], uuid, text, text, integer) is
  'Makes a place at the end of each line; the caller has locked the rows. False: the line has 1,000 places, or 10 of this holder.';

create function holdfast.keep_place(
  p_video_id uuid, p_names text[], p_lock_id uuid, p_holder text, p_type text, p_queue_seconds integer
) returns void
language plpgsql set search_path = ''
as $$
begin
  update holdfast.place p
  set kept_until = greatest(p.kept_until, clock_timestamp() + make_interval(secs => p_queue_seconds))
  where p.video_id = p_video_id and p.database_name = any (p_names) and p.lock_id = p_lock_id
    and p.lock_holder_user_id = p_holder and p.lock_type = p_type and p.kept_until > clock_timestamp();
end;
$$;
revoke all on function holdfast.keep_place(uuid, text[], uuid, text, text, integer)
  from public, anon, authenticated, service_role;
comment on function holdfast.keep_place(uuid, text[], uuid, text, text, integer) is
  'Keeps a place until p_queue_seconds from now, without touching the state row.';

create function holdfast.granted(
  p_video_id uuid, p_names text[], p_lock_id uuid, p_is_set boolean, p_now timestamptz
) returns json
language plpgsql stable set search_path = ''
as $$
begin
  if p_is_set then
    return (
      select json_build_object(
        'acquired', true,
        'locks', json_agg(row(
          s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
          s.lock_expires_at, s.lock_ttl_seconds, row(s.server_version, s.wasabi_version, s.wasabi_synced_at)::holdfast.versions
        )::holdfast.lock_of_set order by n.ord),
        'server_time', p_now
      )
      from unnest(p_names) with ordinality n (name, ord)
      join public.video_database_state s
        on s.video_id = p_video_id and s.database_name = n.name and s.lock_id = p_lock_id
      having count(*) = cardinality(p_names)
    );
  end if;
  return (
    select json_build_object(
      'acquired', true,
      'lock', row(
        s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
        s.lock_expires_at, s.lock_ttl_seconds
      )::holdfast.lock,
      'state', row(s.server_version, s.wasabi_version, s.wasabi_synced_at)::holdfast.versions,
      'server_time', p_now
    )
    from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_names[1] and s.lock_id = p_lock_id
  );
end;
$$;
revoke all on function holdfast.granted(uuid, text[], uuid, boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.granted(uuid, text[], uuid, boolean, timestamptz) is
  'The answer to an acquire that was granted, read from the rows; NULL if they are not all of this acquisition any more.';

create function holdfast.refused(p_met holdfast.met, p_reason text, p_now timestamptz) returns json
language plpgsql immutable set search_path = ''
as $$
begin
  if p_reason = 'ended' then
    return json_build_object(
      'acquired', false,
      'reason', 'ended',
      'database_name', p_met.database_name,
      'end_reason', p_met.end_reason,
      'ended_at', p_met.ended_at,
      'holder', p_met.holder,
      'retry_after_ms', 0,
      'server_time', p_now
    );
  end if;
  return json_build_object(
    'acquired', false,
    'reason', p_reason,
    'database_name', p_met.database_name,
    'holder', p_met.holder,
    'queue', row(p_met."position", p_met.length)::holdfast.queue,
    'retry_after_ms', holdfast.retry_after_ms(p_reason, p_met),
    'server_time', p_now
  );
end;
$$;
revoke all on function holdfast.refused(holdfast.met, text, timestamptz) from public, anon, authenticated, service_role;
comment on function holdfast.refused(holdfast.met, text, timestamptz) is 'The answer to an acquire that was refused.';
