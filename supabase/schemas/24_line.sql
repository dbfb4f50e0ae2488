-- Who waits for a lock, in order. A place counts while it is kept and its holder may see the video, which is asked anew each
-- time the line is read.
create function holdfast.line(p_video_id uuid, p_database_name text)
returns table (
  "position" integer, lock_id uuid, lock_holder_user_id text, lock_type text, queued_at timestamptz, kept_until timestamptz
)
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select row_number() over (order by p.queued_at, p.lock_id)::integer, p.lock_id, p.lock_holder_user_id, p.lock_type::text,
    p.queued_at, p.kept_until
  from holdfast.place p
  where p.video_id = p_video_id and p.database_name = p_database_name and p.kept_until > clock_timestamp()
    and (p.lock_type = 'server' or (
      select true
      from holdfast.membership m
      -- not a join: that could begin with all memberships that the user has
      where m.tenant_id = (select v.tenant_id from public.videos v where v.id = p_video_id)
        and m.user_id = p.lock_holder_user_id::uuid
      limit 1
    ));
end;
$$;
revoke all on function holdfast.line(uuid, text) from public, anon, authenticated, service_role;
comment on function holdfast.line(uuid, text) is 'Who waits for the lock, first come first.';

create function holdfast.line_length(p_video_id uuid, p_database_name text) returns integer
language plpgsql stable security definer set search_path = ''
as $$
begin
  return (select count(*) from holdfast.line(p_video_id, p_database_name));
end;
$$;
revoke all on function holdfast.line_length(uuid, text) from public, anon, authenticated, service_role;
grant execute on function holdfast.line_length(uuid, text) to authenticated, service_role;
comment on function holdfast.line_length(uuid, text) is
  'How many wait for the lock; for the view held_locks, which shows only locks that the caller may see.';

create function holdfast.has_line(p_video_id uuid, p_database_name text) returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  return exists (
    select from holdfast.place p
    where p.video_id = p_video_id and p.database_name = p_database_name and p.kept_until > clock_timestamp()
  ) or exists (
    select from holdfast.cancellation c where c.video_id = p_video_id and c.database_name = p_database_name
  );
end;
$$;
revoke all on function holdfast.has_line(uuid, text) from public, anon, authenticated, service_role;
comment on function holdfast.has_line(uuid, text) is 'Whether there is anything that has_line of the state row has to announce.';
