-- What acquire_lock() and release_lock() are measured against, on tables of their own in the same database.
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

-- A history like Holdfast's, its indexes included, for the same limit with a history.
create table bench.history (like public.video_database_lock_history including indexes);

-- (b) The table that ShedLock documents for PostgreSQL, with room for HOT updates like the others.
create table bench.shedlock (
  name text not null primary key,
  lock_until timestamptz not null,
  locked_at timestamptz not null,
  locked_by text not null
) with (fillfactor = 70);

-- (c) The row of the system that Holdfast replaces, used by a caller who reads, decides for himself, and then writes.
create table public.bench_two_calls (like bench.bare including all) with (fillfactor = 70);
alter table public.bench_two_calls enable row level security;

grant select, insert, update, delete on all tables in schema bench to service_role;
grant select, update on public.bench_two_calls to service_role;

-- (a) as the SQL contract has it: functions that answer JSON, whose rights are in another schema. Each is one statement
-- that asks nothing: not who calls, what they may see, nor whether the request is valid or repeated. So this is what
-- any functions of this form cost at the least.
create schema bench_inside;
grant usage on schema bench_inside to service_role;

create function bench_inside.acquire_lock(p_video_id uuid, p_database_name text, p_holder text, p_lock_id uuid)
returns json
language plpgsql security definer set search_path = ''
as $$
declare
  v_answer json;
begin
  update bench.bare as s
  set lock_id = p_lock_id, lock_holder_user_id = p_holder, lock_type = 'server', locked_at = clock_timestamp(),
    last_activity_at = clock_timestamp(), lock_expires_at = clock_timestamp() + interval '120 s',
    fencing_token = s.fencing_token + 1
  where s.video_id = p_video_id and s.database_name = p_database_name and s.lock_id is null
  returning json_build_object('acquired', true, 'lock', row_to_json(s), 'server_time', s.locked_at) into v_answer;
  return v_answer;
end;
$$;

create function bench.acquire_lock(video_id uuid, database_name text, lock_holder_user_id text, lock_id uuid)
returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return bench_inside.acquire_lock(video_id, database_name, lock_holder_user_id, lock_id);
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
    from bench.bare as old -- what the row said before, which "returning" does not tell
    where s.video_id = p_video_id and s.database_name = p_database_name and s.fencing_token = old.fencing_token
      and old.video_id = p_video_id and old.database_name = p_database_name and old.lock_id = p_lock_id
    returning old.*
  )
  insert into bench.history as h (video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type,
    fencing_token, locked_at, ended_at, end_reason)
  select video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
    clock_timestamp(), 'released'
  from freed
  returning json_build_object('released', true, 'lock', row_to_json(h)) into v_answer;
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
