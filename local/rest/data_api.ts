import { App } from "@supabase/lite";
// @ts-types="@types/pg"
import pg from "pg";
import { apiError, databaseError } from "./api_error.ts";
import { jsonTypes } from "./json_types.ts";
import { readCatalog, RequestConnection } from "./lite_connection.ts";
import { type Caller, readRoleSettings, requestContext, type Settings } from "./request_context.ts";
import { callFunction, findFunction, NotOneRow, readCall, readFunctions } from "./rpc.ts";
import { schemaCache } from "./schema_cache.ts";
import { tokenVerifier } from "./verify_token.ts";

/** Where the Data API finds its database, and whom it believes. */
export interface DataApiOptions {
  /** For the role `authenticator`, which owns nothing and may only become the caller's role. */
  authenticatorUrl: string;
  /** Reads the catalog, which shows `authenticator` nothing. */
  adminUrl: string;
  /** Verifies the tokens of users. */
  jwtSecret: string;
  /** The exposed schemas. The first one is meant where a request names none. */
  schemas: string[];
  /** Where names without a schema are looked for, after the schema of the request. */
  extra_search_path: string[];
  /** The most rows that one answer has. */
  max_rows: number;
}

/** The API over the tables and functions of the exposed schemas. */
export interface DataApi {
  /** Answers a request below `/rest/v1`. */
  fetch(request: Request): Promise<Response>;
  close(): Promise<void>;
}

/**
 * Starts the Data API: `@supabase/lite`, brought to what PostgREST does where the two differ and it matters.
 *
 * - It never grants anything. Each request runs as the role of its token, in one transaction, with that role's
 *   settings and the `request.*` settings of PostgREST.
 * - `POST /rpc/…` is one statement, of PostgREST's shape, and one transaction.
 * - An error of the database keeps its own code and message, and gets PostgREST's status.
 *
 * @param options See {@linkcode DataApiOptions}.
 * @returns The API, which recovers by itself when the database was away.
 */
export async function startDataApi(options: DataApiOptions): Promise<DataApi> {
  const { schemas, extra_search_path, max_rows } = options;
  const verify = await tokenVerifier(options.jwtSecret);
  const schema = await schemaCache(options.adminUrl, (client) => readSchema(client, schemas));
  const pool = new pg.Pool({
    connectionString: options.authenticatorUrl,
    max: 10,
    connectionTimeoutMillis: 10_000,
    application_name: "data-api",
    types: jsonTypes,
  });
  // A connection that breaks is noticed by the query that needs it; it is no reason to end the process.
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));

  const context = (caller: Caller, more: Settings = []) =>
    requestContext(caller, extra_search_path, [
      ...(schema.current.roleSettings.get(caller.role) ?? []),
      ...more,
    ]);
  const connection = new RequestConnection(pool, () => schema.current.catalog, context);
  const lite = new App({
    connection,
    api: {
      enabled: true,
      schemas,
      extra_search_path,
      max_rows,
      pg_safe_update: true,
    },
    auth: { enabled: false },
    storage: { enabled: false },
  });

  /** Calls a function, or leaves it to lite. */
  async function rpc(caller: Caller, name: string, body: string): Promise<Response | null> {
    const call = readCall(caller.request, body);
    if (!call) return null;
    const find = ({ functions }: typeof schema.current) =>
      findFunction(functions, caller.schema, name, call);
    const fn = find(schema.current) ?? find(await schema.reload());
    if (!fn) return null;
    const client = await pool.connect();
    try {
      await client.query(fn.readOnly ? "begin read only" : "begin read write");
      await client.query(context(caller, fn.settings));
      const answer = await callFunction(client, caller.role, fn, call, max_rows);
      await client.query("commit");
      client.release();
      return answer;
    } catch (error) {
      await client.query("rollback").then(() => client.release(), () => client.release(true));
      throw error;
    }
  }

  /** The answer about a table that there is not, which lite would log as an error of its own. */
  async function unknown(schemaName: string, name: string): Promise<Response | null> {
    const has = ({ catalog }: typeof schema.current) =>
      [...catalog.tables, ...catalog.views].some((r) => r.schema === schemaName && r.name === name);
    if (has(schema.current) || has(await schema.reload())) return null;
    const message = `Could not find the table '${schemaName}.${name}' in the schema cache`;
    return apiError(404, { code: "PGRST205", message });
  }

  async function rest(caller: Caller): Promise<Response> {
    const { request, path } = caller;
    const body = request.body && await request.arrayBuffer();
    const [, isRpc, name] = /^\/(rpc\/)?([^/]+)$/.exec(decoded(path)) ?? [];
    if (name && schemas.includes(caller.schema)) {
      const text = () => new TextDecoder().decode(body ?? undefined);
      const answer = isRpc ? await rpc(caller, name, text()) : await unknown(caller.schema, name);
      if (answer) return answer;
    }
    // lite never sees the token: who calls is settled, and told to the database by the connection
    const headers = new Headers(request.headers);
    headers.delete("authorization");
    headers.set(profileOf(request), caller.schema);
    const inner = new Request(request.url, { method: request.method, headers, body });
    return await connection.serve(caller, () => lite.fetch(inner));
  }

  return {
    async fetch(request) {
      const claims = await verify(request.headers.get("authorization"));
      if (claims instanceof Response) return claims;
      const role = typeof claims.role === "string" && claims.role ? claims.role : "anon";
      const path = new URL(request.url).pathname.replace(/^\/rest\/v1/, "");
      const schema = request.headers.get(profileOf(request)) ?? schemas[0]!;
      try {
        return await rest({ request, path, schema, claims, role });
      } catch (error) {
        const answer = error instanceof NotOneRow ? error.answer() : databaseError(error, role);
        if (answer) return answer;
        throw error;
      }
    },
    async close() {
      await schema.close();
      await pool.end();
    },
  };
}

/** The header in which a request names its schema. */
function profileOf({ method }: Request): string {
  return method === "GET" || method === "HEAD" ? "accept-profile" : "content-profile";
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path; // names nothing, as it is
  }
}

/** One consistent picture of all that the Data API needs to know about the database. */
async function readSchema(client: pg.Client, schemas: string[]) {
  await client.query("begin isolation level repeatable read read only");
  try {
    const catalog = await readCatalog(client);
    const roleSettings = await readRoleSettings(client);
    await client.query("set local search_path = ''"); // so that types are named with their schema
    const functions = await readFunctions(client, schemas);
    return { catalog, roleSettings, functions };
  } finally {
    await client.query("commit");
  }
}
