-- A project may have a video_database_state already, with versions and with locks that are held right now. It stays the same
-- table, and gets the shape of 20_video_database_state.sql here. Its versions stay; a lock that is held becomes a lease of one
-- hour, in which its holder ends its work, or takes it over (take_over) with a client of Holdfast's. All that is changed can be
-- undone (holdfast.undo). Where there is no such table, these blocks do nothing.

-- Rules and rights of the project's own that were made for other ways to lock.
do $$
declare
  v_table constant regclass := to_regclass('public.video_database_state');
  v_lock_columns constant name[] := '{lock_holder_user_id,lock_type,locked_at,last_activity_at}';
  v_found record;
begin
  for v_found in
    select 1 as ord, format('policy %s', p.policyname) as what,
      format('drop policy %I on public.video_database_state', p.policyname) as statement,
      format('create policy %I on public.video_database_state as %s for %s to %s%s%s', p.policyname, p.permissive, p.cmd,
        (select string_agg(case r when 'public' then 'public' else quote_ident(r) end, ', ') from unnest(p.roles) r),
        ' using (' || p.qual || ')', ' with check (' || p.with_check || ')') as undo
    from pg_catalog.pg_policies p
    where p.schemaname = 'public' and p.tablename = 'video_database_state' and v_table is not null
    union all
    select 2, format('constraint %s', c.conname), format('alter table public.video_database_state drop constraint %I', c.conname),
      format('alter table public.video_database_state add constraint %I %s', c.conname, pg_get_constraintdef(c.oid))
    from pg_catalog.pg_constraint c
    where c.conrelid = v_table and c.contype in ('c', 'f') and c.conkey && array(
      select a.attnum from pg_catalog.pg_attribute a where a.attrelid = v_table and a.attname = any (v_lock_columns)
    )
    union all
    select 3, format('right of %s to %s', coalesce(r.rolname, 'public'), a.privilege_type || coalesce(' ' || g.name, '')),
      format('revoke %s%s on table public.video_database_state from %s', a.privilege_type, ' (' || quote_ident(g.name) || ')', coalesce(quote_ident(r.rolname), 'public')),
      format('grant %s%s on table public.video_database_state to %s%s', a.privilege_type, ' (' || quote_ident(g.name) || ')',
        coalesce(quote_ident(r.rolname), 'public'), case when a.is_grantable then ' with grant option' end)
    from (
      select c.relacl as acl, null::name as name, c.relowner from pg_catalog.pg_class c where c.oid = v_table
      union all
      select t.attacl, t.attname, c.relowner
      from pg_catalog.pg_attribute t
      join pg_catalog.pg_class c on c.oid = t.attrelid
      where t.attrelid = v_table and t.attnum > 0 and not t.attisdropped
    ) g
    cross join lateral pg_catalog.aclexplode(g.acl) a
    left join pg_catalog.pg_roles r on r.oid = a.grantee
    where a.grantee <> g.relowner
    union all
    select 5, null, format('alter table public.video_database_state alter column %I drop default', a.attname),
      format('alter table public.video_database_state alter column %I set default %s', a.attname, pg_get_expr(d.adbin, d.adrelid))
    from pg_catalog.pg_attrdef d
    join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    where d.adrelid = v_table and a.attname = any (v_lock_columns || '{database_name,tenant_id}'::name[])
    union all
    select 4, null, format('alter table public.video_database_state alter column %I drop not null', a.attname),
      -- undone after the default, which is what stands there while the lock is free
      format('update public.video_database_state set %1$I = default where %1$I is null; alter table public.video_database_state alter column %1$I set not null', a.attname)
    from pg_catalog.pg_attribute a
    where a.attrelid = v_table and a.attnotnull and a.attname = any (v_lock_columns)
    union all
    select 6, null, 'alter table public.video_database_state no force row level security',
      'alter table public.video_database_state force row level security'
    from pg_catalog.pg_class c where c.oid = v_table and c.relforcerowsecurity
    union all
    select 7, null, 'alter table public.video_database_state enable row level security',
      'alter table public.video_database_state disable row level security'
    from pg_catalog.pg_class c where c.oid = v_table and not c.relrowsecurity
    union all
    select 8, null, format('alter table public.video_database_state rename constraint %I to video_database_state_pkey', c.conname),
      format('alter table public.video_database_state rename constraint video_database_state_pkey to %I', c.conname)
    from pg_catalog.pg_constraint c
    where c.conrelid = v_table and c.contype = 'p' and c.conname <> 'video_database_state_pkey'
    order by ord, statement
  loop
    perform holdfast.change(v_found.statement, v_found.undo);
    if v_found.what is not null then
      raise notice 'public.video_database_state: Holdfast''s own rules take the place of the %', v_found.what;
    end if;
  end loop;
