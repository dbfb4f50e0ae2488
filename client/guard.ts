/** A write of supabase-js that has not been sent yet, as far as a guard needs to know it. */
export interface Guardable {
  setHeader(name: string, value: string): unknown;
  abortSignal(signal: AbortSignal): unknown;
}

/** What a guard has to know of a lease. */
export interface Guarding {
  readonly lockId: string;
  readonly fencingToken: number;
  /** Aborts the write. */
  readonly signal: AbortSignal;
  /** The write is being sent. */
  touch(): void;
  /** The database refused the token. */
  wake(): void;
}

/** What a write gives, or with `throwOnError()` throws, as far as a guard looks at it. */
type Outcome = { code?: string; error?: Outcome | null } | null;

type Then = (
  fulfilled?: ((result: Outcome) => unknown) | null,
  rejected?: ((reason: Outcome) => unknown) | null,
) => Promise<unknown>;

/** A write is given up after so long: a database that hangs gives no answer at all. In milliseconds. */
const WRITE_TIMEOUT_MS = 15_000;

/**
 * Has a write refused by the database unless the lease is live, and given up as soon as the lease is lost.
 *
 * @param query The write. It is changed in place, and may be built on.
 * @param lease The lease.
 * @returns The same query.
 */
export function guardQuery<Query extends Guardable>(query: Query, lease: Guarding): Query {
  query.setHeader("x-fencing-token", `${lease.fencingToken}`);
  query.setHeader("x-lock-id", lease.lockId);
  const inside = query as unknown as { then: Then; signal?: AbortSignal };
  const send = inside.then;
  inside.then = (fulfilled, rejected) => {
    lease.touch();
    const signals = [lease.signal, AbortSignal.timeout(WRITE_TIMEOUT_MS)];
    if (inside.signal) signals.push(inside.signal); // the caller's own
    query.abortSignal(AbortSignal.any(signals));
    const look = (outcome: Outcome) => {
      if ((outcome?.error ?? outcome)?.code === "PT412") lease.wake();
    };
    const sent = send.call(query);
    sent.then(look as (result: unknown) => void, look);
    return sent.then(fulfilled as (result: unknown) => unknown, rejected);
  };
  return query;
}
