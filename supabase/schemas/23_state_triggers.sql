-- What holds for a state row however it comes, changes or goes: by Holdfast's functions, by a server's own insert, by a cascade.

create function holdfast.limit_databases() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_most constant integer := 100;
begin
  -- one creation at a time for each video, or two would count the same rows
  perform pg_advisory_xact_lock(hashtext('holdfast.limit_databases'), hashtext(new.video_id::text));
  perform
  from holdfast.database_names
  having count(*) > 0 and not bool_or(database_name = new.database_name);
  if found then
    perform holdfast.raise_invalid_request(array[
      'database_name must be one of ' || (select string_agg(n.database_name, ', ' order by n.database_name) from holdfast.database_names n)
    ]);
  end if;
  perform
  from public.video_database_state s
  where s.video_id = new.video_id
  having count(*) >= v_most and not bool_or(s.database_name = new.database_name);
  if found then
    perform holdfast.raise_invalid_request(array[
      format('database_name must be one that the video has already: it has %s, the most that are allowed', v_most)
    ]);
  end if;
  return new;
end;
$$;
revoke all on function holdfast.limit_databases() from public, anon, authenticated, service_role;
comment on function holdfast.limit_databases() is
  'Trigger: a video has at most 100 databases, with names of holdfast.database_names where there are any. Raises PT400.';

create trigger video_database_state_limit_databases
  before insert on public.video_database_state
  for each row execute function holdfast.limit_databases();

-- After the insert, not before it: the insert may have waited for the deletion of a row with the same key, and what was read
-- before that wait is old.
create function holdfast.remember_what_outlived_the_row() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_token bigint;
  v_has_line boolean;
begin
  select max(h.fencing_token) into v_token
  from public.video_database_lock_history h
  where h.video_id = new.video_id and h.database_name = new.database_name;
  v_has_line := holdfast.has_line(new.video_id, new.database_name);
  if v_token >= new.fencing_token or v_has_line then
    update public.video_database_state s
    set fencing_token = greatest(s.fencing_token, v_token), has_line = s.has_line or v_has_line
    where s.video_id = new.video_id and s.database_name = new.database_name;
  end if;
  return null;
end;
$$;
revoke all on function holdfast.remember_what_outlived_the_row() from public, anon, authenticated, service_role;
comment on function holdfast.remember_what_outlived_the_row() is
  'Trigger: a new state row goes on from the highest token of its lock''s history (which matters only if the clock was set back), and knows of a line and of cancellations that its predecessor left.';

create trigger video_database_state_remember_what_outlived_the_row
  after insert on public.video_database_state
  for each row execute function holdfast.remember_what_outlived_the_row();

create function holdfast.keep_what_outlives_the_row() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  if old.lock_id is not null then
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
      locked_at, ended_at, end_reason
    )
    values (
      old.video_id, old.database_name, old.lock_id, old.tenant_id, old.lock_holder_user_id, old.lock_type,
      old.lock_database_names, old.fencing_token, old.locked_at, least(old.lock_expires_at, v_now),
      case when old.lock_expires_at <= v_now then 'expired' else 'force_released' end
    )
    on conflict do nothing;
  end if;
  if tg_op = 'UPDATE' then
    -- another key is another lock: it begins free, with a token of its own
    update public.video_database_state s
    set lock_id = null,
      lock_holder_user_id = null,
      lock_type = null,
      locked_at = null,
      last_activity_at = null,
      lock_expires_at = null,
      lock_ttl_seconds = null,
      lock_database_names = null,
      has_line = true,
      fencing_token = greatest(old.fencing_token + 1, holdfast.clock_token(), (
        select max(h.fencing_token) + 1
        from public.video_database_lock_history h
        where h.video_id = new.video_id and h.database_name = new.database_name
      ))
    where s.video_id = new.video_id and s.database_name = new.database_name;
  end if;
  return null;
end;
$$;
revoke all on function holdfast.keep_what_outlives_the_row() from public, anon, authenticated, service_role;
comment on function holdfast.keep_what_outlives_the_row() is
  'Trigger: the lease of a deleted state row goes into the history; so does that of a row whose key changes (with its video''s id), and the row is then free.';

create trigger video_database_state_keep_what_outlives_the_row
  after delete on public.video_database_state
  for each row execute function holdfast.keep_what_outlives_the_row();

-- Not before the update: a table with such a trigger locks each row before it writes it, and the lock stays on the row's next
-- version as its xmax, where acquire_lock() would take it for an open guarded write.
create trigger video_database_state_end_lease_of_moved_row
  after update of video_id, database_name on public.video_database_state
  for each row
  when (old.video_id <> new.video_id or old.database_name <> new.database_name)
  execute function holdfast.keep_what_outlives_the_row();

create function holdfast.refuse_truncate() returns trigger
language plpgsql set search_path = ''
as $$
begin
  raise exception using
    errcode = 'feature_not_supported',
    message = format('%I.%I cannot be truncated', tg_table_schema, tg_table_name),
    detail = 'TRUNCATE passes by what is done for each row: leases would end without a trace, and guarded rows without a token.',
    hint = 'Use DELETE.';
end;
$$;
revoke all on function holdfast.refuse_truncate() from public, anon, authenticated, service_role;
comment on function holdfast.refuse_truncate() is 'Trigger: TRUNCATE passes row triggers by, so it is refused.';

create trigger video_database_state_refuse_truncate
  before truncate on public.video_database_state
  for each statement execute function holdfast.refuse_truncate();
create trigger video_database_lock_history_refuse_truncate
  before truncate on public.video_database_lock_history
  for each statement execute function holdfast.refuse_truncate();
