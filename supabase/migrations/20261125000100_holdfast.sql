-- Generated from supabase/schemas by `deno task migrations`; change it there.

-- Holdfast: exclusive, leased locks on the databases of a video. This folder is the database as it is now, one object a
-- file; supabase/migrations is generated from it (tools/migrations.ts), and a gate shows that both give the same.
--
-- The story. A lock is a row of public.video_database_state, because Supabase callers have no session: every request is one
-- short transaction. Holders die, so a lock is a lease: it ends at lock_expires_at by the database's clock, whether or not
-- the row is cleared. Holders stall, so every grant has a fencing token: the clock in microseconds, pushed past the
-- lock's previous token. A guarded table refuses a write whose token is not that of the live lease.
--
--   acquire_lock()  looks, and changes the row only if it is still the version that it saw (compare-and-set on xmin). That
--                   is the usual case, in one piece. All else goes through acquire_in_turn(): look; if something is to be
--                   written, lock the rows, in the order of their names and for less than half a second, and look again.
--   renew_lock()    moves the expiry of the acquisition that it names.
--   release_lock()  ends the acquisition that it names, also before its acquire has come (holdfast.cancellation).
--
-- Every lease that ends leaves one row in public.video_database_lock_history, which makes a repeated request answerable.
-- Who waits has a place in holdfast.place; the lock's has_line says that it is worth a look there.
-- assert_lock_held() and holdfast.guard() check a token in the transaction that writes. They share the row (for key share),
-- so that the writes of one holder run side by side; only a grant needs it for itself (for update).
--
-- Who may: row level security for reads, the role and auth.uid() for the functions, and one view, holdfast.membership,
-- which a project with its own model of members replaces. Functions that act with the owner's rights are in the schema
-- holdfast, which the Data API does not expose; their doors are the security invoker functions in public.

-- What the Data API does not expose: Holdfast's types, helpers and line, and the code that runs with more rights than its
-- caller.
create schema holdfast;
revoke all on schema holdfast from public;
grant usage on schema holdfast to authenticated, service_role;
comment on schema holdfast is
  'Holdfast''s inside: never exposed by the Data API; called by the functions of the same name in public.';

create function holdfast.version() returns text
language sql immutable set search_path = ''
return '0.1.0';
revoke all on function holdfast.version() from public, anon, authenticated, service_role;
comment on function holdfast.version() is 'The version of Holdfast that this database has, as in CHANGELOG.md.';

-- What Holdfast changes of a table that was there before it, it can give back: `npx holdfast remove` runs these statements, the
-- last first.
create table holdfast.undo (
  step integer not null generated always as identity,
  statement text not null,
  constraint undo_pkey primary key (step)
);
alter table holdfast.undo enable row level security;
revoke all on table holdfast.undo from public, anon, authenticated, service_role;
comment on table holdfast.undo is 'What a removal of Holdfast runs, the last row first, to leave the project''s own tables as they were.';
comment on column holdfast.undo.step is 'In which order it was done.';
comment on column holdfast.undo.statement is 'Undoes it.';

create function holdfast.change(p_statement text, p_undo text) returns void
language plpgsql set search_path = ''
as $$
begin
  execute p_statement;
  insert into holdfast.undo (statement) values (p_undo);
end;
$$;
revoke all on function holdfast.change(text, text) from public, anon, authenticated, service_role;
comment on function holdfast.change(text, text) is
  'For migrations: changes a table that may be the project''s own, and remembers how to undo it.';

-- The foreign key of the locks needs a key of both columns, so that a copied tenant_id can never be wrong. tenant_id leads,
-- because policies filter by it.
do $$
begin
  if not exists (
    select from pg_catalog.pg_index i
    where i.indrelid = 'public.videos'::regclass and i.indisunique and i.indpred is null and i.indimmediate
      and i.indkey::text = (
        select string_agg(a.attnum::text, ' ' order by a.attname desc)
        from pg_catalog.pg_attribute a
        where a.attrelid = i.indrelid and a.attname in ('id', 'tenant_id')
      )
  ) then
    perform holdfast.change(
      'alter table public.videos add constraint videos_tenant_id_id_key unique (tenant_id, id)',
      'alter table public.videos drop constraint videos_tenant_id_id_key'
    );
  end if;
end;
$$;

-- The seam: who belongs to which tenant is asked here and nowhere else. A project with its own model of members replaces
-- this view (create or replace view), with the same three columns.
create view holdfast.membership as
select null::uuid as tenant_id, null::uuid as user_id, null::text as role
where false;
do $$
declare
  v_query constant text := coalesce(
    nullif(current_setting('holdfast.members', true), ''),
    'select t.tenant_id, t.user_id, t.role from public.tenant_members t'
  );
begin
  -- an own table may have its roles as an enum
  execute 'create or replace view holdfast.membership as select m.tenant_id, m.user_id, m.role::text as role from (' || v_query || ') m';
end;
$$;
revoke all on table holdfast.membership from public, anon, authenticated, service_role;
comment on view holdfast.membership is
  'Which user (user_id uuid) belongs to which tenant (tenant_id uuid), and as what (role text: admin may force a release). Replace it where members are kept elsewhere.';
comment on column holdfast.membership.tenant_id is 'The tenant.';
comment on column holdfast.membership.user_id is 'The user, as auth.uid() names them.';
comment on column holdfast.membership.role is 'admin may also force a release; any other role may lock.';

create function holdfast.tenants_of_caller() returns uuid[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  return array(select m.tenant_id from holdfast.membership m where m.user_id = auth.uid());
end;
$$;
revoke all on function holdfast.tenants_of_caller() from public, anon, authenticated, service_role;
grant execute on function holdfast.tenants_of_caller() to authenticated;
comment on function holdfast.tenants_of_caller() is 'The tenants that the caller belongs to; for the policies.';

-- Videos that Holdfast made for a project with members of its own: seen by the same rule as the locks.
do $$
begin
  if coalesce(current_setting('holdfast.members', true), '') <> ''
    and obj_description('public.videos'::regclass) like 'A video. Its databases %'
    and not exists (select from pg_catalog.pg_policy p where p.polrelid = 'public.videos'::regclass)
  then
    perform holdfast.change(
      'create policy videos_select_member on public.videos for select to authenticated using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]))',
      'drop policy videos_select_member on public.videos'
    );
  end if;
end;
$$;

-- As types, not as checks: PostgreSQL reads a table's check constraints anew for each statement that writes a row, which
-- took a third of the time of an acquire; a domain is checked where a value enters, and is kept ready.
create domain holdfast.database_name as text
  constraint database_name_check check (value ~ '^[a-z][a-z0-9_-]{0,62}$');
create domain holdfast.lock_type as text
  constraint lock_type_check check (value in ('client', 'server'));
create domain holdfast.end_reason as text
  constraint end_reason_check check (value in ('released', 'expired', 'taken_over', 'force_released'));

comment on domain holdfast.database_name is 'Name of one database of a video: layout, captions, …';
comment on domain holdfast.lock_type is 'client: held by a signed-in user; server: by a caller with the secret key.';
comment on domain holdfast.end_reason is
  'released: by its holder; expired: ran out; taken_over: by the same holder from elsewhere; force_released: by the secret key, by an admin of the tenant, or because its row was deleted or moved.';

-- The pieces of an answer, as types: json_build_object() turns a row of them into an object with these names, in every
-- function alike, at a fraction of what a function that builds the object would cost.
create type holdfast.versions as (
  server_version integer,
  wasabi_version integer,
  wasabi_synced_at timestamptz
);
comment on type holdfast.versions is 'The versions of one database of a video.';

create type holdfast.lock as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  expires_at timestamptz,
  ttl_seconds integer
);
comment on type holdfast.lock is 'A held lease, as its holder sees it.';

create type holdfast.lock_of_set as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  expires_at timestamptz,
  ttl_seconds integer,
  state holdfast.versions
);
comment on type holdfast.lock_of_set is 'A held lease, one of several that were acquired together, with the versions of its database.';

create type holdfast.released_lock as (
  video_id uuid,
  database_name text,
  lock_id uuid,
  lock_holder_user_id text,
  lock_type text,
  fencing_token bigint,
  locked_at timestamptz,
  released_at timestamptz
);
comment on type holdfast.released_lock is
  'A lease that was released. All of it is in the history, so that a repeated release gets the same answer.';

create type holdfast.holder as (
  lock_holder_user_id text,
  lock_type text,
  locked_at timestamptz,
  last_activity_at timestamptz,
  expires_at timestamptz,
  is_you boolean
);
comment on type holdfast.holder is 'Who holds a lock, as others see it: without the lock_id, which is of no use to them.';

create type holdfast.queue as (
  "position" integer,
  length integer
);
comment on type holdfast.queue is 'The line for a lock: the caller''s own position from 1 on (NULL without a place), and how many wait.';

-- Everything that the functions raise, in one place. A refused lock is an answer; these are for what cannot be answered.
-- SQLSTATE PTnnn makes PostgREST answer with HTTP status nnn. supabase/functions/_shared/errors.ts has the same table for
-- HTTP; supabase/tests/contract/both_doors_test.ts compares the two.
create function holdfast.raise_error(p_code text, p_what text default null) returns void
language plpgsql set search_path = ''
as $$
begin
  case p_code
    when 'NOT_AUTHENTICATED' then
      raise exception using errcode = 'PT401', message = 'The token names no user',
        detail = 'auth.uid() is null: the token has no "sub" claim.',
        hint = 'Sign in, and send the user''s access token as Authorization: Bearer.';
    when 'FORBIDDEN' then
      raise exception using errcode = 'PT403', message = p_what,
        detail = 'The credentials are good, but do not give this right.',
        hint = 'See docs/reference/authority.md for who may do what.';
    when 'VIDEO_NOT_FOUND' then
      raise exception using errcode = 'PT404', message = 'There is no such video',
        detail = 'No video with this id belongs to a tenant of the caller.',
        hint = 'Check video_id, and that the caller is a member of the video''s tenant.';
    when 'LOCK_NOT_HELD' then
      raise exception using errcode = 'PT412', message = 'The lock is not held with this fencing token',
        detail = p_what,
        hint = 'Write nothing more under this token. Acquire the lock again, and read the data anew.';
    when 'LOCK_BUSY' then
      raise exception using errcode = 'PT503', message = 'The lock is being changed just now',
        detail = p_what,
        hint = 'Nothing was written. Try the same again in a moment.';
  end case;
end;
$$;
revoke all on function holdfast.raise_error(text, text) from public, anon, authenticated, service_role;
comment on function holdfast.raise_error(text, text) is 'Raises an error of the API by its code: PT401, PT403, PT404, PT412 or PT503.';

create function holdfast.raise_invalid_request(p_broken_rules text[]) returns void
language plpgsql set search_path = ''
as $$
begin
  if array_remove(p_broken_rules, null) = '{}' then
    return;
  end if;
  raise exception using errcode = 'PT400', message = 'The request breaks a rule',
    detail = (
      select json_agg(json_build_object(
        'path', split_part(r, ' ', 1), 'message', substr(r, strpos(r, ' ') + 1)
      ))
      from unnest(p_broken_rules) as r
      where r is not null
    )::text,
    hint = 'Correct the arguments that the detail names.';
end;
$$;
revoke all on function holdfast.raise_invalid_request(text[]) from public, anon, authenticated, service_role;
comment on function holdfast.raise_invalid_request(text[]) is
  'Raises PT400 if any rule is broken. p_broken_rules: "argument what is wrong with it", NULL where the rule holds; the error''s detail is JSON, [{ path, message }].';

create function holdfast.broken_rules_of_names(p_video_id uuid, p_database_name text, p_database_names text[])
returns text[]
language plpgsql immutable set search_path = ''
as $$
declare
  v_pattern constant text := '^[a-z][a-z0-9_-]{0,62}$';
begin
  return array_remove(array[
    case when p_video_id is null then 'video_id is required' end,
    case when p_database_name is null and p_database_names is null
      then 'database_name is required, or database_names' end,
    case when p_database_name is not null and p_database_names is not null
      then 'database_names excludes database_name: send one of them' end,
    case when p_database_name !~ v_pattern then 'database_name must match ' || v_pattern end,
    case when p_database_names is not null and (
        cardinality(p_database_names) between 1 and 16
        and array_ndims(p_database_names) = 1
        and (select bool_and(n ~ v_pattern) and count(distinct n) = count(*) and count(n) = count(*)
          from unnest(p_database_names) n)
      ) is not true
      then 'database_names must be 1 to 16 different names that match ' || v_pattern end
  ], null);
end;
$$;
revoke all on function holdfast.broken_rules_of_names(uuid, text, text[])
  from public, anon, authenticated, service_role;
comment on function holdfast.broken_rules_of_names(uuid, text, text[]) is
  'The rules of video_id, database_name and database_names that are broken; the same for acquire, renew and release.';

-- Who calls is decided here, from the role that the Data API switched to. The caller cannot set it, nor the token
-- that auth.uid() reads.
create function holdfast.caller_is_server() returns boolean
language plpgsql stable set search_path = ''
as $$
declare
  v_role constant text := current_setting('role');
begin
  -- the two usual roles first: they need no look at the catalog
  return v_role = 'service_role'
    or v_role <> 'authenticated'
    and pg_has_role(case v_role when 'none' then session_user else v_role end, 'service_role', 'usage');
