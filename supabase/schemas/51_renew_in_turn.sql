-- What renew_lock() meets at each of the locks that it is asked to keep.
create type holdfast.met_renewal as (
  ord integer,
  database_name text,
  reason text,
  other_names boolean,
  holder json
);
comment on type holdfast.met_renewal is
  'One lock as a renewal meets it. reason: NULL if the acquisition holds it, else how it was lost. other_names: it is known here, with other database names.';

create function holdfast.meet_renewal(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_user uuid, p_type text, p_now timestamptz
) returns setof holdfast.met_renewal
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select n.ord::integer, n.name,
    case
      when f.mine and s.lock_expires_at > p_now then null
      when f.mine then 'expired'
      when f.was_mine then h.end_reason
      when c.lock_id is not null then 'cancelled'
      else 'not_held'
    end,
    f.mine and s.lock_database_names is distinct from p_set
      or f.was_mine and h.lock_database_names is distinct from p_set,
    case when s.lock_expires_at > p_now then to_json(row(
      s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at,
      s.lock_type = p_type
        and s.lock_holder_user_id = coalesce(p_user::text, case when f.was_mine then h.lock_holder_user_id end, '')
    )::holdfast.holder) end
  from unnest(p_names) with ordinality n (name, ord)
  -- limit 1, so that each is looked up by its whole key: a plan for all names at once may read all that the video has
  left join lateral (
    select * from public.video_database_state s where s.video_id = p_video_id and s.database_name = n.name limit 1
  ) s on true
  left join lateral (
    select * from public.video_database_lock_history h
    where h.video_id = p_video_id and h.database_name = n.name and h.lock_id = p_lock_id
    limit 1
  ) h on true
  left join lateral (
    select * from holdfast.cancellation c
    where c.video_id = p_video_id and c.database_name = n.name and c.lock_id = p_lock_id
      and c.lock_type = p_type and c.lock_holder_user_id = coalesce(p_user::text, '')
    limit 1
  ) c on true
  cross join lateral (
    select coalesce(
        s.lock_id = p_lock_id and s.lock_type = p_type and (p_user is null or s.lock_holder_user_id = p_user::text), false
      ) as mine,
      coalesce(h.lock_type = p_type and (p_user is null or h.lock_holder_user_id = p_user::text), false) as was_mine
  ) f
  order by n.ord;
end;
$$;
revoke all on function holdfast.meet_renewal(uuid, text[], text[], uuid, uuid, text, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.meet_renewal(uuid, text[], text[], uuid, uuid, text, timestamptz) is
  'Looks at the locks that a renewal names, one row for each, in the order of the names. It only reads.';

create function holdfast.renew_in_turn(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_ttl integer, p_active boolean, p_database_names text[],
  p_user uuid, p_type text
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_names constant text[] := coalesce(p_database_names, array[p_database_name]);
  v_set constant text[] := case when cardinality(p_database_names) > 1
    then array(select n from unnest(p_database_names) n order by n collate "C") end;
  v_until constant timestamptz := clock_timestamp() + interval '450 milliseconds';
  v_locked boolean := false;
  v_now timestamptz;
  v_all holdfast.met_renewal[];
  v_first holdfast.met_renewal;
begin
  if p_user is null and p_type = 'client' then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  perform holdfast.raise_invalid_request(
    holdfast.broken_rules_of_names(p_video_id, p_database_name, p_database_names) || array[
      case when p_lock_id is null then 'lock_id is required' end,
      case when p_ttl not between 1 and 3600 then 'ttl_seconds must be an integer from 1 to 3600' end
    ]
  );
  loop
    if not holdfast.may_see(p_video_id, p_user) then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    v_now := clock_timestamp();
    v_all := array(select m from holdfast.meet_renewal(
      p_video_id, v_names, v_set, p_lock_id, p_user, p_type, v_now
    ) m);
    perform from unnest(v_all) m where m.other_names;
    if found then
      perform holdfast.raise_invalid_request(array['lock_id names an acquisition of other databases']);
    end if;
    select m.* into v_first from unnest(v_all) m where m.reason is not null order by m.ord limit 1;
    exit when found;
    if v_locked then
      return holdfast.extend_leases(p_video_id, v_names, p_ttl, p_active, p_database_names is not null, v_now);
    end if;
    v_locked := holdfast.lock_rows(p_video_id, v_names, false, v_until);
    if not v_locked then
      v_first := v_all[1];
      v_first.reason := 'busy';
      exit;
    end if;
  end loop;
  return json_build_object(
    'renewed', false,
    'reason', v_first.reason,
    'database_name', v_first.database_name,
    'holder', v_first.holder,
    'server_time', v_now
  );
end;
$$;
revoke all on function holdfast.renew_in_turn(uuid, text, uuid, integer, boolean, text[], uuid, text)
  from public, anon, authenticated, service_role;
comment on function holdfast.renew_in_turn(uuid, text, uuid, integer, boolean, text[], uuid, text) is
  'The whole of renew_lock(), for one database or several: errors, explanations, sets, rows that another transaction has.';

create function holdfast.extend_leases(
  p_video_id uuid, p_names text[], p_ttl integer, p_active boolean, p_is_set boolean, p_now timestamptz
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_locks json;
  v_length integer;
begin
  update public.video_database_state s
  set lock_expires_at = greatest(s.lock_expires_at, p_now + make_interval(secs => p_ttl)),
    lock_ttl_seconds = p_ttl,
    last_activity_at = case when p_active then p_now else s.last_activity_at end
  where s.video_id = p_video_id and s.database_name = any (p_names);
  select
    json_agg(row(
      s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
      s.lock_expires_at, s.lock_ttl_seconds
    )::holdfast.lock order by n.ord),
    max(case when s.has_line then holdfast.line_length(s.video_id, s.database_name) else 0 end)
  into v_locks, v_length
  from unnest(p_names) with ordinality n (name, ord)
  join public.video_database_state s on s.video_id = p_video_id and s.database_name = n.name;
  if p_is_set then
    return json_build_object(
      'renewed', true, 'locks', v_locks, 'queue', json_build_object('length', v_length), 'server_time', p_now
    );
  end if;
  return json_build_object(
    'renewed', true, 'lock', v_locks -> 0, 'queue', json_build_object('length', v_length), 'server_time', p_now
  );
end;
$$;
revoke all on function holdfast.extend_leases(uuid, text[], integer, boolean, boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.extend_leases(uuid, text[], integer, boolean, boolean, timestamptz) is
  'Moves the expiry of leases whose rows the caller has locked and judged, never backwards; the answer to a renewal.';
