import type { BrokenRule, ErrorCode } from "./contract.ts";

/** One error: what the caller gets when a request could not be answered. */
export interface ErrorKind {
  /** HTTP status of the answer. */
  readonly status: number;
  /** What happened, for a person. */
  readonly message: string;
  /** What to do next. */
  readonly hint: string;
  /** Headers of the answer. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How the database raises it: the SQLSTATE, which sets PostgREST's status, and its words where they are others. */
  readonly sql?: Raised;
}

/** An error as the database raises it. */
export interface Raised {
  readonly state: string;
  /** `null`: it says what was tried. Left out: as of the error. */
  readonly message?: string | null;
  /** Left out: as of the error. */
  readonly hint?: string;
}

/**
 * Every error that a function answers with: one stable code, one status, one next step.
 * A refused lock is not among them: it is an answer, with status 200.
 */
export const ERRORS = {
  INVALID_JSON: {
    status: 400,
    message: "The body is not a JSON object",
    hint: "Send one JSON object, in UTF-8.",
  },
  INVALID_REQUEST: {
    status: 400,
    message: "The request breaks a rule",
    hint: "Correct the fields that details names.",
    sql: { state: "PT400", hint: "Correct the arguments that the detail names." },
  },
  NOT_AUTHENTICATED: {
    status: 401,
    message: "No valid credentials",
    hint:
      "Send the publishable key as apikey with a user's access token as Authorization: Bearer, " +
      "or the secret key as apikey. Sign in again if the token has expired.",
    sql: {
      state: "PT401",
      message: "The token names no user",
      hint: "Sign in, and send the user's access token as Authorization: Bearer.",
    },
  },
  FORBIDDEN: {
    status: 403,
    message: "The credentials are good, but do not give this right",
    hint: "See docs/reference/authority.md for who may do what.",
    sql: { state: "PT403", message: null },
  },
  VIDEO_NOT_FOUND: {
    status: 404,
    message: "There is no such video",
    hint: "Check video_id, and that the caller is a member of the video's tenant.",
    sql: { state: "PT404" },
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    message: "Only POST is answered here",
    hint: "Call it with POST, as supabase.functions.invoke does.",
    headers: { Allow: "POST, OPTIONS" },
  },
  REQUEST_TIMEOUT: {
    status: 408,
    message: "The body did not arrive within 10 seconds",
    hint: "Send the same request again; nothing was done.",
  },
  PAYLOAD_TOO_LARGE: {
    status: 413,
    message: "The body is larger than 16 KiB",
    hint: "Send only the fields of the request.",
  },
  UNSUPPORTED_MEDIA_TYPE: {
    status: 415,
    message: "The body is not declared as plain JSON",
    hint: "Send Content-Type: application/json, uncompressed.",
  },
  DATABASE_UNAVAILABLE: {
    status: 503,
    message: "The database cannot be reached just now",
    hint: "Send the same request again after Retry-After seconds; with a lock_id that is safe.",
    headers: { "Retry-After": "1" },
  },
  INTERNAL_ERROR: {
    status: 500,
    message: "Something went wrong that should not have",
    hint: "Look for the answer's x-request-id in the function's log.",
  },
} as const satisfies Record<ErrorCode, ErrorKind>;

/**
 * What only the database raises: to `assert_lock_held`, `advance_server_version` and writes to guarded tables, which are
 * called without a function in between.
 */
export const GUARD_ERRORS = {
  LOCK_NOT_HELD: {
    status: 412,
    message: "The lock is not held with this fencing token",
    hint: "Write nothing more under this token. Acquire the lock again, and read the data anew.",
    sql: { state: "PT412" },
  },
  LOCK_BUSY: {
    status: 503,
    message: "The lock is being changed just now",
    hint: "Nothing was written. Try the same again in a moment.",
    sql: { state: "PT503" },
  },
} as const satisfies Record<string, ErrorKind>;

/** Thrown where a request cannot be answered; the caller gets the row of {@link ERRORS}. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code: ErrorCode;
  /** Goes to the caller: for INVALID_REQUEST every broken rule. */
  readonly details: BrokenRule[] | undefined;
  readonly hint: string;

  /**
   * @param code Row of {@link ERRORS}.
   * @param more What differs from that row. `cause` goes to the log only.
   */
  constructor(
    code: ErrorCode,
    more: { message?: string; details?: BrokenRule[]; hint?: string; cause?: unknown } = {},
  ) {
    super(more.message ?? ERRORS[code].message, { cause: more.cause });
    this.code = code;
    this.details = more.details;
    this.hint = more.hint ?? ERRORS[code].hint;
  }
}
