-- Purpose: what makes a lease safe to rely on. A holder can stall past its lease and wake up still believing, so the
-- database refuses a write that comes with an old token: the check and the write are one transaction, and the check
-- holds the state row, so that nobody can take the lock over in between.
-- Source of the idea: M. Kleppmann, "How to do distributed locking" (2016); sequencers in M. Burrows, "The Chubby
-- lock service for loosely-coupled distributed systems" (OSDI 2006).

create function holdfast.assert_lock_held(p_video_id uuid, p_database_name text, p_fencing_token bigint)
returns void
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant boolean := holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_seen public.video_database_state;
  v_now timestamptz;
begin
  if v_user is null and not v_server then
    perform holdfast.refuse('NOT_AUTHENTICATED');
  end if;
  perform
  from public.videos v
  where v.id = p_video_id
    and (v_server or (
      select true from public.tenant_members m where m.tenant_id = v.tenant_id and m.user_id = v_user
    ));
  if not found then
    perform holdfast.refuse('VIDEO_NOT_FOUND');
  end if;
  -- Not "for share": two guarded transactions of one holder that then update the row would deadlock on the upgrade.
  select s.* into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name and s.fencing_token = p_fencing_token
  for no key update;
  v_now := clock_timestamp();
  -- A token is a small number that anybody can guess, so for a user it counts only with the user's own lease.
  if v_seen.lock_expires_at > v_now
    and (v_server or v_seen.lock_type = 'client' and v_seen.lock_holder_user_id = v_user::text)
  then
    return;
  end if;
  perform holdfast.refuse('LOCK_NOT_HELD', format(
    'Token %s of %s of video %s %s.',
    coalesce(p_fencing_token::text, 'null'), p_database_name, p_video_id,
    case
      when p_fencing_token is null then 'was not sent'
      when v_seen.fencing_token is null then 'is not the newest grant''s'
      when v_seen.lock_id is null then 'was given back: the lease was released or cleared'
      when v_seen.lock_expires_at <= v_now then format('belongs to a lease that ended at %s', v_seen.lock_expires_at)
      else 'belongs to another holder'
    end
  ));
end;
$$;
revoke all on function holdfast.assert_lock_held(uuid, text, bigint) from public, anon, authenticated, service_role;
grant execute on function holdfast.assert_lock_held(uuid, text, bigint) to authenticated, service_role;
comment on function holdfast.assert_lock_held(uuid, text, bigint) is
  'What public.assert_lock_held() does, with the owner''s rights on the state row.';

create function public.assert_lock_held(video_id uuid, database_name text, fencing_token bigint) returns void
language plpgsql security invoker set search_path = ''
as $$
begin
  perform holdfast.assert_lock_held(video_id, database_name, fencing_token);
end;
$$;
revoke all on function public.assert_lock_held(uuid, text, bigint) from public, anon, authenticated, service_role;
grant execute on function public.assert_lock_held(uuid, text, bigint) to authenticated, service_role;
comment on function public.assert_lock_held(uuid, text, bigint) is
  'For use inside a transaction that writes what the lock protects. Until that transaction ends nobody can take the lock.

video_id uuid, database_name text: which lock.
fencing_token bigint: the token of the caller''s grant. For a user it must be of their own lease; for a server, of any.

Returns nothing.
Raises PT412 (the token is not the newest, or its lease has ended), PT401 (no user), PT404 (no such video for the caller).';

create function holdfast.advance_server_version(p_video_id uuid, p_database_name text, p_fencing_token bigint)
returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_version integer;
begin
  perform holdfast.assert_lock_held(p_video_id, p_database_name, p_fencing_token);
  update public.video_database_state s
  set server_version = s.server_version + 1
  where s.video_id = p_video_id and s.database_name = p_database_name
  returning s.server_version into v_version;
  return v_version;
end;
$$;
revoke all on function holdfast.advance_server_version(uuid, text, bigint)
  from public, anon, authenticated, service_role;
grant execute on function holdfast.advance_server_version(uuid, text, bigint) to authenticated, service_role;
comment on function holdfast.advance_server_version(uuid, text, bigint) is
  'What public.advance_server_version() does, with the owner''s rights on the state row.';

create function public.advance_server_version(video_id uuid, database_name text, fencing_token bigint)
returns integer
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.advance_server_version(video_id, database_name, fencing_token);
end;
$$;
revoke all on function public.advance_server_version(uuid, text, bigint)
  from public, anon, authenticated, service_role;
