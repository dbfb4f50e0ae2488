/** One way in which the database, or what is on the way to it, says: not now. */
interface NotNow {
  /** Codes of PostgreSQL or PostgREST. */
  code?: RegExp;
  /** HTTP statuses, with any code. */
  status?: (status: number) => boolean;
  why: string;
}

/**
 * Everything that another try of the same request may well get over. What is not here (a missing function, a wrong
 * password, a damaged table) stays as it is until an operator looks, and is INTERNAL_ERROR.
 */
export const NOT_NOW: readonly NotNow[] = [
  { code: /^08/, why: "the connection was lost or could not be made" },
  { code: /^25006$/, why: "read-only: a standby, a full disk, or a fail-over" },
  {
    code: /^25P0[34]$/,
    why: "ended by idle_in_transaction_session_timeout or transaction_timeout",
  },
  {
    code: /^40/,
    why: "a deadlock or a serialization failure, and nothing was done; or unknown (40003)",
  },
  { code: /^53/, why: "out of connections, memory or disk, or over a limit that is configured" },
  { code: /^55000$/, why: "the database is there and takes no connections" },
  { code: /^55P03$/, why: "another transaction is at the row: what could not be answered as busy" },
  {
    code: /^57/,
    why: "statement_timeout (57014), a shutdown, a crash, starting, an idle session ended",
  },
  { code: /^PT503$/, why: "the lock or its video is being changed" },
  { code: /^PGRST00/, why: "no connection, or none free; the Data API is starting" },
  { status: (status) => status === 0, why: "no answer at all, or not in time" },
  {
    status: (status) => status < 400,
    why: "an answer, and not the database's: a page, a redirect",
  },
  { status: (status) => [408, 425, 429].includes(status), why: "too slow, too early, too many" },
  { status: (status) => [502, 503, 504].includes(status), why: "a gateway that reaches no server" },
  {
    status: (status) => status >= 520,
    why: "a proxy's own: unreachable (52x), paused (540), timed out (544)",
  },
];

/**
 * Whether an error passes by itself.
 *
 * @param status HTTP status of the Data API's answer; 0 where there was none.
 * @param code Its code, as of PostgreSQL or PostgREST; empty where something else answered.
 * @returns True where the same request may be answered a moment later.
 */
export function isNotNow(status: number, code: string): boolean {
  // a 500 without a code is no answer of the Data API: something on the way to it failed
  return status >= 500 && code === "" ||
    NOT_NOW.some((row) => row.code?.test(code) || row.status?.(status));
}
