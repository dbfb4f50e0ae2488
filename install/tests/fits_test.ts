// Holdfast's migration in databases that exist: what is there is used as it is, what cannot be is named before anything is
// changed, and a removal leaves all as it was. Here on the embedded PostgreSQL; `deno task test:adopt` does it with the real
// CLI, on two versions of PostgreSQL, and runs the contract's tests on what comes out.
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "node:path";
import { packageFiles } from "../package_files.ts";
import { planInstall } from "../plan_install.ts";
import { type Database, openLab } from "./support/lab.ts";
import { type OwnProject, PROJECTS, videoId } from "./support/projects.ts";
import { STRUCTURE } from "./support/structure.ts";

const files = await packageFiles(join(import.meta.dirname!, "../.."));
const lab = await openLab();
Deno.test.afterAll(async () => await lab[Symbol.asyncDispose]());

const [A, B] = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"];
const USER = "00000000-0000-4000-8000-0000000000cc";

/** The migration that `npx holdfast install` writes. */
async function migration(members?: string): Promise<string> {
  const project = {
    supabase: "",
    config: { text: "", settings: {} },
    migrations: [],
    read: () => Promise.resolve(null),
  };
  const { changes } = await planInstall(project, files, { members });
  return changes.find(({ path }) => path.endsWith("_holdfast.sql"))!.after!;
}

/** A database with some SQL in it. */
async function database(...scripts: string[]): Promise<Database> {
  const made = await lab.database();
  for (const script of scripts) await made.migrate(script);
  return made;
}

const migrationsOf = ({ migrations }: OwnProject) => Object.values(migrations);

/** The structure of schema public by the catalogs, a line for each part. */
const structure = async (db: Database) =>
  (await db.query<{ line: string }>(STRUCTURE)).map(({ line }) => line);

/** What a statement gives as one of the API's roles. */
async function as(db: Database, role: string, statement: string, user?: string) {
  await db.query(`
    begin; set local role ${role};
    select set_config('request.jwt.claims', '${JSON.stringify({ sub: user })}', true)`);
  // deno-lint-ignore no-explicit-any
  const [row] = await db.query<any>(statement).finally(() => db.query("commit"));
  return row;
}

const ask = (name: string, fields: string) => `select public.${name}(${fields}) as answer`;

for (const [name, project] of Object.entries(PROJECTS) as [string, OwnProject][]) {
  Deno.test(`the project '${name}' takes Holdfast, and is as it was when it is removed`, async () => {
    const members = project.options?.[1]?.replace(/;$/, "");
    const own = await database(...migrationsOf(project));
    // without members of its own, a project gets a table for them, which stays: it is the project's from then on
    const [videosAndMembers] = files.migrations.values();
    const expected = members ? own : await database(...migrationsOf(project), videosAndMembers!);
    const before = await structure(expected);

    await own.migrate(await migration(members));
    assertEquals(await own.query("select holdfast.version()"), [{ version: files.version }]);
    assertEquals(await own.query("select holdfast.repair_privileges()"), [], "P8");
    await own.migrate(files.removal);
    assertEquals(await structure(own), before);
    assertEquals(await own.query("select to_regnamespace('holdfast') as holdfast"), [
      { holdfast: null },
    ]);
    await own.migrate(await migration(members)); // and again
  });
}

const STATE = `
  select video_id, database_name, tenant_id, server_version, wasabi_version, lock_holder_user_id, lock_type,
    lock_ttl_seconds, lock_id is not null as is_held,
    extract(epoch from lock_expires_at - clock_timestamp()) as seconds_left
  from public.video_database_state order by video_id, database_name`;

Deno.test("a video_database_state is taken over in place: versions stay, and held locks are leases of one hour, of each type", async () => {
  const db = await database(...migrationsOf(PROJECTS.seed));
  const [{ before }] = await db.query<{ before: string[] }>(
    "select array_agg(coalesce(server_version, 0) || ' ' || wasabi_version order by video_id, database_name) as before from public.video_database_state",
  ) as [{ before: string[] }];
  await db.migrate(await migration());
  // deno-lint-ignore no-explicit-any
  const rows = await db.query<any>(STATE);
  assertEquals(rows.map((row) => `${row.server_version} ${row.wasabi_version}`), before);
  const held = rows.filter((row) => row.is_held);
  assertEquals(
    held.map((
      row,
    ) => [row.database_name, row.lock_holder_user_id, row.lock_type, row.lock_ttl_seconds]),
    [
      ["captions", USER, "client", 3600], // an id is written in lower case, as auth.uid() is
      ["layout", "process-a", "server", 3600],
      ["layout", "process-b", "server", 3600],
    ],
  );
  for (const { seconds_left } of held) assert(seconds_left > 3590 && seconds_left <= 3600);
  assertEquals([...new Set(rows.map((row) => row.tenant_id))], [A], "the tenant is the video's");
  assertMatch(db.notices.join("\n"), /taken over: 3 locks are held/);
  const [{ tokens }] = await db.query<{ tokens: string }>(
    "select count(distinct fencing_token) as tokens from public.video_database_state",
  ) as [{ tokens: string }];
  assert(Number(tokens) > 100, "not one token for all");
});

