// @ts-types="@types/pg"
import pg from "pg";
import { apiError } from "./api_error.ts";

/** A function of an exposed schema, as far as calling it goes. */
export interface DatabaseFunction {
  schema: string;
  name: string;
  /** It only reads: stable or immutable. */
  readOnly: boolean;
  returnsSet: boolean;
  returnsRow: boolean;
  returnsVoid: boolean;
  arguments: { name: string; type: string; required: boolean }[];
  /** Its own settings that count for the whole transaction, such as `statement_timeout`. */
  settings: [name: string, value: string][];
}

/** What a caller wants of a function. */
export interface Call {
  /** The text of a JSON object with the arguments. */
  body: string;
  /** The names of the arguments in it. */
  given: string[];
  /** The caller accepts exactly one row, not in an array. */
  singular: boolean;
}

/**
 * Reads the functions that this module can call from the catalog. What needs more of PostgREST (variadic or unnamed
 * arguments, domains, media types) is left out.
 *
 * @param client A connection that sees every function.
 * @param schemas The exposed schemas.
 */
export async function readFunctions(
  client: pg.ClientBase,
  schemas: string[],
): Promise<DatabaseFunction[]> {
  const { rows } = await client.query<DatabaseFunction>(FUNCTIONS, [schemas]);
  return rows;
}

const FUNCTIONS = `
  select
    n.nspname as "schema",
    p.proname as "name",
    p.provolatile <> 'v' as "readOnly",
    p.proretset as "returnsSet",
    t.typtype = 'c' or p.prorettype = 'record'::regtype as "returnsRow",
    p.prorettype = 'void'::regtype as "returnsVoid",
    coalesce((
      select json_agg(json_build_object(
        'name', a.name, 'type', format_type(a.type, null), 'required', a.n <= p.pronargs - p.pronargdefaults
      ) order by a.n)
      from (
        select coalesce(x.name, '') as name, x.type, row_number() over (order by x.ord) as n
        from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
          with ordinality as x (type, name, mode, ord)
        where coalesce(x.mode, 'i') in ('i', 'b')
      ) a
    ), '[]') as "arguments",
    coalesce((
      select json_agg(json_build_array(split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)))
      from unnest(p.proconfig) c
      where split_part(c, '=', 1) in ('statement_timeout', 'default_transaction_isolation')
    ), '[]') as "settings"
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_type t on t.oid = p.prorettype
  where p.prokind = 'f' and n.nspname = any ($1) and p.provariadic = 0 and t.typtype <> 'd'
    and (p.prorettype <> 'record'::regtype or p.proargmodes is not null)
    and not exists (select from unnest(p.proargnames) x where x = '') and (p.pronargs = 0 or p.proargnames is not null)
`;

/**
 * Reads a call that this module answers: `POST` with a JSON object, and no option that asks for more than the plain
 * result.
 *
 * @param request The request, whose body has been read already.
 * @param body The text of the body; an empty one stands for no arguments.
 * @returns The call, or `null` when it is another one.
 */
export function readCall(request: Request, body: string): Call | null {
  const accept = request.headers.get("accept") ?? "*/*";
  const singular = accept.startsWith("application/vnd.pgrst.object");
  if (request.method !== "POST" || new URL(request.url).search) return null;
  if (!singular && !/application\/json|\*\/\*/.test(accept) || accept.includes("nulls=stripped")) {
    return null;
  }
  if (!(request.headers.get("content-type") ?? "application/json").startsWith("application/json")) {
    return null;
  }
  if (/count=|tx=|max-affected|handling=/.test(request.headers.get("prefer") ?? "")) return null;

  const text = body.trim() || "{}";
  const value = parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  return { body: text, given: Object.keys(value), singular };
}

/**
 * Finds the function that a call means.
 *
 * @param functions The functions of the exposed schemas.
 * @param schema The schema that the request means.
 * @param name The function's name.
 * @param call The call.
 * @returns The one function of that name that takes just these arguments; `null` when there is none, or more than one.
 */
export function findFunction(
  functions: DatabaseFunction[],
  schema: string,
  name: string,
  { given }: Call,
): DatabaseFunction | null {
  const [fn, ...others] = functions.filter((fn) =>
    fn.schema === schema && fn.name === name && given.every((key) =>
      fn.arguments.some((argument) => argument.name === key)
    ) &&
    fn.arguments.every((argument) => !argument.required || given.includes(argument.name))
  );
  return fn && others.length === 0 ? fn : null;
}

