import type { EndReason, LockType } from "../supabase/functions/_shared/contract.ts";

export type * from "../supabase/functions/_shared/contract.ts";

/** One database of a video, or several together: all of them or none. */
export type Key =
  | { video_id: string; database_name: string }
  | { video_id: string; database_names: string[] };

/** Options of `request` and `acquire`. The first four are those of Web Locks. */
export interface LockOptions {
  /** `"exclusive"`. There are no shared locks here: `"shared"` is refused with a `NotSupportedError`. */
  mode?: "exclusive" | "shared" | undefined;
  /** Do not wait: the callback gets `null` where the lock is not free. */
  ifAvailable?: boolean | undefined;
  /** Take the lock from one's own other acquisition: another request, tab, or a worker of the same name. */
  steal?: boolean | undefined;
  /** Stops waiting; its reason rejects the request. After the grant it does nothing. */
  signal?: AbortSignal | undefined;
  /** With `steal`: end any holder's lease; those who wait have their turns first. For the secret key and the tenant's admins. */
  force?: boolean | undefined;
  /** Length of the lease, in seconds: 1 to 3600. It is renewed at a quarter of it. Default 60. */
  ttlSeconds?: number | undefined;
  /** How long to wait at most, in seconds. Default 60; with `forVideo` there is no limit. */
  waitSeconds?: number | undefined;
  /** Without a `touch()` for so long, in seconds, the lease gives way to a waiter. Default: never. */
  maxIdleSeconds?: number | undefined;
}

/** How a lease was lost. `deadline`: it could not be renewed in time. */
export type LostReason =
  | EndReason
  | "not_held"
  | "deadline"
  | "idle"
  | "forbidden"
  | "detached";

/** `in doubt`: it cannot be renewed just now. It is held until its deadline, and may be renewed until then. */
export type LeaseState = "held" | "in doubt" | "lost";

/** The waiters for a lock that is held. */
export interface Waiting {
  /** How many, as of the last renewal. */
  length: number;
  /** Who they are, as far as known. */
  holders: string[];
}

/** A lease without a keeper: plain data, to be sent to the process that resumes it. */
export interface LeaseHandle {
  key: Key;
  lockId: string;
  fencingToken: number;
  ttlSeconds: number;
  /** The name that a worker gave itself; `null` for a user. */
  holder: string | null;
}

/** One lock in a snapshot. The first three are those of Web Locks. */
export interface LockInfo {
  /** The database's name. */
  name: string;
  mode: "exclusive";
  /** Who: a user's id or a worker's name. All that one of them has open shares it. */
  clientId: string;
  video_id: string;
  lock_type: LockType;
}

/** What `query` gives. */
export interface LockSnapshot {
  held: LockInfo[];
  /** Those who wait, for each lock in the order of their turn. */
  pending: LockInfo[];
}