end;
$$;

-- What is only noted: it is overwritten by what follows.
insert into holdfast.undo (statement)
select n.statement
from (
  select format('comment on table public.video_database_state is %L', obj_description(c.oid)) as statement
  from pg_catalog.pg_class c where c.oid = to_regclass('public.video_database_state')
  union all
  select format('comment on column public.video_database_state.%I is %L', a.attname, col_description(a.attrelid, a.attnum))
  from pg_catalog.pg_attribute a
  where a.attrelid = to_regclass('public.video_database_state') and a.attnum > 0 and not a.attisdropped
  union all
  select format('alter table public.video_database_state alter column %I set statistics %s', a.attname, coalesce(a.attstattarget, -1))
  from pg_catalog.pg_attribute a
  where a.attrelid = to_regclass('public.video_database_state')
    and a.attname in ('video_id', 'database_name', 'tenant_id', 'lock_holder_user_id')
) n;

-- The columns' types. A domain where that is possible; where a view of the project's or the like reads a column, its type cannot
-- change, and a check does the same.
do $$
declare
  v_held constant text := 'lock_holder_user_id is not null and lock_holder_user_id::text <> ''''';
  v_is_user constant text := 'lock_holder_user_id::text ~* ''^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$''';
  -- the old type by its name; one that nobody knows is a user's if a user's id holds the lock, and else a server's
  v_type constant text := format(
    'case when not (%s) then null when lower(lock_type::text) = ''server'' or not (%s) then ''server'' else ''client'' end', v_held, v_is_user
  );
  v_found record;
begin
  for v_found in
    select a.attname, format_type(a.atttypid, a.atttypmod) as type, w.type as wanted, w.rule,
      format_type(a.atttypid, null) in ('text', 'character varying', 'smallint', 'bigint') as may_stay,
      coalesce(w.expression, quote_ident(a.attname)) as expression,
      case
        when a.atttypid = 'uuid'::regtype then format('case when %s then %I::uuid end', v_is_user, a.attname)
        else format('%I::text::%s', a.attname, format_type(a.atttypid, a.atttypmod))
      end as back,
      -- a lock whose type the project's enum does not have cannot go back
      case when y.typtype = 'e' then format('enum_range(null::%s)::text[]', a.atttypid::regtype) end as own_values
    from (values
      ('database_name', 'holdfast.database_name', $rule$check (database_name ~ '^[a-z][a-z0-9_-]{0,62}$')$rule$, null),
      ('lock_type', 'holdfast.lock_type', $rule$check (lock_type in ('client', 'server'))$rule$, v_type),
      ('lock_holder_user_id', 'text', null, null),
      ('server_version', 'integer', null, null), ('wasabi_version', 'integer', null, null)
    ) w (name, type, rule, expression)
    join pg_catalog.pg_attribute a on a.attrelid = to_regclass('public.video_database_state') and a.attname = w.name
    join pg_catalog.pg_type y on y.oid = a.atttypid
    where format_type(a.atttypid, null) <> w.type
  loop
    begin
      perform holdfast.change(
        format('alter table public.video_database_state alter column %I type %s using (%s)::%2$s', v_found.attname, v_found.wanted, v_found.expression),
        format('alter table public.video_database_state alter column %I type %s using %s', v_found.attname, v_found.type, v_found.back)
      );
      if v_found.own_values is not null then
        insert into holdfast.undo (statement)
        values (format(
          'update public.video_database_state set lock_holder_user_id = null, lock_type = null, locked_at = null, last_activity_at = null where lock_type <> all (%s)',
          v_found.own_values
        ));
      end if;
    exception when feature_not_supported then
      if not v_found.may_stay then
        raise exception using errcode = 'feature_not_supported',
          message = format('Holdfast was not installed, and nothing was changed: the type of public.video_database_state.%I cannot become %s: %s', v_found.attname, v_found.wanted, sqlerrm),
          hint = 'Drop what depends on the column, and make it again in a migration after Holdfast''s.';
      end if;
      if v_found.rule is not null then
        execute format('update public.video_database_state set %1$I = %2$s where %1$I is distinct from %2$s', v_found.attname, v_found.expression);
        perform holdfast.change(
          format('alter table public.video_database_state add constraint %I %s', 'holdfast_' || v_found.attname || '_check', v_found.rule),
          format('alter table public.video_database_state drop constraint %I', 'holdfast_' || v_found.attname || '_check')
        );
      end if;
      raise notice 'public.video_database_state.%: stays %, as something depends on it', v_found.attname, v_found.type;
    end;
  end loop;
