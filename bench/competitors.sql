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
