// supabase/schemas is the database as it is now, supabase/migrations how it came to be so. Here both are applied and
// compared by their catalogs, and the next migration is made, once, of changes that are made here only.
import { assert, assertEquals } from "@std/assert";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { catalogOf, differences } from "../../tools/catalog.ts";
import {
  editedMigrations,
  generatedMigrations,
  ownMigrations,
  releasedMigrations,
  writeNextMigration,
} from "../../tools/migrations.ts";
import { type ScratchServer, startScratchServer } from "../../tools/scratch_server.ts";
import { temporaryFolder } from "./support/project.ts";

const PROJECT = join(import.meta.dirname!, "../..");

let server: ScratchServer;
Deno.test.beforeAll(async () => {
  server = await startScratchServer();
});
Deno.test.afterAll(async () => await server[Symbol.asyncDispose]());

/** The catalog of a new database that has these files, in order. */
async function catalogWith(files: ReadonlyMap<string, string>, ...more: string[]) {
  return await catalogOf(await server.database(...files.values(), ...more));
}

Deno.test("the schemas and the migrations give the same database, by its catalog", async () => {
  const [ofSchemas, ofMigrations] = [
    await catalogWith(await generatedMigrations()),
    await catalogWith(await ownMigrations()),
  ];
  assert([...ofSchemas.keys()].filter((key) => /\t(public|holdfast)\t/.test(key)).length > 200);
  assertEquals(differences(ofMigrations, ofSchemas), [], "run deno task migrations");
});

/** Changes of a database, and the entries of its catalog that they change. */
const CHANGES: [sql: string, ...entries: string[]][] = [
  ["alter table public.videos add column note text", "TABLE public.videos"],
  ["alter table public.videos alter column status set default 'new'", "TABLE public.videos"],
  [
    "alter table public.tenant_members drop constraint tenant_members_role_check",
    "TABLE public.tenant_members",
  ],
  ["alter table holdfast.place alter column lock_id set statistics 0", "TABLE holdfast.place"],
  [
    "alter table public.video_database_state set (fillfactor = 80)",
    "TABLE public.video_database_state",
  ],
  [
    "create index planted on public.videos (status)",
    "INDEX public.planted",
  ],
  [
    "alter table holdfast.cancellation disable row level security",
    "ROW SECURITY holdfast.cancellation",
  ],
  [
    "alter function holdfast.may_see(uuid, uuid) set lock_timeout = '1s'",
    "FUNCTION holdfast.may_see(uuid, uuid)",
  ],
  [
    "create or replace function holdfast.version() returns text language sql immutable set search_path = '' return '9'",
    "FUNCTION holdfast.version()",
  ],
  ["alter function holdfast.clock_token() stable", "FUNCTION holdfast.clock_token()"],
  [
    "drop trigger video_database_lock_history_refuse_truncate on public.video_database_lock_history",
    "TRIGGER public.video_database_lock_history video_database_lock_history_refuse_truncate",
  ],
  ["alter type holdfast.queue add attribute more integer", "TYPE holdfast.queue"],
  [
    "alter domain holdfast.end_reason drop constraint end_reason_check",
    "DOMAIN holdfast.end_reason",
  ],
  ["alter view public.held_locks reset (security_invoker)", "VIEW public.held_locks"],
  ["comment on column public.videos.id is 'another'", "COMMENT public.COLUMN videos.id"],
  [
    "grant execute on function holdfast.line(uuid, text) to anon",
    "ACL holdfast.FUNCTION line(p_video_id uuid, p_database_name text)",
  ],
  [
    "grant update (status) on public.videos to authenticated",
    "ACL public.COLUMN videos.status",
  ],
  [
    "alter policy videos_select_member on public.videos using (true)",
    "POLICY public.videos videos_select_member",
  ],
  [
    "alter publication supabase_realtime add table public.videos",
    "PUBLICATION TABLE public.supabase_realtime videos",
  ],
  [
    "alter default privileges in schema public grant select on tables to anon",
    "DEFAULT ACL public.DEFAULT PRIVILEGES FOR TABLES",
  ],
];

Deno.test("the catalog shows a change of every kind, and nothing where there is none", async () => {
  const migrations = await ownMigrations();
  const [before, same, after] = [
    await catalogWith(migrations),
    await catalogWith(migrations),
    await catalogWith(migrations, CHANGES.map(([sql]) => sql).join(";\n")),
  ];
  assertEquals(differences(before, same), []);
  assertEquals(
    differences(before, after).map(({ type, schema, name }) => `${type} ${schema}.${name}`).sort(),
    [...new Set(CHANGES.flatMap(([, ...entries]) => entries))].sort(),
  );
});

