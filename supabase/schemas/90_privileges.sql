-- A dump does not revoke what the target's default privileges grant. A schema restored into an older project may so let the API's
-- roles write lock columns, or truncate the history. This puts the privileges right, and reports what was wrong.
create function holdfast.wanted_privileges()
returns table (object text, kind text, column_name text, grantee text, privilege text)
language sql immutable set search_path = ''
as $$
  select t.object, 'table', null, g.grantee, t.privilege
  from (values
    ('public.video_database_state', 'SELECT'), ('public.video_database_lock_history', 'SELECT'),
    ('public.held_locks', 'SELECT'), ('public.waiting_locks', 'SELECT')
  ) t (object, privilege)
  cross join (values ('authenticated'), ('service_role')) g (grantee)
  union all
  select 'public.video_database_state', 'table', null, 'service_role', 'DELETE'
  union all
  select 'public.video_database_state', 'column', c.name, 'service_role', p.privilege
  from (values
    ('video_id', 'INSERT'), ('database_name', 'INSERT'), ('tenant_id', 'INSERT'),
    ('server_version', 'INSERT'), ('wasabi_version', 'INSERT'), ('wasabi_synced_at', 'INSERT'),
    ('server_version', 'UPDATE'), ('wasabi_version', 'UPDATE'), ('wasabi_synced_at', 'UPDATE')
  ) p (name, privilege)
  join (values ('video_id'), ('database_name'), ('tenant_id'), ('server_version'), ('wasabi_version'), ('wasabi_synced_at'))
    c (name) on c.name = p.name
  union all
  select 'holdfast', 'schema', null, g.grantee, 'USAGE'
  from (values ('authenticated'), ('service_role')) g (grantee)
  union all
  select s.name || '.' || f.name, 'function', null, g.grantee, 'EXECUTE'
  from (values
    ('acquire_lock', true, true), ('renew_lock', true, true), ('release_lock', true, true),
    ('assert_lock_held', false, true), ('check_token', true, false), ('check_write', true, false),
    ('advance_server_version', true, true), ('line_length', true, false), ('waiting', true, false)
  ) f (name, inside, outside)
  join (values ('holdfast'), ('public')) s (name) on case s.name when 'public' then f.outside else f.inside end
  cross join (values ('authenticated'), ('service_role')) g (grantee)
  union all
  select s.name || '.' || f.name, 'function', null, 'service_role', 'EXECUTE'
  from (values ('release_expired_locks'), ('prune_lock_history')) f (name)
  cross join (values ('holdfast'), ('public')) s (name)
  union all
  select 'holdfast.tenants_of_caller', 'function', null, 'authenticated', 'EXECUTE'
  union all
  select 'holdfast.clock_token', 'function', null, 'service_role', 'EXECUTE'
$$;
revoke all on function holdfast.wanted_privileges() from public, anon, authenticated, service_role;
comment on function holdfast.wanted_privileges() is
  'What the API''s roles may do with Holdfast''s objects: the grants that stand under each object, once more, for repair_privileges(). A test compares the two.';

create function holdfast.own_functions() returns table (object text, function regprocedure)
language sql stable set search_path = ''
as $$
  select n.nspname || '.' || p.proname, p.oid::regprocedure
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname = 'holdfast' or p.oid in (
    -- by their types, too: a project may have namesakes
    'public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])'::regprocedure,
    'public.renew_lock(uuid, text, uuid, integer, boolean, text[])'::regprocedure,
    'public.release_lock(uuid, text, uuid, text, boolean, text[])'::regprocedure,
    'public.assert_lock_held(uuid, text, bigint)'::regprocedure,
    'public.advance_server_version(uuid, text, bigint)'::regprocedure,
    'public.release_expired_locks(integer)'::regprocedure,
    'public.prune_lock_history(interval, integer)'::regprocedure
  )
$$;
revoke all on function holdfast.own_functions() from public, anon, authenticated, service_role;
comment on function holdfast.own_functions() is 'Holdfast''s functions, without namesakes in public that are the project''s own.';

