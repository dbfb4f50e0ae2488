import type { BrokenRule, ErrorBody, ErrorCode, Holder, LostReason, Queue } from "./types.ts";

/**
 * What can go wrong: a code of the service's error table, or
 * - `NO_ANSWER`: nothing came back, or nothing that could be read;
 * - `LOCK_NOT_ACQUIRED`: waited in vain, or a steal was refused; `holder` and `queue` say who has it;
 * - `LOCK_LOST`: see {@link LockLostError}.
 */
export type LockErrorCode = ErrorCode | "NO_ANSWER" | "LOCK_NOT_ACQUIRED" | "LOCK_LOST";

/** What the client throws, except where Web Locks prescribe a `DOMException` or a `TypeError`. */
export class LockError extends Error {
  override readonly name: string = "LockError";
  declare readonly code: LockErrorCode;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number = 0;
  /** For `INVALID_REQUEST`: every broken rule. */
  declare readonly details: BrokenRule[] | undefined;
  /** What to do next. */
  declare readonly hint: string | undefined;
  /** Who holds the lock, where that is why. `is_you`: one's own other acquisition. */
  readonly holder: Holder | null = null;
  /** The line for it. */
  declare readonly queue: Queue | undefined;

  /**
   * @param code Stable code.
   * @param message For a person.
   * @param more The other members.
   */
  constructor(code: LockErrorCode, message: string, more: Partial<LockLostError> = {}) {
    super(message);
    Object.assign(this, more, { code });
  }
}

/**
 * The error for an answer that is not the service's own.
 *
 * @param status HTTP status; 0 where there was none.
 * @param message For a person.
 * @param body The service's own words, where there are some.
 * @returns The error.
 */
export function failure(status: number, message: string, body: Partial<ErrorBody> = {}): LockError {
  const { code, details, hint } = body;
  const guess = status === 401
    ? "NOT_AUTHENTICATED"
    : status
    ? "DATABASE_UNAVAILABLE"
    : "NO_ANSWER";
  // a gateway has codes of its own, and no hints
  return new LockError(hint && code || guess, message, { status, details, hint });
}

/**
 * Separates temporary failures from final ones.
 *
 * @param error Anything that was thrown.
 * @returns Whether the same request may succeed later.
 */
export function isTemporary(error: unknown): boolean {
  // an error without a code came of an answer that makes no sense
  return /ANSWER|TIMEOUT|UNAVAILABLE|INTERNAL|undefined/.test((error as LockError).code);
}

/** The reason of `lease.signal`, and the `cause` of the AbortError that a request with a lost lock rejects with. */
export class LockLostError extends LockError {
  override readonly name = "LockLostError";
  /** How it was lost. */
  declare readonly reason: LostReason;

  /**
   * @param reason How it was lost.
   * @param holder Who has it now, where known.
   */
  constructor(reason: LostReason, holder: Holder | null = null) {
    super("LOCK_LOST", `Lock lost: ${reason}`, { holder, reason });
  }
}

/**
 * The error for a lock that another acquisition has.
 *
 * @param holder Who holds the lock, where known.
 * @param queue The line for it, where known.
 * @returns The error.
 */
export function notAcquired(holder?: Holder | null, queue?: Queue): LockError {
  const who = holder
    ? `${holder.is_you ? "you hold it" : "it is held"}, as ${holder.lock_holder_user_id}`
    : "others wait for it";
  return new LockError("LOCK_NOT_ACQUIRED", `Not acquired: ${who}`, {
    holder: holder ?? null,
    queue,
  });
}

/**
 * The exception that Web Locks rejects with.
 *
 * @param cause Why.
 * @returns A DOMException of the name AbortError.
 */
export function abortError(cause?: LockLostError): DOMException {
  // a DOMException takes no cause of its own
  return Object.assign(
    new DOMException(cause?.message ?? "Given up", "AbortError"),
    cause && { cause },
  );
}

/**
 * Refuses what these locks, or any Web Locks, cannot do.
 *
 * @param message What it is.
 * @returns A DOMException of the name NotSupportedError.
 */
export function notSupported(message: string): DOMException {
  return new DOMException(message, "NotSupportedError");
}
