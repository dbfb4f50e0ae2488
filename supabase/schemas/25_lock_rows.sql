-- Makes state rows this transaction's own, in the order of their names, so that two sets that overlap wait for each other and
-- never deadlock. P11: nobody waits longer than p_until, and of several who wait for one row only one waits so long; the
-- others give up after 30 ms. PostgreSQL's own queue decides who comes next: polling would starve a holder's release.
create function holdfast.lock_rows(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
begin
  return holdfast.touch_rows(p_video_id, p_names, p_for_grant, clock_timestamp() + interval '3 milliseconds')
    or holdfast.touch_rows(p_video_id, p_names, p_for_grant, case
      when pg_try_advisory_xact_lock(hashtext('holdfast.lock_rows'), hashtext(p_video_id::text || p_names[1])) then p_until
      else least(p_until, clock_timestamp() + interval '30 milliseconds')
    end);
end;
$$;
revoke all on function holdfast.lock_rows(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.lock_rows(uuid, text[], boolean, timestamptz) is
  'Locks the state rows that there are, for a grant (which no open guarded write may share) or for less, until p_until at the latest. False: another transaction has one of them.';

create function holdfast.touch_rows(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_name text;
  v_shared boolean;
begin
  for v_name in select n from unnest(p_names) n order by n collate "C" loop
    perform set_config(
      'lock_timeout', greatest(1, extract(epoch from p_until - clock_timestamp()) * 1000)::integer::text, true
    );
    loop
      v_shared := false;
      if p_for_grant then
        -- a live lease is being taken over: from now on no assert of its holder may begin
        select s.xmax <> '0' or coalesce(s.lock_expires_at > clock_timestamp(), false) into v_shared
        from public.video_database_state s
        where s.video_id = p_video_id and s.database_name = v_name;
      end if;
      if v_shared is not true then
        -- By a write, not by a lock: a lock would stay on the next version of the row as its xmax, and a reader could
        -- not know it from an open guarded write. A write also sweeps away what finished ones have left there.
        update public.video_database_state s
        set has_line = s.has_line
        where s.video_id = p_video_id and s.database_name = v_name
        -- judged again: this may have waited, or a grant may have come since that look
        returning s.xmax <> '0' or coalesce(s.lock_expires_at > clock_timestamp(), false) into v_shared;
      end if;
      if v_shared and p_for_grant then
        perform from public.video_database_state s where s.video_id = p_video_id and s.database_name = v_name for update;
      end if;
      exit when found;
      -- the row was deleted; another may have come in its place, which nobody has locked yet
      perform from public.video_database_state s where s.video_id = p_video_id and s.database_name = v_name;
      exit when not found;
    end loop;
  end loop;
  perform set_config('lock_timeout', '450ms', true); -- as the functions have it
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.touch_rows(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.touch_rows(uuid, text[], boolean, timestamptz) is
  'One try of lock_rows(). For a grant it waits until nobody shares the rows (for update); else it goes beside guarded writes.';

create function holdfast.create_rows(p_video_id uuid, p_names text[], p_until timestamptz) returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_name text;
begin
  for v_name in select n from unnest(p_names) n order by n collate "C" loop
    perform set_config(
      'lock_timeout', greatest(1, extract(epoch from p_until - clock_timestamp()) * 1000)::integer::text, true
    );
    insert into public.video_database_state (video_id, database_name, tenant_id)
    select v.id, v_name, v.tenant_id
    from public.videos v
    where v.id = p_video_id
    -- the video before the state row, as its deletion takes them; one that is being deleted is gone when this has waited
    for key share
    on conflict on constraint video_database_state_pkey do nothing;
  end loop;
  perform set_config('lock_timeout', '450ms', true); -- as the functions have it
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.create_rows(uuid, text[], timestamptz) from public, anon, authenticated, service_role;
comment on function holdfast.create_rows(uuid, text[], timestamptz) is
  'Makes the state rows that are missing, free. To make a row and to lock it are two steps, so that one path grants. False: another transaction is in the way.';
