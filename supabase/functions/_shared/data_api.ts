import { createClient } from "@supabase/supabase-js";
import { type BrokenRule, RequestError } from "./errors.ts";

/**
 * How long a call may take, in milliseconds, before it is given up. Longer than the 8 s after which the database
 * itself ends a statement, so that in the usual case it is the database that decides.
 */
const TIMEOUT_MS = 10_000;

/** A caller's own credentials. A function has no others. */
export interface Credentials {
  /** Publishable, secret, or legacy API key. */
  apikey: string;
  /** `Bearer <user's access token>`, where there is a user. */
  authorization: string | null;
}

/**
 * Reads the credentials of a request; whether they are good is for the Data API to say.
 *
 * @param headers The request's headers.
 * @returns The credentials. A legacy key that came only as a Bearer token counts as `apikey` too.
 * @throws {RequestError} NOT_AUTHENTICATED where there are none.
 */
export function credentialsOf(headers: Headers): Credentials {
  const header = headers.get("authorization");
  // A key of the new kind is no token: the platform refuses it as one, so it is not passed on as one.
  const authorization = header && !/^bearer\s+sb_/i.test(header) ? header : null;
  const apikey = headers.get("apikey") ?? header?.replace(/^bearer\s+/i, "");
  if (!apikey) throw new RequestError("NOT_AUTHENTICATED");
  return { apikey, authorization };
}

/**
 * Calls one function of the database through the Data API, with the caller's credentials and nothing else.
 *
 * @param name Name of the RPC.
 * @param args Its named arguments.
 * @param credentials Whose call it is.
 * @param signal Aborts the call when the caller has hung up.
 * @returns The answer of the function, and the tenant of the video where the database told it, for the log.
 * @throws {RequestError} What the database or the Data API refused, in the words of the error table.
 */
export async function callDatabase(
  name: string,
  args: Record<string, unknown>,
  { apikey, authorization }: Credentials,
  signal: AbortSignal,
): Promise<{ answer: Record<string, unknown>; tenantId: string | null }> {
  let tenantId: string | null = null;
  const supabase = createClient(Deno.env.get("SUPABASE_URL")!, apikey, {
    // without it the client would keep a session of its own, and timers for it
    accessToken: () => Promise.resolve(null),
    global: {
      // exactly what the caller sent: the client would add the key as a Bearer token
      fetch: async (input, init) => {
        const headers = new Headers(init?.headers);
        headers.delete("authorization");
        if (authorization) headers.set("authorization", authorization);
        const response = await fetch(input, { ...init, headers });
        tenantId = response.headers.get("x-tenant-id");
        return response;
      },
    },
  });
  const { data, error, status } = await supabase.rpc(name, args)
    .abortSignal(AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]));
  if (error) throw refusal(status, error);
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    throw new RequestError("DATABASE_UNAVAILABLE", { cause: { status, answer: data } });
  }
  return { answer: data, tenantId };
}

/** What the Data API says of an error; all but the message may be missing when something else answered. */
interface DataApiError {
  code?: string | null;
  message?: string | null;
  details?: string | null;
  hint?: string | null;
}

// SQLSTATEs and PostgREST codes that mean: not now. Connection lost (08), out of resources (53), shut down or crashed
// (57P), statement or lock timeout (57014, 55P03), deadlock or serialization failure (40), no connection (PGRST00x).
const NOT_NOW = /^(08|53|57P|57014|55P03|40|PGRST00)/;

function refusal(status: number, error: DataApiError): RequestError {
  const code = error.code ?? "";
  // what the SQL functions raise themselves is written for the caller
  const own = {
    ...(error.message ? { message: error.message } : {}),
    ...(error.hint ? { hint: error.hint } : {}),
    cause: error,
  };
  if (code === "PT400") {
    return new RequestError("INVALID_REQUEST", { ...own, details: brokenRules(error.details) });
  }
  if (code === "PT403") return new RequestError("FORBIDDEN", own);
  if (code === "PT404") return new RequestError("VIDEO_NOT_FOUND", own);
  if (code === "PT500") {
    return new RequestError("INTERNAL_ERROR", { ...own, details: error.details ?? "" });
  }
  // No UUID of the arguments gets here unchecked, so it is the one that auth.uid() reads: a valid token, as of a third-party
  // sign-in, whose subject names no user of this project.
  const noUser = code === "22P02" && error.message?.includes("type uuid");
  if (status === 401 || noUser) return new RequestError("NOT_AUTHENTICATED", { cause: error });
  if (status === 403) return new RequestError("FORBIDDEN", { cause: error });
  // status 0: no answer at all. No code: something between here and the Data API answered.
  const unavailable = status === 0 || NOT_NOW.test(code) ||
    !code && (status >= 500 || status === 429);
  return new RequestError(unavailable || status < 400 ? "DATABASE_UNAVAILABLE" : "INTERNAL_ERROR", {
    cause: { status, ...error },
  });
}

function brokenRules(details: string | null | undefined): BrokenRule[] {
  try {
    return JSON.parse(details ?? "[]");
  } catch {
    return [];
  }
}