end;
$$;
revoke all on function holdfast.caller_is_server() from public, anon, authenticated, service_role;
comment on function holdfast.caller_is_server() is
  'Whether the caller has the rights of service_role: the secret key, or a direct connection of the owner. Everybody else is a user, known by auth.uid().';

create function holdfast.may_see(p_video_id uuid, p_user uuid) returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  perform
  from public.videos v
  where v.id = p_video_id
    -- a project's own videos may have none
    and v.tenant_id is not null
    and (p_user is null or (
      select true from holdfast.membership m where m.tenant_id = v.tenant_id and m.user_id = p_user limit 1
    ));
  return found;
end;
$$;
revoke all on function holdfast.may_see(uuid, uuid) from public, anon, authenticated, service_role;
comment on function holdfast.may_see(uuid, uuid) is
  'Whether there is such a video for this user; p_user is NULL for a server, which may see all.';

-- The clock as a number: what a fencing token is made of.
create function holdfast.clock_token() returns bigint
language sql volatile set search_path = ''
return (date_part('epoch', clock_timestamp()) * 1000000)::bigint;
revoke all on function holdfast.clock_token() from public, anon, authenticated, service_role;
-- a row made by hand has it as its default
grant execute on function holdfast.clock_token() to service_role;
comment on function holdfast.clock_token() is
  'The database''s clock in microseconds since 1970: below 2^53, and so exact in JavaScript, until the year 2255.';

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

-- The lock itself. One row for each database of a video says who holds it now. (Where a project had such a table already, it
-- has this shape by now: 19_adopt_state.sql.)
create table if not exists public.video_database_state (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  tenant_id uuid not null,
  server_version integer not null default 0,
  wasabi_version integer not null default 0,
  wasabi_synced_at timestamptz,
  lock_holder_user_id text,
  lock_type holdfast.lock_type,
  locked_at timestamptz,
  last_activity_at timestamptz,
  lock_id uuid,
  lock_expires_at timestamptz,
  lock_ttl_seconds integer,
  lock_database_names text[],
  fencing_token bigint not null default holdfast.clock_token(),
  has_line boolean not null default false,
  constraint video_database_state_pkey primary key (video_id, database_name),
  -- one foreign key for both columns: tenant_id cannot differ from the video's, nor stay behind when that changes
  constraint video_database_state_video_fkey foreign key (tenant_id, video_id)
    references public.videos (tenant_id, id) on update cascade on delete cascade,
  -- P9: a lock is held or it is not; half of one does not exist
  constraint video_database_state_lock_all_or_none_check check (
    num_nulls(
      lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at, lock_expires_at, lock_ttl_seconds
    ) % 7 = 0
  )
) with (
  -- Acquire, renew and release rewrite a row that no index has to learn of, as no index is on a column that they
  -- change. Such an update is heap-only (HOT) while the page has room for the new version: keep 30 % free for it.
  fillfactor = 70
);

-- serves the foreign key (cascades look a video's rows up by it) and the policy
create index if not exists video_database_state_tenant_id_video_id_idx
  on public.video_database_state (tenant_id, video_id);

-- The planner's estimates pass row level security by (Prefer: count=planned). Without statistics on these columns they say
-- nothing of one tenant, video or holder. No plan of Holdfast's needs them: it looks up by whole keys.
alter table public.video_database_state
  alter column video_id set statistics 0,
  alter column database_name set statistics 0,
  alter column tenant_id set statistics 0,
  alter column lock_holder_user_id set statistics 0,
  alter column lock_id set statistics 0,
  alter column fencing_token set statistics 0;

comment on table public.video_database_state is
  'One row for each database of a video: its versions, and the lease on it if one is held. A lock outlives an HTTP request, so it is a row.';
comment on column public.video_database_state.video_id is 'The video.';
comment on column public.video_database_state.database_name is 'The video''s database: layout, captions, …';
comment on column public.video_database_state.tenant_id is 'The tenant that owns the video; always equals videos.tenant_id.';
comment on column public.video_database_state.server_version is 'Version of the database on the server; advance_server_version() adds 1.';
comment on column public.video_database_state.wasabi_version is 'Version of the database in object storage.';
comment on column public.video_database_state.wasabi_synced_at is 'When it was last written to object storage.';
comment on column public.video_database_state.lock_holder_user_id is
  'Who holds the lease: a user''s id (lock_type client) or the name that a worker gave itself (server). NULL when free.';
comment on column public.video_database_state.lock_type is 'client: held by a signed-in user; server: by a caller with the secret key. NULL when free.';
comment on column public.video_database_state.locked_at is 'When the lease was granted, by the database''s clock. NULL when free.';
comment on column public.video_database_state.last_activity_at is 'When the holder was last active: the grant, or a renewal with active = true. NULL when free.';
comment on column public.video_database_state.lock_id is 'Names one acquisition. A name, not a credential. NULL when free.';
comment on column public.video_database_state.lock_expires_at is
  'The lease ends by itself at this moment of the database''s clock, whether or not the row is cleared. NULL when free.';
comment on column public.video_database_state.lock_ttl_seconds is
  'Length of the lease in seconds, as last asked for by its holder. NULL when free.';
comment on column public.video_database_state.lock_database_names is
  'The names, sorted, of all databases that were acquired together by database_names. NULL when free, or acquired alone.';
comment on column public.video_database_state.fencing_token is
  'Token of the newest grant: the database''s clock in microseconds, pushed past the previous token; it never goes back. A row that was never locked has the time of its making. Sources of the idea: fencing tokens, M. Kleppmann, "How to do distributed locking" (2016); sequencers, M. Burrows, "The Chubby lock service" (OSDI 2006); hybrid logical clocks, S. Kulkarni et al. (2014).';
comment on column public.video_database_state.has_line is
  'Whether acquire has to look at the line: a caller may wait for the lock, or may have cancelled an acquisition that is still to come.';

alter table public.video_database_state enable row level security;

create policy video_database_state_select_member on public.video_database_state
  for select to authenticated
  using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]));

revoke all on table public.video_database_state from public, anon, authenticated, service_role;
grant select on table public.video_database_state to authenticated, service_role;
-- a server keeps the versions itself; the lock columns are the functions' alone, for a server too
grant insert (video_id, database_name, tenant_id, server_version, wasabi_version, wasabi_synced_at),
  update (server_version, wasabi_version, wasabi_synced_at), delete
  on table public.video_database_state to service_role;

-- How each lease ended. Written only by Holdfast's functions, and every write says "on conflict do nothing": bookkeeping never
-- stands in the way of ending a lease.
create table public.video_database_lock_history (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  lock_id uuid not null,
  tenant_id uuid not null,
  lock_holder_user_id text not null,
  lock_type holdfast.lock_type not null,
  lock_database_names text[],
  fencing_token bigint not null,
  locked_at timestamptz not null,
  ended_at timestamptz not null,
  end_reason holdfast.end_reason not null,
  ended_by text,
  -- P5: one lock_id, one lease. It leads by the lock, so that two callers who choose the same lock_id for
  -- different locks never meet, and nobody can use up another tenant's lock_id.
  constraint video_database_lock_history_pkey primary key (video_id, database_name, lock_id)
);

-- Serves the policy, also for a read of one video's entries: it has both, and so another tenant's are not even
-- read. The primary key would find them, and take the longer the more there are.
create index video_database_lock_history_tenant_id_video_id_ended_at_idx
  on public.video_database_lock_history (tenant_id, video_id, ended_at);
-- serves prune_lock_history() and holdfast.lock_counts; rows come nearly in this order, so a summary of each stretch will do
create index video_database_lock_history_ended_at_idx
  on public.video_database_lock_history using brin (ended_at) with (pages_per_range = 32, autosummarize = on);

alter table public.video_database_lock_history
  alter column video_id set statistics 0,
  alter column database_name set statistics 0,
  alter column lock_id set statistics 0,
  alter column tenant_id set statistics 0,
  alter column lock_holder_user_id set statistics 0,
  alter column fencing_token set statistics 0,
  alter column ended_by set statistics 0;

comment on table public.video_database_lock_history is
  'One row for each lease that ended, and how. Append-only, and outlives its video: it is what makes a repeated request answerable and a lost lease explainable.';
comment on column public.video_database_lock_history.video_id is 'The video; no foreign key, because the entry outlives it.';
comment on column public.video_database_lock_history.database_name is 'The video''s database.';
comment on column public.video_database_lock_history.lock_id is 'The acquisition that ended.';
comment on column public.video_database_lock_history.tenant_id is 'The tenant that owned the video at that time; its members may read the entry.';
comment on column public.video_database_lock_history.lock_holder_user_id is 'Who held it.';
comment on column public.video_database_lock_history.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.video_database_lock_history.lock_database_names is 'The sorted names of all databases that were acquired together; NULL for one alone.';
comment on column public.video_database_lock_history.fencing_token is 'The token of that grant.';
comment on column public.video_database_lock_history.locked_at is 'When it was granted.';
comment on column public.video_database_lock_history.ended_at is
  'When it ended: for expired, the moment it ran out, not the moment it was noticed.';
comment on column public.video_database_lock_history.end_reason is
  'released: by its holder; expired: ran out; taken_over: by the same holder from elsewhere; force_released: by the secret key, by an admin of the tenant, or because its row was deleted or moved.';
comment on column public.video_database_lock_history.ended_by is
  'Who released it by force: an admin''s user id, or service_role for the secret key. NULL otherwise.';

alter table public.video_database_lock_history enable row level security;

create policy video_database_lock_history_select_member on public.video_database_lock_history
  for select to authenticated
  using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]));

revoke all on table public.video_database_lock_history from public, anon, authenticated, service_role;
grant select on table public.video_database_lock_history to authenticated, service_role;

-- The line. A place is a small lease, too: it lapses unless its caller asks again. It has no foreign key, as checking one would
-- lock the state row; a place whose lock is gone lapses within a minute.
create table holdfast.place (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  lock_id uuid not null,
  lock_holder_user_id text not null,
  lock_type holdfast.lock_type not null,
  lock_database_names text[],
  queued_at timestamptz not null,
  kept_until timestamptz not null,
  constraint place_pkey primary key (video_id, database_name, lock_id, lock_type, lock_holder_user_id)
);
alter table holdfast.place enable row level security;
revoke all on table holdfast.place from public, anon, authenticated, service_role;

comment on table holdfast.place is
  'Who waits for a lock: one row for each database of each acquisition. First come, first served, by queued_at; the places of one set are equally old, so that two sets that overlap never wait for each other.';
comment on column holdfast.place.video_id is 'The video.';
comment on column holdfast.place.database_name is 'The video''s database.';
comment on column holdfast.place.lock_id is 'The acquisition that waits.';
comment on column holdfast.place.lock_holder_user_id is 'Who waits. A place belongs to its lock_id and its holder.';
comment on column holdfast.place.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column holdfast.place.lock_database_names is 'The sorted names of all databases that are asked for together; NULL for one alone.';
comment on column holdfast.place.queued_at is 'Since when, by the database''s clock, read while the state row was locked: it decides the order.';
comment on column holdfast.place.kept_until is 'The place lapses at this moment, unless its caller asks again before.';

-- Acquisitions that were released before their acquire came (a release overtook it). The acquire is then refused.
create table holdfast.cancellation (
  video_id uuid not null,
  database_name holdfast.database_name not null,
  lock_id uuid not null,
  lock_type holdfast.lock_type not null,
  lock_holder_user_id text not null,
  cancelled_at timestamptz not null,
  constraint cancellation_pkey primary key (video_id, database_name, lock_id, lock_type, lock_holder_user_id)
);
alter table holdfast.cancellation enable row level security;
revoke all on table holdfast.cancellation from public, anon, authenticated, service_role;

comment on table holdfast.cancellation is
  'Acquisitions that ended before they began: their release came first. Kept for an hour at the least, then pruned.';
comment on column holdfast.cancellation.video_id is 'The video.';
comment on column holdfast.cancellation.database_name is 'The video''s database.';
comment on column holdfast.cancellation.lock_id is 'The acquisition that was cancelled.';
comment on column holdfast.cancellation.lock_type is 'client: by a signed-in user; server: by a caller with the secret key.';
comment on column holdfast.cancellation.lock_holder_user_id is
  'Whose acquisition: the user. Empty for a server, as all servers are one party for a lock_id.';
comment on column holdfast.cancellation.cancelled_at is 'When, by the database''s clock.';

create table holdfast.database_names (
  database_name holdfast.database_name not null,
  constraint database_names_pkey primary key (database_name)
);
alter table holdfast.database_names enable row level security;
revoke all on table holdfast.database_names from public, anon, authenticated, service_role;
comment on table holdfast.database_names is
  'The names that a video''s databases may have, so that a typo is an error and not a second lock. Empty, the default: any name that the pattern allows.';
comment on column holdfast.database_names.database_name is 'An allowed name.';

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

