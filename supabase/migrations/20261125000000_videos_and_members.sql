-- Generated from supabase/schemas by `deno task migrations`; change it there.

-- Holdfast goes into projects that exist. What is in the way there is named here, all of it in one error, before anything is
-- changed. On an empty database these blocks find nothing.
--
-- Two settings of the transaction are read: holdfast.members, the query that `npx holdfast install --members` was given, and
-- holdfast.problems, in which the blocks collect what they find.

-- The project's own tables are changed, and its callers go on meanwhile. In short tries: a long wait for such a lock would hold
-- up everybody who comes after it, and a deadlock could end a caller's transaction instead of this one.
do $$
declare
  v_tables constant text := (
    select string_agg(format('public.%I', c.relname), ', ' order by c.relname collate "C")
    from pg_catalog.pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
      and c.relname in ('videos', 'video_database_state')
  );
  v_lock_timeout constant text := current_setting('lock_timeout');
begin
  for v_try in 1..60 loop
    exit when v_tables is null;
    begin
      perform set_config('lock_timeout', '400ms', true);
      execute format('lock table %s in access exclusive mode', v_tables);
      exit;
    exception when lock_not_available or deadlock_detected then
      if v_try = 60 then
        raise exception using errcode = 'lock_not_available',
          message = format('Holdfast was not installed, and nothing was changed: %s could not be locked', v_tables),
          hint = 'Some transaction has used them for long (see pg_stat_activity). End it, or try again when it is over.';
      end if;
    end;
    perform pg_sleep(random() * 0.5);
  end loop;
  perform set_config('lock_timeout', v_lock_timeout, true);
end;
$$;

-- The columns of tables that there are already.
do $$
declare
  v_text constant text[] := '{text,character varying}';
begin
  perform set_config('holdfast.problems', concat_ws(e'\n', string_agg(
    case when a.attname is null
      then format('- public.%s has no column %s (%s)', w.relation, w.name, w.types[1])
      else format('- public.%s.%s is of type %s, and has to be %s', w.relation, w.name, format_type(a.atttypid, a.atttypmod), w.types[1])
    end, e'\n' order by w.relation desc, w.ord
  )), true)
  from (values
    ('videos', 'id', '{uuid}'::text[], 1), ('videos', 'tenant_id', '{uuid}', 2),
    ('tenant_members', 'tenant_id', '{uuid}', 3), ('tenant_members', 'user_id', '{uuid}', 4),
    ('tenant_members', 'role', v_text, 5),
    ('video_database_state', 'video_id', '{uuid}', 6), ('video_database_state', 'database_name', v_text, 7),
    ('video_database_state', 'tenant_id', '{uuid}', 8),
    ('video_database_state', 'server_version', '{integer,smallint,bigint}', 9),
    ('video_database_state', 'wasabi_version', '{integer,smallint,bigint}', 10),
    ('video_database_state', 'wasabi_synced_at', '{timestamp with time zone}', 11),
    ('video_database_state', 'lock_holder_user_id', v_text || 'uuid'::text, 12),
    ('video_database_state', 'lock_type', v_text, 13),
    ('video_database_state', 'locked_at', '{timestamp with time zone}', 14),
    ('video_database_state', 'last_activity_at', '{timestamp with time zone}', 15)
  ) w (relation, name, types, ord)
  join pg_catalog.pg_class c on c.relnamespace = 'public'::regnamespace and c.relname = w.relation
    and c.relkind in ('r', 'p', 'v', 'm', 'f')
  left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = w.name and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_type y on y.oid = a.atttypid
  where (a.attname is null or format_type(a.atttypid, null) <> all (w.types))
    -- an enum has names, too
    and not (w.types = v_text and w.name in ('role', 'lock_type') and y.typtype is not distinct from 'e')
    and not (w.relation = 'tenant_members' and coalesce(current_setting('holdfast.members', true), '') <> '');
end;
$$;

