// Older Supabase projects grant everything on what a migration creates in `public` to all three API roles, newer
// ones grant nothing. The migrations say what they mean, so that it makes no difference.
import { assert, assertEquals } from "@std/assert";
import { ownMigrations } from "../../tools/migrations.ts";
import { query, startScratchServer } from "../../tools/scratch_server.ts";

Deno.test("who may do what is the same in a project with the default privileges of older ones", async () => {
  await using server = await startScratchServer();
  // a user's own migrations beside Holdfast's may grant what they like
  const migrations = [...(await ownMigrations()).values()];
  const newer = await query(await server.database(...migrations), PRIVILEGES);
  const older = await query(await server.database(OLDER_DEFAULTS, ...migrations), PRIVILEGES);
  assert(newer.length > 20, "there is something to compare");
  assertEquals(older, newer);
});

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
