import type { JWTPayload } from "jose";
// @ts-types="@types/pg"
import pg from "pg";

/** One request to the Data API, and who makes it. */
export interface Caller {
  request: Request;
  /** The path below `/rest/v1`. */
  path: string;
  /** The schema whose tables and functions it means. */
  schema: string;
  claims: JWTPayload;
  role: string;
}

/** Settings to make for the length of one transaction. */
export type Settings = [name: string, value: string][];

/**
 * What PostgREST says to the database before the query of a request, in one statement: who calls (the role and the
 * claims that `auth.uid()` reads), the request itself, the search path, the settings of the role.
 *
 * @param caller The request.
 * @param extraSearchPath Where names are looked for after the schema of the request.
 * @param settings The settings of the caller's role and of what is called.
 * @returns A prepared query to run first in the request's transaction.
 */
export function requestContext(
  { request, path, schema, claims, role }: Caller,
  extraSearchPath: string[],
  settings: Settings,
): pg.QueryConfig {
  const all: Settings = [
    ...settings, // before the role changes, which may not be allowed to set them
    ["search_path", [schema, ...extraSearchPath].map(pg.escapeIdentifier).join(", ")],
    ["role", role],
    ["request.jwt.claims", JSON.stringify({ ...claims, role })],
    ["request.method", request.method],
    ["request.path", path],
    ["request.headers", JSON.stringify(Object.fromEntries(request.headers))],
  ];
  const calls = all.map((_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, true)`);
  return {
    name: `request_context_${all.length}`,
    text: `select ${calls.join(", ")}`,
    values: all.flat(),
  };
}

/**
 * Reads the settings that belong to the roles of the Data API, such as `statement_timeout`. PostgreSQL applies them
 * when a role logs in, and these roles never do.
 *
 * @param client A connection that sees the roles.
 * @returns The settings by role.
 */
export async function readRoleSettings(client: pg.ClientBase): Promise<Map<string, Settings>> {
  const { rows } = await client.query<{ role: string; settings: Settings }>(`
    select r.rolname as role, json_agg(json_build_array(s.name, substr(c, strpos(c, '=') + 1))) as settings
    from pg_catalog.pg_roles r
    cross join unnest(r.rolconfig) c
    join pg_catalog.pg_settings s on s.name = split_part(c, '=', 1)
    where s.context = 'user' and s.name <> 'search_path' and pg_has_role('authenticator', r.oid, 'member')
    group by r.rolname
  `);
  return new Map(rows.map(({ role, settings }) => [role, settings]));
}
