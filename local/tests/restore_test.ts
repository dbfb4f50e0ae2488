// A dump writes what was granted, and does not revoke what the target grants by itself. docs tell to run
// holdfast.repair_privileges() after a restore; here that is done with a real pg_dump, of PostgreSQL 18.
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../auth/auth_api.ts";
import { migrate } from "../postgres/migrate.ts";
import { startPostgres } from "../postgres/postgres.ts";
import { prepareDatabase } from "../postgres/prepare_database.ts";
import { dump } from "./support/pg_dump.ts";

const OLDER_DEFAULTS = ["tables", "functions", "sequences"].map((kind) =>
  `alter default privileges in schema public grant all on ${kind} to anon, authenticated, service_role;`
).join("\n");

/** What PUBLIC and the API's roles may do with Holdfast's objects, columns included, by the catalogs alone. */
const PRIVILEGES = `
  select object, coalesce(r.rolname, 'public') as grantee, a.privilege_type as privilege
  from (
    select c.oid::regclass::text as object, coalesce(c.relacl, acldefault('r', c.relowner)), c.relnamespace
    from pg_class c where c.relkind in ('r', 'v')
    union all
    select a.attrelid::regclass || '.' || a.attname, a.attacl, c.relnamespace
    from pg_attribute a join pg_class c on c.oid = a.attrelid where a.attacl is not null
    union all
    select p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)), p.pronamespace from pg_proc p
    union all
    select 'schema holdfast', n.nspacl, n.oid from pg_namespace n where n.nspname = 'holdfast'
  ) o (object, acl, namespace)
  cross join lateral aclexplode(o.acl) a
  left join pg_roles r on r.oid = a.grantee
  where namespace in ('public'::regnamespace, 'holdfast'::regnamespace) and object !~ '^(videos|tenant_members)'
  order by 1, 2, 3`;
const REPAIR = "select line from holdfast.repair_privileges() line";
const ACQUIRE =
  `set role service_role; select public.acquire_lock(id, 'layout', 'w1') ->> 'acquired' as acquired from public.videos`;

Deno.test("P8 a dump restored into a project that grants everything by default is made whole by repair_privileges", async () => {
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
  const open = async (database: string) => {
    const adminUrl = server.adminUrl.replace(/postgres$/, database);
    await prepareDatabase(adminUrl, { password: "secret", authSchema: await authSchema() });
    return adminUrl.replace("supabase_admin", "postgres");
  };
  await query(server.adminUrl, "create database older");
  const [source, target] = [await open("postgres"), await open("older")];
  await migrate(source, join(import.meta.dirname!, "../../supabase"));
  const right = await query(source, PRIVILEGES);

  await query(target, OLDER_DEFAULTS);
  const text = await dump(source, ["--schema-only", "--schema=public", "--schema=holdfast"]);
  await query(target, text.replace(/^(CREATE SCHEMA public;|COMMENT ON SCHEMA public .*)$/gm, ""));

  const spoiled = await query(target, PRIVILEGES);
  assert(spoiled.length > right.length + 20, "else there would be nothing to repair");
  const said = (await query(target, REPAIR)).map(({ line }) => line);
  for (
    const line of [
      "service_role had: UPDATE on public.video_database_state",
      "anon had: TRUNCATE on public.video_database_lock_history",
      "anon had: EXECUTE on public.acquire_lock",
    ]
  ) assert(said.includes(line), `${line}\n${said.join("\n")}`);
  assertEquals(await query(target, PRIVILEGES), right);
  assertEquals(await query(target, REPAIR), []);

  await query(
    target,
    "insert into public.videos (tenant_id, storage_key, status) values (gen_random_uuid(), 'k', 'ready')",
  );
  assertEquals(await query(target, ACQUIRE), [{ acquired: "true" }], "and it works");
});

/** Runs one or more statements; the rows of the last. */
async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const results = [await client.query(sql)].flat();
    return results.at(-1)!.rows;
  } finally {
    await client.end();
  }
}