end;
$$;

-- The columns of a lease, and the locks that are held.
do $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_held bigint;
begin
  if to_regclass('public.video_database_state') is null then
    return;
  end if;
  set constraints all immediate; -- a constraint of the project's own that is deferred would stand in the way
  perform holdfast.change(
    'alter table public.video_database_state
      add column lock_id uuid,
      add column lock_expires_at timestamptz,
      add column lock_ttl_seconds integer,
      add column lock_database_names text[],
      add column fencing_token bigint not null default holdfast.clock_token(),
      add column has_line boolean not null default false',
    'alter table public.video_database_state
      drop column lock_id, drop column lock_expires_at, drop column lock_ttl_seconds, drop column lock_database_names,
      drop column fencing_token, drop column has_line'
  );
  update public.video_database_state s
  set tenant_id = v.tenant_id
  from public.videos v
  where v.id = s.video_id and s.tenant_id is distinct from v.tenant_id and v.tenant_id is not null;
  update public.video_database_state s
  set server_version = coalesce(s.server_version, 0),
    wasabi_version = coalesce(s.wasabi_version, 0),
    lock_id = case when h.is_held then gen_random_uuid() end,
    lock_holder_user_id = case when h.is_held then case s.lock_type when 'client' then lower(s.lock_holder_user_id) else s.lock_holder_user_id end end,
    lock_type = case when h.is_held then s.lock_type end,
    locked_at = case when h.is_held then least(coalesce(s.locked_at, s.last_activity_at), v_now) end,
    last_activity_at = case when h.is_held then least(coalesce(s.last_activity_at, s.locked_at), v_now) end,
    lock_expires_at = case when h.is_held then v_now + interval '1 hour' end,
    lock_ttl_seconds = case when h.is_held then 3600 end
  from public.video_database_state t
  cross join lateral (select coalesce(t.lock_holder_user_id <> '', false) as is_held) h
  where t.video_id = s.video_id and t.database_name = s.database_name and (
    t.server_version is null or t.wasabi_version is null
    or num_nonnulls(t.lock_holder_user_id, t.lock_type, t.locked_at, t.last_activity_at) > 0
  );
  select count(*) into v_held from public.video_database_state s where s.lock_id is not null;
  raise notice 'public.video_database_state was taken over: % locks are held, as leases until %', v_held, v_now + interval '1 hour';
end;
$$;

