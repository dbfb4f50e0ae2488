// Every number, pattern and list of words of the contract that more than one place needs. PostgreSQL has a copy of what
// it checks itself; supabase/tests/contract/both_doors_test.ts shows that the two agree.

/** `ttl_seconds`: how long a lease may be, in seconds. The default is PostgreSQL's to give. */
export const TTL_SECONDS = { min: 1, max: 3600, default: 120 } as const;

/** `queue_seconds`: how long a place in the line is kept without asking again, in seconds; 0 is no place. */
export const QUEUE_SECONDS = { min: 0, max: 60, default: 0 } as const;

/** `database_name`. */
export const DATABASE_NAME = /^[a-z][a-z0-9_-]{0,62}$/;

/** How many `database_names` one request may have. */
export const DATABASE_NAMES = { min: 1, max: 16 } as const;

/** `lock_holder_user_id`: its length in characters, as PostgreSQL counts them. */
export const HOLDER_CHARACTERS = { min: 1, max: 255 } as const;

/** Largest body that is read, in bytes. The largest valid request has some 3 KiB. */
export const MAX_BODY_BYTES = 16 * 1024;

/**
 * How long a whole request may take, the reading of its body included, in milliseconds. Longer than the 8 s after which
 * the database itself ends a statement, so that in the usual case it is the database that decides.
 */
export const DEADLINE_MS = 10_000;

/** How long a caller should wait after a function's answer `busy`, in milliseconds. */
export const BUSY_RETRY_MS = 500;

/** How a lease, or an acquisition that never came to one, ended. */
export const END_REASONS = [
  "released",
  "expired",
  "taken_over",
  "force_released",
  "cancelled",
] as const;

/** Why `lock-acquire` refuses. */
export const ACQUIRE_REASONS = ["held", "queued", "busy", "ended"] as const;

/** Why `lock-renew` says no. */
export const RENEW_REASONS = [...END_REASONS, "not_held", "busy"] as const;

/** Why `lock-release` says no. */
export const RELEASE_REASONS = [
  "expired",
  "taken_over",
  "force_released",
  "cancelled",
  "not_held",
  "held_by_another",
  "busy",
] as const;

/** What is said of a broken rule, after the path of its field. The database says it in the same words. */
export const MESSAGES = {
  required: "is required",
  unknown: "is not a field of this request",
  uuid: "must be a UUID",
  flag: "must be true or false",
  ttlSeconds: `must be an integer from ${TTL_SECONDS.min} to ${TTL_SECONDS.max}`,
  queueSeconds: `must be an integer from ${QUEUE_SECONDS.min} to ${QUEUE_SECONDS.max}`,
  databaseName: `must match ${DATABASE_NAME.source}`,
  databaseNames:
    `must be ${DATABASE_NAMES.min} to ${DATABASE_NAMES.max} different names that match ${DATABASE_NAME.source}`,
  holder: `must be a string of ${HOLDER_CHARACTERS.min} to ${HOLDER_CHARACTERS.max} characters`,
  holderText: "must not contain NUL or half of a surrogate pair",
  noName: "is required, or database_names",
  twoNames: "excludes database_name: send one of them",
  queueWithoutId: "is required with queue_seconds",
  nothingToRelease: "is required, or lock_holder_user_id, or force",
  holderNotAlone: "excludes lock_id and force: send one of them",
} as const;
