// What every migration has to keep, read from the catalogs, so that a later one cannot break it unseen. Each rule is
// tried on what breaks it, too, in a transaction that is rolled back. The rules are for Holdfast's own objects: what
// else a project has in the same database is its own business.
import { assert, assertEquals } from "@std/assert";
import { OWN_IN_PUBLIC } from "../support/own_objects.ts";
import { sql } from "../support/stack.ts";

/** Something that has to be so of every object of ours. */
interface Rule {
  /** Finds what breaks the rule: a query for `offender`. */
  find: string;
  /** Statements that each break it, in a way that `find` has to see. */
  broken: string[];
  /** Statements that look alike and are allowed. */
  fine?: string[];
}

/** Whether an object is ours, or was planted by this test to look like it. */
const ours = (schema: string, name: string) =>
  `(${schema} = 'holdfast' or ${schema} = 'public' and ${name} = any ('{planted,${OWN_IN_PUBLIC}}'))`;

const RELATIONS = `(
  select c.* from pg_class c where ${ours("c.relnamespace::regnamespace::text", "c.relname")}
)`;
const TABLES = `(select c.* from ${RELATIONS} c where c.relkind in ('r', 'p'))`;
const TABLES_AND_VIEWS = `(select c.* from ${RELATIONS} c where c.relkind in ('r', 'p', 'v', 'm'))`;
const COLUMNS = `(
  select a.*, t.relname, t.oid as table_oid from ${TABLES_AND_VIEWS} t
  join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
)`;
const FUNCTIONS = `(
  select p.* from pg_proc p
  where ${ours("p.pronamespace::regnamespace::text", "p.proname")} and p.prokind <> 'a'
)`;
const TYPES = `(
  select y.* from pg_type y where ${ours("y.typnamespace::regnamespace::text", "y.typname")}
)`;
const INDEXES = `(
  select i.*, c.relname, t.relname as table_name, t.oid as table_oid, am.amname, pg_get_indexdef(i.indexrelid) as definition
  from ${TABLES} t join pg_index i on i.indrelid = t.oid
  join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam
)`;
const POLICIES = `(
  select p.*, concat_ws(' ', qual, with_check) as expression from pg_policies p where ${
  ours("p.schemaname", "p.tablename")
}
)`;
/** Names of columns by their numbers, in order, joined. */
const columnNames = (table: string, numbers: string) =>
  `(
  select string_agg(a.attname, '_' order by k.n)
  from unnest(${numbers}) with ordinality as k (attnum, n)
  join pg_attribute a on a.attrelid = ${table} and a.attnum = k.attnum
)`;
const TABLE_RIGHTS = "'select, insert, update, delete, truncate, references, trigger, maintain'";
const aFunction = (name: string, options: string) => `
  create function ${name} returns integer language plpgsql ${options}
  as $$ begin return 1; end $$;
  revoke all on function ${name} from public, anon, authenticated, service_role;`;