Deno.test("P1 P6 a lock that was taken over is refused to others, and its holder renews its work or ends it", async () => {
  const db = await database(...migrationsOf(PROJECTS.seed), await migration());
  await db.query(
    `insert into auth.users (id, email) values ('${USER}', 'u@example.com');
     insert into public.tenant_members (tenant_id, user_id) values ('${A}', '${USER}')`,
  );
  const server = (name: string, fields: string) => as(db, "service_role", ask(name, fields));
  const other = await server("acquire_lock", `'${videoId(1)}', 'layout', 'process-c'`);
  assertEquals([other.answer.acquired, other.answer.reason], [false, "held"]);
  assertEquals(other.answer.holder.lock_holder_user_id, "process-a");
  const own = await server(
    "acquire_lock",
    `'${videoId(1)}', 'layout', 'process-a', take_over => true`,
  );
  assertEquals([own.answer.acquired, own.answer.lock?.ttl_seconds], [true, 120]);
  const ended = await server(
    "release_lock",
    `'${videoId(2)}', 'layout', lock_holder_user_id => 'process-b'`,
  );
  assertEquals(ended.answer.released, true);
  const user = await as(
    db,
    "authenticated",
    ask("release_lock", `'${videoId(1)}', 'captions', lock_holder_user_id => '${USER}'`),
    USER,
  );
  assertEquals(user.answer.released, true);
});

Deno.test("P8 the rights and policies that an own video_database_state had do not outlive its lock columns' new meaning", async () => {
  for (const project of [PROJECTS.seed, PROJECTS.colliding] as OwnProject[]) {
    const db = await database(...migrationsOf(project), await migration(project.options?.[1]));
    for (const role of ["service_role", "authenticated", "anon"]) {
      await assertRejects(
        () => as(db, role, "update public.video_database_state set lock_holder_user_id = 'thief'"),
        Error,
        "permission denied",
      );
    }
    const { rows } = await as(
      db,
      "authenticated",
      "select count(*)::int as rows from public.video_database_state",
      crypto.randomUUID(),
    );
    assertEquals(rows, 0, "a stranger sees nothing");
  }
  const db = await database(
    ...migrationsOf(PROJECTS.colliding),
    await migration(PROJECTS.colliding.options[1]),
  );
  const [privileges] = await db.query(
    "select has_any_column_privilege('own_reporter', 'public.video_database_state', 'update') as may",
  );
  assertEquals(privileges, { may: false });
  assertMatch(db.notices.join("\n"), /own rules take the place of the policy anybody reads/);
});

/** What a table is, by the catalogs. */
const SHAPE = `
  select 'column' as kind, a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
    || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(a.attstattarget, -1)
    || ' ' || coalesce(col_description(a.attrelid, a.attnum), '') as what
  from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attrelid = 'public.video_database_state'::regclass and a.attnum > 0 and not a.attisdropped
  union all
  select 'constraint', conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
  where conrelid = 'public.video_database_state'::regclass and contype <> 'n'
  union all
  select 'index', pg_get_indexdef(indexrelid) from pg_index where indrelid = 'public.video_database_state'::regclass
  union all
  select 'trigger', pg_get_triggerdef(oid) from pg_trigger
  where tgrelid = 'public.video_database_state'::regclass and not tgisinternal
  union all
  select 'policy', policyname || cmd || coalesce(qual, '') from pg_policies where tablename = 'video_database_state'
  union all
  select 'table', relrowsecurity || ' ' || relforcerowsecurity || ' ' || reloptions::text || ' ' || obj_description(oid)
  from pg_class where oid = 'public.video_database_state'::regclass
  order by 1, 2`;

Deno.test("a video_database_state that was taken over has the shape of one that Holdfast makes", async () => {
  const made = await database(await migration());
  const adopted = await database(...migrationsOf(PROJECTS.seed), await migration());
  assertEquals(await adopted.query(SHAPE), await made.query(SHAPE));
});

