import type { BrokenRule, ErrorCode, Holder, LostReason, Refusal } from "./types.ts";

/**
 * What can go wrong: a code of the service's error table, or
 * - `NO_ANSWER`: nothing came back, or nothing that could be read;
 * - `LOCK_NOT_ACQUIRED`: waited in vain, or a steal was refused; `holder` and `queue` say who has it;
 * - `LOCK_LOST`: see {@link LockLostError}.
 */
export type LockErrorCode = ErrorCode | "NO_ANSWER" | "LOCK_NOT_ACQUIRED" | "LOCK_LOST";

const TEMPORARY: LockErrorCode[] = [
  "NO_ANSWER",
  "REQUEST_TIMEOUT",
  "DATABASE_UNAVAILABLE",
  "INTERNAL_ERROR",
];

/** Whatever the client throws, but for what Web Locks says should be a `DOMException` or a `TypeError`. */
export class LockError extends Error {
  override readonly name: string = "LockError";
  readonly code: LockErrorCode;
  /** HTTP status; 0 where there was no answer. */
  readonly status: number = 0;
  /** For `INVALID_REQUEST`: every broken rule. */
  readonly details?: BrokenRule[];
  /** What to do next. */
  readonly hint?: string;
  /** Who holds the lock, where that is why. `is_you`: one's own other acquisition. */
  readonly holder?: Holder | null;
  /** The line for it. */
  readonly queue?: Refusal["queue"];

  /**
   * @param code Stable code.
   * @param message For a person.
   * @param more The other members.
   */
  constructor(code: LockErrorCode, message: string, more: Partial<LockError> = {}) {
    super(message);
    Object.assign(this, more);
    this.code = code;
  }
}

/**
 * Tells failures that pass from those that do not.
 *
 * @param error Anything that was thrown.
 * @returns Whether the same request may succeed later.
 */
export function isTemporary(error: unknown): boolean {
  return error instanceof LockError && TEMPORARY.includes(error.code);
}

/** The reason of `lease.signal`, and the `cause` of the AbortError that a request with a lost lock rejects with. */
export class LockLostError extends LockError {
  override readonly name = "LockLostError";
  /** How it was lost. */
  readonly reason: LostReason;

  /**
   * @param reason How it was lost.
   * @param holder Who has it now, where known.
   */
  constructor(reason: LostReason, holder: Holder | null = null) {
    super("LOCK_LOST", `The lock was lost: ${reason}`, { holder });
    this.reason = reason;
  }
}

/**
 * Says who is in the way.
 *
 * @param refusal What the service said last, if it said something.
 * @returns The error.
 */
export function notAcquired({ holder, queue }: Refusal = { holder: null }): LockError {
  const who = !holder
    ? "others wait for it"
    : `${holder.lock_holder_user_id} holds it${holder.is_you ? ", which is you" : ""}`;
  return new LockError("LOCK_NOT_ACQUIRED", `The lock was not acquired: ${who}`, {
    holder,
    ...(queue ? { queue } : {}),
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
    new DOMException(cause?.message ?? "The request was given up", "AbortError"),
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
