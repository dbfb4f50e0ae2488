/** One row of {@link ERRORS}: what the caller gets when a request could not be answered. */
export interface ErrorKind {
  /** HTTP status of the answer. */
  readonly status: number;
  /** What happened, for a person. */
  readonly message: string;
  /** What to do next. */
  readonly hint: string;
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
  },
  NOT_AUTHENTICATED: {
    status: 401,
    message: "No valid credentials",
    hint:
      "Send the publishable key as apikey with a user's access token as Authorization: Bearer, " +
      "or the secret key as apikey. Sign in again if the token has expired.",
  },
  FORBIDDEN: {
    status: 403,
    message: "The credentials are good, but do not give this right",
    hint: "See docs/security.md for who may do what.",
  },
  VIDEO_NOT_FOUND: {
    status: 404,
    message: "There is no such video",
    hint: "Check video_id, and that the caller is a member of the video's tenant.",
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    message: "Only POST is answered here",
    hint: "Call it with POST, as supabase.functions.invoke does.",
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
  },
  INTERNAL_ERROR: {
    status: 500,
    message: "Something went wrong that should not have",
    hint: "Look for the answer's x-request-id in the function's log.",
  },
} as const satisfies Record<string, ErrorKind>;

/** The stable code of an error. */
export type ErrorCode = keyof typeof ERRORS;

/** What is wrong with one field of a request. */
export interface BrokenRule {
  /** The field, in the words of the request. */
  path: string;
  /** What is wrong with it. */
  message: string;
}

/** Thrown where a request cannot be answered; the caller gets the row of {@link ERRORS}. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code: ErrorCode;
  /** Goes to the caller: for INVALID_REQUEST every broken rule. */
  readonly details: BrokenRule[] | string | undefined;
  readonly hint: string;

  /**
   * @param code Row of {@link ERRORS}.
   * @param more What differs from that row. `cause` goes to the log only.
   */
  constructor(
    code: ErrorCode,
    more: { message?: string; details?: BrokenRule[] | string; hint?: string; cause?: unknown } =
      {},
  ) {
    super(more.message ?? ERRORS[code].message, { cause: more.cause });
    this.code = code;
    this.details = more.details;
    this.hint = more.hint ?? ERRORS[code].hint;
  }
}
