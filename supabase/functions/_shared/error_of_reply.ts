import type { BrokenRule } from "./contract.ts";
import type { DatabaseReply } from "./data_api.ts";
import { ERRORS, GUARD_ERRORS, RequestError } from "./errors.ts";
import { isNotNow } from "./not_now.ts";

/** What the Data API says of an error; all of it may be missing when something else answered. */
interface DataApiError {
  code?: unknown;
  message?: unknown;
  details?: unknown;
  hint?: unknown;
}

/**
 * Says in the words of the error table why the database did not answer.
 *
 * @param reply The Data API's reply, which is no answer of the RPC.
 * @returns The error to answer with. All of the reply goes to the log with it.
 */
export function errorOfReply({ status, body }: DatabaseReply): RequestError {
  const error: DataApiError = typeof body === "object" && body !== null ? body : {};
  const code = typeof error.code === "string" ? error.code : "";
  const cause = { status, body };
  // what the functions of the database raise themselves is written for the caller
  const own = {
    ...(typeof error.message === "string" ? { message: error.message } : {}),
    ...(typeof error.hint === "string" ? { hint: error.hint } : {}),
    cause,
  };
  switch (code) {
    case ERRORS.INVALID_REQUEST.sql.state:
      return new RequestError("INVALID_REQUEST", {
        message: own.message ?? ERRORS.INVALID_REQUEST.message,
        details: brokenRules(error.details),
        cause,
      });
    case ERRORS.FORBIDDEN.sql.state:
      return new RequestError("FORBIDDEN", own);
    case ERRORS.VIDEO_NOT_FOUND.sql.state:
      return new RequestError("VIDEO_NOT_FOUND", own);
    case GUARD_ERRORS.LOCK_BUSY.sql.state:
      return new RequestError("DATABASE_UNAVAILABLE", own);
    // No UUID of the arguments gets here unchecked, so it is the one that auth.uid() reads: a valid token, as of a
    // third-party sign-in, whose subject names no user of this project.
    case "22P02":
      if (own.message?.includes("type uuid")) {
        return new RequestError("NOT_AUTHENTICATED", { cause });
      }
  }
  if (status === 401) return new RequestError("NOT_AUTHENTICATED", { cause });
  // 42501: the role may not. Other codes with this status are about the project's set-up, not about the caller.
  if (status === 403 && ["42501", ""].includes(code)) {
    return new RequestError("FORBIDDEN", { cause });
  }
  return new RequestError(isNotNow(status, code) ? "DATABASE_UNAVAILABLE" : "INTERNAL_ERROR", {
    cause,
  });
}

function brokenRules(details: unknown): BrokenRule[] {
  try {
    return JSON.parse(String(details));
  } catch {
    return [];
  }
}
