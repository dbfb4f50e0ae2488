-- What acquire_lock() meets at each of the locks that it asks for.
create type holdfast.met as (
  ord integer,
  database_name text,
  is_there boolean,
  reason text,
  end_reason text,
  ended_at timestamptz,
  other_names boolean,
  holder json,
  lease_left_ms bigint,
  "position" integer,
  length integer,
  place_left_ms bigint
);
comment on type holdfast.met is
  'One lock as an acquisition meets it. reason: NULL if it may be granted, same if the acquisition holds it, else why not. other_names: the acquisition is known here, with other database names.';

create function holdfast.meet(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_type text, p_take_over boolean,
  p_now timestamptz
) returns setof holdfast.met
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select n.ord::integer, n.name, s.video_id is not null,
    case
      when s.lock_id = p_lock_id and f.live and f.mine then 'same'
      when s.lock_id = p_lock_id and f.live then 'held'
      when s.lock_id = p_lock_id or h.lock_id is not null or c.lock_id is not null then 'ended'
      when f.live and not (p_take_over and f.mine) then 'held'
      when not f.live and coalesce(l.ahead, 0) > 0 then 'queued'
    end,
    case when s.lock_id = p_lock_id then 'expired' else coalesce(h.end_reason, case when c.lock_id is not null then 'cancelled' end) end,
    case when s.lock_id = p_lock_id then s.lock_expires_at else coalesce(h.ended_at, c.cancelled_at) end,
    s.lock_id = p_lock_id and f.mine and s.lock_database_names is distinct from p_set
      or h.lock_holder_user_id = p_holder and h.lock_type = p_type and h.lock_database_names is distinct from p_set
      or coalesce(l.other_names, false),
    case when f.live then to_json(row(
      s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at, f.mine
    )::holdfast.holder) end,
    case when f.live then greatest(1, ceil(extract(epoch from s.lock_expires_at - p_now) * 1000)) end::bigint,
    l."position", coalesce(l.length, 0),
    floor(extract(epoch from l.kept_until - p_now) * 1000)::bigint
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
    -- a row that is missing may have left a line and cancellations behind
    where s.has_line is not false and c.video_id = p_video_id and c.database_name = n.name and c.lock_id = p_lock_id
      and c.lock_type = p_type and c.lock_holder_user_id in (p_holder, '')
    limit 1
  ) c on true
  cross join lateral (
    select coalesce(s.lock_expires_at > p_now, false) as live,
      coalesce(s.lock_holder_user_id = p_holder and s.lock_type = p_type, false) as mine
  ) f
  left join lateral (
    select count(*)::integer as length, min(q."position") filter (where q.own) as "position",
      coalesce(min(q."position") filter (where q.own) - 1, count(*))::integer as ahead,
      min(q.kept_until) filter (where q.own) as kept_until,
      bool_or(q.own and q.other_names) as other_names
    from (
      select i."position", i.kept_until,
        i.lock_id = p_lock_id and i.lock_holder_user_id = p_holder and i.lock_type = p_type as own,
        i.lock_id = p_lock_id and p.lock_database_names is distinct from p_set as other_names
      from holdfast.line(p_video_id, n.name) i
      join holdfast.place p on p.video_id = p_video_id and p.database_name = n.name and p.lock_id = i.lock_id
        and p.lock_type = i.lock_type and p.lock_holder_user_id = i.lock_holder_user_id
    ) q
  ) l on s.has_line is not false
  order by n.ord;