const RULES: Record<string, Rule> = {
  "every table has row level security": {
    find: `select relname as offender from ${TABLES} t where not relrowsecurity`,
    broken: [
      "create table public.planted (id uuid)",
      "alter table holdfast.place disable row level security",
    ],
  },
  "a view that the API's roles may read works with the rights of who asks it, and nothing is a copy of a table":
    {
      find: `select relname as offender from ${RELATIONS} c
      where relkind in ('m', 'f') or relkind = 'v' and 'security_invoker=true' <> all (coalesce(reloptions, '{}')) and (
        relnamespace = 'public'::regnamespace
        or has_any_column_privilege('anon', oid, 'select, insert, update')
        or has_any_column_privilege('authenticated', oid, 'select, insert, update')
        or has_any_column_privilege('service_role', oid, 'select, insert, update')
      )`,
      broken: [
        "create view public.planted as select * from public.videos",
        "create materialized view public.planted as select * from public.videos",
        "grant select on holdfast.membership to authenticated",
        "grant select (locks) on holdfast.lock_counts to service_role",
        "alter view public.held_locks reset (security_invoker)",
      ],
      fine: [
        "create view public.planted with (security_invoker = true) as select 1 as n",
        "create view holdfast.planted as select * from public.videos",
      ],
    },
  "no security definer function that the API's roles may execute is in an exposed schema": {
    find: `select p.oid::regprocedure as offender from ${FUNCTIONS} p
      cross join unnest('{anon,authenticated,service_role}'::name[]) as r
      where prosecdef and pronamespace = 'public'::regnamespace and has_function_privilege(r, p.oid, 'execute')`,
    broken: ["anon", "authenticated", "service_role", "public"].map((role) =>
      aFunction("public.planted()", "security definer set search_path = ''") +
      `grant execute on function public.planted() to ${role}`
    ),
    fine: [aFunction("public.planted()", "security definer set search_path = ''")],
  },
  "every function has an empty search_path": {
    find: `select p.oid::regprocedure as offender from ${FUNCTIONS} p
      where 'search_path=""' <> all (coalesce(proconfig, '{}'))`,
    broken: [
      aFunction("public.planted()", ""),
      aFunction("holdfast.planted()", "security definer set search_path = public"),
      "alter function holdfast.check_write(uuid, text, text) reset search_path",
    ],
  },
  "PUBLIC may execute no function": {
    find: `select p.oid::regprocedure as offender from ${FUNCTIONS} p
      where exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee = 0)`,
    broken: [
      // what every function begins with
      "create function public.planted() returns integer language sql set search_path = '' as 'select 1'",
      "grant execute on function holdfast.check_token(uuid, text, bigint, uuid) to public",
    ],
  },
  "anon may do nothing, with any table, column, sequence, function, or the schema holdfast": {
    find: `
      select relname::text as offender from ${RELATIONS} c
      where case
        when relkind in ('r', 'p', 'v', 'm', 'f') then has_table_privilege('anon', oid, ${TABLE_RIGHTS})
          or has_any_column_privilege('anon', oid, 'select, insert, update, references')
        when relkind = 'S' then has_sequence_privilege('anon', oid, 'usage, select, update')
      end
      union all
      select p.oid::regprocedure::text from ${FUNCTIONS} p where has_function_privilege('anon', p.oid, 'execute')
      union all
      select 'holdfast' where has_schema_privilege('anon', 'holdfast', 'usage, create')`,
    broken: [
      "grant select on public.videos to anon",
      "grant select (id) on public.videos to anon",
      "grant insert on public.tenant_members to public",
      "create sequence public.planted; grant usage on sequence public.planted to anon",
      "grant execute on function public.renew_lock(uuid, text, uuid, integer, boolean, text[]) to anon",
      "grant select on public.held_locks to anon",
      "grant usage on schema holdfast to anon",
    ],
  },
  "a user may only read tables, and those of holdfast not even that; a policy decides which rows": {
    find: `
      select relname as offender from ${TABLES_AND_VIEWS} t
      where has_table_privilege('authenticated', t.oid, 'insert, update, delete, truncate, references, trigger, maintain')
        or has_any_column_privilege('authenticated', t.oid, 'insert, update, references')
        or relnamespace = 'holdfast'::regnamespace and has_any_column_privilege('authenticated', t.oid, 'select')
      union all
      select policyname from ${POLICIES} p where cmd <> 'SELECT' or roles <> '{authenticated}'`,
    broken: [
      "grant update (server_version) on public.video_database_state to authenticated",
      "grant truncate on public.video_database_state to authenticated",
      "grant select on holdfast.place to authenticated",
      "grant delete on public.held_locks to authenticated",
      "create policy planted on public.tenant_members for insert to authenticated with check (true)",
      "create policy planted on public.videos for select using (true)",
    ],
  },
  "no API role may write a lock column, a fencing token, the history, or anything that holdfast keeps":
    {
      find: `
      select a.relname || '.' || a.attname || ' ' || r as offender
      from ${COLUMNS} a cross join unnest('{anon,authenticated,service_role}'::name[]) as r
      where (
          a.relname in ('video_database_lock_history', 'held_locks', 'waiting_locks')
          or a.attrelid in (select oid from ${RELATIONS} c where relnamespace = 'holdfast'::regnamespace)
          or a.relname = 'video_database_state' and (a.attname ~ '^(lock|fencing|last_activity|has_line)')
        )
        and has_column_privilege(r, a.table_oid, a.attnum, 'insert, update')
      union all
      select t.relname || ' ' || r from ${TABLES_AND_VIEWS} t
      cross join unnest('{anon,authenticated,service_role}'::name[]) as r
      where t.relname in ('video_database_lock_history', 'held_locks', 'waiting_locks')
        and has_table_privilege(r, t.oid, 'delete, truncate, trigger')
        or t.relname = 'video_database_state' and has_table_privilege(r, t.oid, 'truncate, trigger')
        or t.relnamespace = 'holdfast'::regnamespace
          and has_table_privilege(r, t.oid, 'select, delete, truncate, trigger')`,
      broken: [
        "grant update (fencing_token) on public.video_database_state to service_role",
        "grant update (has_line) on public.video_database_state to service_role",
        "grant insert (lock_ttl_seconds) on public.video_database_state to service_role",
        "grant insert on public.video_database_state to service_role",
        "grant truncate on public.video_database_state to service_role",
        "grant delete on public.video_database_lock_history to service_role",
        "grant delete on holdfast.place to service_role",
        "grant insert on holdfast.cancellation to service_role",
      ],
    },
  "every foreign key is led by an index": {
    find: `select k.conname as offender from pg_constraint k
      where k.contype = 'f' and k.conrelid in (select oid from ${TABLES} t) and not exists (
        select from pg_index i
        where i.indrelid = k.conrelid and i.indpred is null and i.indisvalid
          and (i.indkey::smallint[])[0:cardinality(k.conkey) - 1] @> k.conkey
      )`,
    broken: [
      "create table public.planted (video_id uuid references public.videos)",
      // an index has them, but not in front
      `create table public.planted (n integer, video_id uuid references public.videos);
       create index on public.planted (n, video_id)`,
      "create table public.planted (video_id uuid references public.videos); " +
      "create index on public.planted (video_id) where video_id is not null",
      "drop index public.tenant_members_user_id_tenant_id_idx",
    ],
    fine: [
      "create table public.planted (video_id uuid references public.videos, n integer); " +
      "create index on public.planted (video_id, n)",
    ],
  },
  "a policy asks who calls once, not for each row": {
    find: `select policyname as offender from ${POLICIES} p
      where regexp_replace(expression, 'SELECT (auth\\.\\w+|holdfast\\.tenants_of_caller)\\(\\)( AS \\w+)?', '', 'gi')
        ~* '(auth\\.\\w+|current_setting|tenants_of_caller)\\('`,
    broken: [
      "create policy planted on public.tenant_members for select to authenticated using (user_id = auth.uid())",
      `create policy planted on public.tenant_members for update to authenticated
       using (true) with check (user_id = (select auth.uid()) and auth.role() = 'x')`,
      `create policy planted on public.video_database_state for select to authenticated
       using (tenant_id = any (holdfast.tenants_of_caller()))`,
    ],
  },
  "a policy looks the caller's tenants up in an index: = any (array(…)), never in (…)": {
    find:
      `select policyname as offender from ${POLICIES} p where expression ~* '\\mIN \\( *SELECT|\\mEXISTS\\M'`,
    broken: [
      `create policy planted on public.videos for select to authenticated
       using (tenant_id in (select m.tenant_id from public.tenant_members m where m.user_id = (select auth.uid())))`,
      `create policy planted on public.videos as restrictive for select to authenticated
       using (exists (select from public.tenant_members m where m.tenant_id = videos.tenant_id))`,
    ],
  },
  "constraints, indexes, policies and triggers have names by the convention, and begin with their table's":
    {
      find: `
      select k.conname as offender from pg_constraint k join ${TABLES} t on t.oid = k.conrelid
      where case k.contype
        when 'p' then k.conname <> t.relname || '_pkey'
        when 'u' then k.conname <> left(t.relname || '_' || ${
        columnNames("t.oid", "k.conkey")
      }, 59) || '_key'
        when 'f' then k.conname !~ ('^' || t.relname || '_[a-z_]+_fkey$')
        when 'c' then k.conname !~ ('^' || t.relname || '_[a-z_]+_check$')
        when 'x' then k.conname !~ ('^' || t.relname || '_[a-z_]+_excl$')
      end
      union all
      select k.conname from pg_constraint k join ${TYPES} y on y.oid = k.contypid
      where k.contype = 'c' and k.conname !~ ('^' || y.typname || '(_[a-z_]+)?_check$')
      union all
      select i.relname from ${INDEXES} i
      where not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x'))
        and i.relname <> left(i.table_name || '_' || ${
        columnNames("i.table_oid", "i.indkey::smallint[]")
      }, 59) || '_idx'
      union all
      select policyname from ${POLICIES} p where policyname not like tablename || '\\_%'
      union all
      select g.tgname from pg_trigger g join ${TABLES} t on t.oid = g.tgrelid
      where not g.tgisinternal and g.tgname not like t.relname || '\\_%'`,
      broken: [
        "alter table public.videos add constraint planted check (status <> '')",
        "alter table public.videos add constraint videos_planted unique (storage_key)",
        "alter table public.videos rename constraint videos_pkey to videos_id_pkey",
        "create index videos_planted on public.videos (status)",
        "create domain public.planted as text constraint is_short check (length(value) < 9)",
        "create policy planted on public.videos for select to authenticated using (false)",
      ],
      fine: [
        "alter table public.videos add constraint videos_status_check check (status <> ''), " +
        "add unique (storage_key)",
        "create index on public.videos (status, created_at)",
      ],
    },
  "every table, view, column, function, type and schema has a comment": {
    find: `
      select relname::text as offender from ${TABLES_AND_VIEWS} t where obj_description(oid, 'pg_class') is null
      union all
      select relname || '.' || attname from ${COLUMNS} a where col_description(table_oid, attnum) is null
      union all
      select p.oid::regprocedure::text from ${FUNCTIONS} p where obj_description(p.oid, 'pg_proc') is null
      union all
      select y.oid::regtype::text from ${TYPES} y left join pg_class c on c.oid = y.typrelid
      where (y.typtype in ('d', 'e', 'r') or c.relkind = 'c')
        and coalesce(obj_description(y.oid, 'pg_type'), obj_description(c.oid, 'pg_class')) is null
      union all
      select 'holdfast' where obj_description('holdfast'::regnamespace, 'pg_namespace') is null`,
    broken: [
      "create table public.planted ()",
      "alter table public.videos add column planted text",
      "comment on column public.tenant_members.role is null",
      "comment on column public.held_locks.queue_length is null",
      "comment on view holdfast.membership is null",
      aFunction("holdfast.planted()", "set search_path = ''"),
      "create domain public.planted as text",
      "create type holdfast.planted as (n integer)",
    ],
  },
  "no index is on a column that a heartbeat, a grant or a release changes, so that updates stay HOT":
    {
      find: `select i.relname as offender from ${INDEXES} i
      where i.table_name = 'video_database_state' and i.amname <> 'brin'
        and i.definition ~ '\\m(lock_\\w+|locked_at|last_activity_at|fencing_token|server_version|has_line)\\M'`,
      broken: [
        "create index on public.video_database_state (lock_expires_at)",
        "create index on public.video_database_state (tenant_id) include (fencing_token)",
        "create index on public.video_database_state (tenant_id) where lock_id is not null",
        "create index on public.video_database_state ((last_activity_at is null))",
      ],
      fine: ["create index on public.video_database_state using brin (lock_expires_at)"],
    },
  "the table that heartbeats update leaves room for them on its pages": {
    find: `select relname as offender from ${TABLES} t
      where relname = 'video_database_state' and not exists (
        select from pg_options_to_table(t.reloptions)
        where option_name = 'fillfactor' and option_value::integer between 50 and 90
      )`,
    broken: [
      "alter table public.video_database_state reset (fillfactor)",
      "alter table public.video_database_state set (fillfactor = 100)",
    ],
  },
  "every time has its zone, and every id is a uuid": {
    find: `select relname || '.' || attname as offender from ${COLUMNS} a
      where atttypid in ('timestamp'::regtype, 'time'::regtype, 'timetz'::regtype)
        or attname ~ '(_id|^id)$' and attname <> 'lock_holder_user_id' and atttypid <> 'uuid'::regtype`,
    broken: [
      "alter table public.videos add column planted timestamp",
      "alter table public.videos add column planted_id text",
    ],
  },
  "browsers are sent the state rows, and nothing else": {
    find: `select tablename as offender from pg_publication_tables
      where ${ours("schemaname", "tablename")} and tablename <> 'video_database_state'
      union all
      select pubname from pg_publication p where pubname = 'supabase_realtime' and not exists (
        select from pg_publication_tables t where t.pubname = p.pubname and t.tablename = 'video_database_state'
      )`,
    broken: [
      "alter publication supabase_realtime drop table public.video_database_state",
      "create publication planted for table public.tenant_members",
      "create publication planted for table holdfast.place",
    ],
  },
  "P8 the planner keeps no statistics of whose the locks are, as row level security does not hide its estimates":
    {
      find: `select a.relname || '.' || a.attname as offender from ${COLUMNS} a
      where a.relname in ('videos', 'tenant_members', 'video_database_state', 'video_database_lock_history')
        and a.attname in (
          'id', 'user_id', 'storage_key', 'video_id', 'database_name', 'tenant_id', 'lock_id', 'lock_holder_user_id', 'fencing_token', 'ended_by'
        )
        and a.attstattarget is distinct from 0`,
      broken: ["alter table public.video_database_state alter column tenant_id set statistics 100"],
    },
  "P11 every function that may wait for another transaction waits less than half a second": {
    find: `select p.oid::regprocedure as offender from ${FUNCTIONS} p
      where prosecdef and proname in ('acquire_lock', 'renew_lock', 'release_lock', 'advance_server_version')
        and not exists (
          select from unnest(proconfig) c
          where c ~ '^lock_timeout=' and split_part(c, '=', 2)::interval < interval '500 ms'
        )`,
    broken: [
      "alter function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[]) reset lock_timeout",
      "alter function holdfast.renew_lock(uuid, text, uuid, integer, boolean, text[]) set lock_timeout = '5s'",
    ],
  },
};

