-- What release_lock() meets at each of the locks that it is asked to end.
create type holdfast.met_release as (
  ord integer,
  database_name text,
  is_there boolean,
  ends boolean,
  unseen boolean,
  other_names boolean,
  reason text,
  released json,
  holder json
);
comment on type holdfast.met_release is
  'One lock as a release meets it. ends: there is a lease to end. unseen: its lock_id was never seen here, so it is to be cancelled. Else reason and, of a release that is repeated, released.';

create function holdfast.meet_release(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_force boolean, p_user uuid, p_type text,
  p_now timestamptz
) returns setof holdfast.met_release
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select n.ord::integer, n.name, s.video_id is not null, f.ends,
    p_lock_id is not null and not p_force and s.lock_id is distinct from p_lock_id and h.lock_id is null and c.lock_id is null,
    -- of one's own acquisition, or by force of any
    (s.lock_id = p_lock_id and f.ends and s.lock_database_names is distinct from p_set)
      or (h.lock_id is not null and f.was_mine and h.lock_database_names is distinct from p_set),
    case
      when f.was_mine then h.end_reason
      when c.lock_id is not null then 'cancelled'
      when s.lock_expires_at > p_now then 'held_by_another'
      else 'not_held'
    end,
    case when f.was_mine and (h.end_reason = 'released' or p_force and h.end_reason = 'force_released') then to_json(row(
      p_video_id, n.name, h.lock_id, h.lock_holder_user_id, h.lock_type, h.fencing_token, h.locked_at, h.ended_at
    )::holdfast.released_lock) end,
    case when s.lock_expires_at > p_now then to_json(row(
      s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at,
      s.lock_type = p_type and s.lock_holder_user_id = coalesce(
        p_user::text, p_holder, case when f.was_mine then h.lock_holder_user_id end, ''
      )
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
        s.lock_id is not null and (p_lock_id is null or s.lock_id = p_lock_id)
          and (p_force or s.lock_type = p_type and s.lock_holder_user_id = coalesce(p_user::text, p_holder, s.lock_holder_user_id)),
        false
      ) as ends,
      coalesce(
        p_force or h.lock_type = p_type and (p_user is null or h.lock_holder_user_id = p_user::text), false
      ) and h.lock_id is not null as was_mine
  ) f
  order by n.ord;
end;
$$;
revoke all on function holdfast.meet_release(
  uuid, text[], text[], uuid, text, boolean, uuid, text, timestamptz
) from public, anon, authenticated, service_role;
comment on function holdfast.meet_release(
  uuid, text[], text[], uuid, text, boolean, uuid, text, timestamptz
) is 'Looks at the locks that a release names, one row for each, in the order of the names. It only reads.';