-- Whose tables they are, and their keys.
do $$
begin
  perform set_config('holdfast.problems', concat_ws(e'\n', nullif(current_setting('holdfast.problems', true), ''), string_agg(
    p.problem, e'\n'
  )), true)
  from pg_catalog.pg_class c
  cross join lateral (
    select array_agg(keys.names) as keys, coalesce(bool_or(keys.names = w.key and (keys.indisprimary or not w.is_primary)), false) as has_key
    from (values
      ('videos', '{id}'::name[], false), ('video_database_state', '{database_name,video_id}', true)
    ) w (relation, key, is_primary)
    left join lateral (
      select i.indisprimary, (
        select array_agg(a.attname order by a.attname)
        from pg_catalog.pg_attribute a where a.attrelid = i.indrelid and a.attnum = any (i.indkey)
      ) as names
      from pg_catalog.pg_index i
      where i.indrelid = c.oid and i.indisunique and i.indimmediate and i.indpred is null and 0 <> all (i.indkey)
    ) keys on true
    where w.relation = c.relname
  ) k
  cross join lateral (values
    (c.relkind not in ('r', 'p') or c.relkind = 'p' and c.relname <> 'videos',
      format('- public.%s has to be an ordinary table', c.relname)),
    (c.relkind in ('r', 'p') and not pg_has_role(c.relowner, 'usage'),
      format('- public.%s belongs to %s, and this runs as %s', c.relname, c.relowner::regrole, current_user)),
    (c.relkind in ('r', 'p') and c.relname = 'videos' and not k.has_key, '- public.videos.id has to be the primary key, or unique'),
    (c.relkind = 'r' and c.relname = 'video_database_state' and not k.has_key,
      '- public.video_database_state has to have the primary key (video_id, database_name)')
  ) p (is_so, problem)
  where c.relnamespace = 'public'::regnamespace and c.relname in ('videos', 'video_database_state')
    and c.relkind in ('r', 'p', 'v', 'm', 'f') and p.is_so;
end;
$$;

-- Rows and columns of a video_database_state that cannot be taken over.
do $$
begin
  if current_setting('holdfast.problems', true) <> '' or to_regclass('public.video_database_state') is null then
    return;
  end if;
  perform set_config('holdfast.problems', concat_ws(e'\n',
    (
      select string_agg(
        format('- public.video_database_state.%s is a column without a default that may not be null: Holdfast makes rows, and does not know what belongs there', a.attname), e'\n'
      )
      from pg_catalog.pg_attribute a
      where a.attrelid = 'public.video_database_state'::regclass and a.attnum > 0 and not a.attisdropped
        and a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attname <> all ('{
          video_id,database_name,tenant_id,server_version,wasabi_version,lock_holder_user_id,lock_type,locked_at,last_activity_at
        }')
    ), (
      select string_agg(
        format('- public.video_database_state has a column %s already, which Holdfast would make', a.attname), e'\n'
      )
      from pg_catalog.pg_attribute a
      where a.attrelid = 'public.video_database_state'::regclass and a.attnum > 0 and not a.attisdropped
        and a.attname = any ('{lock_id,lock_expires_at,lock_ttl_seconds,lock_database_names,fencing_token,has_line}')
    ), (
      select format('- public.video_database_state has database names that do not match ^[a-z][a-z0-9_-]{0,62}$, such as %L: rename them',
        min(s.database_name))
      from public.video_database_state s
      where s.database_name !~ '^[a-z][a-z0-9_-]{0,62}$'
      having count(*) > 0
    ), (
      select format('- public.video_database_state has %s rows without a tenant_id, for videos without one', count(*))
      from public.video_database_state s
      left join public.videos v on v.id = s.video_id
      where s.tenant_id is null and v.tenant_id is null
      having count(*) > 0
    )
  ), true);
end;
$$;

