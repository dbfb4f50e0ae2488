// What every migration has to keep, read from the catalogs, so that a later one cannot break it unseen. Each rule is
// tried on what breaks it, too, in a transaction that is rolled back.
import { assertEquals } from "@std/assert";
import { sql } from "../support/stack.ts";

/** Something that has to be so of every object in our two schemas. */
interface Rule {
  /** Finds what breaks the rule: a query for `offender`. */
  find: string;
  /** Statements that each break it, in a way that `find` has to see. */
  broken: string[];
  /** Statements that look alike and are allowed. */
  fine?: string[];
}

const OURS = "('public'::regnamespace, 'holdfast'::regnamespace)";
/** An extension's objects are not ours, wherever they are. */
const own = (oid: string) =>
  `not exists (select from pg_depend d where d.objid = ${oid} and d.deptype = 'e')`;
const TABLES = `(
  select c.* from pg_class c where c.relnamespace in ${OURS} and c.relkind in ('r', 'p') and ${
  own("c.oid")
}
)`;
const COLUMNS = `(
  select a.*, t.relname, t.oid as table_oid from ${TABLES} t
  join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
)`;
const FUNCTIONS = `(
  select p.* from pg_proc p where p.pronamespace in ${OURS} and p.prokind <> 'a' and ${own("p.oid")}
)`;
const INDEXES = `(
  select i.*, c.relname, t.relname as table_name, t.oid as table_oid, am.amname, pg_get_indexdef(i.indexrelid) as definition
  from ${TABLES} t join pg_index i on i.indrelid = t.oid
  join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam
)`;
const POLICIES = `(
  select p.*, concat_ws(' ', qual, with_check) as expression from pg_policies p where schemaname in ('public', 'holdfast')
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
      "alter table holdfast.fencing_floor disable row level security",
    ],
  },
  "a view works with the rights of who asks it, and nothing is a copy of a table": {
    find: `select relname as offender from pg_class c
      where relnamespace in ${OURS} and ${own("c.oid")}
        and (relkind in ('m', 'f') or relkind = 'v' and 'security_invoker=true' <> all (coalesce(reloptions, '{}')))`,
    broken: [
      "create view public.planted as select * from public.videos",
      "create materialized view public.planted as select * from public.videos",
    ],
    fine: ["create view public.planted with (security_invoker = true) as select 1 as n"],
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
      "alter function public.require_lock() reset search_path",
    ],
  },
  "PUBLIC may execute no function": {
    find: `select p.oid::regprocedure as offender from ${FUNCTIONS} p
      where exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee = 0)`,
    broken: [
      // what every function begins with
      "create function public.planted() returns integer language sql set search_path = '' as 'select 1'",
      "grant execute on function holdfast.assert_lock_held(uuid, text, bigint) to public",
    ],
  },
  "anon may do nothing, with any table, column, sequence, function, or the schema holdfast": {
    find: `
      select relname::text as offender from pg_class c
      where relnamespace in ${OURS} and ${own("c.oid")} and case
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
      "grant execute on function public.renew_lock(uuid, text, uuid, integer, boolean) to anon",
      "grant usage on schema holdfast to anon",
    ],
  },
  "a user may only read tables, and those of holdfast not even that; a policy decides which rows": {
    find: `
      select relname as offender from ${TABLES} t
      where has_table_privilege('authenticated', t.oid, 'insert, update, delete, truncate, references, trigger, maintain')
        or has_any_column_privilege('authenticated', t.oid, 'insert, update, references')
        or relnamespace = 'holdfast'::regnamespace and has_any_column_privilege('authenticated', t.oid, 'select')
      union all
      select policyname from ${POLICIES} p where cmd <> 'SELECT' or roles <> '{authenticated}'`,
    broken: [
      "grant update (server_version) on public.video_database_state to authenticated",
      "grant truncate on public.video_database_state to authenticated",
      "grant select on holdfast.fencing_floor to authenticated",
      "create policy planted on public.tenant_members for insert to authenticated with check (true)",
      "create policy planted on public.videos for select using (true)",
    ],
  },
  "no API role may write a lock column, a fencing token, or the history": {
    find: `
      select a.relname || '.' || a.attname || ' ' || r as offender
      from ${COLUMNS} a cross join unnest('{anon,authenticated,service_role}'::name[]) as r
      where (
          a.relname in ('video_database_lock_history', 'fencing_floor')
          or a.relname = 'video_database_state' and (a.attname ~ '^(lock|fencing|last_activity)')
        )
        and has_column_privilege(r, a.table_oid, a.attnum, 'insert, update')
      union all
      select t.relname || ' ' || r from ${TABLES} t
      cross join unnest('{anon,authenticated,service_role}'::name[]) as r
      where t.relname in ('video_database_lock_history', 'fencing_floor')
        and has_table_privilege(r, t.oid, 'delete, truncate, trigger')`,
    broken: [
      "grant update (fencing_token) on public.video_database_state to service_role",
      "grant insert on public.video_database_state to service_role",
      "grant delete on public.video_database_lock_history to service_role",
    ],
  },
  "every foreign key is led by an index": {
    find: `select k.conname as offender from pg_constraint k
      where k.contype = 'f' and k.connamespace in ${OURS} and not exists (
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
      where regexp_replace(expression, 'SELECT auth\\.\\w+\\(\\)', '', 'gi') ~* '(auth\\.\\w+|current_setting)\\('`,
    broken: [
      "create policy planted on public.tenant_members for select to authenticated using (user_id = auth.uid())",
      `create policy planted on public.tenant_members for update to authenticated
       using (true) with check (user_id = (select auth.uid()) and auth.role() = 'x')`,
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
      select k.conname from pg_constraint k join pg_type y on y.oid = k.contypid
      where k.connamespace in ${OURS} and k.contype = 'c' and k.conname !~ ('^' || y.typname || '(_[a-z_]+)?_check$')
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
  "every table, column, function, type and schema has a comment": {
    find: `
      select relname::text as offender from ${TABLES} t where obj_description(oid, 'pg_class') is null
      union all
      select relname || '.' || attname from ${COLUMNS} a where col_description(table_oid, attnum) is null
      union all
      select p.oid::regprocedure::text from ${FUNCTIONS} p where obj_description(p.oid, 'pg_proc') is null
      union all
      select y.oid::regtype::text from pg_type y left join pg_class c on c.oid = y.typrelid
      where y.typnamespace in ${OURS} and (y.typtype in ('d', 'e', 'r') or c.relkind = 'c') and ${
      own("y.oid")
    }
        and coalesce(obj_description(y.oid, 'pg_type'), obj_description(c.oid, 'pg_class')) is null
      union all
      select 'holdfast' where obj_description('holdfast'::regnamespace, 'pg_namespace') is null`,
    broken: [
      "create table public.planted ()",
      "alter table public.videos add column planted text",
      "comment on column public.tenant_members.role is null",
      aFunction("holdfast.planted()", "set search_path = ''"),
      "create domain public.planted as text",
      "create type holdfast.planted as (n integer)",
    ],
  },
  "no index is on a column that a heartbeat, a grant or a release changes, so that updates stay HOT":
    {
      find: `select i.relname as offender from ${INDEXES} i
      where i.table_name = 'video_database_state' and i.amname <> 'brin'
        and i.definition ~ '\\m(lock_\\w+|locked_at|last_activity_at|fencing_token|server_version)\\M'`,
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
      where schemaname in ('public', 'holdfast') and tablename <> 'video_database_state'`,
    broken: ["create publication planted for table public.tenant_members"],
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