const offenders = async (db: { unsafe: typeof sql.unsafe }, { find }: Rule) =>
  (await db.unsafe(find)).map(({ offender }) => offender);

/** Makes a change, looks whether the rule sees it, and undoes it. */
async function tryOut(rule: Rule, statement: string): Promise<boolean> {
  const undo = new Error("undo");
  let seen = false;
  await sql.begin(async (transaction) => {
    await transaction.unsafe(statement);
    seen = (await offenders(transaction, rule)).length > 0;
    throw undo;
  }).catch((error) => {
    if (error !== undo) throw error;
  });
  return seen;
}

for (const [name, rule] of Object.entries(RULES)) {
  Deno.test(name, async () => {
    assertEquals(await offenders(sql, rule), []);
    for (const statement of rule.broken) {
      assertEquals(await tryOut(rule, statement), true, statement);
    }
    for (const statement of rule.fine ?? []) {
      assertEquals(await tryOut(rule, statement), false, statement);
    }
  });
}

/** What a project may have beside Holdfast, in which it follows no rule of ours. */
const SOMEBODY_ELSES = `
  create table public.captions (id uuid, video_id uuid references public.videos, changed timestamp, editor_id text);
  create index captions_changed on public.captions (changed);
  alter table public.captions add constraint no_ghosts check (editor_id <> ''), add constraint one_each unique (id);
  grant all on public.captions to anon, authenticated, service_role;
  create policy anybody on public.captions for all using (video_id in (select id from public.videos) and auth.uid() is not null);
  create sequence public.numbers;
  grant usage on sequence public.numbers to anon;
  create view public.all_videos as select * from public.videos;
  grant select on public.all_videos to anon;
  create materialized view public.copied_videos as select * from public.videos;
  create domain public.short as text constraint is_short check (length(value) < 9);
  create type public.pair as (a integer, b integer);
  create function public.anything() returns integer language sql security definer as 'select 1';
  create function public.on_captions() returns trigger language plpgsql as 'begin return new; end';
  create trigger every_caption before insert on public.captions for each row execute function public.on_captions();
  create publication everything for table public.captions;
  select holdfast.guard('public.captions', database => 'captions')`;

