import { openSession, until } from "./race.ts";
import { sql } from "./stack.ts";

/** A place in a function's text where it stops until the test opens it. */
export interface Gate extends AsyncDisposable {
  /** The statements that stop there, for `changedFunctions`. They wait for no lock, so that no time-out ends them. */
  pass: string;
  /** The same as a condition of a statement, which stops there after it has begun. */
  isOpen: string;
  /** Waits until somebody is there. */
  reached(): Promise<void>;
  /** Lets everybody pass. */
  open(): Promise<void>;
}

/**
 * Makes a gate, which is closed.
 *
 * @returns The gate; `await using` opens it.
 */
export async function closedGate(): Promise<Gate> {
  const key = Math.floor(Math.random() * 2 ** 31);
  const keeper = openSession();
  await keeper.run`select pg_advisory_lock(${key}::integer, 1)`;
  return {
    pass: `perform pg_advisory_xact_lock_shared(${key}, 2);
      while not pg_try_advisory_xact_lock_shared(${key}, 1) loop perform pg_sleep(0.005); end loop;\n`,
    isOpen:
      `pg_advisory_xact_lock_shared(${key}, 2) is not null and pg_advisory_xact_lock_shared(${key}, 1) is not null`,
    reached: () =>
      until(async () =>
        (await sql`
          select from pg_locks
          where locktype = 'advisory' and classid = ${key}::bigint::oid and objid = 2`).length > 0
      ),
    async open() {
      await keeper.run`select pg_advisory_unlock(${key}::integer, 1)`;
    },
    [Symbol.asyncDispose]: () => keeper[Symbol.asyncDispose](),
  };
}
