// The types of every request and every answer. The client library takes them from here, so this file imports nothing;
// supabase/tests/contract/types_test.ts shows that the schemas, the rules and the error table are of just these types.

/** Who may hold a lock: `client` is a signed-in user, `server` a caller with the secret key. */
export type LockType = "client" | "server";

/** How a lease, or an acquisition that never came to one, ended. */
export type EndReason = "released" | "expired" | "taken_over" | "force_released" | "cancelled";

/** Which lock, or which locks together: exactly one of the two names is given. */
export interface LockKey {
  /** UUID of the video. */
  video_id: string;
  /** One database of the video. */
  database_name?: string | null | undefined;
  /** 1 to 16 different databases of the video: all of them or none. */
  database_names?: string[] | null | undefined;
}

/** Asks for a lock. A field that is `null` counts as left out. */
export interface AcquireRequest extends LockKey {
  /** Who will hold it: required with the secret key; a user's own id, or left out, with a user's token. */
  lock_holder_user_id?: string | null | undefined;
  /** UUID that names this acquisition, so that a repetition is safe. Required with `queue_seconds`. */
  lock_id?: string | null | undefined;
  /** Length of the lease, in seconds: 1 to 3600, 120 if left out. */
  ttl_seconds?: number | null | undefined;
  /** Takes the lease over from the holder's own other acquisition. */
  take_over?: boolean | null | undefined;
  /** If refused, a place in the line for so many seconds, 0 to 60; 0 if left out. */
  queue_seconds?: number | null | undefined;
}

/** Asks to keep a lease for longer. A field that is `null` counts as left out. */
export interface RenewRequest extends LockKey {
  /** The acquisition to renew. */
  lock_id: string;
  /** Length of the lease from now on, in seconds: 1 to 3600, 120 if left out. */
  ttl_seconds?: number | null | undefined;
  /** False keeps the lease, but leaves `last_activity_at` alone. True if left out. */
  active?: boolean | null | undefined;
}

/** Gives a lease back, or a place in the line up. A field that is `null` counts as left out. */
export interface ReleaseRequest extends LockKey {
  /** The acquisition to end. */
  lock_id?: string | null | undefined;
  /** Instead of `lock_id`: the lease that this holder has. */
  lock_holder_user_id?: string | null | undefined;
  /** Any holder's lease; with `lock_id` that acquisition only. For the secret key and the tenant's admins. */
  force?: boolean | null | undefined;
}

/** A lease, as its holder sees it. Times are ISO 8601 in UTC, by the database's clock. */
export interface Lock {
  video_id: string;
  database_name: string;
  lock_id: string;
  lock_holder_user_id: string;
  lock_type: LockType;
  /** Higher at every grant of this lock. */
  fencing_token: number;
  locked_at: string;
  expires_at: string;
  /** The length that was last asked for, in seconds. */
  ttl_seconds: number;
}

/** The versions of one database of a video. */
export interface State {
  server_version: number;
  wasabi_version: number;
  wasabi_synced_at: string | null;
}

/** A lease that was released. */
export interface ReleasedLock extends Omit<Lock, "expires_at" | "ttl_seconds"> {
  released_at: string;
}

/** Who holds a lock, as others see it. */
export interface Holder {
  lock_holder_user_id: string;
  lock_type: LockType;
  locked_at: string;
  last_activity_at: string;
  expires_at: string;
  /** It is the caller's own other acquisition. */
  is_you: boolean;
}

/** The line for a lock, as one caller sees it. */
export interface Queue {
  /** The caller's turn, from 1 on; `null` without a place. */
  position: number | null;
  /** How many wait. */
  length: number;
}

/** The lock that was asked for by `database_name` was granted. */
export interface GrantedOne {
  acquired: true;
  lock: Lock;
  state: State;
  server_time: string;
}

/** The locks that were asked for by `database_names` were granted, in the order of the names. */
export interface GrantedSet {
  acquired: true;
  locks: (Lock & { state: State })[];
  server_time: string;
}

/** `lock-acquire` says yes. */
export type GrantedAnswer = GrantedOne | GrantedSet;

/** `lock-acquire` says: not now, and when to ask again. */
export interface RefusedForNow {
  acquired: false;
  /** Another acquisition holds it; another caller has the next turn; another transaction is at it just now. */
  reason: "held" | "queued" | "busy";
  /** Which of several refused. */
  database_name: string;
  holder: Holder | null;
  queue: Queue;
  /** When asking again is worth it, and soon enough to keep a place, in milliseconds. */
  retry_after_ms: number;
  server_time: string;
}

/** `lock-acquire` says: this acquisition is over; acquire again with a new `lock_id`. */
export interface RefusedForGood {
  acquired: false;
  reason: "ended";
  database_name: string;
  end_reason: EndReason;
  ended_at: string;
  holder: Holder | null;
  retry_after_ms: 0;
  server_time: string;
}

/** `lock-acquire` refuses. */
export type RefusedAnswer = RefusedForNow | RefusedForGood;

/** What `lock-acquire` answers. */
export type AcquireAnswer = GrantedAnswer | RefusedAnswer;

/** Why `lock-renew` says no. */
export type RenewReason = EndReason | "not_held" | "busy";

/** What `lock-renew` answers: `lock` to `database_name`, `locks` to `database_names`. */
export type RenewAnswer =
  | {
    renewed: true;
    lock: Lock;
    /** How many wait. */
    queue: Pick<Queue, "length">;
    server_time: string;
  }
  | { renewed: true; locks: Lock[]; queue: Pick<Queue, "length">; server_time: string }
  | {
    renewed: false;
    reason: RenewReason;
    database_name: string;
    holder: Holder | null;
    server_time: string;
  };

/** Why `lock-release` says no. */
export type ReleaseReason =
  | Exclude<EndReason, "released">
  | "not_held"
  | "held_by_another"
  | "busy";

/** What `lock-release` answers: `lock` to `database_name`, `locks` to `database_names`. */
export type ReleaseAnswer =
  | { released: true; lock: ReleasedLock }
  | { released: true; locks: ReleasedLock[] }
  | { released: false; reason: ReleaseReason; holder: Holder | null };

/** The stable code of an error. */
export type ErrorCode =
  | "INVALID_JSON"
  | "INVALID_REQUEST"
  | "NOT_AUTHENTICATED"
  | "FORBIDDEN"
  | "VIDEO_NOT_FOUND"
  | "METHOD_NOT_ALLOWED"
  | "REQUEST_TIMEOUT"
  | "PAYLOAD_TOO_LARGE"
  | "UNSUPPORTED_MEDIA_TYPE"
  | "DATABASE_UNAVAILABLE"
  | "INTERNAL_ERROR";

/** What is wrong with one field of a request. */
export interface BrokenRule {
  /** The field, in the words of the request. */
  path: string;
  /** What is wrong with it. */
  message: string;
}

/** The body of an answer to a request that could not be answered. */
export interface ErrorBody {
  code: ErrorCode;
  /** What happened, for a person. */
  message: string;
  /** For `INVALID_REQUEST`: every broken rule. */
  details?: BrokenRule[];
  /** What to do next. */
  hint: string;
}