Deno.test("what a project has of its own beside Holdfast is no business of these rules; its guards obey them", async () => {
  const undo = new Error("undo");
  const found: Record<string, unknown> = {};
  await sql.begin(async (transaction) => {
    await transaction.unsafe(SOMEBODY_ELSES);
    for (const [name, rule] of Object.entries(RULES)) {
      found[name] = await offenders(transaction, rule);
    }
    found.repaired = await repaired(transaction);
    throw undo;
  }).catch((error) => {
    if (error !== undo) throw error;
  });
  assertEquals(found, {
    ...Object.fromEntries(Object.keys(RULES).map((name) => [name, []])),
    repaired: [],
  });
});

const repaired = async (db: { unsafe: typeof sql.unsafe }): Promise<string[]> =>
  (await db.unsafe("select * from holdfast.repair_privileges() as line")).map(({ line }) => line);

/** Who may do what with our objects, by the catalogs alone. */
const PRIVILEGES = `
  select object, coalesce(r.rolname, 'public') as grantee, a.privilege_type as privilege
  from (
    select c.oid::regclass::text as object, coalesce(c.relacl, acldefault('r', c.relowner)) as acl
    from ${TABLES_AND_VIEWS} c
    union all
    select a.relname || '.' || a.attname, a.attacl from ${COLUMNS} a where a.attacl is not null
    union all
    select p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)) from ${FUNCTIONS} p
    union all
    select 'schema holdfast', n.nspacl from pg_namespace n where n.nspname = 'holdfast'
  ) o
  cross join lateral aclexplode(o.acl) a
  left join pg_roles r on r.oid = a.grantee
  where object !~ '^(videos|tenant_members)'
  order by 1, 2, 3`;