-- Names that have to be free. Functions may have namesakes, as long as no call fits two of them: by the names of its arguments, as
-- the Data API calls, or by their types.
do $$
begin
  perform set_config('holdfast.problems', concat_ws(e'\n', nullif(current_setting('holdfast.problems', true), ''), (
    select case when to_regprocedure('holdfast.version()') is null
      then '- there is a schema holdfast, which is not Holdfast''s' else '- Holdfast is installed in this database already' end
    from pg_catalog.pg_namespace n
    where n.nspname = 'holdfast'
  ), (
    select string_agg(format('- there is a public.%s already', y.typname), e'\n' order by y.typname)
    from pg_catalog.pg_type y -- a relation has a type of its name
    where y.typnamespace = 'public'::regnamespace and y.typname in ('video_database_lock_history', 'held_locks', 'waiting_locks')
  ), (
    select string_agg(
      format('- a call of public.%s(%s) could be one of Holdfast''s, too: rename your function', p.proname, oidvectortypes(p.proargtypes)),
      e'\n' order by p.proname, p.oid
    )
    from (values
      ('acquire_lock', 'uuid, text, text, uuid, integer, boolean, integer, text[]',
        '{video_id,database_name,lock_holder_user_id,lock_id,ttl_seconds,take_over,queue_seconds,database_names}'::text[], 1),
      ('renew_lock', 'uuid, text, uuid, integer, boolean, text[]',
        '{video_id,database_name,lock_id,ttl_seconds,active,database_names}', 1),
      ('release_lock', 'uuid, text, uuid, text, boolean, text[]',
        '{video_id,database_name,lock_id,lock_holder_user_id,force,database_names}', 1),
      ('assert_lock_held', 'uuid, text, bigint', '{video_id,database_name,fencing_token}', 3),
      ('advance_server_version', 'uuid, text, bigint', '{video_id,database_name,fencing_token}', 3),
      ('release_expired_locks', 'integer', '{batch_size}', 0),
      ('prune_lock_history', 'interval, integer', '{older_than,batch_size}', 0)
    ) ours (name, types, arguments, required)
    join pg_catalog.pg_proc p on p.pronamespace = 'public'::regnamespace and p.proname = ours.name
    cross join lateral (
      select coalesce(array_agg(coalesce(p.proargnames[n], '') order by n), '{}') as names
      from generate_series(1, coalesce(array_length(p.proargmodes, 1), p.pronargs)) n
      where coalesce(p.proargmodes[n], 'i') in ('i', 'b', 'v')
    ) theirs
    where theirs.names[:p.pronargs - p.pronargdefaults] <@ ours.arguments
        and ours.arguments[:ours.required] <@ theirs.names::text[]
      or exists (
        select
        from generate_series(
          greatest(ours.required, p.pronargs - p.pronargdefaults), least(cardinality(ours.arguments), p.pronargs)
        ) k
        where (string_to_array(oidvectortypes(p.proargtypes), ', '))[:k] = (string_to_array(ours.types, ', '))[:k]
      )
  )), true);
end;
$$;

-- The query of --members.
do $$
declare
  v_query constant text := nullif(current_setting('holdfast.members', true), '');
  v_given text;
begin
  if v_query is null then
    return;
  end if;
  begin
    execute 'create temporary view holdfast_members as select m.tenant_id, m.user_id, m.role::text as role from (' || v_query || ') m';
    select string_agg(format('%s %s', a.attname, format_type(a.atttypid, null)), ', ' order by a.attnum) into v_given
    from pg_catalog.pg_attribute a
    where a.attrelid = 'pg_temp.holdfast_members'::regclass and a.attnum > 0;
    drop view pg_temp.holdfast_members;
    v_given := nullif(v_given, 'tenant_id uuid, user_id uuid, role text');
  exception when others then
    v_given := sqlerrm;
  end;
  if v_given is not null then
    perform set_config('holdfast.problems', concat_ws(e'\n', nullif(current_setting('holdfast.problems', true), ''),
      format('- the query for members has to give tenant_id (uuid), user_id (uuid) and role (text), but: %s', v_given)), true);
  end if;
end;
$$;

