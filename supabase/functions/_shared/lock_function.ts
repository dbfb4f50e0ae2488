import type * as z from "zod/mini";
import { busyAnswer, isBusy, type Outcome } from "./busy_answer.ts";
import type { BrokenRule, ErrorBody } from "./contract.ts";
import { callDatabase, credentialsOf } from "./data_api.ts";
import { errorOfReply } from "./error_of_reply.ts";
import { type ErrorKind, ERRORS, RequestError } from "./errors.ts";
import type { LogDraft, LogLine } from "./log.ts";
import { readJsonObject } from "./read_json_object.ts";
import { DEADLINE_MS, MESSAGES } from "./rules.ts";

/** What makes one lock function different from the others. */
export interface LockFunction {
  /** Name of the function, as in its URL. */
  name: string;
  /** The database function that decides. Its arguments are the fields of the request. */
  rpc: string;
  /** The field of the answer that says yes or no. */
  outcome: Outcome;
  /** Rules of the request's fields. Unknown fields have to be errors: `z.strictObject`. */
  request: z.ZodMiniType<Record<string, unknown>>;
}

const HEADERS = {
  "Access-Control-Allow-Origin": "*",
  // all that supabase-js sends, and x-region, which `invoke` sends for its option `region`
  "Access-Control-Allow-Headers":
    "authorization, x-client-info, apikey, content-type, x-retry-count, x-region, traceparent, tracestate, baggage",
  "Access-Control-Allow-Methods": "POST, OPTIONS",
  "Access-Control-Expose-Headers": "x-request-id, retry-after",
  "Access-Control-Max-Age": "86400",
  "Cache-Control": "no-store",
};

/**
 * Makes one lock function: check the request, pass it on with the caller's own credentials as one call of one database
 * function, and answer what that answers.
 *
 * @param definition What makes this function different from the others.
 * @returns What its module exports as default. `fetch` never throws: every failure is an answer of the error table, with
 * CORS headers, without which a browser would report a CORS error instead.
 */
export function lockFunction(
  definition: LockFunction,
): { fetch(request: Request): Promise<Response> } {
  return {
    async fetch(request) {
      const started = performance.now();
      const draft: LogDraft = {
        request_id: crypto.randomUUID(),
        function: definition.name,
        ...traceOf(request.headers),
      };
      const response = request.method === "OPTIONS"
        ? new Response(null, { status: 204 })
        : await respond(definition, request, draft);
      for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
      response.headers.set("x-request-id", draft.request_id);
      if (request.method !== "OPTIONS") {
        const { outcome = "", cause, ...known } = draft;
        const line: LogLine = {
          ...known,
          outcome,
          status: response.status,
          ms: Math.round(performance.now() - started),
          ...(cause === undefined ? {} : { cause }),
        };
        console.log(JSON.stringify(line));
      }
      return response;
    },
  };
}

/** The caller's trace, if it is one: what is passed on and logged is no free text. */
function traceOf(headers: Headers): { traceparent?: string } {
  const traceparent = headers.get("traceparent") ?? "";
  return /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)
    ? { traceparent }
    : {};
}

async function respond(
  definition: LockFunction,
  request: Request,
  draft: LogDraft,
): Promise<Response> {
  try {
    const answer = await decide(definition, request, draft);
    draft.outcome = answer[definition.outcome] ? definition.outcome : String(answer.reason);
    return Response.json(answer);
  } catch (error) {
    const known = error instanceof RequestError
      ? error
      : new RequestError("INTERNAL_ERROR", { cause: error });
    // a caller who hung up gets no answer, and that is no sign of a database in trouble
    draft.outcome = request.signal.aborted ? "CALLER_GONE" : known.code;
    // what the caller does not see; never a header of the request, where the credentials are
    draft.cause = known.cause instanceof Error ? known.cause.stack : known.cause;
    return errorResponse(known);
  }
}

async function decide(
  { request: rules, rpc, outcome }: LockFunction,
  request: Request,
  draft: LogDraft,
): Promise<Record<string, unknown>> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  if (request.method !== "POST") {
    await request.body?.cancel();
    throw new RequestError("METHOD_NOT_ALLOWED");
  }
  const credentials = credentialsOf(request.headers);
  const parsed = rules.safeParse(await readJsonObject(request, deadline));
  if (!parsed.success) {
    throw new RequestError("INVALID_REQUEST", { details: brokenRules(parsed.error.issues) });
  }
  const args = withoutNulls(parsed.data);
  for (const field of ["video_id", "database_name", "database_names"] as const) {
    if (args[field] !== undefined) Object.assign(draft, { [field]: args[field] });
  }
  const call = {
    name: rpc,
    args,
    credentials,
    requestId: draft.request_id,
    traceparent: draft.traceparent,
    signal: AbortSignal.any([request.signal, deadline]),
  };
  let reply = await callDatabase(call);
  if (isBusy(reply)) reply = await callDatabase(call); // it was busy for a moment, mostly
  if (isBusy(reply)) {
    const busy = busyAnswer(outcome, args, reply.date);
    if (busy) return { ...busy };
  }
  const answer = reply.body as Record<string, unknown> | null | undefined;
  if (reply.status === 200 && typeof answer?.[outcome] === "boolean") return answer;
  throw errorOfReply(reply);
}

/** An optional field that is null counts as left out. */
function withoutNulls(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
}

/** Every broken rule once, by the field that breaks it. */
function brokenRules(issues: z.core.$ZodIssue[]): BrokenRule[] {
  const rules = issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((path) => ({ path, message: MESSAGES.unknown }))
      : [{ path: String(issue.path[0]), message: issue.message }]
  );
  return rules.filter(({ path, message }, i) =>
    i === rules.findIndex((other) => other.path === path && other.message === message)
  );
}

function errorResponse({ code, message, details, hint }: RequestError): Response {
  const body: ErrorBody = { code, message, ...(details === undefined ? {} : { details }), hint };
  const { status, headers = {} }: ErrorKind = ERRORS[code];
  return Response.json(body, { status, headers });
}