create function holdfast.present_privileges()
returns table (object text, kind text, column_name text, grantee text, privilege text, target text)
language sql stable set search_path = ''
as $$
  with relations as (
    select c.oid, c.relacl, c.relowner, n.nspname || '.' || c.relname as name
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'v') and (n.nspname = 'holdfast' or n.nspname = 'public' and c.relname in (
      'video_database_state', 'video_database_lock_history', 'held_locks', 'waiting_locks'
    ))
  ), present as (
    select r.name as object, 'table' as kind, null::text as column_name, a.grantee, a.privilege_type, r.oid::regclass::text as target
    from relations r
    cross join lateral pg_catalog.aclexplode(coalesce(r.relacl, pg_catalog.acldefault('r', r.relowner))) a
    union all
    select r.name, 'column', t.attname, a.grantee, a.privilege_type, r.oid::regclass::text
    from relations r
    join pg_catalog.pg_attribute t on t.attrelid = r.oid
    cross join lateral pg_catalog.aclexplode(t.attacl) a
    union all
    select n.nspname, 'schema', null, a.grantee, a.privilege_type, quote_ident(n.nspname)
    from pg_catalog.pg_namespace n
    cross join lateral pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
    where n.nspname = 'holdfast'
    union all
    select n.nspname || '.' || p.proname, 'function', null, a.grantee, a.privilege_type, p.oid::regprocedure::text
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    cross join lateral pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
    where p.oid in (select f.function from holdfast.own_functions() f)
  )
  select p.object, p.kind, p.column_name, coalesce(r.rolname, 'public'), p.privilege_type, p.target
  from present p
  left join pg_catalog.pg_roles r on r.oid = p.grantee
  where p.grantee = 0 or r.rolname in ('anon', 'authenticated', 'service_role')
$$;
revoke all on function holdfast.present_privileges() from public, anon, authenticated, service_role;
comment on function holdfast.present_privileges() is 'What PUBLIC and the API''s roles may do with Holdfast''s objects now, by the catalog.';

create function holdfast.wrong_privileges()
returns table (
  object text, kind text, column_name text, grantee text, privilege text, target text, is_missing boolean
)
language sql stable set search_path = ''
as $$
  select p.object, p.kind, p.column_name, p.grantee, p.privilege, p.target, false
  from holdfast.present_privileges() p
  where not exists (
    select from holdfast.wanted_privileges() w
    where (w.object, w.kind, w.grantee, w.privilege) = (p.object, p.kind, p.grantee, p.privilege)
      and w.column_name is not distinct from p.column_name
  )
  union all
  select w.object, w.kind, w.column_name, w.grantee, w.privilege, coalesce((
    select f.function::text
    from holdfast.own_functions() f
    where w.kind = 'function' and f.object = w.object
  ), w.object), true
  from holdfast.wanted_privileges() w
  where not exists (
    select from holdfast.present_privileges() p
    where (w.object, w.kind, w.grantee, w.privilege) = (p.object, p.kind, p.grantee, p.privilege)
      and w.column_name is not distinct from p.column_name
  )
$$;
revoke all on function holdfast.wrong_privileges() from public, anon, authenticated, service_role;
comment on function holdfast.wrong_privileges() is
  'What the API''s roles may do with Holdfast''s objects and should not, and (is_missing) what they should and may not.';

create function holdfast.repair_privileges() returns setof text
language plpgsql set search_path = ''
as $$
declare
  v_wrong record;
begin
  for v_pass in 1..2 loop
    for v_wrong in select w.* from holdfast.wrong_privileges() w order by w.is_missing, w.object, w.grantee loop
      execute format('%s %s%s on %s %s %s %s',
        case when v_wrong.is_missing then 'grant' else 'revoke' end,
        v_wrong.privilege, coalesce(' (' || quote_ident(v_wrong.column_name) || ')', ''),
        case when v_wrong.kind = 'column' then 'table' else v_wrong.kind end, v_wrong.target,
        case when v_wrong.is_missing then 'to' else 'from' end,
        case when v_wrong.grantee = 'public' then 'public' else quote_ident(v_wrong.grantee) end
      );
      -- to revoke a right on a table revokes it on the columns, too: the second pass gives those back, and was not asked for
      if v_pass = 1 then
        return next format('%s %s: %s on %s',
          v_wrong.grantee, case when v_wrong.is_missing then 'lacked' else 'had' end, v_wrong.privilege,
          v_wrong.object || coalesce('.' || v_wrong.column_name, '')
        );
      end if;
    end loop;
  end loop;
end;
$$;
revoke all on function holdfast.repair_privileges() from public, anon, authenticated, service_role;
comment on function holdfast.repair_privileges() is
  'After a restore into another project: gives the API''s roles just the rights on Holdfast''s objects that they should have. For the owner. Returns a line for each right that was wrong; none where all was right.';