do $$
begin
  if current_setting('holdfast.problems', true) <> '' then
    raise exception using errcode = 'object_not_in_prerequisite_state',
      message = e'Holdfast was not installed, and nothing was changed, because\n' || current_setting('holdfast.problems', true),
      hint = 'See docs/start/adopt.md.';
  end if;
end;
$$;

-- The application's own tables: what is locked (videos) and who may lock it (members of the tenant that owns a video). A
-- project that has its own keeps it: each of the two is made only where there is none. A project that keeps its members
-- elsewhere says so (holdfast.members), and gets no table of members.
do $$
begin
  if to_regclass('public.tenant_members') is not null or coalesce(current_setting('holdfast.members', true), '') <> '' then
    return;
  end if;
  create table public.tenant_members (
    tenant_id uuid not null,
    user_id uuid not null,
    role text not null default 'member',
    created_at timestamptz not null default now(),
    constraint tenant_members_pkey primary key (tenant_id, user_id),
    constraint tenant_members_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade,
    constraint tenant_members_role_check check (role in ('member', 'admin'))
  );

  -- whole, like the primary key: with either of the two, a plan looks up one membership, not all that the user has
  create index tenant_members_user_id_tenant_id_idx on public.tenant_members (user_id, tenant_id);

  comment on table public.tenant_members is 'Which user belongs to which tenant. Written by the service only, never by users.';
  comment on column public.tenant_members.tenant_id is 'The tenant.';
  comment on column public.tenant_members.user_id is 'The user, of auth.users. Gone with the user.';
  comment on column public.tenant_members.role is 'member may lock the tenant''s videos; admin may also force a lock''s release.';
  comment on column public.tenant_members.created_at is 'When the user joined.';

  -- The planner's estimates pass row level security by (Prefer: count=planned). Without statistics on these columns they say
  -- nothing of one tenant or user.
  alter table public.tenant_members
    alter column tenant_id set statistics 0,
    alter column user_id set statistics 0;

  alter table public.tenant_members enable row level security;
  create policy tenant_members_select_own on public.tenant_members
    for select to authenticated
    using (user_id = (select auth.uid()));

  -- Older projects grant everything on a new table to the API's roles, newer ones nothing. Same state in both.
  revoke all on table public.tenant_members from public, anon, authenticated, service_role;
  grant select on table public.tenant_members to authenticated;
  grant select, insert, update, delete on table public.tenant_members to service_role;
end;
$$;

do $$
begin
  if to_regclass('public.videos') is not null then
    return;
  end if;
  create table public.videos (
    id uuid not null default gen_random_uuid(),
    tenant_id uuid not null,
    storage_key text not null,
    status text not null,
    created_at timestamptz not null default now(),
    constraint videos_pkey primary key (id)
  );

  comment on table public.videos is 'A video. Its databases (layout, captions, …) are what gets locked.';
  comment on column public.videos.id is 'Names the video.';
  comment on column public.videos.tenant_id is 'The tenant that owns the video; its members may see and lock it.';
  comment on column public.videos.storage_key is 'Where the video''s file lies in object storage.';
  comment on column public.videos.status is 'Where the video is in its processing, in the application''s own words.';
  comment on column public.videos.created_at is 'When the row was made.';

  -- as with members
  alter table public.videos
    alter column id set statistics 0,
    alter column tenant_id set statistics 0,
    alter column storage_key set statistics 0;

  alter table public.videos enable row level security;
  if coalesce(current_setting('holdfast.members', true), '') = '' then
    -- "= any (array(…))" is read once and then looked up in the index. With "in (…)" every row of every tenant would be read
    -- and tried: slower the more others have, and so a sign of what they have.
    create policy videos_select_member on public.videos
      for select to authenticated
      using (tenant_id = any (array(
        select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())
      )));
  end if;

  revoke all on table public.videos from public, anon, authenticated, service_role;
  grant select on table public.videos to authenticated;
  grant select, insert, update, delete on table public.videos to service_role;
end;
$$;
