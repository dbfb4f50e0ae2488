-- Videos and a past for a database that is measured, the one of an earlier commit too: only columns that both have.
create schema bench;
grant usage on schema bench to service_role;
create table bench.video (n integer not null primary key, id uuid not null);
grant select on bench.video to service_role;

-- Sorted by their ids, as a table of this size is not what is measured.
create procedure bench.add_videos(up_to integer)
language sql
as $$
  with made as materialized (
    select n, md5('bench' || n)::uuid as id
    from generate_series((select coalesce(max(n) + 1, 0) from bench.video), up_to - 1) as n
    order by id
  ),
  numbered as (insert into bench.video select n, id from made),
  videos as (
    insert into public.videos (id, tenant_id, storage_key, status)
    select id, '00000000-0000-4000-8000-0000000000be', 'bench/' || n, 'ready' from made
  )
  insert into public.video_database_state (video_id, database_name, tenant_id)
  select id, 'layout', '00000000-0000-4000-8000-0000000000be' from made;
$$;

-- A past, as every installation has one after its first hour: on an empty table the planner chooses to read all of it,
-- and a connection keeps that plan while the table fills.
create procedure bench.add_past(leases integer)
language sql
as $$
  insert into public.video_database_lock_history (video_id, database_name, lock_id, tenant_id, lock_holder_user_id,
    lock_type, fencing_token, locked_at, ended_at, end_reason)
  select md5('bench' || n % (select max(v.n) + 1 from bench.video v))::uuid, 'layout', gen_random_uuid(),
    '00000000-0000-4000-8000-0000000000be', 'worker-3', 'server', n, now() - n * interval '1 second',
    now() - n * interval '1 second' + interval '30 s', 'released'
  from generate_series(1, leases) as n
  order by 1;
$$;