-- Makes state rows this transaction's own, in the order of their names, so that two sets that overlap wait for each other and
-- never deadlock. P11: nobody waits longer than p_until, and of several who wait for one row only one waits so long; the
-- others give up after 30 ms. PostgreSQL's own queue decides who comes next: polling would starve a holder's release.
create function holdfast.lock_rows(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
begin
  return holdfast.touch_rows(p_video_id, p_names, p_for_grant, clock_timestamp() + interval '3 milliseconds')
    or holdfast.touch_rows(p_video_id, p_names, p_for_grant, case
      when pg_try_advisory_xact_lock(hashtext('holdfast.lock_rows'), hashtext(p_video_id::text || p_names[1])) then p_until
      else least(p_until, clock_timestamp() + interval '30 milliseconds')
    end);
end;
$$;
revoke all on function holdfast.lock_rows(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.lock_rows(uuid, text[], boolean, timestamptz) is
  'Locks the state rows that there are, for a grant (which no open guarded write may share) or for less, until p_until at the latest. False: another transaction has one of them.';

create function holdfast.touch_rows(p_video_id uuid, p_names text[], p_for_grant boolean, p_until timestamptz)
returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_name text;
  v_shared boolean;
begin
  for v_name in select n from unnest(p_names) n order by n collate "C" loop
    perform set_config(
      'lock_timeout', greatest(1, extract(epoch from p_until - clock_timestamp()) * 1000)::integer::text, true
    );
    loop
      v_shared := false;
      if p_for_grant then
        -- a live lease is being taken over: from now on no assert of its holder may begin
        select s.xmax <> '0' or coalesce(s.lock_expires_at > clock_timestamp(), false) into v_shared
        from public.video_database_state s
        where s.video_id = p_video_id and s.database_name = v_name;
      end if;
      if v_shared is not true then
        -- By a write, not by a lock: a lock would stay on the next version of the row as its xmax, and a reader could
        -- not know it from an open guarded write. A write also sweeps away what finished ones have left there.
        update public.video_database_state s
        set has_line = s.has_line
        where s.video_id = p_video_id and s.database_name = v_name
        -- judged again: this may have waited, or a grant may have come since that look
        returning s.xmax <> '0' or coalesce(s.lock_expires_at > clock_timestamp(), false) into v_shared;
      end if;
      if v_shared and p_for_grant then
        perform from public.video_database_state s where s.video_id = p_video_id and s.database_name = v_name for update;
      end if;
      exit when found;
      -- the row was deleted; another may have come in its place, which nobody has locked yet
      perform from public.video_database_state s where s.video_id = p_video_id and s.database_name = v_name;
      exit when not found;
    end loop;
  end loop;
  perform set_config('lock_timeout', '450ms', true); -- as the functions have it
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.touch_rows(uuid, text[], boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.touch_rows(uuid, text[], boolean, timestamptz) is
  'One try of lock_rows(). For a grant it waits until nobody shares the rows (for update); else it goes beside guarded writes.';

create function holdfast.create_rows(p_video_id uuid, p_names text[], p_until timestamptz) returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_name text;
begin
  for v_name in select n from unnest(p_names) n order by n collate "C" loop
    perform set_config(
      'lock_timeout', greatest(1, extract(epoch from p_until - clock_timestamp()) * 1000)::integer::text, true
    );
    insert into public.video_database_state (video_id, database_name, tenant_id)
    select v.id, v_name, v.tenant_id
    from public.videos v
    where v.id = p_video_id
    -- the video before the state row, as its deletion takes them; one that is being deleted is gone when this has waited
    for key share
    on conflict on constraint video_database_state_pkey do nothing;
  end loop;
  perform set_config('lock_timeout', '450ms', true); -- as the functions have it
  return true;
exception when lock_not_available or deadlock_detected then
  return false;
end;
$$;
revoke all on function holdfast.create_rows(uuid, text[], timestamptz) from public, anon, authenticated, service_role;
comment on function holdfast.create_rows(uuid, text[], timestamptz) is
  'Makes the state rows that are missing, free. To make a row and to lock it are two steps, so that one path grants. False: another transaction is in the way.';

-- The decision, as it usually is. Over 70 lines: in one piece, as helpers cost 12 % here. It reads, and writes at most once,
-- and only if the row is still the version that was read: compare-and-set on xmin, which covers lease, token, versions and tenant at once. So a
-- refusal is a plain read (P10), a grant is one update of one row, and of N simultaneous callers one finds the row as it was
-- (P2). All else, and what turns out to be unusual, goes to acquire_in_turn().
create function holdfast.acquire_lock(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl_seconds integer,
  p_take_over boolean, p_queue_seconds integer, p_database_names text[]
) returns json
-- UTC, because json shows a timestamptz in the session's time zone. One plan for all calls, kept by each session, as a plan
-- for the very arguments would be made anew each time (it can leave out what a missing lock_id does not need, and so
-- always looks cheaper); and no sequential scans in it, which look cheap while a table is small. lock_timeout is P11's.
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_holder constant text := case when v_server then p_lock_holder_user_id else v_user::text end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_ttl constant integer := coalesce(p_ttl_seconds, 120);
  v_before constant timestamptz := clock_timestamp();
  v_now timestamptz;
  v_seen record;
  v_lock_id uuid;
  v_token bigint;
begin
  -- Free means that nobody shares the row either, so no guarded write is open; and one that comes from now on reads a later
  -- clock than v_before, finds no live lease, and fails. That is why the clock was read before the row.
  select s.xmin, s.xmax = '0' and (s.lock_expires_at > v_before) is not true as free, s.tenant_id, s.fencing_token,
    s.lock_id, s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at,
    s.lock_database_names, s.has_line, s.server_version, s.wasabi_version, s.wasabi_synced_at, h.end_reason
  into v_seen
  from public.video_database_state s
  left join public.video_database_lock_history h
    on h.video_id = p_video_id and h.database_name = p_database_name and h.lock_id = p_lock_id
  where s.video_id = p_video_id and s.database_name = p_database_name;
  if not v_server then
    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
  end if;

  -- one expression for all that is usual, as PostgreSQL sets up each one anew in every transaction
  if (
    found and not v_seen.has_line and p_database_names is null
    and v_ttl between 1 and 3600 and char_length(v_holder) between 1 and 255
    and (p_lock_holder_user_id is null or v_server or lower(p_lock_holder_user_id) = v_holder)
    and (p_queue_seconds is null or p_queue_seconds between 0 and 60 and (p_queue_seconds = 0 or p_lock_id is not null))
    and v_seen.end_reason is null and (p_lock_id is null or v_seen.lock_id is distinct from p_lock_id)
  ) then
    if v_seen.free then
      -- read after the row: the lease before this one has ended by now
      v_now := clock_timestamp();
      v_lock_id := coalesce(p_lock_id, gen_random_uuid());
      v_token := greatest(v_seen.fencing_token + 1, (date_part('epoch', v_now) * 1000000)::bigint);
      update public.video_database_state s
      set lock_id = v_lock_id,
        lock_holder_user_id = v_holder,
        lock_type = v_type,
        locked_at = v_now,
        last_activity_at = v_now,
        lock_expires_at = v_now + make_interval(secs => v_ttl),
        lock_ttl_seconds = v_ttl,
        lock_database_names = null,
        fencing_token = v_token
      where s.video_id = p_video_id and s.database_name = p_database_name and s.xmin = v_seen.xmin;
      if found then
        if v_seen.lock_id is not null or clock_timestamp() - v_now > interval '5 milliseconds' then
          -- P3: the write may have waited for the row. The lease begins now, then, and who waited is asked for their right again.
          if clock_timestamp() - v_now > interval '5 milliseconds' then
            if not holdfast.may_see(p_video_id, v_user) then
              perform holdfast.raise_error('VIDEO_NOT_FOUND');
            end if;
            v_now := clock_timestamp();
            v_token := greatest(v_token, (date_part('epoch', v_now) * 1000000)::bigint);
            update public.video_database_state s
            set locked_at = v_now, last_activity_at = v_now, lock_expires_at = v_now + make_interval(secs => v_ttl),
              fencing_token = v_token
            where s.video_id = p_video_id and s.database_name = p_database_name;
          end if;
          if v_seen.lock_id is not null then
            insert into public.video_database_lock_history (
              video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names,
              fencing_token, locked_at, ended_at, end_reason
            )
            values (
              p_video_id, p_database_name, v_seen.lock_id, v_seen.tenant_id, v_seen.lock_holder_user_id, v_seen.lock_type,
              v_seen.lock_database_names, v_seen.fencing_token, v_seen.locked_at, v_seen.lock_expires_at, 'expired'
            )
            on conflict do nothing;
          end if;
        end if;
        return json_build_object(
          'acquired', true,
          'lock', row(
            p_video_id, p_database_name, v_lock_id, v_holder, v_type, v_token, v_now, v_now + make_interval(secs => v_ttl),
            v_ttl
          )::holdfast.lock,
          'state', row(v_seen.server_version, v_seen.wasabi_version, v_seen.wasabi_synced_at)::holdfast.versions,
          'server_time', v_now
        );
      end if;
    elsif v_seen.lock_expires_at > v_before and p_take_over is not true and coalesce(p_queue_seconds, 0) = 0 then
      v_now := clock_timestamp();
      return json_build_object(
        'acquired', false,
        'reason', 'held',
        'database_name', p_database_name,
        'holder', row(
          v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.locked_at, v_seen.last_activity_at,
          v_seen.lock_expires_at, v_seen.lock_holder_user_id = v_holder and v_seen.lock_type = v_type
        )::holdfast.holder,
        'queue', row(null, 0)::holdfast.queue,
        'retry_after_ms', greatest(0, ceil(extract(epoch from v_seen.lock_expires_at - v_now) * 1000))::bigint,
        'server_time', v_now
      );
    end if;
  end if;
  return holdfast.acquire_in_turn(
    p_video_id, p_database_name, p_lock_holder_user_id, p_lock_id, v_ttl, coalesce(p_take_over, false),
    coalesce(p_queue_seconds, 0), p_database_names, v_user, v_holder, v_type
  );
end;
$$;
revoke all on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  from public, anon, authenticated, service_role;
grant execute on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  to authenticated, service_role;
comment on function holdfast.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[]) is
  'What public.acquire_lock() does, with the owner''s rights on the lock columns.';

create function public.acquire_lock(
  video_id uuid, database_name text default null, lock_holder_user_id text default null, lock_id uuid default null,
  ttl_seconds integer default null, take_over boolean default null, queue_seconds integer default null,
  database_names text[] default null
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.acquire_lock(
    video_id, database_name, lock_holder_user_id, lock_id, ttl_seconds, take_over, queue_seconds, database_names
  );
end;
$$;
revoke all on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  from public, anon, authenticated, service_role;
grant execute on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[])
  to authenticated, service_role;
comment on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[]) is
  'Acquires the exclusive right to write one database of a video, or several at once, as a lease that ends by itself.

video_id uuid: the video. And one of
database_name text (^[a-z][a-z0-9_-]{0,62}$): the database to lock;
database_names text[], 1 to 16 different ones: all of them or none, with one lock_id and one token.
lock_holder_user_id text (1 to 255 characters): who will hold it; required for a server, a user''s own id for a user.
lock_id uuid, default a new one: names this acquisition; choose it, and the call is safe to repeat.
ttl_seconds integer, 1 to 3600, default 120: length of the lease, in seconds.
take_over boolean, default false: take the lease over from one''s own other acquisition.
queue_seconds integer, 0 to 60, default 0: if refused, a place in the line for so long; ask again to keep it. Needs a lock_id.

Returns json: { acquired: true, lock, state, server_time } (with database_names: locks), or { acquired: false, reason:
"held" | "queued" | "busy" | "ended", database_name, holder, queue, retry_after_ms, server_time }.
Raises PT400 (a rule is broken), PT401 (no user), PT403 (in another''s name), PT404 (no such video for the caller). Where
another transaction takes the row between the read and the write and keeps it, 55P03 stands for busy.';

-- What acquire_lock() meets at each of the locks that it asks for.
create type holdfast.met as (
  ord integer,
  database_name text,
  is_there boolean,
  reason text,
  end_reason text,
  ended_at timestamptz,
  other_names boolean,
  holder json,
  lease_left_ms bigint,
  "position" integer,
  length integer,
  place_left_ms bigint
);
comment on type holdfast.met is
  'One lock as an acquisition meets it. reason: NULL if it may be granted, same if the acquisition holds it, else why not. other_names: the acquisition is known here, with other database names.';

create function holdfast.meet(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_type text, p_take_over boolean,
  p_now timestamptz
) returns setof holdfast.met
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select n.ord::integer, n.name, s.video_id is not null,
    case
      when s.lock_id = p_lock_id and f.live and f.mine then 'same'
      when s.lock_id = p_lock_id and f.live then 'held'
      when s.lock_id = p_lock_id or h.lock_id is not null or c.lock_id is not null then 'ended'
      when f.live and not (p_take_over and f.mine) then 'held'
      when not f.live and coalesce(l.ahead, 0) > 0 then 'queued'
    end,
    case when s.lock_id = p_lock_id then 'expired' else coalesce(h.end_reason, case when c.lock_id is not null then 'cancelled' end) end,
    case when s.lock_id = p_lock_id then s.lock_expires_at else coalesce(h.ended_at, c.cancelled_at) end,
    s.lock_id = p_lock_id and f.mine and s.lock_database_names is distinct from p_set
      or h.lock_holder_user_id = p_holder and h.lock_type = p_type and h.lock_database_names is distinct from p_set
      or coalesce(l.other_names, false),
    case when f.live then to_json(row(
      s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at, f.mine
    )::holdfast.holder) end,
    case when f.live then greatest(1, ceil(extract(epoch from s.lock_expires_at - p_now) * 1000)) end::bigint,
    l."position", coalesce(l.length, 0),
    floor(extract(epoch from l.kept_until - p_now) * 1000)::bigint
  from unnest(p_names) with ordinality n (name, ord)
  -- limit 1, so that each is looked up by its whole key: a plan for all names at once may read all that the video has
  left join lateral (
    select * from public.video_database_state s where s.video_id = p_video_id and s.database_name = n.name limit 1
  ) s on true
  left join lateral (
    select * from public.video_database_lock_history h
    where h.video_id = p_video_id and h.database_name = n.name and h.lock_id = p_lock_id
    limit 1
  ) h on true
  left join lateral (
    select * from holdfast.cancellation c
    -- a row that is missing may have left a line and cancellations behind
    where s.has_line is not false and c.video_id = p_video_id and c.database_name = n.name and c.lock_id = p_lock_id
      and c.lock_type = p_type and c.lock_holder_user_id in (p_holder, '')
    limit 1
  ) c on true
  cross join lateral (
    select coalesce(s.lock_expires_at > p_now, false) as live,
      coalesce(s.lock_holder_user_id = p_holder and s.lock_type = p_type, false) as mine
  ) f
  left join lateral (
    select count(*)::integer as length, min(q."position") filter (where q.own) as "position",
      coalesce(min(q."position") filter (where q.own) - 1, count(*))::integer as ahead,
      min(q.kept_until) filter (where q.own) as kept_until,
      bool_or(q.own and q.other_names) as other_names
    from (
      select i."position", i.kept_until,
        i.lock_id = p_lock_id and i.lock_holder_user_id = p_holder and i.lock_type = p_type as own,
        i.lock_id = p_lock_id and p.lock_database_names is distinct from p_set as other_names
      from holdfast.line(p_video_id, n.name) i
      join holdfast.place p on p.video_id = p_video_id and p.database_name = n.name and p.lock_id = i.lock_id
        and p.lock_type = i.lock_type and p.lock_holder_user_id = i.lock_holder_user_id
    ) q
  ) l on s.has_line is not false
  order by n.ord;
end;
$$;
revoke all on function holdfast.meet(uuid, text[], text[], uuid, text, text, boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.meet(uuid, text[], text[], uuid, text, text, boolean, timestamptz) is
  'Looks at the locks that an acquisition asks for, one row for each, in the order of the names. It only reads.';

create function holdfast.retry_after_ms(p_reason text, p_met holdfast.met) returns bigint
language plpgsql immutable set search_path = ''
as $$
begin
  return case
    when p_reason = 'busy' then 500
    -- in line: the head asks often, those behind it less and less, and each soon enough to keep the place
    when p_met."position" = 1 then greatest(10, least(150, p_met.lease_left_ms, p_met.place_left_ms / 2))
    when p_met."position" > 1 then greatest(10, least(150 + 250 * (p_met."position" - 1), p_met.place_left_ms / 2))
    when p_reason = 'queued' then least(5000, 1000 * p_met.length)
    else coalesce(p_met.lease_left_ms, 0)
  end;
end;
$$;
revoke all on function holdfast.retry_after_ms(text, holdfast.met) from public, anon, authenticated, service_role;
comment on function holdfast.retry_after_ms(text, holdfast.met) is
  'When asking again is worth it, in milliseconds, and soon enough to keep a place.';

-- Everything that acquire_lock() does not do in one piece: errors, the same grant again, take-over, the line, sets, rows that
-- do not exist yet or that another transaction has. Look; if something is to be written, lock the rows and look again, since nothing
-- that was read before a wait is believed after it (P3).
-- Over 70 lines: what makes the loop right is the order of its questions, which is seen in one piece.
create function holdfast.acquire_in_turn(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl integer, p_take_over boolean,
  p_queue_seconds integer, p_database_names text[], p_user uuid, p_holder text, p_type text
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_names constant text[] := coalesce(p_database_names, array[p_database_name]);
  -- one name is one lock, in either of the two fields
  v_set constant text[] := case when cardinality(p_database_names) > 1
    then array(select n from unnest(p_database_names) n order by n collate "C") end;
  v_lock_id constant uuid := coalesce(p_lock_id, gen_random_uuid());
  v_until constant timestamptz := clock_timestamp() + interval '450 milliseconds';
  v_locked text := 'nothing';
  v_now timestamptz;
  v_all holdfast.met[];
  v_first holdfast.met;
  v_granted json;
  v_missing text[];
  v_busy boolean := false;
  v_grantable boolean;
  v_needs_place boolean;
begin
  perform holdfast.check_acquire(
    p_video_id, p_database_name, p_lock_holder_user_id, p_lock_id, p_ttl, p_queue_seconds, p_database_names, p_user, p_holder,
    p_type
  );
  loop
    if not holdfast.may_see(p_video_id, p_user) then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    v_now := clock_timestamp();
    v_all := array(select m from holdfast.meet(
      p_video_id, v_names, v_set, v_lock_id, p_holder, p_type, p_take_over, v_now
    ) m);
    select m.* into v_first from unnest(v_all) m
    where m.reason is distinct from 'same' order by m.reason is null, m.reason <> 'ended', m.ord limit 1;
    perform from unnest(v_all) m where m.other_names;
    if found then
      perform holdfast.raise_invalid_request(array['lock_id names an acquisition of other databases']);
    elsif v_first is null then
      v_granted := holdfast.granted(p_video_id, v_names, v_lock_id, p_database_names is not null, v_now);
      if v_granted is not null then
        return v_granted;
      end if;
      continue; -- it has ended since that look
    elsif v_first.reason = 'ended' then
      return holdfast.refused(v_first, 'ended', v_now);
    end if;

    v_missing := array(select m.database_name from unnest(v_all) m where not m.is_there);
    v_grantable := v_first.reason is null and not v_busy;
    v_needs_place := p_queue_seconds > 0 and v_first."position" is null;
    if v_missing <> '{}' and (v_grantable or v_needs_place) then
      exit when not holdfast.create_rows(p_video_id, v_missing, v_until);
      v_locked := 'nothing'; -- another transaction may have the row
    elsif v_grantable and v_locked = 'for a grant' then
      v_now := holdfast.grant_locks(p_video_id, v_names, v_set, v_lock_id, p_holder, p_type, p_ttl, v_now);
      return holdfast.granted(p_video_id, v_names, v_lock_id, p_database_names is not null, v_now);
    elsif v_grantable then
      v_busy := not holdfast.lock_rows(p_video_id, v_names, true, v_until);
      v_locked := case when v_busy then v_locked else 'for a grant' end;
    elsif v_needs_place and v_locked = 'nothing' then
      -- a guarded write only shares the row, so that a place can be had beside it
      exit when not holdfast.lock_rows(
        p_video_id, v_names, false, greatest(v_until, clock_timestamp() + interval '30 milliseconds')
      );
      v_locked := 'for a place';
    elsif v_needs_place and holdfast.queue_up(
      p_video_id, v_names, v_set, v_lock_id, p_holder, p_type, p_queue_seconds
    ) then
      null; -- look at the line, with the place in it
    else
      if p_queue_seconds > 0 and not v_needs_place then
        perform holdfast.keep_place(p_video_id, v_names, v_lock_id, p_holder, p_type, p_queue_seconds);
        v_first.place_left_ms := greatest(v_first.place_left_ms, p_queue_seconds * 1000);
      end if;
      return holdfast.refused(v_first, coalesce(v_first.reason, 'busy'), v_now);
    end if;
  end loop;
  -- another transaction is at a row, and the row could not even be shared
  return holdfast.refused(v_first, 'busy', v_now);
end;
$$;
revoke all on function holdfast.acquire_in_turn(
  uuid, text, text, uuid, integer, boolean, integer, text[], uuid, text, text
) from public, anon, authenticated, service_role;
comment on function holdfast.acquire_in_turn(
  uuid, text, text, uuid, integer, boolean, integer, text[], uuid, text, text
) is 'The whole of acquire_lock(), for one database or several: slower than its usual case, and right for it too.';

create function holdfast.check_acquire(
  p_video_id uuid, p_database_name text, p_lock_holder_user_id text, p_lock_id uuid, p_ttl integer,
  p_queue_seconds integer, p_database_names text[], p_user uuid, p_holder text, p_type text
) returns void
language plpgsql set search_path = ''
as $$
begin
  if p_user is null and p_type = 'client' then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  perform holdfast.raise_invalid_request(
    holdfast.broken_rules_of_names(p_video_id, p_database_name, p_database_names) || array[
      case when p_holder is null then 'lock_holder_user_id is required with the secret key'
        when char_length(p_lock_holder_user_id) not between 1 and 255
        then 'lock_holder_user_id must be a string of 1 to 255 characters' end,
      case when p_ttl not between 1 and 3600 then 'ttl_seconds must be an integer from 1 to 3600' end,
      case when p_queue_seconds not between 0 and 60 then 'queue_seconds must be an integer from 0 to 60' end,
      case when p_queue_seconds > 0 and p_lock_id is null then 'lock_id is required with queue_seconds' end
    ]
  );
  if p_type = 'client' and lower(p_lock_holder_user_id) <> p_holder then
    perform holdfast.raise_error('FORBIDDEN', 'A user can acquire a lock only for themselves');
  end if;
end;
$$;
revoke all on function holdfast.check_acquire(
  uuid, text, text, uuid, integer, integer, text[], uuid, text, text
) from public, anon, authenticated, service_role;
comment on function holdfast.check_acquire(
  uuid, text, text, uuid, integer, integer, text[], uuid, text, text
) is 'Raises what is wrong with a request to acquire: PT401, PT400, PT403.';

-- The pieces of acquire_in_turn() that write or answer. Who calls the ones that write has locked the rows.

create function holdfast.grant_locks(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_type text, p_ttl integer, p_now timestamptz
) returns timestamptz
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz := p_now;
begin
  insert into public.video_database_lock_history (
    video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
    locked_at, ended_at, end_reason
  )
  select s.video_id, s.database_name, s.lock_id, s.tenant_id, s.lock_holder_user_id, s.lock_type, s.lock_database_names,
    s.fencing_token, s.locked_at, least(s.lock_expires_at, p_now),
    case when s.lock_expires_at <= p_now then 'expired' else 'taken_over' end
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = any (p_names) and s.lock_id is not null
  on conflict do nothing;
  delete from holdfast.place p
  where p.video_id = p_video_id and p.database_name = any (p_names)
    and (p.lock_id = p_lock_id and p.lock_holder_user_id = p_holder and p.lock_type = p_type or p.kept_until <= p_now);
  delete from holdfast.cancellation c
  where c.video_id = p_video_id and c.database_name = any (p_names) and c.cancelled_at < p_now - interval '1 hour';
  update public.video_database_state s
  set lock_id = p_lock_id,
    lock_holder_user_id = p_holder,
    lock_type = p_type,
    locked_at = p_now,
    last_activity_at = p_now,
    lock_expires_at = p_now + make_interval(secs => p_ttl),
    lock_ttl_seconds = p_ttl,
    lock_database_names = p_set,
    has_line = s.has_line and holdfast.has_line(s.video_id, s.database_name),
    -- one for all of a set
    fencing_token = greatest((date_part('epoch', p_now) * 1000000)::bigint, (
      select max(t.fencing_token) + 1
      from public.video_database_state t
      where t.video_id = p_video_id and t.database_name = any (p_names)
    ))
  where s.video_id = p_video_id and s.database_name = any (p_names);
  -- P3: the write may have waited for a lock on the whole table. The lease begins now, then, and the right is asked for again.
  if clock_timestamp() - p_now > interval '5 milliseconds' then
    if not holdfast.may_see(p_video_id, case when p_type = 'client' then p_holder::uuid end) then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    v_now := clock_timestamp();
    update public.video_database_state s
    set locked_at = v_now, last_activity_at = v_now, lock_expires_at = v_now + make_interval(secs => p_ttl),
      fencing_token = greatest(s.fencing_token, (date_part('epoch', v_now) * 1000000)::bigint)
    where s.video_id = p_video_id and s.database_name = any (p_names);
  end if;
  return v_now;
end;
$$;
revoke all on function holdfast.grant_locks(uuid, text[], text[], uuid, text, text, integer, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.grant_locks(uuid, text[], text[], uuid, text, text, integer, timestamptz) is
  'Gives the rows, which the caller has locked for a grant and judged, to one acquisition; the leases before it go into the history. Returns when the lease began.';

create function holdfast.queue_up(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_type text, p_queue_seconds integer
) returns boolean
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz;
begin
  -- read while the rows are locked: the next one to have them is later in line
  v_now := clock_timestamp();
  perform
  from unnest(p_names) n
  where (select count(*) from holdfast.line(p_video_id, n)) >= 1000
    or (select count(*) from holdfast.line(p_video_id, n) l
      where l.lock_holder_user_id = p_holder and l.lock_type = p_type) >= 10;
  if found then
    return false;
  end if;
  insert into holdfast.place as p (
    video_id, database_name, lock_id, lock_holder_user_id, lock_type, lock_database_names, queued_at, kept_until
  )
  select p_video_id, n, p_lock_id, p_holder, p_type, p_set, v_now, v_now + make_interval(secs => p_queue_seconds)
  from unnest(p_names) n
  on conflict on constraint place_pkey do update
    set queued_at = excluded.queued_at, kept_until = excluded.kept_until,
      lock_database_names = excluded.lock_database_names;
  -- the row is always written: a caller who read it before finds it changed, and looks at the line
  update public.video_database_state s
  set has_line = true
  where s.video_id = p_video_id and s.database_name = any (p_names);
  return true;
end;
$$;
revoke all on function holdfast.queue_up(uuid, text[], text[], uuid, text, text, integer)
  from public, anon, authenticated, service_role;
comment on function holdfast.queue_up(uuid, text[], text[], uuid, text, text, integer) is
  'Makes a place at the end of each line; the caller has locked the rows. False: the line has 1,000 places, or 10 of this holder.';

create function holdfast.keep_place(
  p_video_id uuid, p_names text[], p_lock_id uuid, p_holder text, p_type text, p_queue_seconds integer
) returns void
language plpgsql set search_path = ''
as $$
begin
  update holdfast.place p
  set kept_until = greatest(p.kept_until, clock_timestamp() + make_interval(secs => p_queue_seconds))
  where p.video_id = p_video_id and p.database_name = any (p_names) and p.lock_id = p_lock_id
    and p.lock_holder_user_id = p_holder and p.lock_type = p_type and p.kept_until > clock_timestamp();
end;
$$;
revoke all on function holdfast.keep_place(uuid, text[], uuid, text, text, integer)
  from public, anon, authenticated, service_role;
comment on function holdfast.keep_place(uuid, text[], uuid, text, text, integer) is
  'Keeps a place until p_queue_seconds from now, without touching the state row.';

create function holdfast.granted(
  p_video_id uuid, p_names text[], p_lock_id uuid, p_is_set boolean, p_now timestamptz
) returns json
language plpgsql stable set search_path = ''
as $$
begin
  if p_is_set then
    return (
      select json_build_object(
        'acquired', true,
        'locks', json_agg(row(
          s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
          s.lock_expires_at, s.lock_ttl_seconds, row(s.server_version, s.wasabi_version, s.wasabi_synced_at)::holdfast.versions
        )::holdfast.lock_of_set order by n.ord),
        'server_time', p_now
      )
      from unnest(p_names) with ordinality n (name, ord)
      join public.video_database_state s
        on s.video_id = p_video_id and s.database_name = n.name and s.lock_id = p_lock_id
      having count(*) = cardinality(p_names)
    );
  end if;
  return (
    select json_build_object(
      'acquired', true,
      'lock', row(
        s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
        s.lock_expires_at, s.lock_ttl_seconds
      )::holdfast.lock,
      'state', row(s.server_version, s.wasabi_version, s.wasabi_synced_at)::holdfast.versions,
      'server_time', p_now
    )
    from public.video_database_state s
    where s.video_id = p_video_id and s.database_name = p_names[1] and s.lock_id = p_lock_id
  );
end;
$$;
revoke all on function holdfast.granted(uuid, text[], uuid, boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.granted(uuid, text[], uuid, boolean, timestamptz) is
  'The answer to an acquire that was granted, read from the rows; NULL if they are not all of this acquisition any more.';

create function holdfast.refused(p_met holdfast.met, p_reason text, p_now timestamptz) returns json
language plpgsql immutable set search_path = ''
as $$
begin
  if p_reason = 'ended' then
    return json_build_object(
      'acquired', false,
      'reason', 'ended',
      'database_name', p_met.database_name,
      'end_reason', p_met.end_reason,
      'ended_at', p_met.ended_at,
      'holder', p_met.holder,
      'retry_after_ms', 0,
      'server_time', p_now
    );
  end if;
  return json_build_object(
    'acquired', false,
    'reason', p_reason,
    'database_name', p_met.database_name,
    'holder', p_met.holder,
    'queue', row(p_met."position", p_met.length)::holdfast.queue,
    'retry_after_ms', holdfast.retry_after_ms(p_reason, p_met),
    'server_time', p_now
  );
end;
$$;
revoke all on function holdfast.refused(holdfast.met, text, timestamptz) from public, anon, authenticated, service_role;
comment on function holdfast.refused(holdfast.met, text, timestamptz) is 'The answer to an acquire that was refused.';

-- Ends the acquisition that the caller names, or their own, or by force any; also one that has not begun. And it gives the same
-- answer when it is asked again. The usual case in one piece, all else in release_in_turn().
create function holdfast.release_lock(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean,
  p_database_names text[]
) returns json
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_old record;
  v_now timestamptz;
begin
  select s.xmin, s.xmax = '0' as unlocked, s.database_name, s.tenant_id, s.lock_id, s.lock_holder_user_id, s.lock_type,
    s.locked_at, s.lock_expires_at, s.lock_database_names, s.fencing_token
  into v_old
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  -- P6: the lease that the caller names, and only if it is theirs. Whether the caller may still see the video does not
  -- matter: who has lost that right should be able to let go.
  if (
    v_old.lock_id = p_lock_id and v_old.lock_type = v_type and v_old.unlocked
    and (v_server or v_old.lock_holder_user_id = v_user::text)
    and v_old.lock_database_names is null and p_database_names is null
    and p_lock_holder_user_id is null and p_force is not true
  ) then
    update public.video_database_state s
    set lock_id = null,
      lock_holder_user_id = null,
      lock_type = null,
      locked_at = null,
      last_activity_at = null,
      lock_expires_at = null,
      lock_ttl_seconds = null
    where s.video_id = p_video_id and s.database_name = p_database_name and s.xmin = v_old.xmin;
    if found then
      -- read now, after the row was had: a lease that ran out while this waited for it was not released, it expired
      v_now := clock_timestamp();
      insert into public.video_database_lock_history (
        video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
        ended_at, end_reason
      )
      -- the row's name is of the type already: to check the argument against its pattern anew took 4 % of a pair
      values (
        p_video_id, v_old.database_name, v_old.lock_id, v_old.tenant_id, v_old.lock_holder_user_id, v_old.lock_type,
        v_old.fencing_token, v_old.locked_at, least(v_old.lock_expires_at, v_now),
        case when v_old.lock_expires_at <= v_now then 'expired' else 'released' end
      )
      on conflict do nothing;
      if v_old.lock_expires_at <= v_now then
        return json_build_object('released', false, 'reason', 'expired', 'holder', null);
      end if;
      return json_build_object('released', true, 'lock', row(
        p_video_id, p_database_name, v_old.lock_id, v_old.lock_holder_user_id, v_old.lock_type, v_old.fencing_token,
        v_old.locked_at, v_now
      )::holdfast.released_lock);
    end if;
  end if;
  return holdfast.release_in_turn(
    p_video_id, p_database_name, p_lock_id, p_lock_holder_user_id, coalesce(p_force, false), p_database_names, v_user, v_type
  );
end;
$$;
revoke all on function holdfast.release_lock(uuid, text, uuid, text, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function holdfast.release_lock(uuid, text, uuid, text, boolean, text[]) to authenticated, service_role;
comment on function holdfast.release_lock(uuid, text, uuid, text, boolean, text[]) is
  'What public.release_lock() does, with the owner''s rights on the lock columns.';

create function public.release_lock(
  video_id uuid, database_name text default null, lock_id uuid default null, lock_holder_user_id text default null,
  force boolean default null, database_names text[] default null
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.release_lock(video_id, database_name, lock_id, lock_holder_user_id, force, database_names);
end;
$$;
revoke all on function public.release_lock(uuid, text, uuid, text, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function public.release_lock(uuid, text, uuid, text, boolean, text[]) to authenticated, service_role;
comment on function public.release_lock(uuid, text, uuid, text, boolean, text[]) is
  'Ends a lease. Safe in a finally: nothing to release is an answer, and a repetition gets the answer of the first call.

video_id uuid, and database_name text (^[a-z][a-z0-9_-]{0,62}$) or database_names text[]: which lock, or several. And one of
lock_id uuid: the acquisition to end, if it is the caller''s. Before its acquire has come, or while it waits, this cancels it;
lock_holder_user_id text (1 to 255 characters): for a server, the lease that the server of this name holds; for a user, their
own id: any lease of theirs;
force boolean, default false: any lease, or with lock_id that one only; for a server or an admin of the tenant.

Returns json: { released: true, lock } (with database_names: locks), or { released: false, reason: "expired" | "taken_over" |
"force_released" | "cancelled" | "not_held" | "held_by_another" | "busy", holder }.
Raises PT400 (a rule is broken), PT401 (no user), PT403 (not the caller''s to do), PT404 (no such video for the caller).';

-- What release_lock() meets at each of the locks that it is asked to end.
create type holdfast.met_release as (
  ord integer,
  database_name text,
  is_there boolean,
  ends boolean,
  unseen boolean,
  other_names boolean,
  reason text,
  released json,
  holder json
);
comment on type holdfast.met_release is
  'One lock as a release meets it. ends: there is a lease to end. unseen: its lock_id was never seen here, so it is to be cancelled. Else reason and, of a release that is repeated, released.';

create function holdfast.meet_release(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_holder text, p_force boolean, p_user uuid, p_type text,
  p_now timestamptz
) returns setof holdfast.met_release
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select n.ord::integer, n.name, s.video_id is not null, f.ends,
    p_lock_id is not null and not p_force and s.lock_id is distinct from p_lock_id and h.lock_id is null and c.lock_id is null,
    -- of one's own acquisition, or by force of any
    (s.lock_id = p_lock_id and f.ends and s.lock_database_names is distinct from p_set)
      or (h.lock_id is not null and f.was_mine and h.lock_database_names is distinct from p_set),
    case
      when f.was_mine then h.end_reason
      when c.lock_id is not null then 'cancelled'
      when s.lock_expires_at > p_now then 'held_by_another'
      else 'not_held'
    end,
    case when f.was_mine and (h.end_reason = 'released' or p_force and h.end_reason = 'force_released') then to_json(row(
      p_video_id, n.name, h.lock_id, h.lock_holder_user_id, h.lock_type, h.fencing_token, h.locked_at, h.ended_at
    )::holdfast.released_lock) end,
    case when s.lock_expires_at > p_now then to_json(row(
      s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at,
      s.lock_type = p_type and s.lock_holder_user_id = coalesce(
        p_user::text, p_holder, case when f.was_mine then h.lock_holder_user_id end, ''
      )
    )::holdfast.holder) end
  from unnest(p_names) with ordinality n (name, ord)
  -- limit 1, so that each is looked up by its whole key: a plan for all names at once may read all that the video has
  left join lateral (
    select * from public.video_database_state s where s.video_id = p_video_id and s.database_name = n.name limit 1
  ) s on true
  left join lateral (
    select * from public.video_database_lock_history h
    where h.video_id = p_video_id and h.database_name = n.name and h.lock_id = p_lock_id
    limit 1
  ) h on true
  left join lateral (
    select * from holdfast.cancellation c
    where c.video_id = p_video_id and c.database_name = n.name and c.lock_id = p_lock_id
      and c.lock_type = p_type and c.lock_holder_user_id = coalesce(p_user::text, '')
    limit 1
  ) c on true
  cross join lateral (
    select coalesce(
        s.lock_id is not null and (p_lock_id is null or s.lock_id = p_lock_id)
          and (p_force or s.lock_type = p_type and s.lock_holder_user_id = coalesce(p_user::text, p_holder, s.lock_holder_user_id)),
        false
      ) as ends,
      coalesce(
        p_force or h.lock_type = p_type and (p_user is null or h.lock_holder_user_id = p_user::text), false
      ) and h.lock_id is not null as was_mine
  ) f
  order by n.ord;
end;
$$;
revoke all on function holdfast.meet_release(
  uuid, text[], text[], uuid, text, boolean, uuid, text, timestamptz
) from public, anon, authenticated, service_role;
comment on function holdfast.meet_release(
  uuid, text[], text[], uuid, text, boolean, uuid, text, timestamptz
) is 'Looks at the locks that a release names, one row for each, in the order of the names. It only reads.';

-- Over 70 lines: as in acquire_in_turn(), the order of the questions is what makes the loop right.
create function holdfast.release_in_turn(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean,
  p_database_names text[], p_user uuid, p_type text
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_names constant text[] := coalesce(p_database_names, array[p_database_name]);
  v_set constant text[] := case when cardinality(p_database_names) > 1
    then array(select n from unnest(p_database_names) n order by n collate "C") end;
  v_until constant timestamptz := clock_timestamp() + interval '450 milliseconds';
  v_locked boolean := false;
  v_now timestamptz;
  v_all holdfast.met_release[];
  v_may_see boolean;
  v_missing text[];
  v_ended json;
begin
  perform holdfast.check_release(
    p_video_id, p_database_name, p_lock_id, p_lock_holder_user_id, p_force, p_database_names, p_user, p_type
  );
  loop
    v_now := clock_timestamp();
    v_all := array(select m from holdfast.meet_release(
      p_video_id, v_names, v_set, p_lock_id, p_lock_holder_user_id, p_force, p_user, p_type, v_now
    ) m);
    -- theirs it is or was; or else they have to have the right to see the video
    perform from unnest(v_all) m where m.ends or m.reason not in ('held_by_another', 'not_held');
    v_may_see := holdfast.may_see(p_video_id, p_user);
    if not found and not v_may_see
      and not holdfast.has_place(p_video_id, v_names, p_lock_id, coalesce(p_user::text, ''), p_type)
    then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    perform from unnest(v_all) m where m.other_names;
    if found then
      perform holdfast.raise_invalid_request(array['lock_id names an acquisition of other databases']);
    end if;

    v_missing := array(select m.database_name from unnest(v_all) m where m.unseen and not m.is_there);
    perform from unnest(v_all) m where m.ends or m.unseen;
    if not found then
      return holdfast.not_released(v_all, p_database_names is not null, v_may_see);
    elsif v_missing <> '{}' then
      if not v_may_see then
        perform holdfast.raise_error('VIDEO_NOT_FOUND');
      end if;
      begin
        exit when not holdfast.create_rows(p_video_id, v_missing, v_until);
      exception when sqlstate 'PT400' then
        -- no lock of this name can be made, so none can be acquired later: there is nothing to cancel
        return json_build_object('released', false, 'reason', 'cancelled', 'holder', null);
      end;
      v_locked := false; -- another transaction may have the row
    elsif not v_locked then
      exit when not holdfast.lock_rows(p_video_id, v_names, false, v_until);
      v_locked := true;
    else
      v_ended := holdfast.end_leases(
        p_video_id, array(select m.database_name from unnest(v_all) m where m.ends), p_force,
        coalesce(p_user::text, 'service_role'), v_now
      );
      perform holdfast.cancel(
        p_video_id, array(select m.database_name from unnest(v_all) m where m.unseen), p_lock_id, coalesce(p_user::text, ''),
        p_type, v_now
      );
      if json_array_length(v_ended) > 0 then
        return case when p_database_names is not null then json_build_object('released', true, 'locks', v_ended)
          else json_build_object('released', true, 'lock', v_ended -> 0) end;
      elsif p_lock_id is null then
        return json_build_object('released', false, 'reason', 'expired', 'holder', null);
      end if;
      -- what ran out has expired, what was not seen is cancelled: look again, and say which
    end if;
  end loop;
  return json_build_object('released', false, 'reason', 'busy', 'holder', case when v_may_see then v_all[1].holder end);
end;
$$;
revoke all on function holdfast.release_in_turn(
  uuid, text, uuid, text, boolean, text[], uuid, text
) from public, anon, authenticated, service_role;
comment on function holdfast.release_in_turn(
  uuid, text, uuid, text, boolean, text[], uuid, text
) is 'The whole of release_lock(), for one database or several: slower than its usual case, and right for it too.';

create function holdfast.check_release(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_lock_holder_user_id text, p_force boolean,
  p_database_names text[], p_user uuid, p_type text
) returns void
language plpgsql stable set search_path = ''
as $$
declare
  v_role text;
begin
  if p_user is null and p_type = 'client' then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  perform holdfast.raise_invalid_request(
    holdfast.broken_rules_of_names(p_video_id, p_database_name, p_database_names) || array[
      case when p_lock_id is null and p_lock_holder_user_id is null and not p_force
        then 'lock_id is required, or lock_holder_user_id, or force' end,
      case when p_lock_holder_user_id is not null and (p_lock_id is not null or p_force)
        then 'lock_holder_user_id excludes lock_id and force: send one of them' end,
      case when char_length(p_lock_holder_user_id) not between 1 and 255
        then 'lock_holder_user_id must be a string of 1 to 255 characters' end
    ]
  );
  if p_type = 'client' and lower(p_lock_holder_user_id) <> p_user::text then
    perform holdfast.raise_error('FORBIDDEN', 'A user can release only their own lock; an administrator releases by force');
  elsif p_force and p_type = 'client' then
    select (
      select m.role from holdfast.membership m where m.tenant_id = v.tenant_id and m.user_id = p_user
      order by m.role <> 'admin' limit 1
    )
    into v_role
    from public.videos v
    where v.id = p_video_id;
    if v_role is null then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    elsif v_role <> 'admin' then
      perform holdfast.raise_error('FORBIDDEN', 'Only an administrator of the tenant can force a release');
    end if;
  end if;
end;
$$;
revoke all on function holdfast.check_release(
  uuid, text, uuid, text, boolean, text[], uuid, text
) from public, anon, authenticated, service_role;
comment on function holdfast.check_release(
  uuid, text, uuid, text, boolean, text[], uuid, text
) is 'Raises what is wrong with a request to release: PT401, PT400, PT403, PT404.';

-- The pieces of release_in_turn() that write or answer. Who calls the ones that write has locked the rows.

create function holdfast.end_leases(
  p_video_id uuid, p_names text[], p_force boolean, p_by text, p_now timestamptz
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_old public.video_database_state;
  v_reason text;
  v_released json[] := array[]::json[];
begin
  for v_old in
    select s.* from unnest(p_names) with ordinality n (name, ord)
    join public.video_database_state s on s.video_id = p_video_id and s.database_name = n.name
    order by n.ord
  loop
    v_reason := case when v_old.lock_expires_at <= p_now then 'expired' when p_force then 'force_released' else 'released' end;
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
      locked_at, ended_at, end_reason, ended_by
    )
    values (
      p_video_id, v_old.database_name, v_old.lock_id, v_old.tenant_id, v_old.lock_holder_user_id, v_old.lock_type,
      v_old.lock_database_names, v_old.fencing_token, v_old.locked_at, least(v_old.lock_expires_at, p_now), v_reason,
      case when v_reason = 'force_released' then p_by end
    )
    on conflict do nothing;
    if v_reason <> 'expired' then
      v_released := v_released || to_json(row(
        p_video_id, v_old.database_name, v_old.lock_id, v_old.lock_holder_user_id, v_old.lock_type, v_old.fencing_token,
        v_old.locked_at, p_now
      )::holdfast.released_lock);
    end if;
  end loop;
  update public.video_database_state s
  set lock_id = null,
    lock_holder_user_id = null,
    lock_type = null,
    locked_at = null,
    last_activity_at = null,
    lock_expires_at = null,
    lock_ttl_seconds = null,
    lock_database_names = null
  where s.video_id = p_video_id and s.database_name = any (p_names);
  return array_to_json(v_released);
end;
$$;
revoke all on function holdfast.end_leases(uuid, text[], boolean, text, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.end_leases(uuid, text[], boolean, text, timestamptz) is
  'Ends the leases on rows that the caller has locked and judged. Returns those that were live, as released locks.';

create function holdfast.cancel(
  p_video_id uuid, p_names text[], p_lock_id uuid, p_holder text, p_type text, p_now timestamptz
) returns void
language plpgsql set search_path = ''
as $$
begin
  if p_names = '{}' then
    return;
  end if;
  insert into holdfast.cancellation (
    video_id, database_name, lock_id, lock_type, lock_holder_user_id, cancelled_at
  )
  select p_video_id, n, p_lock_id, p_type, p_holder, p_now
  from unnest(p_names) n
  on conflict do nothing;
  delete from holdfast.place p
  where p.video_id = p_video_id and p.database_name = any (p_names) and p.lock_id = p_lock_id and p.lock_type = p_type
    and (p_holder = '' or p.lock_holder_user_id = p_holder);
  -- the row is written in any case: an acquire that read it before finds it changed, looks again, and sees the cancellation
  update public.video_database_state s
  set has_line = true
  where s.video_id = p_video_id and s.database_name = any (p_names);
end;
$$;
revoke all on function holdfast.cancel(uuid, text[], uuid, text, text, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.cancel(uuid, text[], uuid, text, text, timestamptz) is
  'Ends an acquisition that has not begun: its place is given up, and its acquire will be refused. The caller has locked the rows.';

create function holdfast.has_place(p_video_id uuid, p_names text[], p_lock_id uuid, p_holder text, p_type text)
returns boolean
language plpgsql stable set search_path = ''
as $$
begin
  return exists (
    select from holdfast.place p
    where p.video_id = p_video_id and p.database_name = any (p_names) and p.lock_id = p_lock_id and p.lock_type = p_type
      and (p_holder = '' or p.lock_holder_user_id = p_holder)
  );
end;
$$;
revoke all on function holdfast.has_place(uuid, text[], uuid, text, text) from public, anon, authenticated, service_role;
comment on function holdfast.has_place(uuid, text[], uuid, text, text) is 'Whether the acquisition has a place in one of these lines.';

create function holdfast.not_released(p_all holdfast.met_release[], p_is_set boolean, p_may_see boolean) returns json
language plpgsql immutable set search_path = ''
as $$
declare
  v_released json;
  v_first holdfast.met_release;
begin
  select json_agg(m.released order by m.ord) into v_released from unnest(p_all) m where m.released is not null;
  if v_released is not null then
    return case when p_is_set then json_build_object('released', true, 'locks', v_released)
      else json_build_object('released', true, 'lock', v_released -> 0) end;
  end if;
  v_first := p_all[1];
  return json_build_object(
    'released', false,
    'reason', v_first.reason,
    -- theirs it was, but who holds it now is no longer theirs to know
    'holder', case when p_may_see then v_first.holder end
  );
end;
$$;
revoke all on function holdfast.not_released(holdfast.met_release[], boolean, boolean)
  from public, anon, authenticated, service_role;
comment on function holdfast.not_released(holdfast.met_release[], boolean, boolean) is
  'The answer to a release that ended nothing: the first one''s answer again, or the first reason in the order of the names.';

-- The heartbeat. It moves the expiry of the acquisition that it names, or says how that acquisition was lost. It never inserts,
-- takes or revives. A guarded write, which only shares the row, does not hold it up.
create function holdfast.renew_lock(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_ttl_seconds integer, p_active boolean, p_database_names text[]
) returns json
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan set lock_timeout = '450ms'
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_type constant text := case when v_server then 'server' else 'client' end;
  v_ttl constant integer := coalesce(p_ttl_seconds, 120);
  v_seen record;
  v_now timestamptz;
  v_expires timestamptz;
begin
  select s.xmin, s.xmax = '0' as unlocked, s.tenant_id, s.lock_id, s.lock_holder_user_id, s.lock_type, s.locked_at,
    s.lock_expires_at, s.lock_ttl_seconds, s.last_activity_at, s.lock_database_names, s.fencing_token, s.has_line
  into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  if not v_server then
    perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
  end if;
  v_now := clock_timestamp();
  v_expires := greatest(v_seen.lock_expires_at, v_now + make_interval(secs => v_ttl));
  if (
    found and v_seen.unlocked and v_seen.lock_id = p_lock_id and v_seen.lock_type = v_type
    and (v_server or v_seen.lock_holder_user_id = v_user::text)
    and v_seen.lock_expires_at > v_now and v_seen.lock_database_names is null and p_database_names is null
    and v_ttl between 1 and 3600
  ) then
    update public.video_database_state s
    set lock_expires_at = v_expires,
      lock_ttl_seconds = v_ttl,
      last_activity_at = case when p_active is not false then v_now else s.last_activity_at end
    where s.video_id = p_video_id and s.database_name = p_database_name and s.xmin = v_seen.xmin;
    if found and clock_timestamp() - v_now > interval '5 milliseconds' then
      -- P3: it has waited for the row, which is its own now. As if nothing had been written, all is judged anew.
      update public.video_database_state s
      set lock_expires_at = v_seen.lock_expires_at,
        lock_ttl_seconds = v_seen.lock_ttl_seconds,
        last_activity_at = v_seen.last_activity_at
      where s.video_id = p_video_id and s.database_name = p_database_name;
    elsif found then
      return json_build_object(
        'renewed', true,
        'lock', row(
          p_video_id, p_database_name, p_lock_id, v_seen.lock_holder_user_id, v_seen.lock_type, v_seen.fencing_token,
          v_seen.locked_at, v_expires, v_ttl
        )::holdfast.lock,
        'queue', json_build_object(
          'length', case when v_seen.has_line then holdfast.line_length(p_video_id, p_database_name) else 0 end
        ),
        'server_time', v_now
      );
    end if;
  end if;
  return holdfast.renew_in_turn(
    p_video_id, p_database_name, p_lock_id, v_ttl, coalesce(p_active, true), p_database_names, v_user, v_type
  );
end;
$$;
revoke all on function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[]) to authenticated, service_role;
comment on function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[]) is
  'What public.renew_lock() does, with the owner''s rights on the lock columns.';

create function public.renew_lock(
  video_id uuid, database_name text default null, lock_id uuid default null, ttl_seconds integer default null,
  active boolean default null, database_names text[] default null
) returns json
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.renew_lock(video_id, database_name, lock_id, ttl_seconds, active, database_names);
end;
$$;
revoke all on function public.renew_lock(uuid, text, uuid, integer, boolean, text[])
  from public, anon, authenticated, service_role;
grant execute on function public.renew_lock(uuid, text, uuid, integer, boolean, text[]) to authenticated, service_role;
comment on function public.renew_lock(uuid, text, uuid, integer, boolean, text[]) is
  'Keeps a lease: moves its expiry to ttl_seconds from now, never backwards. It never takes a lock that is not held.

video_id uuid, and database_name text (^[a-z][a-z0-9_-]{0,62}$) or database_names text[]: which lock, or all of a set or none.
lock_id uuid: the acquisition to renew.
ttl_seconds integer, 1 to 3600, default 120: how long it should last from now, in seconds.
active boolean, default true: false leaves last_activity_at alone (an open tab with nobody at it).

Returns json: { renewed: true, lock, queue: { length }, server_time } (with database_names: locks), or { renewed: false,
reason: "expired" | "taken_over" | "released" | "force_released" | "cancelled" | "not_held" | "busy", database_name, holder,
server_time }.
Raises PT400 (a rule is broken), PT401 (no user), PT404 (no such video for the caller).';

-- What renew_lock() meets at each of the locks that it is asked to keep.
create type holdfast.met_renewal as (
  ord integer,
  database_name text,
  reason text,
  other_names boolean,
  holder json
);
comment on type holdfast.met_renewal is
  'One lock as a renewal meets it. reason: NULL if the acquisition holds it, else how it was lost. other_names: it is known here, with other database names.';

create function holdfast.meet_renewal(
  p_video_id uuid, p_names text[], p_set text[], p_lock_id uuid, p_user uuid, p_type text, p_now timestamptz
) returns setof holdfast.met_renewal
language plpgsql stable set search_path = ''
as $$
#variable_conflict use_column
begin
  return query
  select n.ord::integer, n.name,
    case
      when f.mine and s.lock_expires_at > p_now then null
      when f.mine then 'expired'
      when f.was_mine then h.end_reason
      when c.lock_id is not null then 'cancelled'
      else 'not_held'
    end,
    f.mine and s.lock_database_names is distinct from p_set
      or f.was_mine and h.lock_database_names is distinct from p_set,
    case when s.lock_expires_at > p_now then to_json(row(
      s.lock_holder_user_id, s.lock_type, s.locked_at, s.last_activity_at, s.lock_expires_at,
      s.lock_type = p_type
        and s.lock_holder_user_id = coalesce(p_user::text, case when f.was_mine then h.lock_holder_user_id end, '')
    )::holdfast.holder) end
  from unnest(p_names) with ordinality n (name, ord)
  -- limit 1, so that each is looked up by its whole key: a plan for all names at once may read all that the video has
  left join lateral (
    select * from public.video_database_state s where s.video_id = p_video_id and s.database_name = n.name limit 1
  ) s on true
  left join lateral (
    select * from public.video_database_lock_history h
    where h.video_id = p_video_id and h.database_name = n.name and h.lock_id = p_lock_id
    limit 1
  ) h on true
  left join lateral (
    select * from holdfast.cancellation c
    where c.video_id = p_video_id and c.database_name = n.name and c.lock_id = p_lock_id
      and c.lock_type = p_type and c.lock_holder_user_id = coalesce(p_user::text, '')
    limit 1
  ) c on true
  cross join lateral (
    select coalesce(
        s.lock_id = p_lock_id and s.lock_type = p_type and (p_user is null or s.lock_holder_user_id = p_user::text), false
      ) as mine,
      coalesce(h.lock_type = p_type and (p_user is null or h.lock_holder_user_id = p_user::text), false) as was_mine
  ) f
  order by n.ord;
end;
$$;
revoke all on function holdfast.meet_renewal(uuid, text[], text[], uuid, uuid, text, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.meet_renewal(uuid, text[], text[], uuid, uuid, text, timestamptz) is
  'Looks at the locks that a renewal names, one row for each, in the order of the names. It only reads.';

create function holdfast.renew_in_turn(
  p_video_id uuid, p_database_name text, p_lock_id uuid, p_ttl integer, p_active boolean, p_database_names text[],
  p_user uuid, p_type text
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_names constant text[] := coalesce(p_database_names, array[p_database_name]);
  v_set constant text[] := case when cardinality(p_database_names) > 1
    then array(select n from unnest(p_database_names) n order by n collate "C") end;
  v_until constant timestamptz := clock_timestamp() + interval '450 milliseconds';
  v_locked boolean := false;
  v_now timestamptz;
  v_all holdfast.met_renewal[];
  v_first holdfast.met_renewal;
begin
  if p_user is null and p_type = 'client' then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  perform holdfast.raise_invalid_request(
    holdfast.broken_rules_of_names(p_video_id, p_database_name, p_database_names) || array[
      case when p_lock_id is null then 'lock_id is required' end,
      case when p_ttl not between 1 and 3600 then 'ttl_seconds must be an integer from 1 to 3600' end
    ]
  );
  loop
    if not holdfast.may_see(p_video_id, p_user) then
      perform holdfast.raise_error('VIDEO_NOT_FOUND');
    end if;
    v_now := clock_timestamp();
    v_all := array(select m from holdfast.meet_renewal(
      p_video_id, v_names, v_set, p_lock_id, p_user, p_type, v_now
    ) m);
    perform from unnest(v_all) m where m.other_names;
    if found then
      perform holdfast.raise_invalid_request(array['lock_id names an acquisition of other databases']);
    end if;
    select m.* into v_first from unnest(v_all) m where m.reason is not null order by m.ord limit 1;
    exit when found;
    if v_locked then
      return holdfast.extend_leases(p_video_id, v_names, p_ttl, p_active, p_database_names is not null, v_now);
    end if;
    v_locked := holdfast.lock_rows(p_video_id, v_names, false, v_until);
    if not v_locked then
      v_first := v_all[1];
      v_first.reason := 'busy';
      exit;
    end if;
  end loop;
  return json_build_object(
    'renewed', false,
    'reason', v_first.reason,
    'database_name', v_first.database_name,
    'holder', v_first.holder,
    'server_time', v_now
  );
end;
$$;
revoke all on function holdfast.renew_in_turn(uuid, text, uuid, integer, boolean, text[], uuid, text)
  from public, anon, authenticated, service_role;
comment on function holdfast.renew_in_turn(uuid, text, uuid, integer, boolean, text[], uuid, text) is
  'The whole of renew_lock(), for one database or several: errors, explanations, sets, rows that another transaction has.';

create function holdfast.extend_leases(
  p_video_id uuid, p_names text[], p_ttl integer, p_active boolean, p_is_set boolean, p_now timestamptz
) returns json
language plpgsql set search_path = ''
as $$
declare
  v_locks json;
  v_length integer;
begin
  update public.video_database_state s
  set lock_expires_at = greatest(s.lock_expires_at, p_now + make_interval(secs => p_ttl)),
    lock_ttl_seconds = p_ttl,
    last_activity_at = case when p_active then p_now else s.last_activity_at end
  where s.video_id = p_video_id and s.database_name = any (p_names);
  select
    json_agg(row(
      s.video_id, s.database_name, s.lock_id, s.lock_holder_user_id, s.lock_type, s.fencing_token, s.locked_at,
      s.lock_expires_at, s.lock_ttl_seconds
    )::holdfast.lock order by n.ord),
    max(case when s.has_line then holdfast.line_length(s.video_id, s.database_name) else 0 end)
  into v_locks, v_length
  from unnest(p_names) with ordinality n (name, ord)
  join public.video_database_state s on s.video_id = p_video_id and s.database_name = n.name;
  if p_is_set then
    return json_build_object(
      'renewed', true, 'locks', v_locks, 'queue', json_build_object('length', v_length), 'server_time', p_now
    );
  end if;
  return json_build_object(
    'renewed', true, 'lock', v_locks -> 0, 'queue', json_build_object('length', v_length), 'server_time', p_now
  );
end;
$$;
revoke all on function holdfast.extend_leases(uuid, text[], integer, boolean, boolean, timestamptz)
  from public, anon, authenticated, service_role;
comment on function holdfast.extend_leases(uuid, text[], integer, boolean, boolean, timestamptz) is
  'Moves the expiry of leases whose rows the caller has locked and judged, never backwards; the answer to a renewal.';

-- What makes a lease safe to rely on. A holder can stall past its lease and wake up still believing, so the database refuses a
-- write that comes with an old token: check and write are one transaction, and the check shares the state row, so that no
-- grant can come in between.
-- Sources of the idea: M. Kleppmann, "How to do distributed locking" (2016); sequencers in M. Burrows, "The Chubby lock
-- service for loosely-coupled distributed systems" (OSDI 2006).

create function holdfast.check_token(p_video_id uuid, p_database_name text, p_token bigint, p_lock_id uuid) returns void
language plpgsql security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
declare
  v_server constant boolean := current_setting('role') = 'service_role' or holdfast.caller_is_server();
  v_user constant uuid := case when not v_server then auth.uid() end;
  v_seen public.video_database_state;
begin
  if v_user is null and not v_server then
    perform holdfast.raise_error('NOT_AUTHENTICATED');
  end if;
  if not v_server and not holdfast.may_see(p_video_id, v_user) then
    -- before anything is locked: nobody reaches into another tenant's rows, not even to share one for a moment
    perform holdfast.raise_lock_not_held(p_video_id, p_database_name, p_token, p_lock_id, v_user, null);
  end if;
  -- The video before the state row, as its deletion takes them. And no waiting for a lock: the caller may hold guarded rows
  -- which a deletion that has the video wants. Sleeping is no edge in the wait graph, so there is no deadlock to break.
  for v_try in 0..6 loop
    perform
    from public.videos v
    join public.video_database_state s on s.video_id = v.id
    where v.id = p_video_id and s.video_id = p_video_id and s.database_name = p_database_name
    for key share of v skip locked
    -- renewals and releases go beside it, grants do not
    for key share of s skip locked;
    exit when found;
    perform
    from public.video_database_state s
    join public.videos v on v.id = s.video_id
    where s.video_id = p_video_id and s.database_name = p_database_name;
    if not found then
      perform holdfast.raise_lock_not_held(p_video_id, p_database_name, p_token, p_lock_id, v_user, null);
    elsif v_try = 6 then
      perform holdfast.raise_error('LOCK_BUSY', format(
        'Another transaction is changing the lock on %s of video %s, or the video itself.', p_database_name, p_video_id
      ));
    end if;
    perform pg_sleep(0.001 * (1 << v_try));
  end loop;
  -- P3: read behind the lock, by a statement of its own. A statement that locks "for key share" gives the row as it was when the
  -- statement began, although a release may have been committed between that and the lock.
  select s.* into v_seen
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name;
  if current_setting('transaction_isolation') <> 'read committed' then
    perform holdfast.refuse_old_snapshot(p_video_id, p_database_name);
  end if;
  -- P3: the clock is read after the row was had
  if v_seen.fencing_token = p_token and v_seen.lock_expires_at > clock_timestamp()
    and (p_lock_id is null or v_seen.lock_id = p_lock_id)
  then
    if v_server then
      return;
    end if;
    -- Knowing a token authorizes nobody: for a user it counts only with the user's own lease.
    if v_seen.lock_type = 'client' and v_seen.lock_holder_user_id = v_user::text then
      perform from holdfast.membership m where m.tenant_id = v_seen.tenant_id and m.user_id = v_user;
      if found then
        return;
      end if;
    end if;
  end if;
  perform holdfast.raise_lock_not_held(p_video_id, p_database_name, p_token, p_lock_id, v_user, v_seen);
end;
$$;
revoke all on function holdfast.check_token(uuid, text, bigint, uuid) from public, anon, authenticated, service_role;
grant execute on function holdfast.check_token(uuid, text, bigint, uuid) to authenticated, service_role;
comment on function holdfast.check_token(uuid, text, bigint, uuid) is
  'Returns if the token is that of a live lease on this very lock, which then cannot be granted anew until the transaction ends; else raises PT412, or PT503 while the lock or its video is being changed.';

create function holdfast.refuse_old_snapshot(p_video_id uuid, p_database_name text) returns void
language plpgsql set search_path = ''
as $$
begin
  -- Such a transaction sees the row as it was at its first statement, and may share it even if it has changed since. To lock
  -- it for a write is refused then, with 40001.
  perform
  from public.video_database_state s
  where s.video_id = p_video_id and s.database_name = p_database_name
  for no key update skip locked;
  if not found then
    perform holdfast.raise_error('LOCK_BUSY', format(
      'Another transaction is changing the lock on %s of video %s.', p_database_name, p_video_id
    ));
  end if;
end;
$$;
revoke all on function holdfast.refuse_old_snapshot(uuid, text) from public, anon, authenticated, service_role;
comment on function holdfast.refuse_old_snapshot(uuid, text) is
  'At repeatable read and serializable: raises 40001 if the state row has changed since the transaction''s snapshot, PT503 while it is being changed.';

create function holdfast.raise_lock_not_held(
  p_video_id uuid, p_database_name text, p_token bigint, p_lock_id uuid, p_user uuid,
  p_seen public.video_database_state
) returns void
language plpgsql set search_path = ''
as $$
declare
  v_why constant text := case
    when not holdfast.may_see(p_video_id, p_user) then 'names no lock of a video that the caller may see'
    when p_token is null then 'was not sent: x-fencing-token or fencing_token has to be the token of the grant'
    when p_seen is null or p_seen.lock_id is null and p_seen.fencing_token is distinct from p_token
      then 'is no grant''s that is held: nobody holds this lock'
    when p_seen.fencing_token <> p_token then 'is not the newest grant''s'
    when p_seen.lock_id is null then 'was given back: the lease was released or cleared'
    when p_seen.lock_expires_at <= clock_timestamp()
      then format('belongs to a lease that ended at %s', p_seen.lock_expires_at)
    when p_seen.lock_id <> p_lock_id then 'belongs to another acquisition than x-lock-id names'
    else 'belongs to another holder'
  end;
begin
  perform holdfast.raise_error('LOCK_NOT_HELD', format(
    'Token %s for %s of video %s %s.', coalesce(p_token::text, 'null'), coalesce(p_database_name, 'null'),
    coalesce(p_video_id::text, 'null'), v_why
  ));
end;
$$;
revoke all on function holdfast.raise_lock_not_held(uuid, text, bigint, uuid, uuid, public.video_database_state)
  from public, anon, authenticated, service_role;
comment on function holdfast.raise_lock_not_held(uuid, text, bigint, uuid, uuid, public.video_database_state) is
  'Raises PT412 with a text that says which lock, and why the token is not good for it.';

create function public.assert_lock_held(video_id uuid, database_name text, fencing_token bigint) returns void
language plpgsql security invoker set search_path = ''
as $$
begin
  perform holdfast.check_token(video_id, database_name, fencing_token, null);
end;
$$;
revoke all on function public.assert_lock_held(uuid, text, bigint) from public, anon, authenticated, service_role;
grant execute on function public.assert_lock_held(uuid, text, bigint) to authenticated, service_role;
comment on function public.assert_lock_held(uuid, text, bigint) is
  'For use inside a transaction that writes what the lock protects. Until that transaction ends nobody else can be granted the lock.

video_id uuid, database_name text: which lock.
fencing_token bigint: the token of the caller''s grant. For a user it must be of their own lease; for a server, of any.

Returns nothing.
Raises PT412 (the token is not the current, live one: the right to write is gone), PT503 (the lock or its video is being
changed just now; try again), PT401 (no user).';

create function holdfast.advance_server_version(p_video_id uuid, p_database_name text, p_fencing_token bigint)
returns integer
language plpgsql security definer set search_path = '' set lock_timeout = '450ms'
as $$
declare
  v_version integer;
begin
  begin
    perform holdfast.check_token(p_video_id, p_database_name, p_fencing_token, null);
    update public.video_database_state s
    set server_version = s.server_version + 1
    where s.video_id = p_video_id and s.database_name = p_database_name
    returning s.server_version into v_version;
    -- the update may have waited for another of the holder's own, past the end of the lease
    perform holdfast.check_token(p_video_id, p_database_name, p_fencing_token, null);
  exception when lock_not_available then
    perform holdfast.raise_error('LOCK_BUSY', format(
      'Another transaction is advancing the version of %s of video %s.', p_database_name, p_video_id
    ));
  end;
  return v_version;
end;
$$;
revoke all on function holdfast.advance_server_version(uuid, text, bigint)
  from public, anon, authenticated, service_role;
grant execute on function holdfast.advance_server_version(uuid, text, bigint) to authenticated, service_role;
comment on function holdfast.advance_server_version(uuid, text, bigint) is
  'What public.advance_server_version() does, with the owner''s rights on the state row.';

create function public.advance_server_version(video_id uuid, database_name text, fencing_token bigint)
returns integer
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.advance_server_version(video_id, database_name, fencing_token);
end;
$$;
revoke all on function public.advance_server_version(uuid, text, bigint)
  from public, anon, authenticated, service_role;
grant execute on function public.advance_server_version(uuid, text, bigint) to authenticated, service_role;
comment on function public.advance_server_version(uuid, text, bigint) is
  'Adds 1 to server_version under the lock.

video_id uuid, database_name text, fencing_token bigint: as in assert_lock_held().

Returns integer: the new server_version.
Raises what assert_lock_held() raises.';

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

-- For live screens. security_invoker, so that the policy of the state rows decides who sees what.
create view public.held_locks with (security_invoker = true) as
select s.video_id, s.database_name::text as database_name, s.tenant_id, s.lock_id, s.lock_holder_user_id,
  s.lock_type::text as lock_type, s.fencing_token, s.locked_at, s.last_activity_at, s.lock_expires_at as expires_at,
  s.lock_ttl_seconds as ttl_seconds,
  case when s.has_line then holdfast.line_length(s.video_id, s.database_name) else 0 end as queue_length,
  clock_timestamp() as server_time
from public.video_database_state s
where s.lock_expires_at > clock_timestamp();
revoke all on table public.held_locks from public, anon, authenticated, service_role;
grant select on table public.held_locks to authenticated, service_role;
comment on view public.held_locks is
  'The locks that are held now, by the database''s clock, of the videos that the caller may see.';
comment on column public.held_locks.video_id is 'The video.';
comment on column public.held_locks.database_name is 'The video''s database.';
comment on column public.held_locks.tenant_id is 'The tenant that owns the video.';
comment on column public.held_locks.lock_id is 'The acquisition that holds it. A name, not a credential.';
comment on column public.held_locks.lock_holder_user_id is 'Who holds it.';
comment on column public.held_locks.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.held_locks.fencing_token is 'The token of the grant.';
comment on column public.held_locks.locked_at is 'Since when.';
comment on column public.held_locks.last_activity_at is 'When the holder was last active.';
comment on column public.held_locks.expires_at is 'When the lease ends, unless it is renewed.';
comment on column public.held_locks.ttl_seconds is 'Length of the lease in seconds, as last asked for.';
comment on column public.held_locks.queue_length is 'How many wait for it.';
comment on column public.held_locks.server_time is 'The database''s clock.';

create function holdfast.waiting(p_video_id uuid, p_database_name text)
returns table ("position" integer, lock_holder_user_id text, lock_type text, queued_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
begin
  return query
  select l."position", l.lock_holder_user_id, l.lock_type, l.queued_at
  from holdfast.line(p_video_id, p_database_name) l;
end;
$$;
revoke all on function holdfast.waiting(uuid, text) from public, anon, authenticated, service_role;
grant execute on function holdfast.waiting(uuid, text) to authenticated, service_role;
comment on function holdfast.waiting(uuid, text) is
  'Who waits for the lock, without their lock_ids; for the view waiting_locks, which shows only locks that the caller may see.';

create view public.waiting_locks with (security_invoker = true) as
select s.video_id, s.database_name::text as database_name, s.tenant_id, w."position", w.lock_holder_user_id, w.lock_type,
  w.queued_at, clock_timestamp() as server_time
from public.video_database_state s
cross join lateral holdfast.waiting(s.video_id, s.database_name) w
where s.has_line;
revoke all on table public.waiting_locks from public, anon, authenticated, service_role;
grant select on table public.waiting_locks to authenticated, service_role;
comment on view public.waiting_locks is 'Who waits for which lock, of the videos that the caller may see.';
comment on column public.waiting_locks.video_id is 'The video.';
comment on column public.waiting_locks.database_name is 'The video''s database.';
comment on column public.waiting_locks.tenant_id is 'The tenant that owns the video.';
comment on column public.waiting_locks."position" is 'The place in the line, from 1 on.';
comment on column public.waiting_locks.lock_holder_user_id is 'Who waits.';
comment on column public.waiting_locks.lock_type is 'client: a signed-in user; server: a caller with the secret key.';
comment on column public.waiting_locks.queued_at is 'Since when.';
comment on column public.waiting_locks.server_time is 'The database''s clock.';

-- For an operator: counts that depend on no log. Read from the rows themselves, so that no counter is a hot spot.
create view holdfast.lock_counts as
select 'held' as what, count(*) as locks
from public.video_database_state s where s.lock_expires_at > clock_timestamp()
union all
select 'lapsed', count(*)
from public.video_database_state s where s.lock_expires_at <= clock_timestamp()
union all
select 'waiting', count(*)
from holdfast.place p where p.kept_until > clock_timestamp()
union all
select 'ended in the last hour: ' || r.end_reason, count(h.lock_id)
from (values ('released'), ('expired'), ('taken_over'), ('force_released')) r (end_reason)
left join public.video_database_lock_history h
  on h.end_reason = r.end_reason and h.ended_at > clock_timestamp() - interval '1 hour'
group by r.end_reason
union all
select 'cancelled in the last hour', count(*)
from holdfast.cancellation c where c.cancelled_at > clock_timestamp() - interval '1 hour';
revoke all on table holdfast.lock_counts from public, anon, authenticated, service_role;
comment on view holdfast.lock_counts is 'How many locks are held, lapsed and not yet cleared, and waited for; how many leases ended in the last hour, and how.';
comment on column holdfast.lock_counts.what is 'What is counted.';
comment on column holdfast.lock_counts.locks is 'How many, over all tenants.';

-- Tidiness. A lease that ran out is free for the next caller at once; this only clears the rows and writes the history of leases
-- that no acquire has come for. So do lapsed places, and cancellations that no acquire can be waiting behind any more.
create function holdfast.release_expired_locks(p_batch_size integer) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_released integer;
begin
  if (p_batch_size between 1 and 100000) is not true then
    perform holdfast.raise_invalid_request(array['batch_size must be an integer from 1 to 100000']);
  end if;
  -- skip locked: a row in use needs no clearing, and a clean-up must never make a caller wait
  with expired as materialized (
    select s.*
    from public.video_database_state s
    where s.lock_expires_at <= v_now
    order by s.lock_expires_at
    limit p_batch_size
    for no key update skip locked
  ), kept as (
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, lock_database_names, fencing_token,
      locked_at, ended_at, end_reason
    )
    select e.video_id, e.database_name, e.lock_id, e.tenant_id, e.lock_holder_user_id, e.lock_type, e.lock_database_names,
      e.fencing_token, e.locked_at, e.lock_expires_at, 'expired'
    from expired e
    on conflict do nothing
  )
  update public.video_database_state s
  set lock_id = null,
    lock_holder_user_id = null,
    lock_type = null,
    locked_at = null,
    last_activity_at = null,
    lock_expires_at = null,
    lock_ttl_seconds = null,
    lock_database_names = null
  from expired e
  where s.video_id = e.video_id and s.database_name = e.database_name;
  get diagnostics v_released = row_count;

  delete from holdfast.place p
  where p.ctid = any (array(
    select l.ctid from holdfast.place l where l.kept_until <= v_now limit p_batch_size for update skip locked
  ));
  delete from holdfast.cancellation c
  where c.ctid = any (array(
    select l.ctid from holdfast.cancellation l
    where l.cancelled_at < v_now - interval '1 hour' limit p_batch_size for update skip locked
  ));
  return v_released;
end;
$$;
revoke all on function holdfast.release_expired_locks(integer) from public, anon, authenticated, service_role;
grant execute on function holdfast.release_expired_locks(integer) to service_role;
comment on function holdfast.release_expired_locks(integer) is
  'What public.release_expired_locks() does, with the owner''s rights on the lock columns.';

create function public.release_expired_locks(batch_size integer default 10000) returns integer
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.release_expired_locks(batch_size);
end;
$$;
revoke all on function public.release_expired_locks(integer) from public, anon, authenticated, service_role;
grant execute on function public.release_expired_locks(integer) to service_role;
comment on function public.release_expired_locks(integer) is
  'Clears leases that ended by themselves, the oldest first, and writes their history; also places that lapsed, and cancellations older than an hour. Correctness never depends on it.

batch_size integer, 1 to 100000, default 10000: how many of each at most. Call it again while it returns as many.

Returns integer: how many leases it cleared.
Raises PT400 (a rule is broken).';

create function holdfast.prune_lock_history(p_older_than interval, p_batch_size integer) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  v_pruned integer;
begin
  perform holdfast.raise_invalid_request(array[
    -- a request can be delayed, and is answered from the history
    case when (p_older_than >= interval '1 day') is not true then 'older_than must be an interval of 1 day or more' end,
    case when (p_batch_size between 1 and 100000) is not true then 'batch_size must be an integer from 1 to 100000' end
  ]);
  delete from public.video_database_lock_history h
  where h.ctid = any (array(
    select l.ctid
    from public.video_database_lock_history l
    where l.ended_at < clock_timestamp() - p_older_than
    limit p_batch_size
    for update skip locked
  ));
  get diagnostics v_pruned = row_count;
  return v_pruned;
end;
$$;
revoke all on function holdfast.prune_lock_history(interval, integer) from public, anon, authenticated, service_role;
grant execute on function holdfast.prune_lock_history(interval, integer) to service_role;
comment on function holdfast.prune_lock_history(interval, integer) is
  'What public.prune_lock_history() does, with the owner''s rights on the history.';

create function public.prune_lock_history(older_than interval default '90 days', batch_size integer default 10000)
returns integer
language plpgsql security invoker set search_path = ''
as $$
begin
  return holdfast.prune_lock_history(older_than, batch_size);
end;
$$;
revoke all on function public.prune_lock_history(interval, integer) from public, anon, authenticated, service_role;
grant execute on function public.prune_lock_history(interval, integer) to service_role;
comment on function public.prune_lock_history(interval, integer) is
  'Deletes entries of the lock history, in batches. A lock_id whose entry is gone is as good as new, so keep entries longer than any request can be delayed.

older_than interval, 1 day or more, default 90 days: since when an entry''s lease has to have ended.
batch_size integer, 1 to 100000, default 10000: how many at most. Call it again while it returns as many.

Returns integer: how many entries it deleted.
Raises PT400 (a rule is broken).';

-- Where there is pg_cron: every minute, and every night. Without it everything holds too; rows of lapsed leases then stay until
-- their lock is next acquired, and the history grows until it is pruned by hand.
do $$
begin
  if not exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
    raise notice 'pg_cron is not available here: release_expired_locks() and prune_lock_history() are not scheduled. No lock depends on them; see docs/operating/watch.md.';
    return;
  end if;
  create extension if not exists pg_cron;
  perform cron.schedule('holdfast-release-expired-locks', '* * * * *', 'select holdfast.release_expired_locks(10000)');
  perform cron.schedule('holdfast-prune-lock-history', '17 3 * * *',
    $run$select holdfast.prune_lock_history('90 days', 100000)$run$);
exception when others then
  raise notice 'pg_cron could not be used (%): release_expired_locks() and prune_lock_history() are not scheduled. No lock depends on them; see docs/operating/watch.md.', sqlerrm;
end;
$$;

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

-- Browsers see who holds what as it changes. Through the write-ahead log, so that no lock transaction waits for it (pg_notify
-- would serialize their commits). Row level security decides who sees which row.
do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    raise notice 'There is no publication supabase_realtime here: lock changes are not sent to browsers.';
    return;
  end if;
  perform
  from pg_catalog.pg_publication_tables t
  where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = 'video_database_state';
  if found then
    raise notice 'The publication supabase_realtime was left as it is: it has video_database_state already.';
    return;
  end if;
  perform holdfast.change(
    'alter publication supabase_realtime add table public.video_database_state',
    'alter publication supabase_realtime drop table public.video_database_state'
  );
exception when others then
  -- it may not be ours to change
  raise notice 'The publication supabase_realtime was left as it is: %', sqlerrm;
end;
$$;
