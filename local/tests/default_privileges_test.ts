// Older Supabase projects grant everything on whatever a migration creates in `public` to all three API roles, newer
// ones grant nothing. The migrations say what they mean, so that it makes no difference.
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../auth/auth_api.ts";
import { migrate } from "../postgres/migrate.ts";
import { startPostgres } from "../postgres/postgres.ts";
import { prepareDatabase } from "../postgres/prepare_database.ts";
import { makeProject, type Project } from "./support/project.ts";

Deno.test("who may do what is the same in a project with the default privileges of older ones", async () => {
  await using cleanUp = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "holdfast-test-" });
  cleanUp.defer(() => Deno.remove(folder, { recursive: true }));
  const server = await startPostgres({
    directory: join(folder, "postgres"),
    port: 0,
    adminPassword: "secret",
    logFile: join(folder, "postgres.log"),
  });
  cleanUp.defer(() => server.stop());

  await using project = await ownMigrations();
  await query(server.adminUrl, "create database older");
  const privileges: Record<string, unknown[]> = {};
  for (const database of ["postgres", "older"]) {
    const adminUrl = server.adminUrl.replace(/postgres$/, database);
    await prepareDatabase(adminUrl, { password: "secret", authSchema: await authSchema() });
    const url = adminUrl.replace("supabase_admin", "postgres");
    if (database === "older") await query(url, OLDER_DEFAULTS);
    await migrate(url, join(project.path, "supabase"), { seed: { enabled: false, sql_paths: [] } });
    privileges[database] = await query(url, PRIVILEGES);
  }
  assert(privileges.postgres!.length > 20, "there is something to compare");
  assertEquals(privileges.older, privileges.postgres);
});

/** A project with Holdfast's migrations alone: what a user's own ones beside them grant is the user's affair. */
async function ownMigrations(): Promise<Project> {
  const folder = join(import.meta.dirname!, "../../supabase/migrations");
  const files = Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => /^\d+_(videos_and_members|holdfast\w*)\.sql$/.test(name));
  const texts = files.map(async (name) => [
    `migrations/${name}`,
    await Deno.readTextFile(join(folder, name)),
  ]);
  return await makeProject(Object.fromEntries(await Promise.all(texts)));
}

const OLDER_DEFAULTS = ["tables", "functions", "sequences"].map((kind) =>
  `alter default privileges in schema public grant all on ${kind} to anon, authenticated, service_role;`
).join("\n");

// PUBLIC is grantee 0
const PRIVILEGES = `
  select object, coalesce(role.rolname, 'public') as grantee, string_agg(acl.privilege_type, ', ' order by acl.privilege_type) as privileges
  from (
    select oid::regclass::text, coalesce(relacl, acldefault('r', relowner)), relnamespace from pg_class where relkind in ('r', 'v', 'm', 'p')
    union all
    select oid::regclass::text, coalesce(relacl, acldefault('s', relowner)), relnamespace from pg_class where relkind = 'S'
    union all
    select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)), pronamespace from pg_proc
  ) as objects (object, privileges, namespace)
  cross join lateral aclexplode(objects.privileges) as acl
  left join pg_roles role on role.oid = acl.grantee
  where namespace in ('public'::regnamespace, 'holdfast'::regnamespace)
  group by 1, 2
  order by 1, 2
`;

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}