Deno.test("members are who the project says: by --members, and in videos of its own", async () => {
  const db = await database(
    ...migrationsOf(PROJECTS.members),
    await migration(PROJECTS.members.options[1]!.replace(/;$/, "")),
  );
  await db.query(
    `insert into auth.users (id, email) values ('${USER}', 'u@example.com');
     insert into public.team_assignments values ('${A}', '${USER}', 'admin')`,
  );
  const acquire = (user: string) =>
    as(db, "authenticated", ask("acquire_lock", `'${videoId(1)}', 'layout'`), user);
  assertEquals((await acquire(USER)).answer.acquired, true);
  await assertRejects(() => acquire(B), Error, "There is no such video");
  const forced = ask("release_lock", `'${videoId(1)}', 'layout', force => true`);
  assertEquals((await as(db, "authenticated", forced, USER)).answer.released, true, "as an admin");
  await assertRejects(
    () => as(db, "service_role", ask("acquire_lock", `'${videoId(2)}', 'layout', 'w1'`)),
    Error,
    "There is no such video", // one without a tenant is nobody's to lock
  );
  const [tables] = await db.query("select to_regclass('public.tenant_members') as made");
  assertEquals(tables, { made: null });
});

Deno.test("videos that Holdfast makes for a project with members of its own are seen by them alone", async () => {
  const db = await database(
    "create table public.people (team uuid, person uuid)",
    await migration(
      "select team as tenant_id, person as user_id, 'member' as role from public.people",
    ),
    `insert into public.people values ('${A}', '${USER}');
     insert into public.videos (tenant_id, storage_key, status) values ('${A}', 'k', 'ready')`,
  );
  const seen = async (user: string) =>
    (await as(db, "authenticated", "select count(*)::int as n from public.videos", user)).n;
  assertEquals([await seen(USER), await seen(B)], [1, 0]);
  await db.migrate(files.removal);
});

Deno.test("what has a name of Holdfast's and fits no call of it works on beside it", async () => {
  const db = await database(
    ...migrationsOf(PROJECTS.colliding),
    await migration(PROJECTS.colliding.options[1]),
  );
  assertEquals(
    await db.query(
      `select public.acquire_lock('layout') as own, public.version() as version`,
    ),
    [{ own: true, version: "own" }],
  );
  const [rights] = await db.query(
    "select has_function_privilege('anon', 'public.acquire_lock(text)', 'execute') as as_before",
  );
  assertEquals(rights, { as_before: true });
  const { answer } = await as(
    db,
    "service_role",
    ask(
      "acquire_lock",
      `video_id => '${videoId(1)}', database_name => 'shots', lock_holder_user_id => 'w9'`,
    ),
  );
  assertEquals(answer.acquired, true);
  const lock = `video_id => '${
    videoId(1)
  }', database_name => 'shots', lock_id => '${answer.lock.lock_id}'`;
  assertEquals((await as(db, "service_role", ask("renew_lock", lock))).answer.renewed, true);
  assertEquals((await as(db, "service_role", ask("release_lock", lock))).answer.released, true);
  assertEquals(
    await db.query(
      "select lock_holder_user_id, lock_type from public.video_database_state where lock_id is not null order by 1",
    ),
    [{ lock_holder_user_id: A, lock_type: "client" }, {
      lock_holder_user_id: "w1",
      lock_type: "server",
    }],
  );
  assertEquals(
    (await db.query("select server_version from public.versions where database_name = 'layout'"))
      .length,
    1,
  );
  await assertRejects(
    () => db.query(`insert into public.exports values (2, '${videoId(9)}', 'layout')`),
    Error,
    "exports_state_fkey",
  );
});

Deno.test("where a view of the project's reads a column, a check does what a domain would", async () => {
  const db = await database(
    ...migrationsOf(PROJECTS.seed),
    "create view public.locks as select lock_holder_user_id, lock_type, database_name from public.video_database_state",
    await migration(),
  );
  assertEquals(
    (await db.query("select * from public.locks where lock_type = 'server'")).length,
    2,
  );
  await assertRejects(
    () => as(db, "service_role", ask("acquire_lock", `'${videoId(1)}', 'No Name', 'w'`)),
    Error,
    "breaks a rule",
  );
  await assertRejects(
    () =>
      db.query(
        "update public.video_database_state set lock_type = 'none' where lock_type = 'client'",
      ),
    Error,
    "holdfast_lock_type_check",
  );
  await db.migrate(files.removal);
  assertEquals((await db.query("select * from public.locks")).length, 150);
});

