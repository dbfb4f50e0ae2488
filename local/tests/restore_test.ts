// A dump writes what was granted, and does not revoke what the target grants by itself. docs say to run
// holdfast.repair_privileges() after a restore; here that is done with a real pg_dump, of PostgreSQL 18.
import { assert, assertEquals } from "@std/assert";
import { ownMigrations } from "../../tools/migrations.ts";
import { dump } from "../../tools/pg_dump.ts";
import { query, startScratchServer } from "../../tools/scratch_server.ts";

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
  await using server = await startScratchServer();
  const source = await server.database(...(await ownMigrations()).values());
  const target = await server.database(OLDER_DEFAULTS);
  const right = await query(source, PRIVILEGES);
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
