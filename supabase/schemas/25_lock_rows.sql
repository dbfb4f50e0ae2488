-- Locks state rows in the order of their names, so that two sets that overlap wait for each other and never deadlock.
-- P11: nobody waits longer than p_until, and of several who wait for one row only one waits so long; the others give up
-- after 30 ms. PostgreSQL's own queue decides who comes next: polling would starve a holder's release.
create function holdfast.lock_rows(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
begin
  -- One alone that nobody has is had without a savepoint. Its next version then has one transaction as its writer and as its
  -- last locker, which acquire_lock() and release_lock() know for unlocked.
  if cardinality(p_names) = 1 and holdfast.lock_row(p_video_id, p_names[1], p_for_grant, false) then
    return true;
  end if;
  return holdfast.lock_rows_in_turn(p_video_id, p_names, p_for_grant, p_until);
end;
$$;
revoke all on function holdfast.lock_rows(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.lock_rows(uuid, text[], boolean, timestamptz) is
  'Locks the state rows that there are, for a grant (for update) or for less (for no key update), until p_until at the latest. False: somebody else''s transaction has one of them.';

create function holdfast.lock_rows_in_turn(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_name text;
begin
  for v_name in select n from unnest(p_names) n order by n collate "C" loop
    if not holdfast.lock_row(p_video_id, v_name, p_for_grant, false) then
      perform set_config('lock_timeout', greatest(1, case
        when pg_try_advisory_xact_lock(hashtext('holdfast.lock_rows'), hashtext(p_video_id::text || v_name))
          then extract(epoch from p_until - clock_timestamp()) * 1000
        else 30
      end)::integer::text, true);
      perform holdfast.lock_row(p_video_id, v_name, p_for_grant, true);
    end if;
  end loop;
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.lock_rows_in_turn(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.lock_rows_in_turn(uuid, text[], boolean, timestamptz) is
  'The whole of lock_rows(): one row after the other, waiting for those that somebody else has.';

create function holdfast.lock_row(p_video_id uuid, p_database_name text, p_for_grant boolean, p_wait boolean)
returns boolean
language plpgsql set search_path = ''
as $$
begin
  -- a grant waits for guarded writes, which share the row; all else goes beside them
  if p_for_grant and p_wait then
    perform from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_database_name for update;
  elsif p_for_grant then
    perform from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_database_name for update skip locked;
  elsif p_wait then
    perform from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_database_name for no key update;
  else
    perform from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_database_name for no key update skip locked;
  end if;
  return found;
end;
$$;
revoke all on function holdfast.lock_row(uuid, text, boolean, boolean) from public, anon, authenticated, service_role;
comment on function holdfast.lock_row(uuid, text, boolean, boolean) is
  'Locks one state row, if there is one and, unless it may wait, nobody else has it. Whether it did.';

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
