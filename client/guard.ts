/** A write of supabase-js that has not been sent yet, as far as a guard needs to know it. */
export interface Guardable {
  setHeader(name: string, value: string): unknown;
  abortSignal(signal: AbortSignal): unknown;
}

/** What becomes of a write, as far as a guard looks at it. */
type Outcome = { error?: { code?: string } | null } | null;

type Then = (
  fulfilled?: ((result: Outcome) => unknown) | null,
  rejected?: ((reason: unknown) => unknown) | null,
) => Promise<unknown>;

/** A write is given up after so long: a database that hangs gives no answer at all. In milliseconds. */
const WRITE_TIMEOUT_MS = 15_000;

/** What a guard has to know of a lease. */
export interface Guarding {
  lockId: string;
  fencingToken: number;
  /** Aborts the write. */
  signal(): AbortSignal;
  /** The write is being sent. */
  sending(): void;
  /** The database refused the token. */
  refused(): void;
}

/**
 * Has a write refused by the database unless the lease is live, and given up as soon as the lease is lost.
 *
 * @param query The write. It is changed in place, and may be built on.
 * @param lease The lease.
 * @returns The same query.
 */
export function guardQuery<Query extends Guardable>(query: Query, lease: Guarding): Query {
  query.setHeader("x-fencing-token", String(lease.fencingToken));
  query.setHeader("x-lock-id", lease.lockId);
  const inside = query as unknown as { then: Then; signal?: AbortSignal };
  const send = inside.then;
  inside.then = (fulfilled, rejected) => {
    lease.sending();
    const stop = new AbortController();
    const timer = setTimeout(
      () => stop.abort(new DOMException("No answer", "TimeoutError")),
      WRITE_TIMEOUT_MS,
    );
    query.abortSignal(
      AbortSignal.any([lease.signal(), stop.signal, ...(inside.signal ? [inside.signal] : [])]),
    );
    // with throwOnError() the error is what it rejects with
    const look = (error: { code?: string } | null | undefined) => {
      clearTimeout(timer);
      if (error?.code === "PT412") lease.refused();
    };
    return send.call(query, (result) => (look(result?.error), result), (reason) => {
      look(reason as { code?: string });
      throw reason;
    }).then(fulfilled as (result: unknown) => unknown, rejected);
  };
  return query;
}