end;
$$;
revoke all on function holdfast.meet(uuid, text[], text[], uuid, text, text, boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.meet(uuid, text[], text[], uuid, text, text, boolean, timestamptz) is
  'Looks at the locks that an acquisition asks for, one row for each, in the order of the names. It only reads.';

create function holdfast.retry_after_ms(p_reason text, p_met holdfast.met) returns bigint
language plpgsql immutable set search_path = ''
as $$
begin
  return case
    when p_reason = 'busy' then 500
    -- in line: the head asks often, those behind it less and less, and each soon enough to keep the place
    when p_met."position" = 1 then greatest(10, least(150, p_met.lease_left_ms, p_met.place_left_ms / 2))
    when p_met."position" > 1 then greatest(10, least(150 + 250 * (p_met."position" - 1), p_met.place_left_ms / 2))
    when p_reason = 'queued' then least(5000, 1000 * p_met.length)
    else coalesce(p_met.lease_left_ms, 0)
  end;
end;
$$;
revoke all on function holdfast.retry_after_ms(text, holdfast.met) from public, anon, authenticated, service_role;
comment on function holdfast.retry_after_ms(text, holdfast.met) is
  'When asking again is worth it, in milliseconds, and soon enough to keep a place.';

-- Everything that acquire_lock() does not do in one piece: errors, the same grant again, take-over, the line, sets, rows that
-- do not exist yet or that another transaction has. Look; if something is to be written, lock the rows and look again, since nothing
-- that was read before a wait is believed after it (P3).
-- Over 70 lines: what makes the loop right is the order of its questions, which is seen in one piece.
create function holdfast.acquire_in_turn(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl integer, p_take_over boolean,
  p_queue_seconds integer, p_database_names text[], p_user uuid, p_holder text, p_type text
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_names constant text[] := coalesce(p_database_names, array[p_database_name]);
  -- one name is one lock, in either of the two fields
  v_set constant text[] := case when cardinality(p_database_names) > 1
    then array(select n from unnest(p_database_names) n order by n collate "C") end;
  v_lock_id constant uuid := coalesce(p_lock_id, gen_random_uuid());
  v_until constant timestamptz := clock_timestamp() + interval '450 milliseconds';
  v_locked text := 'nothing';
  v_now timestamptz;
  v_all holdfast.met[];
  v_first holdfast.met;
  v_granted json;
  v_missing text[];
  v_busy boolean := false;
  v_grantable boolean;
  v_needs_place boolean;
begin
  perform holdfast.check_acquire(
    p_video_id, p_database_name, p_lock_holder_user_id, p_lock_id, p_ttl, p_queue_seconds, p_database_names, p_user, p_holder,
    p_type
  );
  loop
    if not holdfast.may_see(p_video_id, p_user) then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    v_now := clock_timestamp();
    v_all := array(select m from holdfast.meet(
      p_video_id, v_names, v_set, v_lock_id, p_holder, p_type, p_take_over, v_now
    ) m);
    select m.* into v_first from unnest(v_all) m
    where m.reason is distinct from 'same' order by m.reason is null, m.reason <> 'ended', m.ord limit 1;
    perform from unnest(v_all) m where m.other_names;
    if found then
      perform holdfast.raise_invalid_request(array['lock_id names an acquisition of other databases']);
    elsif v_first is null then
      v_granted := holdfast.granted(p_video_id, v_names, v_lock_id, p_database_names is not null, v_now);
      if v_granted is not null then
        return v_granted;
      end if;
      continue; -- it has ended since that look
    elsif v_first.reason = 'ended' then
      return holdfast.refused(v_first, 'ended', v_now);
    end if;

    v_missing := array(select m.database_name from unnest(v_all) m where not m.is_there);
    v_grantable := v_first.reason is null and not v_busy;
    v_needs_place := p_queue_seconds > 0 and v_first."position" is null;
    if v_missing <> '{}' and (v_grantable or v_needs_place) then
      exit when not holdfast.create_rows(p_video_id, v_missing, v_until);
      v_locked := 'nothing'; -- another transaction may have the row
    elsif v_grantable and v_locked = 'for a grant' then
      v_now := holdfast.grant_locks(p_video_id, v_names, v_set, v_lock_id, p_holder, p_type, p_ttl, v_now);
      return holdfast.granted(p_video_id, v_names, v_lock_id, p_database_names is not null, v_now);
    elsif v_grantable then
      v_busy := not holdfast.lock_rows(p_video_id, v_names, true, v_until);
      v_locked := case when v_busy then v_locked else 'for a grant' end;
    elsif v_needs_place and v_locked = 'nothing' then
      -- a guarded write only shares the row, so that a place can be had beside it
      exit when not holdfast.lock_rows(
        p_video_id, v_names, false, greatest(v_until, clock_timestamp() + interval '30 milliseconds')
      );
      v_locked := 'for a place';
    elsif v_needs_place and holdfast.queue_up(
      p_video_id, v_names, v_set, v_lock_id, p_holder, p_type, p_queue_seconds
    ) then
      null; -- look at the line, with the place in it
    else
      if p_queue_seconds > 0 and not v_needs_place then
        perform holdfast.keep_place(p_video_id, v_names, v_lock_id, p_holder, p_type, p_queue_seconds);
        v_first.place_left_ms := greatest(v_first.place_left_ms, p_queue_seconds * 1000);
      end if;
      return holdfast.refused(v_first, coalesce(v_first.reason, 'busy'), v_now);
    end if;
  end loop;
  -- another transaction is at a row, and the row could not even be shared
  return holdfast.refused(v_first, 'busy', v_now);
end;
$$;
revoke all on function holdfast.acquire_in_turn(
  uuid, text, text, uuid, integer, boolean, integer, text[], uuid, text, text
) from public, anon, authenticated, service_role;
comment on function holdfast.acquire_in_turn(
  uuid, text, text, uuid, integer, boolean, integer, text[], uuid, text, text
) is 'The whole of acquire_lock(), for one database or several: slower than its usual case, and right for it too.';

create function holdfast.check_acquire(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl integer,
  p_queue_seconds integer, p_database_names text[], p_user uuid, p_holder text, p_type text
) returns void
language plpgsql set search_path = ''
as $$
begin
  if p_user is null and p_type = 'client' then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  perform holdfast.raise_invalid_request(
    holdfast.broken_rules_of_names(p_video_id, p_database_name, p_database_names) || array[
      case when p_holder is null then 'lock_holder_user_id is required with the secret key'
        when char_length(p_lock_holder_user_id) not between 1 and 255
        then 'lock_holder_user_id must be a string of 1 to 255 characters' end,
      case when p_ttl not between 1 and 3600 then 'ttl_seconds must be an integer from 1 to 3600' end,
      case when p_queue_seconds not between 0 and 60 then 'queue_seconds must be an integer from 0 to 60' end,
      case when p_queue_seconds > 0 and p_lock_id is null then 'lock_id is required with queue_seconds' end
    ]
  );
  if p_type = 'client' and lower(p_lock_holder_user_id) <> p_holder then
    perform holdfast.raise_error('FORBIDDEN', 'A user can acquire a lock only for themselves');
  end if;
end;
$$;
revoke all on function holdfast.check_acquire(
  uuid, text, text, uuid, integer, integer, text[], uuid, text, text
) from public, anon, authenticated, service_role;
comment on function holdfast.check_acquire(
  uuid, text, text, uuid, integer, integer, text[], uuid, text, text
) is 'Raises what is wrong with a request to acquire: PT401, PT400, PT403.';
