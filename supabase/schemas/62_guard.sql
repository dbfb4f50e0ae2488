-- A guarded table: a write without the current token of its lock is refused, without a change of the table's columns. The check
-- comes once a statement for each lock that it touched, after the rows are what they will be: by statement triggers with
-- transition tables, so that its cost depends on neither the number of rows nor their width, and no other trigger can carry
-- a row past it. The trigger function is made for the table, as static SQL keeps its plan.

create function holdfast.check_write(p_video_id uuid, p_database_name text, p_operation text) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_headers constant jsonb := nullif(current_setting('request.headers', true), '')::jsonb;
  v_token constant text := v_headers ->> 'x-fencing-token';
  v_lock_id constant text := v_headers ->> 'x-lock-id';
begin
  if p_operation = 'DELETE' then
    -- a video's deletion takes its rows along, and nobody can hold a lock on a video that is gone
    perform from public.videos v where v.id = p_video_id;
    if not found then
      return;
    end if;
  end if;
  -- 15 digits and more: every bigint, and nothing that is none
  if v_token !~ '^[0-9]{1,18}$' or v_lock_id !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    perform holdfast.raise_error('LOCK_NOT_HELD', format(
      'The write is to %s of video %s. x-fencing-token is %L and x-lock-id %L; they have to be fencing_token and lock_id of the grant.',
      p_database_name, p_video_id, left(v_token, 40), left(v_lock_id, 40)
    ));
  end if;
  perform holdfast.check_token(p_video_id, p_database_name, v_token::bigint, v_lock_id::uuid);
end;
$$;
revoke all on function holdfast.check_write(uuid, text, text) from public, anon, authenticated, service_role;
grant execute on function holdfast.check_write(uuid, text, text) to authenticated, service_role;
comment on function holdfast.check_write(uuid, text, text) is
  'For the triggers of holdfast.guard(): checks the token of the request (header x-fencing-token, and x-lock-id if sent) for one lock. Raises PT412 or PT503.';

create function holdfast.guard_function(p_table regclass) returns text
language sql stable set search_path = ''
return (
  select case when octet_length(f.name) <= 63 then f.name else left(f.name, 20) || ' ' || md5(f.name) end
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  cross join lateral (select format('guard %s.%s', n.nspname, c.relname) as name) f
  where c.oid = p_table
);
revoke all on function holdfast.guard_function(regclass) from public, anon, authenticated, service_role;
comment on function holdfast.guard_function(regclass) is 'The name of the trigger function that guard() makes for a table.';

-- Nearly always all rows of a statement belong to one lock: to see that takes a third of what it takes to sort them.
create function holdfast.guard_check(p_rows text, p_video_column name, p_database_column name, p_database text) returns text
language plpgsql immutable set search_path = ''
as $$
declare
  v_video constant text := format('r.%I', p_video_column);
  v_name constant text := coalesce('r.' || quote_ident(p_database_column) || '::text', quote_literal(p_database) || '::text');
  v_other constant text := v_video || ' is distinct from v_video_id'
    || case when p_database_column is null then '' else format(' or %s is distinct from v_database_name', v_name) end;
begin
  return format($check$
        select %2$s, %3$s into v_video_id, v_database_name from %1$s r limit 1;
        if found then
          perform from %1$s r where %4$s limit 1;
          if not found then
            perform holdfast.check_write(v_video_id, v_database_name, tg_op);
          else
            for v_video_id, v_database_name in select distinct %2$s, %3$s from %1$s r order by 1, 2 loop
              perform holdfast.check_write(v_video_id, v_database_name, tg_op);
            end loop;
          end if;
        end if;$check$, p_rows, v_video, v_name, v_other);
end;
$$;
revoke all on function holdfast.guard_check(text, name, name, text) from public, anon, authenticated, service_role;
comment on function holdfast.guard_check(text, name, name, text) is
  'The piece of a table''s trigger function that checks each lock of these rows once, in the order of their keys.';

create function holdfast.guard(
  table_name regclass, database text default null, video_column name default 'video_id', database_column name default null
) returns void
language plpgsql set search_path = ''
as $$
declare
  v_function constant text := holdfast.guard_function(table_name);
  v_video_type constant oid := (
    select a.atttypid from pg_catalog.pg_attribute a
    where a.attrelid = table_name and a.attname = video_column and a.attnum > 0 and not a.attisdropped
  );