/**
 * Calls a function as PostgREST does, in one statement: PostgreSQL itself turns the JSON into arguments, and the
 * result into JSON.
 *
 * @param client A connection in a transaction that knows its caller already.
 * @param role The caller's role.
 * @param fn From {@linkcode findFunction}.
 * @param call From {@linkcode readCall}.
 * @param maxRows The most rows that the answer has.
 * @returns The answer.
 * @throws {NotOneRow} When the caller wanted one row.
 */
export async function callFunction(
  client: pg.ClientBase,
  role: string,
  fn: DatabaseFunction,
  { body, given, singular }: Call,
  maxRows: number,
): Promise<Response> {
  const text = statement(fn, given, singular, maxRows);
  const { rows: [result] } = await client.query({
    name: await shortName(role, text),
    text,
    values: given.length > 0 ? [body] : [],
  });
  if (singular && result.rows !== 1) throw new NotOneRow(result.rows);

  const headers = new Headers();
  headers.set("content-range", result.rows > 0 ? `0-${result.rows - 1}/*` : "*/*");
  for (const header of JSON.parse(result.headers || "[]")) {
    for (const [name, value] of Object.entries(header)) headers.set(name, String(value));
  }
  const status = Number(result.status) || (fn.returnsVoid ? 204 : 200);
  if (status === 204) return new Response(null, { status, headers });
  if (!headers.has("content-type")) {
    headers.set(
      "content-type",
      `application/${singular ? "vnd.pgrst.object+json" : "json"}; charset=utf-8`,
    );
  }
  return new Response(fn.returnsVoid ? "" : result.body, { status, headers });
}

/** The caller wanted one row, and the function gave another number of them; what it did is undone. */
export class NotOneRow extends Error {
  constructor(readonly rows: number) {
    super();
  }

  answer(): Response {
    return apiError(406, {
      code: "PGRST116",
      message: "Cannot coerce the result to a single JSON object",
      details: `The result contains ${this.rows} rows`,
    });
  }
}

function statement(
  fn: DatabaseFunction,
  given: string[],
  singular: boolean,
  maxRows: number,
): string {
  const used = fn.arguments.filter(({ name }) => given.includes(name));
  const columns = used.map(({ name, type }) => `${id(name)} ${type}`).join(", ");
  const values = used.map(({ name }) => `${id(name)} := pgrst_body.${id(name)}`).join(", ");
  const call = `${id(fn.schema)}.${id(fn.name)}(${values})`;
  const input = used.length > 0
    ? `(select $1::json as json_data) pgrst_payload,
       lateral (select * from json_to_record(pgrst_payload.json_data) as _(${columns})) pgrst_body`
    : "";
  const limit = fn.returnsSet ? `limit ${maxRows}` : "";
  const source = fn.returnsRow
    ? `select pgrst_call.* from ${input && `${input}, lateral `}${call} pgrst_call ${limit}`
    : `select ${call} as pgrst_scalar ${input && `from ${input}`} ${limit}`;
  const item = fn.returnsRow ? "pgrst_source" : "pgrst_source.pgrst_scalar";
  const result = fn.returnsSet && !singular
    ? `coalesce(json_agg(${item}), '[]')::text`
    : `coalesce((json_agg(${item}) -> 0)::text, 'null')`;
  return `
    with pgrst_source as (${source})
    select
      ${result} as body,
      count(*)::int as rows,
      current_setting('response.status', true) as status,
      current_setting('response.headers', true) as headers
    from pgrst_source`;
}

/**
 * A name for a prepared statement, of up to 63 bytes. Each role has its own: PostgreSQL may put a function's body into
 * the plan, checks the right to call it when it does, and would let the next role use that plan.
 */
async function shortName(role: string, text: string): Promise<string> {
  const key = `${role} ${text}`;
  const known = names.get(key);
  if (known) return known;
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(key));
  const name = `rpc_${new Uint8Array(digest).toHex().slice(0, 32)}`;
  names.set(key, name);
  return name;
}

const names = new Map<string, string>();

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const id = pg.escapeIdentifier;