/** What a developer may do in supabase/schemas after a release: by file, this becomes that. */
const EDITS: [file: string, from: string, to: string][] = [
  [
    "61_advance_server_version",
    "set server_version = s.server_version + 1",
    "set server_version = 1 + s.server_version",
  ],
  [
    "24_line",
    "is 'Who waits for the lock, first come first.'",
    "is 'Who waits, first come first.'",
  ],
  [
    "82_schedules",
    "-- Where there is pg_cron",
    `create function holdfast.planted(p_names text[]) returns integer
language sql immutable set search_path = ''
return 1; -- a semicolon; and another
revoke all on function holdfast.planted(text[]) from public, anon, authenticated, service_role;
grant execute on function holdfast.planted(text[]) to service_role;
comment on function holdfast.planted(text[]) is 'It''s new; and
this line ends with one;
too.';

create table holdfast.planted_table (id uuid not null, constraint planted_table_pkey primary key (id));
create index planted_index on holdfast.planted_table (id);
alter table holdfast.planted_table enable row level security;
comment on column holdfast.planted_table.id is 'Some id.';

-- Where there is pg_cron`,
  ],
  [
    "70_views",
    "  clock_timestamp() as server_time\nfrom public.video_database_state s\nwhere",
    "  clock_timestamp() as server_time, s.has_line\nfrom public.video_database_state s\nwhere",
  ],
  [
    "20_video_database_state",
    "using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]))",
    "using (tenant_id = any ((select holdfast.tenants_of_caller())::uuid[]) and true)",
  ],
  [
    "22_place",
    "revoke all on table holdfast.place from public, anon, authenticated, service_role;",
    "revoke all on table holdfast.place from public, anon, authenticated, service_role;\ngrant select on table holdfast.place to service_role;\ncreate index planted_place_idx on holdfast.place (lock_id);",
  ],
  [
    "23_state_triggers",
    "create trigger video_database_lock_history_refuse_truncate\n  before truncate on public.video_database_lock_history\n  for each statement execute function holdfast.refuse_truncate();",
    "",
  ],
  [
    "22_place",
    "  kept_until timestamptz not null,\n",
    "  kept_until timestamptz not null,\n  note text,\n",
  ],
  [
    "22_place",
    "comment on column holdfast.place.kept_until is",
    "comment on column holdfast.place.note is 'A note.';\ncomment on column holdfast.place.kept_until is",
  ],
];

Deno.test("the next migration is made of what changed in the schemas; what it cannot make is named, and then written by hand", async () => {
  await using folder = await temporaryFolder();
  for (const part of ["schemas", "migrations"]) {
    await cp(join(PROJECT, "supabase", part), join(folder.path, part), { recursive: true });
  }
  for (const [file, from, to] of EDITS) {
    const path = join(folder.path, "schemas", `${file}.sql`);
    const text = await Deno.readTextFile(path);
    assertEquals(text.split(from).length, 2, `${file}: ${from}`);
    await Deno.writeTextFile(path, text.replace(from, () => to));
  }
  const made = await writeNextMigration(
    "trial",
    server,
    folder.path,
    new Date("2030-01-02T03:04:05Z"),
  );
  assertEquals(made, {
    name: "20300102030405_holdfast_trial.sql",
    left: ["TABLE holdfast.place"],
    failure: `column "note" of relation "holdfast.place" does not exist`,
  });

  const path = join(folder.path, "migrations", made.name!);
  const text = await Deno.readTextFile(path);
  assert(text.includes("create or replace function holdfast.advance_server_version("), text);
  assert(
    !text.includes("function holdfast.line(uuid, text) from"),
    "what has not changed is left out",
  );
  await Deno.writeTextFile(
    path,
    text.replace("\n\n", "\n\nalter table holdfast.place add column note text;\n\n"),
  );

  const migrations = await ownMigrations(folder.path);
  assertEquals(
    differences(
      await catalogWith(migrations),
      await catalogWith(await generatedMigrations(folder.path)),
    ),
    [],
  );
  assertEquals([...migrations.keys()].slice(0, -1), [...(await ownMigrations()).keys()]);
  const again = await writeNextMigration("again", server, folder.path);
  assertEquals(again, { name: undefined, left: [], failure: undefined });
});

Deno.test("a released migration is never edited, and at a release all are listed", async () => {
  const migrations = await ownMigrations();
  const released = await releasedMigrations();
  assertEquals(await editedMigrations(migrations, released), []);
  // a release renames "Unreleased"; what is written afterwards is released with the next one
  const changelog = await Deno.readTextFile(join(PROJECT, "CHANGELOG.md"));
  if (!/^## Unreleased$/m.test(changelog)) {
    assertEquals(Object.keys(released), [...migrations.keys()], "deno task migrations --release");
  }
  // and it would be noticed: the SHA-256 of "a"
  const a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";
  const files = (text: string) => new Map([["1_holdfast.sql", text]]);
  assertEquals(await editedMigrations(files("a"), { "1_holdfast.sql": a }), []);
  assertEquals(await editedMigrations(files("b"), { "1_holdfast.sql": a }), ["1_holdfast.sql"]);
  assertEquals(await editedMigrations(new Map(), { "1_holdfast.sql": a }), ["1_holdfast.sql"]);
});
