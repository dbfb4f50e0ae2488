-- Locks state rows in the order of their names, so that two sets that overlap wait for each other and never deadlock.
-- P11: nobody waits longer than p_until, and of several who wait for one row only one waits so long; the others give up
-- after 30 ms. PostgreSQL's own queue decides who comes next: polling would starve a holder's release.
create function holdfast.lock_rows(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_name text;
  v_wait integer;
begin
  for v_name in select n from unnest(p_names) n order by n collate "C" loop
    for v_wait in 0..1 loop
      if v_wait = 1 then
        perform set_config('lock_timeout', greatest(1, case
          when pg_try_advisory_xact_lock(hashtext('holdfast.lock_rows'), hashtext(p_video_id::text || v_name))
            then extract(epoch from p_until - clock_timestamp()) * 1000
          else 30
        end)::integer::text, true);
      end if;
      -- a grant waits for guarded writes, which share the row; all else goes beside them
      if p_for_grant and v_wait = 0 then
        perform from public.video_database_state s
        where s.video_id = p_video_id and s.database_name = v_name for update skip locked;
      elsif p_for_grant then
        perform from public.video_database_state s
        where s.video_id = p_video_id and s.database_name = v_name for update;
      elsif v_wait = 0 then
        perform from public.video_database_state s
        where s.video_id = p_video_id and s.database_name = v_name for no key update skip locked;
      else
        perform from public.video_database_state s
        where s.video_id = p_video_id and s.database_name = v_name for no key update;
      end if;
      exit when found;
    end loop;
  end loop;
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.lock_rows(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.lock_rows(uuid, text[], boolean, timestamptz) is
  'Locks the state rows that there are, for a grant (for update) or for less (for no key update), until p_until at the latest. False: somebody else''s transaction has one of them.';

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
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.create_rows(uuid, text[], timestamptz) from public, anon, authenticated, service_role;
comment on function holdfast.create_rows(uuid, text[], timestamptz) is
  'Makes the state rows that are missing, free. To make a row and to lock it are two steps, so that one path grants. False: somebody else''s transaction is in the way.';
