create function holdfast.advance_server_version(p_video_id uuid, p_database_name text, p_fencing_token bigint)
returns integer
language plpgsql security definer set search_path = '' set lock_timeout = '450ms'
as $$
declare
  v_version integer;
begin
  begin
    perform holdfast.check_token(p_video_id, p_database_name, p_fencing_token, null);
    update public.video_database_state s
    set server_version = s.server_version + 1
    where s.video_id = p_video_id and s.database_name = p_database_name
    returning s.server_version into v_version;
    -- the update may have waited for another of the holder's own, past the end of the lease
    perform holdfast.check_token(p_video_id, p_database_name, p_fencing_token, null);
  exception when lock_not_available then
    perform holdfast.raise_error('LOCK_BUSY', format(
      'Another transaction is advancing the version of %s of video %s.', p_database_name, p_video_id
    ));
  end;
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