grant execute on function public.advance_server_version(uuid, text, bigint) to authenticated, service_role;
comment on function public.advance_server_version(uuid, text, bigint) is
  'Adds 1 to server_version under the lock.

video_id uuid, database_name text, fencing_token bigint: as in assert_lock_held().

Returns integer: the new server_version.
Raises what assert_lock_held() raises.';

-- A video's deletion takes its rows in other tables along, and nobody can hold a lock on a video that is gone.
create function holdfast.video_exists(p_video_id uuid) returns boolean
language plpgsql stable security definer set search_path = ''
as $$
begin
  return exists (select from public.videos v where v.id = p_video_id);
end;
$$;
revoke all on function holdfast.video_exists(uuid) from public, anon, authenticated, service_role;
grant execute on function holdfast.video_exists(uuid) to authenticated, service_role;
comment on function holdfast.video_exists(uuid) is 'Whether there is such a video, of whatever tenant; for require_lock() only.';

create function public.require_lock() returns trigger
language plpgsql security invoker set search_path = ''
as $$
declare
  v_video constant text := coalesce(tg_argv[0], 'video_id');
  v_database constant text := coalesce(tg_argv[1], 'database_name');
  v_rows constant jsonb[] := array_remove(array[
    case when tg_op <> 'DELETE' then to_jsonb(new) end,
    case when tg_op <> 'INSERT' then to_jsonb(old) end
  ], null);
  v_column text;
  v_row jsonb;
  v_token text;
  v_lock jsonb;
  v_checked jsonb;
begin
  if tg_nargs > 3 then
    raise exception using errcode = 'invalid_parameter_value',
      message = format('Trigger %I of %I.%I: require_lock() takes three arguments at most', tg_name, tg_table_schema, tg_table_name),
      detail = 'The columns of the video, of the database and, if the table has one, of the fencing token.';
  end if;
  foreach v_column in array array_remove(array[v_video, v_database, tg_argv[2]], null) loop
    if not v_rows[1] ? v_column and (v_column <> v_database or v_column not like '=%') then
      raise exception using errcode = 'undefined_column',
        message = format('Trigger %I of %I.%I: there is no column %I', tg_name, tg_table_schema, tg_table_name, v_column),
        hint = 'Where no column has the database''s name, give the name itself after an equals sign: require_lock(''video_id'', ''=captions'').';
    end if;
  end loop;

  -- A delete brings no new row, so its token can only come from the request.
  v_token := case
    when tg_nargs = 3 and tg_op <> 'DELETE' then v_rows[1] ->> tg_argv[2]
    else nullif(current_setting('request.headers', true), '')::jsonb ->> 'x-fencing-token'
  end;
  if v_token !~ '^[0-9]{1,19}$' or v_token::numeric > 9223372036854775807 then
    raise exception using errcode = 'PT400', message = 'The fencing token is not a whole number',
      detail = format('x-fencing-token is %L.', left(v_token, 40)),
      hint = 'Send lock.fencing_token of the answer to acquire, as it is.';
  end if;
  -- A row that moves from one lock to another is a write under both.
  foreach v_row in array v_rows loop
    v_lock := jsonb_build_array(
      v_row ->> v_video, case when v_database like '=%' then substr(v_database, 2) else v_row ->> v_database end
    );
    if v_lock is distinct from v_checked
      and (tg_op <> 'DELETE' or holdfast.video_exists((v_lock ->> 0)::uuid))
    then
      perform holdfast.assert_lock_held((v_lock ->> 0)::uuid, v_lock ->> 1, v_token::bigint);
    end if;
    v_checked := v_lock;
  end loop;
  return case when tg_op = 'DELETE' then old else new end;
end;
$$;
revoke all on function public.require_lock() from public, anon, authenticated, service_role;
comment on function public.require_lock() is
  'Trigger function that guards a table: a write without the current fencing token of its lock is refused.

  create trigger captions_require_lock
    before insert or update or delete on public.captions
    for each row execute function public.require_lock(''video_id'', ''database_name'', ''fencing_token'');

Arguments: the names of the columns of the video (uuid, default video_id), of the database (text, default database_name; or
the database''s own name after an equals sign, ''=captions'') and, optionally, of the token (bigint). Without a token column, and for every delete, the token comes
from the request header x-fencing-token. Rows of a video that is deleted go with it, without a token.

Raises what assert_lock_held() raises, and PT400 where the header is not a number.';