Deno.test("rows of videos that are gone stay, and are said", async () => {
  const db = await database(
    ...migrationsOf(PROJECTS.seed),
    `insert into public.video_database_state (video_id, database_name, tenant_id, lock_holder_user_id) values ('${A}', 'x', '${A}', 'w')`,
    await migration(),
  );
  assertMatch(db.notices.join("\n"), /1 rows belong to no video/);
  assertEquals(
    await db.query(`select lock_type from public.video_database_state where video_id = '${A}'`),
    [{ lock_type: "server" }],
  );
  await db.query(
    "update public.video_database_state set lock_expires_at = now() where lock_id is not null",
  );
  assertEquals(await db.query("select public.release_expired_locks()"), [
    { release_expired_locks: 4 },
  ]);
});

const IN_THE_WAY: Record<string, [script: string, named: string[]]> = {
  "columns": [
    `create table public.videos (id bigint primary key, name text);
     create table public.tenant_members (organisation uuid, user_id text);`,
    [
      "public.videos.id is of type bigint, and has to be uuid",
      "public.videos has no column tenant_id (uuid)",
      "public.tenant_members has no column tenant_id (uuid)",
      "public.tenant_members.user_id is of type text, and has to be uuid",
      "public.tenant_members has no column role (text)",
    ],
  ],
  "a view of videos": [
    "create view public.videos as select null::uuid as id, null::uuid as tenant_id",
    ["public.videos has to be an ordinary table"],
  ],
  "videos without a key": [
    "create table public.videos (id uuid, tenant_id uuid)",
    ["public.videos.id has to be the primary key, or unique"],
  ],
  "a state without a key": [
    "create table public.video_database_state (id int primary key, video_id uuid, database_name text, tenant_id uuid, server_version int, wasabi_version int, wasabi_synced_at timestamptz, lock_holder_user_id text, lock_type text, locked_at timestamp, last_activity_at timestamptz)",
    [
      "public.video_database_state has to have the primary key (video_id, database_name)",
      "public.video_database_state.locked_at is of type timestamp without time zone, and has to be timestamp with time zone",
    ],
  ],
  "rows and columns of a state": [
    PROJECTS.seed.migrations["20240101000000_videos.sql"] +
    `alter table public.video_database_state add column editor text not null default 'x', add column lock_id text;
     alter table public.video_database_state alter column editor drop default;
     update public.video_database_state set database_name = 'My Layout' where database_name = 'layout';`,
    [
      "public.video_database_state.editor is a column without a default that may not be null",
      "public.video_database_state has a column lock_id already",
      "has database names that do not match",
      "'My Layout'",
    ],
  ],
  "names": [
    `create schema holdfast;
     create table public.held_locks (id int);
     create type public.waiting_locks as enum ('a');
     create view public.video_database_lock_history as select 1 as one;
     create function public.release_lock(video_id uuid, database_name text) returns int language sql as 'select 1';
     create function public.acquire_lock(p_video uuid, p_database text) returns boolean language sql as 'select true';
     create function public.renew_lock(uuid, text, uuid, integer, boolean, text[]) returns int language sql as 'select 1';
     create function public.assert_lock_held(fencing_token text, video_id text, database_name text) returns int language sql as 'select 1';
     create function public.release_expired_locks() returns int language sql as 'select 1';`,
    [
      "there is a schema holdfast, which is not Holdfast's",
      "there is a public.held_locks already",
      "there is a public.waiting_locks already",
      "there is a public.video_database_lock_history already",
      "a call of public.acquire_lock(uuid, text) could be one of Holdfast's, too",
      "a call of public.release_lock(uuid, text) could be one of Holdfast's, too",
      "a call of public.renew_lock(uuid, text, uuid, integer, boolean, text[]) could be one of Holdfast's, too",
      "a call of public.assert_lock_held(text, text, text) could be one of Holdfast's, too",
      "a call of public.release_expired_locks() could be one of Holdfast's, too",
    ],
  ],
};
for (const [what, [script, named]] of Object.entries(IN_THE_WAY)) {
  Deno.test(`what is in the way is named in one error, and nothing is changed: ${what}`, async () => {
    const db = await database(script);
    const before = await structure(db);
    const error = await assertRejects(async () => db.migrate(await migration()), Error);
    assertStringIncludes(error.message, "Holdfast was not installed, and nothing was changed");
    for (const one of named) assertStringIncludes(error.message, one);
    assertEquals(
      error.message.split("\n- ").length - 1,
      what.startsWith("rows") ? 3 : named.length,
    );
    assertEquals(await structure(db), before);
  });
}

