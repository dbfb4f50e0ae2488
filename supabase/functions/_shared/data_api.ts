import { RequestError } from "./errors.ts";

/** A caller's own credentials. A function has no others. */
export interface Credentials {
  /** Publishable, secret, or legacy API key. */
  apikey: string;
  /** `Bearer <user's access token>`, where there is a user. */
  authorization: string | null;
}

/** One call of a function of the database. */
export interface DatabaseCall {
  /** Name of the RPC. */
  name: string;
  /** Its named arguments. */
  args: Record<string, unknown>;
  /** Whose call it is. */
  credentials: Credentials;
  /** Passed to the Data API, so that its log can be joined with the function's. */
  requestId: string;
  /** The caller's trace, where there is one. */
  traceparent: string | undefined;
  /** Gives the call up. */
  signal: AbortSignal;
}

/** What the Data API answered, or a gateway in its place. */
export interface DatabaseReply {
  /** HTTP status. */
  status: number;
  /** The body, if it is JSON. */
  body: unknown;
  /** The clock at the database's side, as the header `Date` says. */
  date: string | null;
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
 * Calls one function of the database through the Data API, with the caller's credentials and nothing else. A plain
 * `fetch`, as all that a client library would add (a session, a key as Bearer token, following redirects) is unwanted.
 *
 * @param call See {@linkcode DatabaseCall}.
 * @returns The answer, of any status.
 * @throws {RequestError} DATABASE_UNAVAILABLE where there is none, or not in time.
 */
export async function callDatabase(call: DatabaseCall): Promise<DatabaseReply> {
  const { apikey, authorization } = call.credentials;
  try {
    const response = await fetch(`${Deno.env.get("SUPABASE_URL")}/rest/v1/rpc/${call.name}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "content-profile": "public", // also where a project exposes another schema first
        apikey,
        ...(authorization === null ? {} : { authorization }),
        "x-request-id": call.requestId,
        ...(call.traceparent === undefined ? {} : { traceparent: call.traceparent }),
      },
      body: JSON.stringify(call.args),
      redirect: "manual", // the credentials go to the Data API only
      signal: call.signal,
    });
    return {
      status: response.status,
      body: parsed(await response.text()),
      date: response.headers.get("date"),
    };
  } catch (cause) {
    throw new RequestError("DATABASE_UNAVAILABLE", { cause });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