-- Over 70 lines: as in acquire_in_turn(), the order of the questions is what makes the loop right.
create function holdfast.release_in_turn(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean,
  p_database_names text[], p_user uuid, p_type text
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
  v_all holdfast.met_release[];
  v_may_see boolean;
  v_missing text[];
  v_ended json;
begin
  perform holdfast.check_release(
    p_video_id, p_database_name, p_lock_id, p_lock_holder_user_id, p_force, p_database_names, p_user, p_type
  );
  loop
    v_now := clock_timestamp();
    v_all := array(select m from holdfast.meet_release(
      p_video_id, v_names, v_set, p_lock_id, p_lock_holder_user_id, p_force, p_user, p_type, v_now
    ) m);
    -- theirs it is or was; or else they have to have the right to see the video
    perform from unnest(v_all) m where m.ends or m.reason not in ('held_by_another', 'not_held');
    v_may_see := holdfast.may_see(p_video_id, p_user);
    if not found and not v_may_see
      and not holdfast.has_place(p_video_id, v_names, p_lock_id, coalesce(p_user::text, ''), p_type)
    then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    perform from unnest(v_all) m where m.other_names;
    if found then
      perform holdfast.raise_invalid_request(array['lock_id names an acquisition of other databases']);
    end if;

    v_missing := array(select m.database_name from unnest(v_all) m where m.unseen and not m.is_there);
    perform from unnest(v_all) m where m.ends or m.unseen;
    if not found then
      return holdfast.not_released(v_all, p_database_names is not null, v_may_see);
    elsif v_missing <> '{}' then
      if not v_may_see then
        perform holdfast.raise_error('VIDEO_NOT_FOUND');
      end if;
      begin
        exit when not holdfast.create_rows(p_video_id, v_missing, v_until);
      exception when sqlstate 'PT400' then
        -- no lock of this name can be made, so none can be acquired later: there is nothing to cancel
        return json_build_object('released', false, 'reason', 'cancelled', 'holder', null);
      end;
      v_locked := false; -- another transaction may have the row
    elsif not v_locked then
      exit when not holdfast.lock_rows(p_video_id, v_names, false, v_until);
      v_locked := true;
    else
      v_ended := holdfast.end_leases(
        p_video_id, array(select m.database_name from unnest(v_all) m where m.ends), p_force,
        coalesce(p_user::text, 'service_role'), v_now
      );
      perform holdfast.cancel(
        p_video_id, array(select m.database_name from unnest(v_all) m where m.unseen), p_lock_id, coalesce(p_user::text, ''),
        p_type, v_now
      );
      if json_array_length(v_ended) > 0 then
        return case when p_database_names is not null then json_build_object('released', true, 'locks', v_ended)
          else json_build_object('released', true, 'lock', v_ended -> 0) end;
      elsif p_lock_id is null then
        return json_build_object('released', false, 'reason', 'expired', 'holder', null);
      end if;
      -- what ran out has expired, what was not seen is cancelled: look again, and say which
    end if;
  end loop;
  return json_build_object('released', false, 'reason', 'busy', 'holder', case when v_may_see then v_all[1].holder end);
end;
$$;
revoke all on function holdfast.release_in_turn(
  uuid, text, uuid, text, boolean, text[], uuid, text
) from public, anon, authenticated, service_role;
comment on function holdfast.release_in_turn(
  uuid, text, uuid, text, boolean, text[], uuid, text
) is 'The whole of release_lock(), for one database or several: slower than its usual case, and right for it too.';

create function holdfast.check_release(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean,
  p_database_names text[], p_user uuid, p_type text
) returns void
language plpgsql stable set search_path = ''
as $$
declare
  v_role text;
begin
  if p_user is null and p_type = 'client' then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  perform holdfast.raise_invalid_request(
    holdfast.broken_rules_of_names(p_video_id, p_database_name, p_database_names) || array[
      case when p_lock_id is null and p_lock_holder_user_id is null and not p_force
        then 'lock_id is required, or lock_holder_user_id, or force' end,
      case when p_lock_holder_user_id is not null and (p_lock_id is not null or p_force)
        then 'lock_holder_user_id excludes lock_id and force: send one of them' end,
      case when char_length(p_lock_holder_user_id) not between 1 and 255
        then 'lock_holder_user_id must be a string of 1 to 255 characters' end
    ]
  );
  if p_type = 'client' and lower(p_lock_holder_user_id) <> p_user::text then
    perform holdfast.raise_error('FORBIDDEN', 'A user can release only their own lock; an administrator releases by force');
  elsif p_force and p_type = 'client' then
    select (
      select m.role from holdfast.membership m where m.tenant_id = v.tenant_id and m.user_id = p_user
      order by m.role <> 'admin' limit 1
    )
    into v_role
    from public.videos v
    where v.id = p_video_id;
    if v_role is null then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    elsif v_role <> 'admin' then
      perform holdfast.raise_error('FORBIDDEN', 'Only an administrator of the tenant can force a release');
    end if;
  end if;
end;
$$;
revoke all on function holdfast.check_release(
  uuid, text, uuid, text, boolean, text[], uuid, text
) from public, anon, authenticated, service_role;
comment on function holdfast.check_release(
  uuid, text, uuid, text, boolean, text[], uuid, text
) is 'Raises what is wrong with a request to release: PT401, PT400, PT403, PT404.';
