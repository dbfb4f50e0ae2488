-- The pieces of release_in_turn() that write or answer. Who calls the ones that write has locked the rows.

create function holdfast.end_leases(
  p_video_id uuid, p_names text[], p_force boolean, p_by text, p_now timestamptz
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_old public.video_database_state;
  v_reason text;
  v_released json[] := array[]::json[];
begin
  for v_old in
    select s.* from unnest(p_names) with ordinality n (name, ord)
    join public.video_database_state s on s.video_id = p_video_id and s.database_name = n.name
    order by n.ord
  loop
    v_reason := case when v_old.lock_expires_at <= p_now then 'expired' when p_force then 'force_released' else 'released' end;
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
      locked_at, ended_at, end_reason, ended_by
    )
    values (
      p_video_id, v_old.database_name, v_old.lock_id, v_old.tenant_id, v_old.lock_holder_user_id, v_old.lock_type,
      v_old.lock_database_names, v_old.fencing_token, v_old.locked_at, least(v_old.lock_expires_at, p_now), v_reason,
      case when v_reason = 'force_released' then p_by end
    )
    on conflict do nothing;
    if v_reason <> 'expired' then
      v_released := v_released || to_json(row(
        p_video_id, v_old.database_name, v_old.lock_id, v_old.lock_holder_user_id, v_old.lock_type, v_old.fencing_token,
        v_old.locked_at, p_now
      )::holdfast.released_lock);
    end if;
  end loop;
  update public.video_database_state s
  set lock_id = null,
    lock_holder_user_id = null,
    lock_type = null,
    locked_at = null,
    last_activity_at = null,
    lock_expires_at = null,
    lock_ttl_seconds = null,
    lock_database_names = null
  where s.video_id = p_video_id and s.database_name = any (p_names);
  return array_to_json(v_released);
end;
$$;
revoke all on function holdfast.end_leases(uuid, text[], boolean, text, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.end_leases(uuid, text[], boolean, text, timestamptz) is
  'Ends the leases on rows that the caller has locked and judged. Returns those that were live, as released locks.';

create function holdfast.cancel(
  p_video_id uuid, p_names text[], p_lock_id uuid, p_holder text, p_type text, p_now timestamptz
) returns void
language plpgsql set search_path = ''
as $$
begin
  if p_names = '{}' then
    return;
  end if;
  insert into holdfast.cancellation (
    video_id, database_name, lock_id, lock_type, lock_holder_user_id, cancelled_at
  )
  select p_video_id, n, p_lock_id, p_type, p_holder, p_now
  from unnest(p_names) n
  on conflict do nothing;
  delete from holdfast.place p
  where p.video_id = p_video_id and p.database_name = any (p_names) and p.lock_id = p_lock_id and p.lock_type = p_type
    and (p_holder = '' or p.lock_holder_user_id = p_holder);
  -- the row is written in any case: an acquire that read it before finds it changed, looks again, and sees the cancellation
  update public.video_database_state s
  set has_line = true
  where s.video_id = p_video_id and s.database_name = any (p_names);
end;
$$;
revoke all on function holdfast.cancel(uuid, text[], uuid, text, text, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.cancel(uuid, text[], uuid, text, text, timestamptz) is
  'Ends an acquisition that has not begun: its place is given up, and its acquire will be refused. The caller has locked the rows.';

create function holdfast.has_place(p_video_id uuid, p_names text[], p_lock_id uuid, p_holder text, p_type text)
returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  return exists (
    select from holdfast.place p
    where p.video_id = p_video_id and p.database_name = any (p_names) and p.lock_id = p_lock_id and p.lock_type = p_type
      and (p_holder = '' or p.lock_holder_user_id = p_holder)
  );
end;
$$;
revoke all on function holdfast.has_place(uuid, text[], uuid, text, text) from public, anon, authenticated, service_role;
comment on function holdfast.has_place(uuid, text[], uuid, text, text) is 'Whether the acquisition has a place in one of these lines.';

create function holdfast.not_released(p_all holdfast.met_release[], p_is_set boolean, p_may_see boolean) returns json
language plpgsql immutable set search_path = ''
as $$
declare
  v_released json;
  v_first holdfast.met_release;
begin
  select json_agg(m.released order by m.ord) into v_released from unnest(p_all) m where m.released is not null;
  if v_released is not null then
    return case when p_is_set then json_build_object('released', true, 'locks', v_released)
      else json_build_object('released', true, 'lock', v_released -> 0) end;
  end if;
  v_first := p_all[1];
  return json_build_object(
    'released', false,
    'reason', v_first.reason,
    -- theirs it was, but who holds it now is no longer theirs to know
    'holder', case when p_may_see then v_first.holder end
  );
end;
$$;
revoke all on function holdfast.not_released(holdfast.met_release[], boolean, boolean)
  from public, anon, authenticated, service_role;
comment on function holdfast.not_released(holdfast.met_release[], boolean, boolean) is
  'The answer to a release that ended nothing: the first one''s answer again, or the first reason in the order of the names.';
