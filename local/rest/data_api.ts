import { App } from "@supabase/lite";
// @ts-types="@types/pg"
import pg from "pg";
import { apiError, databaseError } from "./api_error.ts";
import { jsonTypes } from "./json_types.ts";
import { readCatalog, RequestConnection } from "./lite_connection.ts";
import { type Caller, readRoleSettings, requestContext, type Settings } from "./request_context.ts";
import { callFunction, findFunction, NotOneRow, readCall, readFunctions } from "./rpc.ts";
import { type SchemaCache, schemaCache } from "./schema_cache.ts";
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
  const verify = await tokenVerifier(options.jwtSecret);
  const read = (client: pg.Client) => readSchema(client, options.schemas);
  return new Api(options, verify, await schemaCache(options.adminUrl, read));
}

class Api implements DataApi {
  readonly #pool: pg.Pool;
  readonly #connection: RequestConnection;
  readonly #lite: App;

  constructor(
    readonly options: DataApiOptions,
    readonly verify: Awaited<ReturnType<typeof tokenVerifier>>,
    readonly schema: SchemaCache<Schema>,
  ) {
    const { schemas, extra_search_path, max_rows } = options;
    this.#pool = new pg.Pool({
      connectionString: options.authenticatorUrl,
      max: 10,
      connectionTimeoutMillis: 10_000,
      application_name: "data-api",
      types: jsonTypes,
    });
    // A connection that breaks is noticed by the query that needs it; it is no reason to end the process.
    this.#pool.on("error", () => {});
    this.#pool.on("connect", (client) => client.on("error", () => {}));
    this.#connection = new RequestConnection(
      this.#pool,
      () => schema.current.catalog,
      (caller) => this.#context(caller),
    );
    this.#lite = new App({
      connection: this.#connection,
      api: { enabled: true, schemas, extra_search_path, max_rows, pg_safe_update: true },
      auth: { enabled: false },
      storage: { enabled: false },
    });
  }

  async fetch(request: Request): Promise<Response> {
    const claims = await this.verify(request.headers.get("authorization"));
    if (claims instanceof Response) return claims;
    const role = typeof claims.role === "string" && claims.role ? claims.role : "anon";
    const path = new URL(request.url).pathname.replace(/^\/rest\/v1/, "");
    const schema = request.headers.get(profileOf(request)) ?? this.options.schemas[0]!;
    try {
      return await this.#answer({ request, path, schema, claims, role });
    } catch (error) {
      const answer = error instanceof NotOneRow ? error.answer() : databaseError(error, role);
      if (answer) return answer;
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.schema.close();
    await this.#pool.end();
  }

  #context(caller: Caller, more: Settings = []): pg.QueryConfig {
    const ofRole = this.schema.current.roleSettings.get(caller.role) ?? [];
    return requestContext(caller, this.options.extra_search_path, [...ofRole, ...more]);
  }

  async #answer(caller: Caller): Promise<Response> {
    const { request, path, schema } = caller;
    const body = request.body && await request.arrayBuffer();
    const [, isRpc, name] = /^\/(rpc\/)?([^/]+)$/.exec(decoded(path)) ?? [];
    if (name && this.options.schemas.includes(schema)) {
      const text = () => new TextDecoder().decode(body ?? undefined);
      const answer = isRpc
        ? await this.#rpc(caller, name, text())
        : await this.#unknown(schema, name);
      if (answer) return answer;
    }
    // lite never sees the token: who calls is settled, and the connection says it to the database
    const headers = new Headers(request.headers);
    headers.delete("authorization");
    headers.set(profileOf(request), schema);
    const inner = new Request(request.url, { method: request.method, headers, body });
    return await this.#connection.serve(caller, () => this.#lite.fetch(inner));
  }

  /** Calls a function, or leaves it to lite. */
  async #rpc(caller: Caller, name: string, body: string): Promise<Response | null> {
    const call = readCall(caller.request, body);
    if (!call) return null;
    const find = ({ functions }: Schema) => findFunction(functions, caller.schema, name, call);
    const fn = find(this.schema.current) ?? find(await this.schema.reload());
    if (!fn) return null;
    const client = await this.#pool.connect();
    try {
      await client.query(fn.readOnly ? "begin read only" : "begin read write");
      await client.query(this.#context(caller, fn.settings));
      const answer = await callFunction(client, caller.role, fn, call, this.options.max_rows);
      await client.query("commit");
      client.release();
      return answer;
    } catch (error) {
      await client.query("rollback").then(() => client.release(), () => client.release(true));
      throw error;
    }
  }

  /** The answer about a table that there is not, which lite would log as an error of its own. */
  async #unknown(schemaName: string, name: string): Promise<Response | null> {
    const has = ({ catalog }: Schema) =>
      [...catalog.tables, ...catalog.views].some((r) => r.schema === schemaName && r.name === name);
    if (has(this.schema.current) || has(await this.schema.reload())) return null;
    const message = `Could not find the table '${schemaName}.${name}' in the schema cache`;
    return apiError(404, { code: "PGRST205", message });
  }
}

type Schema = Awaited<ReturnType<typeof readSchema>>;

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
