// A history: what some callers did to some locks at the same time, and what they were told.

/** One call, from its sending to its answer. Times are microseconds by the database's clock. */
export interface Call {
  /** Its number; calls are numbered as they were sent. */
  n: number;
  client: string;
  op:
    | "acquire"
    | "renew"
    | "release"
    | "advance"
    | "write"
    | "delete row"
    | "delete video"
    | "make video"
    | "change tenant"
    | "clean up"
    /** A server adds 1 to server_version by itself. */
    | "count";
  /** Who calls: a user's id, or a server's name. */
  holder: string;
  type: "client" | "server";
  video: string;
  names: string[];
  isSet: boolean;
  ask: {
    id?: string;
    ttl?: number;
    takeOver?: boolean;
    queue?: number;
    active?: boolean;
    byHolder?: boolean;
    force?: boolean;
    token?: number;
    tenant?: string;
  };
  called: number;
  /** None: nobody knows what became of it. */
  returned: number | null;
  /** Where nobody knows: when what worked on it was gone, so that from then on nothing more came of it. */
  settled?: number;
  /** `{ code }` of an error, too; `{ sqlstate }` of one that is not of the contract. */
  answer: Answer | null;
}

/** A lease, as answers show it. */
export interface SeenLease {
  database_name: string;
  lock_id: string;
  lock_holder_user_id: string;
  lock_type: string;
  fencing_token: number;
  locked_at: number;
  expires_at: number;
  ttl_seconds: number;
  released_at: number;
  state: { server_version: number };
}

/** An answer, times as numbers. */
export interface Answer {
  code?: string;
  sqlstate?: string;
  acquired?: boolean;
  renewed?: boolean;
  released?: boolean;
  reason?: string;
  end_reason?: string;
  ended_at?: number;
  database_name?: string;
  lock?: SeenLease;
  locks?: SeenLease[];
  state?: { server_version: number };
  holder?: {
    lock_holder_user_id: string;
    lock_type: string;
    locked_at: number;
    last_activity_at: number;
    expires_at: number;
  } | null;
  queue?: { position?: number | null; length: number };
  server_time?: number;
  version?: number;
  /** Of a guarded write: the clock before and behind its check, and at its last statement before the commit. */
  started?: number;
  checked?: number;
  committing?: number;
}

/** A grant that the database knows of in the end. */
export interface KnownGrant {
  key: string;
  id: string;
  holder: string;
  type: string;
  token: number;
  lockedAt: number;
  /** None: it had not ended yet. */
  endedAt: number | null;
  reason: string | null;
  expiresAt: number | null;
}

/** All that happened, and what the database had at the end. */
export interface History {
  seed: number;
  calls: Call[];
  /** From the lock history and the rows. */
  grants: KnownGrant[];
  cancelled: { key: string; id: string; type: string; holder: string }[];
  /** Committed guarded writes, as the guarded table has them. */
  writes: { key: string; token: number; n: number | null }[];
  /** Until when a client of the library believed that it held a lease. */
  beliefs: { key: string; id: string; until: number }[];
  /** Locks whose linearizability the search could not decide, of so many calls without an answer. */
  undecided: string[];
  /** Which users may see the videos, by tenant. */
  members: Record<string, string[]>;
  /** The videos' tenant at the beginning. */
  tenant: string;
  /** How wrong the callers' view of the database's clock may be, in microseconds. */
  clockError: number;
}

/** What a checker found. */
export interface Violation {
  /** The property that does not hold. */
  what: string;
  /** What was seen, in words. */
  why: string;
  /** Numbers of the calls that show it. */
  calls: number[];
}

/** The key of one of the locks that a call is about. */
export function keyOf(call: { video: string }, name: string): string {
  return `${call.video} ${name}`;
}

/** The leases that an answer shows, of one lock or a set. */
export function leasesOf(answer: Answer | null): SeenLease[] {
  if (!answer) return [];
  if (answer.locks) return answer.locks;
  return answer.lock ? [{ ...answer.lock, state: answer.state! }] : [];
}
