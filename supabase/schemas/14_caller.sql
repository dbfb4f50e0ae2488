-- Who calls is decided here, from the role that the Data API switched to. The caller cannot set it, nor the token
-- that auth.uid() reads.
create function holdfast.caller_is_server() returns boolean
language plpgsql stable set search_path = ''
as $$
declare
  v_role constant text := current_setting('role');
begin
  -- the two usual roles first: they need no look at the catalog
  return v_role = 'service_role'
    or v_role <> 'authenticated'
    and pg_has_role(case v_role when 'none' then session_user else v_role end, 'service_role', 'usage');
end;
$$;
revoke all on function holdfast.caller_is_server() from public, anon, authenticated, service_role;
comment on function holdfast.caller_is_server() is
  'Whether the caller has the rights of service_role: the secret key, or a direct connection of the owner. Everybody else is a user, known by auth.uid().';

create function holdfast.may_see(p_video_id uuid, p_user uuid) returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  perform
  from public.videos v
  where v.id = p_video_id
    -- a project's own videos may have none
    and v.tenant_id is not null
    and (p_user is null or (
      select true from holdfast.membership m where m.tenant_id = v.tenant_id and m.user_id = p_user limit 1
    ));
  return found;
end;
$$;
revoke all on function holdfast.may_see(uuid, uuid) from public, anon, authenticated, service_role;
comment on function holdfast.may_see(uuid, uuid) is
  'Whether there is such a video for this user; p_user is NULL for a server, which may see all.';