-- Its rules, as 20_video_database_state.sql has them. A row may have no video any more: it stays.
do $$
declare
  v_found record;
  v_stray bigint;
begin
  if to_regclass('public.video_database_state') is null then
    return;
  end if;
  set constraints all immediate;
  for v_found in
    select a.attname, w.default, pg_get_expr(d.adbin, d.adrelid) as own_default, a.attnotnull
    from (values ('tenant_id', null), ('server_version', '0'), ('wasabi_version', '0')) w (name, "default")
    join pg_catalog.pg_attribute a on a.attrelid = 'public.video_database_state'::regclass and a.attname = w.name
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  loop
    perform holdfast.change(
      format('alter table public.video_database_state alter column %I set not null', v_found.attname),
      case when v_found.attnotnull then 'select' else format('alter table public.video_database_state alter column %I drop not null', v_found.attname) end
    );
    if v_found.default is not null then
      perform holdfast.change(
        format('alter table public.video_database_state alter column %I set default %s', v_found.attname, v_found.default),
        coalesce(
          format('alter table public.video_database_state alter column %I set default ', v_found.attname) || v_found.own_default,
          format('alter table public.video_database_state alter column %I drop default', v_found.attname)
        )
      );
    end if;
  end loop;
  perform holdfast.change(
    'alter table public.video_database_state
      add constraint video_database_state_video_fkey foreign key (tenant_id, video_id)
        references public.videos (tenant_id, id) on update cascade on delete cascade not valid,
      add constraint video_database_state_lock_all_or_none_check check (
        num_nulls(
          lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at, lock_expires_at, lock_ttl_seconds
        ) % 7 = 0
      )',
    'alter table public.video_database_state
      drop constraint video_database_state_video_fkey, drop constraint video_database_state_lock_all_or_none_check'
  );
  select count(*) into v_stray
  from public.video_database_state s
  where not exists (select from public.videos v where v.id = s.video_id and v.tenant_id = s.tenant_id);
  if v_stray = 0 then
    alter table public.video_database_state validate constraint video_database_state_video_fkey;
  else
    raise notice 'public.video_database_state: % rows belong to no video of a tenant. They stay', v_stray;
  end if;
end;
$$;

-- The rest of the shape, and what comes later, in other files, to take away.
do $$
declare
  v_table constant regclass := to_regclass('public.video_database_state');
begin
  if v_table is null then
    return;
  end if;
  perform holdfast.change('alter table public.video_database_state set (fillfactor = 70)', coalesce(
    (
      select 'alter table public.video_database_state set (' || o || ')'
      from pg_catalog.pg_class c, unnest(c.reloptions) o
      where c.oid = v_table and o like 'fillfactor=%'
    ),
    'alter table public.video_database_state reset (fillfactor)'
  ));
  if to_regclass('public.video_database_state_tenant_id_video_id_idx') is null then
    perform holdfast.change(
      'create index video_database_state_tenant_id_video_id_idx on public.video_database_state (tenant_id, video_id)',
      'drop index public.video_database_state_tenant_id_video_id_idx'
    );
  end if;
  insert into holdfast.undo (statement)
  values
    ('revoke all on table public.video_database_state from public, anon, authenticated, service_role'),
    ('drop policy video_database_state_select_member on public.video_database_state'),
    ('drop trigger video_database_state_limit_databases on public.video_database_state'),
    ('drop trigger video_database_state_remember_what_outlived_the_row on public.video_database_state'),
    ('drop trigger video_database_state_keep_what_outlives_the_row on public.video_database_state'),
    ('drop trigger video_database_state_end_lease_of_moved_row on public.video_database_state'),
    ('drop trigger video_database_state_refuse_truncate on public.video_database_state'),
    ('update public.video_database_state set lock_id = null, lock_holder_user_id = null, lock_type = null, locked_at = null, last_activity_at = null, lock_expires_at = null, lock_ttl_seconds = null where lock_expires_at <= clock_timestamp()');
end;
$$;