/** Makes changes in a transaction, repairs, and gives what the repair said and left; all is undone. */
async function spoilAndRepair(statements: string) {
  const undo = new Error("undo");
  const seen: { lines: string[]; again: string[]; spoiled: unknown[]; after: unknown[] } = {
    lines: [],
    again: [],
    spoiled: [],
    after: [],
  };
  await sql.begin(async (transaction) => {
    await transaction.unsafe(statements);
    seen.spoiled = [...await transaction.unsafe(PRIVILEGES)];
    seen.lines = await repaired(transaction);
    seen.again = await repaired(transaction);
    seen.after = [...await transaction.unsafe(PRIVILEGES)];
    throw undo;
  }).catch((error) => {
    if (error !== undo) throw error;
  });
  return seen;
}

Deno.test("P8 repair_privileges finds nothing to repair on a database as the migrations leave it", async () => {
  const before = [...await sql.unsafe(PRIVILEGES)];
  const { lines, after } = await spoilAndRepair("");
  assertEquals(lines, []);
  assertEquals(after, before);
});

const EVERYBODY = "public, anon, authenticated, service_role";
const SPOILED: Record<string, [statements: string, said: string[]]> = {
  "too much on a table and a column": [
    `grant truncate on public.video_database_lock_history to anon;
     grant update (fencing_token) on public.video_database_state to service_role;
     grant insert on holdfast.place to authenticated`,
    [
      "anon had: TRUNCATE on public.video_database_lock_history",
      "service_role had: UPDATE on public.video_database_state.fencing_token",
      "authenticated had: INSERT on holdfast.place",
    ],
  ],
  "functions that everybody may execute": [
    `grant execute on function public.acquire_lock(uuid, text, text, uuid, integer, boolean, integer, text[]) to public;
     grant execute on function holdfast.prune_lock_history(interval, integer) to anon`,
    [
      "public had: EXECUTE on public.acquire_lock",
      "anon had: EXECUTE on holdfast.prune_lock_history",
    ],
  ],
  "a function that was made anew": [
    `drop function holdfast.version();
     create function holdfast.version() returns text language sql immutable set search_path = '' return '0.1.0'`,
    ["public had: EXECUTE on holdfast.version"],
  ],
  "a table's right, whose end takes those of its columns along": [
    "grant update on public.video_database_state to service_role",
    ["service_role had: UPDATE on public.video_database_state"],
  ],
  "the inside of holdfast": [
    "grant usage, create on schema holdfast to anon",
    ["anon had: CREATE on holdfast", "anon had: USAGE on holdfast"],
  ],
  "too little": [
    `revoke select on public.held_locks from authenticated;
     revoke update (server_version) on public.video_database_state from service_role;
     revoke execute on function public.release_lock(uuid, text, uuid, text, boolean, text[]) from authenticated;
     revoke usage on schema holdfast from authenticated`,
    [
      "authenticated lacked: SELECT on public.held_locks",
      "service_role lacked: UPDATE on public.video_database_state.server_version",
      "authenticated lacked: EXECUTE on public.release_lock",
      "authenticated lacked: USAGE on holdfast",
    ],
  ],
};
for (const [what, [statements, said]] of Object.entries(SPOILED)) {
  Deno.test(`P8 repair_privileges puts right, and reports: ${what}`, async () => {
    const before = [...await sql.unsafe(PRIVILEGES)];
    const { lines, again, after } = await spoilAndRepair(statements);
    assertEquals(lines.toSorted(), said.toSorted());
    assertEquals(again, []);
    assertEquals(after, before);
  });
}

Deno.test("P8 repair_privileges puts everything right where everything was wrong", async () => {
  const before = [...await sql.unsafe(PRIVILEGES)];
  const all = ["tables", "functions"].flatMap((kind) =>
    ["public", "holdfast"].map((schema) =>
      `grant all on all ${kind} in schema ${schema} to ${EVERYBODY};`
    )
  ).join("\n");
  const none = all.replaceAll("grant", "revoke").replaceAll(" to ", " from ");
  for (const statements of [all, none, none + "revoke all on schema holdfast from " + EVERYBODY]) {
    const { lines, again, spoiled, after } = await spoilAndRepair(statements);
    assert(spoiled.length !== before.length && lines.length > 20);
    assertEquals(again, []);
    assertEquals(after, before);
  }
});