Deno.test("a query for members that does not give what is needed is in the way, too", async () => {
  for (
    const [query, why] of [
      ["select 1 as tenant_id, null::uuid as user_id, 'x' as role", "tenant_id integer"],
      ["select nothing from nowhere", 'relation "nowhere" does not exist'],
      ["select null::uuid as tenant_id, null::uuid as user_id", "column m.role does not exist"],
    ]
  ) {
    const db = await database();
    await assertRejects(async () => db.migrate(await migration(query)), Error, why);
    assertEquals(await db.query("select to_regnamespace('holdfast') as holdfast"), [
      { holdfast: null },
    ]);
  }
});

Deno.test("Holdfast is not installed twice", async () => {
  const db = await database(await migration());
  await assertRejects(
    async () => db.migrate(await migration()),
    Error,
    "Holdfast is installed in this database already",
  );
});

const PUBLICATIONS: Record<string, [script: string, asAdmin: boolean, notice: string]> = {
  "is not there": ["drop publication supabase_realtime", false, "There is no publication"],
  "is for all tables": [
    "drop publication supabase_realtime; create publication supabase_realtime for all tables",
    true,
    "it has video_database_state already",
  ],
  "is another's": [
    "alter publication supabase_realtime owner to supabase_admin",
    true,
    "must be owner of publication",
  ],
};
for (const [what, [script, asAdmin, notice]] of Object.entries(PUBLICATIONS)) {
  Deno.test(`a publication supabase_realtime that ${what} is a notice, and the migration goes on`, async () => {
    const db = await database();
    await (asAdmin ? db.admin(script) : db.query(script));
    await db.migrate(await migration());
    assertStringIncludes(db.notices.join("\n"), notice);
    assertEquals(await db.query("select count(*) from public.held_locks"), [{ count: "0" }]);
  });
}

Deno.test("a removal refuses to take along what the project has built on Holdfast", async () => {
  const db = await database(
    await migration(),
    "create table public.notes (database_name holdfast.database_name); create view public.who as select * from holdfast.membership",
  );
  const refused = async (named: string) => {
    const { message } = await assertRejects(() => db.migrate(files.removal), Error);
    assertStringIncludes(message, "Holdfast was not removed, and nothing was changed");
    assertStringIncludes(message, named);
  };
  await refused("view who depends on view holdfast.membership");
  await db.query("drop view public.who");
  await refused("column database_name of table notes depends on type holdfast.database_name");
  await db.query("drop table public.notes");
  await db.migrate(files.removal);
});

Deno.test("a removal takes the guards off, and keeps what a live lease's holder has", async () => {
  const db = await database(
    ...migrationsOf(PROJECTS.seed),
    await migration(),
    `create table public.captions (video_id uuid, text text);
     create table public.parts (video_id uuid, part int) partition by list (part);
     create table public.parts_1 partition of public.parts for values in (1);
     select holdfast.guard('public.captions', database => 'captions');
     select holdfast.guard('public.parts', database => 'layout');
     update public.video_database_state set lock_expires_at = now() - interval '1 second' where lock_holder_user_id = 'process-b'`,
    files.removal,
    `insert into public.captions values ('${A}', 'free'); insert into public.parts values ('${A}', 1)`,
  );
  assertEquals(
    await db.query(
      "select lock_holder_user_id, lock_type from public.video_database_state where lock_type is not null order by 1",
    ),
    [
      { lock_holder_user_id: USER, lock_type: "client" },
      { lock_holder_user_id: "process-a", lock_type: "server" },
    ],
  );
});

Deno.test("the migration waits for open transactions in short tries, so that others get on meanwhile", async () => {
  const db = await database(...migrationsOf(PROJECTS.seed));
  const [open, other] = [await db.session(), await db.session()];
  await other.query("set statement_timeout = '2s'");
  await open.query("begin; select * from public.video_database_state for update");
  const migrated = db.migrate(await migration());
  let slowest = 0;
  for (const end = Date.now() + 1000; Date.now() < end;) {
    const asked = performance.now();
    await other.query("update public.videos set status = 'new' where id = $1", [videoId(3)]);
    await other.query("select count(*) from public.video_database_state");
    slowest = Math.max(slowest, performance.now() - asked);
  }
  await open.query("commit");
  await migrated;
  assert(slowest < 800, `a request waited ${slowest} ms`);
  assertEquals((await db.query("select * from public.held_locks")).length, 3);
});
