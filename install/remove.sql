-- Takes Holdfast out of the database. The project's own tables and their rows stay: videos, members, guarded tables, and a
-- video_database_state that was there before Holdfast, which is as it was then. A video_database_state that Holdfast made goes,
-- with its versions; so does the history of locks. A lease that is live stays in the old columns.

do $$
declare
  v_tables constant text := (
    select string_agg(c.oid::regclass::text, ', ' order by c.relname collate "C")
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relname in ('videos', 'video_database_state') and c.relkind in ('r', 'p')
  );
begin
  if to_regprocedure('holdfast.version()') is null then
    raise exception using errcode = 'object_not_in_prerequisite_state',
      message = 'Holdfast is not installed in this database; nothing was changed',
      hint = 'Delete this migration.';
  end if;
  for v_try in 1..60 loop
    begin
      perform set_config('lock_timeout', '400ms', true);
      execute format('lock table %s in access exclusive mode', v_tables);
      exit;
    exception when lock_not_available or deadlock_detected then
      if v_try = 60 then
        raise exception using errcode = 'lock_not_available',
          message = format('Holdfast was not removed, and nothing was changed: %s could not be locked', v_tables),
          hint = 'Some transaction has used them for long (see pg_stat_activity). End it, or try again when it is over.';
      end if;
    end;
    perform pg_sleep(random() * 0.5);
  end loop;
  perform set_config('lock_timeout', '0', true);
end;
$$;

-- jobs, guards, and what the Data API has of it
do $$
begin
  if to_regclass('cron.job') is not null then
    perform cron.unschedule(j.jobid) from cron.job j where j.jobname in ('holdfast-release-expired-locks', 'holdfast-prune-lock-history');
  end if;
  perform holdfast.unguard(t.tgrelid)
  from pg_catalog.pg_trigger t
  where t.tgname = 'holdfast_guard_insert'
    and not exists (select from pg_catalog.pg_inherits i where i.inhrelid = t.tgrelid);
  perform holdfast.unguard(t.tgrelid) from pg_catalog.pg_trigger t where t.tgname = 'holdfast_guard_insert';
end;
$$;
drop view public.held_locks, public.waiting_locks;
do $$
declare
  v_view regclass;
  v_detail text;
begin
  for v_view in
    select c.oid::regclass from pg_catalog.pg_class c where c.relnamespace = 'holdfast'::regnamespace and c.relkind = 'v'
  loop
    execute format('drop view %s', v_view);
  end loop;
exception when dependent_objects_still_exist then
  get stacked diagnostics v_detail = pg_exception_detail;
  raise exception using errcode = 'dependent_objects_still_exist',
    message = 'Holdfast was not removed, and nothing was changed: the project uses it. ' || v_detail,
    hint = 'Drop or change in a migration before this one what depends on the schema holdfast.';
end;
$$;
drop function
  public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[]),
  public.renew_lock(uuid, text, uuid, integer, boolean, text[]),
  public.release_lock(uuid, text, uuid, text, boolean, text[]),
  public.assert_lock_held(uuid, text, bigint),
  public.advance_server_version(uuid, text, bigint),
  public.release_expired_locks(integer),
  public.prune_lock_history(interval, integer);

-- the project's own tables, as they were
do $$
declare
  v_undo text;
begin
  perform set_config('holdfast.adopted', exists (
    select from holdfast.undo u where u.statement like '%drop column lock_id%'
  )::text, true);
  if current_setting('holdfast.adopted') = 'false' then
    alter table public.video_database_state drop constraint video_database_state_video_fkey;
  end if;
  for v_undo in select u.statement from holdfast.undo u order by u.step desc loop
    begin
      execute v_undo;
    exception when check_violation or foreign_key_violation or not_null_violation or undefined_object or undefined_table then
      -- the project has changed since: it has rows that break a rule of its own, or lacks what is to be changed back
      if v_undo not like '%add constraint%' then
        raise notice 'Not restored: % (%)', v_undo, sqlerrm;
        continue;
      end if;
      execute v_undo || ' not valid';
      raise notice 'Restored, but not valid for all rows: %', v_undo;
    end;
  end loop;
end;
$$;

-- The rest, each piece when nothing depends on it any more. Not cascade: that would take along what the project has built on it.
do $$
declare
  v_drop text;
  v_left text;
  v_dropped integer;
begin
  loop
    v_left := null;
    v_dropped := 0;
    for v_drop in
      select format('drop table %s', c.oid::regclass)
      from pg_catalog.pg_class c
      where c.relkind = 'r' and (
        c.relnamespace = 'holdfast'::regnamespace
        or c.oid = to_regclass('public.video_database_lock_history')
        or c.oid = to_regclass('public.video_database_state') and current_setting('holdfast.adopted') = 'false'
      )
      union all
      select format('drop function %s', p.oid::regprocedure) from pg_catalog.pg_proc p where p.pronamespace = 'holdfast'::regnamespace
      union all
      select format('drop %s %s', case y.typtype when 'd' then 'domain' else 'type' end, y.oid::regtype)
      from pg_catalog.pg_type y
      left join pg_catalog.pg_class c on c.oid = y.typrelid
      where y.typnamespace = 'holdfast'::regnamespace and (y.typtype = 'd' or c.relkind = 'c')
    loop
      begin
        execute v_drop;
        v_dropped := v_dropped + 1;
      exception
        when dependent_objects_still_exist then
          get stacked diagnostics v_left = pg_exception_detail;
        when undefined_table or undefined_function or undefined_object then
          null; -- gone with another
      end;
    end loop;
    exit when v_dropped = 0;
  end loop;
  if v_left is not null then
    raise exception using errcode = 'dependent_objects_still_exist',
      message = 'Holdfast was not removed, and nothing was changed: the project uses it. ' || v_left,
      hint = 'Drop or change in a migration before this one what depends on the schema holdfast.';
  end if;
  drop schema holdfast;
end;
$$;
