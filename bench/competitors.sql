-- What acquire_lock() and release_lock() are measured against, on tables of their own in the same database.
create schema bench;
grant usage on schema bench to service_role, authenticated;

-- (a) The limit: a row like that of video_database_state, with nothing on it that a lock could do without.
create table bench.bare (
  video_id uuid not null,
  database_name text not null,
  tenant_id uuid not null,
  server_version integer not null default 0,
  wasabi_version integer not null default 0,
  wasabi_synced_at timestamptz,
  lock_holder_user_id text,
  lock_type text,
  locked_at timestamptz,
  last_activity_at timestamptz,
  lock_id uuid,
  lock_expires_at timestamptz,
  fencing_token bigint not null default 0,
  primary key (video_id, database_name)
) with (fillfactor = 70);

-- A history like Holdfast's, its two indexes included, for the same limit with a history.
create table bench.history (like public.video_database_lock_history including indexes);

-- (b) The table that ShedLock documents for PostgreSQL, with room for HOT updates like the others.
create table bench.shedlock (
  name text not null primary key,
  lock_until timestamptz not null,
  locked_at timestamptz not null,
  locked_by text not null
) with (fillfactor = 70);

-- (c) The same row as (a), used by a caller who reads, decides for himself, and then writes.
create table bench.two_calls (like bench.bare including all) with (fillfactor = 70);

grant select, insert, update, delete on all tables in schema bench to service_role;

-- (a) with a row of history, as the SQL contract has it: an RPC that answers JSON, whose rights are in a function of
-- another schema. Each is one statement and nothing else: who calls, what they may see, whether the request is valid or
-- repeated, is not asked. So this is what any functions of this form cost at the least.
create schema bench_inside;
grant usage on schema bench_inside to service_role;

create function bench_inside.acquire_lock(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl_seconds integer
) returns json
language plpgsql security definer set search_path = ''
as $$
declare
  v_answer json;
begin
  update bench.bare as s
  set lock_id = p_lock_id, lock_holder_user_id = p_lock_holder_user_id, lock_type = 'server',
    locked_at = clock_timestamp(), last_activity_at = clock_timestamp(),
    lock_expires_at = clock_timestamp() + make_interval(secs => p_ttl_seconds), fencing_token = s.fencing_token + 1
  where s.video_id = p_video_id and s.database_name = p_database_name and s.lock_id is null
  returning json_build_object(
    'acquired', true,
    'lock', row(
      s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
      s.lock_expires_at, p_ttl_seconds
    )::holdfast.lock,
    'state', row(s.server_version, s.wasabi_version, s.wasabi_synced_at)::holdfast.versions,
    'server_time', s.locked_at
  ) into v_answer;
  return v_answer;
end;
$$;

create function bench.acquire_lock(
  video_id uuid, database_name text, lock_holder_user_id text, lock_id uuid, ttl_seconds integer default 120
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return bench_inside.acquire_lock(video_id, database_name, lock_holder_user_id, lock_id, ttl_seconds);
end;
$$;

create function bench_inside.release_lock(p_video_id uuid, p_database_name text, p_lock_id uuid) returns json
language plpgsql security definer set search_path = ''
as $$
declare
  v_answer json;
begin
  with freed as (
    update bench.bare as s
    set lock_id = null, lock_holder_user_id = null, lock_type = null, locked_at = null, last_activity_at = null,
      lock_expires_at = null
    -- what the row said before, which "returning" does not tell
    from bench.bare as old
    where s.video_id = p_video_id and s.database_name = p_database_name and s.fencing_token = old.fencing_token
      and old.video_id = p_video_id and old.database_name = p_database_name and old.lock_id = p_lock_id
    returning old.*
  )
  insert into bench.history as h
  select video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
    clock_timestamp(), 'released'
  from freed
  returning json_build_object('released', true, 'lock', row(
    h.video_id, h.database_name, h.lock_id, h.lock_holder_user_id, h.lock_type, h.fencing_token, h.locked_at, h.ended_at
  )::holdfast.released_lock) into v_answer;
  return v_answer;
end;
$$;

create function bench.release_lock(video_id uuid, database_name text, lock_id uuid) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return bench_inside.release_lock(video_id, database_name, lock_id);
end;
$$;

-- Videos by number, so that a load generator that can count can find its own.
create table bench.video (
  n integer not null primary key,
  id uuid not null
);
grant select on bench.video to service_role, authenticated;

create procedure bench.add_videos(up_to integer)
language plpgsql
as $$
declare
  tenant constant uuid := '00000000-0000-4000-8000-0000000000be';
  first constant integer := (select coalesce(max(n) + 1, 0) from bench.video);
begin
  insert into bench.video select n, gen_random_uuid() from generate_series(first, up_to - 1) as n;
  insert into public.videos (id, tenant_id, storage_key, status)
  select id, tenant, 'bench/' || n, 'ready' from bench.video where n >= first;
  insert into public.video_database_state (video_id, database_name, tenant_id)
  select id, 'layout', tenant from bench.video where n >= first;
  insert into bench.bare (video_id, database_name, tenant_id)
  select id, 'layout', tenant from bench.video where n >= first;
  insert into bench.two_calls (video_id, database_name, tenant_id)
  select id, 'layout', tenant from bench.video where n >= first;
  insert into bench.shedlock (name, lock_until, locked_at, locked_by)
  select id || '/layout', now(), now(), '' from bench.video where n >= first;
end;
$$;

-- A past, as every installation has one after its first hour: on an empty table the planner chooses to read all of it,
-- and a connection keeps that plan while the table fills.
create procedure bench.add_past(leases integer)
language plpgsql
as $$
begin
  insert into public.video_database_lock_history
  select gen_random_uuid(), 'layout', gen_random_uuid(), '00000000-0000-4000-8000-0000000000be', 'worker-3', 'server',
    n, now() - n * interval '1 minute', now() - n * interval '1 minute' + interval '30 s', 'released'
  from generate_series(1, leases) as n;
  insert into bench.history select * from public.video_database_lock_history;
end;
$$;
