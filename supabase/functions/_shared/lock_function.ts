import { corsHeaders } from "@supabase/supabase-js/cors";
import type { z } from "zod";
import { callDatabase, credentialsOf } from "./data_api.ts";
import { type BrokenRule, ERRORS, RequestError } from "./errors.ts";
import { readJsonObject } from "./read_json_object.ts";

/** What makes one lock function different from the others. */
export interface LockFunction {
  /** Name of the function, as in its URL. */
  name: string;
  /** The database function that decides. Its arguments are the fields of the request. */
  rpc: string;
  /** The field of the answer that says yes or no. */
  outcome: string;
  /** Rules of the request's fields. Unknown fields have to be refused: `z.strictObject`. */
  request: z.ZodType<Record<string, unknown>>;
}

const HEADERS = {
  ...corsHeaders,
  "Access-Control-Allow-Methods": "POST, OPTIONS",
  "Access-Control-Expose-Headers": "x-request-id, retry-after",
  "Access-Control-Max-Age": "86400",
  "Cache-Control": "no-store",
};

/**
 * Makes the handler of one lock function: check the request, pass it on with the caller's own credentials as one
 * call of one database function, and answer what that answers.
 *
 * @param definition What makes this function different from the others.
 * @returns A handler for `Deno.serve`. It never throws: every failure is an answer of the error table, with CORS
 * headers, without which a browser would report a CORS error instead.
 */
export function lockFunction(definition: LockFunction): (request: Request) => Promise<Response> {
  return async (request) => {
    const started = performance.now();
    const requestId = crypto.randomUUID();
    const entry: Record<string, unknown> = { request_id: requestId, function: definition.name };
    let response: Response;
    try {
      response = request.method === "OPTIONS"
        ? new Response(null, { status: 204 })
        : Response.json(await decide(definition, request, entry));
    } catch (error) {
      response = errorResponse(error, entry);
      // nobody gets this answer, and it is no sign of a database in trouble
      if (request.signal.aborted) entry.outcome = "CALLER_GONE";
    }
    for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
    response.headers.set("x-request-id", requestId);
    if (request.method !== "OPTIONS") {
      entry.status = response.status;
      entry.ms = Math.round(performance.now() - started);
      console.log(JSON.stringify(entry));
    }
    return response;
  };
}

async function decide(
  { request: rules, rpc, outcome }: LockFunction,
  request: Request,
  entry: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  if (request.method !== "POST") {
    await request.body?.cancel();
    throw new RequestError("METHOD_NOT_ALLOWED");
  }
  const credentials = credentialsOf(request.headers);
  const parsed = rules.safeParse(await readJsonObject(request));
  if (!parsed.success) {
    throw new RequestError("INVALID_REQUEST", {
      details: parsed.error.issues.flatMap(brokenRules),
    });
  }
  entry.video_id = parsed.data.video_id;
  entry.database_name = parsed.data.database_name;
  const { answer, tenantId } = await callDatabase(rpc, parsed.data, credentials, request.signal);
  if (typeof answer[outcome] !== "boolean") {
    throw new RequestError("DATABASE_UNAVAILABLE", { cause: { answer } });
  }
  entry.tenant_id = tenantId;
  entry.outcome = answer[outcome] ? outcome : answer.reason;
  return answer;
}

function brokenRules(issue: z.core.$ZodIssue): BrokenRule[] {
  return issue.code === "unrecognized_keys"
    ? issue.keys.map((path) => ({ path, message: "is not a field of this request" }))
    : [{ path: issue.path.join("."), message: issue.message }];
}

function errorResponse(error: unknown, entry: Record<string, unknown>): Response {
  const known = error instanceof RequestError
    ? error
    : new RequestError("INTERNAL_ERROR", { cause: error });
  const { code, message, details, hint, cause } = known;
  entry.outcome = code;
  // what the caller is not told; never a header of the request, where the credentials are
  if (cause !== undefined) entry.cause = cause instanceof Error ? cause.stack : cause;
  return Response.json({ code, message, ...(details === undefined ? {} : { details }), hint }, {
    status: ERRORS[code].status,
    headers: {
      ...(code === "METHOD_NOT_ALLOWED" ? { Allow: "POST, OPTIONS" } : {}),
      ...(code === "DATABASE_UNAVAILABLE" ? { "Retry-After": "1" } : {}),
    },
  });
}