begin
  perform from pg_catalog.pg_class c where c.oid = table_name and c.relkind in ('r', 'p');
  if not found then
    raise exception using errcode = 'wrong_object_type', message = format('%s is no table', table_name);
  elsif (database is null) = (database_column is null) then
    raise exception using errcode = 'invalid_parameter_value',
      message = 'guard() takes either database or database_column',
      hint = format('For example: select holdfast.guard(%L, database => ''captions'');', table_name);
  elsif v_video_type is distinct from 'uuid'::regtype::oid then
    raise exception using errcode = 'undefined_column',
      message = format('%s has no column %I of type uuid', table_name, video_column),
      hint = 'Name the column that has the video''s id: video_column => ''…''.';
  end if;
  perform from pg_catalog.pg_attribute a
  where a.attrelid = table_name and a.attname = database_column and a.attnum > 0 and not a.attisdropped;
  if database_column is not null and not found then
    raise exception using errcode = 'undefined_column',
      message = format('%s has no column %I', table_name, database_column),
      hint = 'Name the column that has the database''s name, or the name itself: database => ''captions''.';
  end if;
  perform database::holdfast.database_name;
  perform holdfast.unguard(table_name);

  execute format($function$
    create function holdfast.%I() returns trigger language plpgsql set search_path = '' as $guard$
    declare
      v_video_id uuid;
      v_database_name text;
    begin
      if tg_op = 'INSERT' then%s
      elsif tg_op = 'DELETE' then%s
      else%s
      end if;
      return null;
    end;
    $guard$
  $function$, v_function,
    holdfast.guard_check('new_rows', video_column, database_column, database),
    holdfast.guard_check('old_rows', video_column, database_column, database),
    holdfast.guard_check('(table new_rows union all table old_rows)', video_column, database_column, database)
  );
  execute format('revoke all on function holdfast.%I() from public, anon, authenticated, service_role', v_function);
  execute format('comment on function holdfast.%I() is %L', v_function,
    format('Trigger, made by holdfast.guard() for %s: checks the fencing token of each lock that a statement touched.', table_name));
  perform holdfast.add_guard_triggers(t.relid, v_function)
  from (select table_name as relid union select p.relid from pg_catalog.pg_partition_tree(table_name) p) t;
end;
$$;
revoke all on function holdfast.guard(regclass, text, name, name) from public, anon, authenticated, service_role;
comment on function holdfast.guard(regclass, text, name, name) is
  'Guards a table, and its partitions: a write without the current fencing token of its lock (request header x-fencing-token) is refused with PT412. For migrations; call it again after a partition was attached or a column renamed.

table_name regclass: the table.
database text: the name of the database that all its rows belong to; or
database_column name: the column that has it.
video_column name, default video_id: the column (uuid) with the video''s id.

Raises 42809, 22023, 42703 or 23514 where it cannot be guarded so.';

create function holdfast.add_guard_triggers(p_table regclass, p_function text) returns void
language plpgsql set search_path = ''
as $$
begin
  perform holdfast.drop_guard_triggers(p_table);
  execute format(
    'create trigger holdfast_guard_insert after insert on %s referencing new table as new_rows for each statement execute function holdfast.%I()',
    p_table, p_function);
  execute format(
    'create trigger holdfast_guard_update after update on %s referencing old table as old_rows new table as new_rows for each statement execute function holdfast.%I()',
    p_table, p_function);
  execute format(
    'create trigger holdfast_guard_delete after delete on %s referencing old table as old_rows for each statement execute function holdfast.%I()',
    p_table, p_function);
  execute format(
    'create trigger holdfast_guard_truncate before truncate on %s for each statement execute function holdfast.refuse_truncate()',
    p_table);
end;
$$;
revoke all on function holdfast.add_guard_triggers(regclass, text) from public, anon, authenticated, service_role;
comment on function holdfast.add_guard_triggers(regclass, text) is 'Gives one table the four triggers of the guard.';

create function holdfast.drop_guard_triggers(p_table regclass) returns void
language plpgsql set search_path = ''
as $$
declare
  v_name text;
begin
  foreach v_name in array array['insert', 'update', 'delete', 'truncate'] loop
    perform from pg_catalog.pg_trigger t where t.tgrelid = p_table and t.tgname = 'holdfast_guard_' || v_name;
    if found then
      execute format('drop trigger %I on %s', 'holdfast_guard_' || v_name, p_table);
    end if;
  end loop;
end;
$$;
revoke all on function holdfast.drop_guard_triggers(regclass) from public, anon, authenticated, service_role;
comment on function holdfast.drop_guard_triggers(regclass) is 'Takes the four triggers of the guard off one table.';

create function holdfast.unguard(table_name regclass) returns void
language plpgsql set search_path = ''
as $$
declare
  v_functions constant regprocedure[] := array(
    select distinct t.tgfoid::regprocedure
    from pg_catalog.pg_trigger t
    where t.tgrelid = table_name and t.tgname = 'holdfast_guard_insert'
  );
  v_function regprocedure;
begin
  perform holdfast.drop_guard_triggers(t.relid)
  from (
    select table_name as relid
    union
    select p.relid from pg_catalog.pg_partition_tree(table_name) p
  ) t;
  foreach v_function in array v_functions loop
    perform from pg_catalog.pg_trigger t where t.tgfoid = v_function;
    if not found then
      execute format('drop function %s', v_function);
    end if;
  end loop;
end;
$$;
revoke all on function holdfast.unguard(regclass) from public, anon, authenticated, service_role;
comment on function holdfast.unguard(regclass) is
  'Takes the guard off a table and its partitions. table_name regclass: the table. Nothing happens where there is none.';

create view holdfast.unguarded_partitions as
select p.relid::regclass as partition, g.tgrelid::regclass as guarded_table
from pg_catalog.pg_trigger g
cross join lateral pg_catalog.pg_partition_tree(g.tgrelid) p
where g.tgname = 'holdfast_guard_insert' and not exists (
  select from pg_catalog.pg_trigger t where t.tgrelid = p.relid and t.tgname = 'holdfast_guard_insert'
);
revoke all on table holdfast.unguarded_partitions from public, anon, authenticated, service_role;
comment on view holdfast.unguarded_partitions is
  'Partitions of guarded tables that were attached later and are not guarded themselves: a write straight into one is not checked. Call guard() on the table again.';
comment on column holdfast.unguarded_partitions.partition is 'The partition without a guard.';
comment on column holdfast.unguarded_partitions.guarded_table is 'The guarded table above it.';
