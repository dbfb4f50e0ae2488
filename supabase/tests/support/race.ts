import { assertEquals } from "@std/assert";
import postgres from "postgres";
import { dbUrl, sql } from "./stack.ts";

/**
 * Lets callers meet where it is tightest: holds the table of the locks against writes, sets them all off, waits a moment
 * until several have read that the lock is free and stand before their write, and lets go.
 *
 * @param callers How many.
 * @param call Makes one call; its number is 0 and up.
 * @returns What they all got.
 */
export async function atOneBarrier<T>(
  callers: number,
  call: (i: number) => Promise<T>,
): Promise<T[]> {
  await using gate = openSession();
  await gate.run`begin`;
  await gate.run`lock table public.video_database_state in exclusive mode`;
  const calls = Promise.all(Array.from({ length: callers }, (_, i) => call(i)));
  // Not for long: of many who wait for one row, most give up after 30 ms (P11). And the Data API's pool bounds how many get as
  // far as the database at the same time.
  await until(async () => await waiting() > 0);
  const end = Date.now() + 20;
  await until(async () => await waiting() >= Math.min(callers, 5) || Date.now() > end);
  await gate.run`commit`;
  return await calls;
}

/**
 * The main claim (P1, P2): of N callers who start together exactly one wins, and none of the others errs.
 *
 * @param callers How many.
 * @param attempt Tries to take the lock; true if it was granted.
 * @throws {AssertionError} When none or several were granted.
 */
export async function assertOneWins(
  callers: number,
  attempt: (i: number) => Promise<boolean>,
): Promise<void> {
  const won = await atOneBarrier(callers, attempt);
  assertEquals(won.filter(Boolean).length, 1, "exactly one of the callers wins");
}

/** A database session of its own, for tests by steps. */
export interface Session extends AsyncDisposable {
  /** Runs one statement, outside of any transaction unless `begin` was run. */
  run: postgres.Sql;
  /** Waits until this session waits for another one, which gives true; or until it need not any more. */
  blocked(isOver?: () => boolean): Promise<boolean>;
}

/**
 * Opens a session as the owner, or as one of the API's roles.
 *
 * @param claims What the caller's token says; none for the owner.
 * @returns The session; close it with `await using`.
 */
export function openSession(
  claims?: { role: "service_role" | "authenticated"; sub?: string },
): Session {
  const name = `test-${crypto.randomUUID()}`;
  const run = postgres(dbUrl, {
    onnotice() {},
    max: 1,
    connection: {
      application_name: name,
      ...(claims ? { role: claims.role, "request.jwt.claims": JSON.stringify(claims) } : {}),
    },
  });
  return {
    run,
    async blocked(isOver = () => false) {
      let isBlocked = false;
      await until(async () => {
        const waits = await sql`
          select from pg_stat_activity where application_name = ${name} and wait_event_type = 'Lock'`;
        isBlocked = waits.length > 0;
        return isBlocked || isOver();
      });
      return isBlocked;
    },
    async [Symbol.asyncDispose]() {
      await run.end({ timeout: 0 });
    },
  };
}

async function waiting(): Promise<number> {
  const [row] = await sql<{ n: number }[]>`
    select count(*)::integer as n from pg_stat_activity where wait_event_type = 'Lock'`;
  return row?.n ?? 0;
}

/**
 * Waits for something that another process brings about.
 *
 * @param condition Looks whether it is so.
 * @throws {Error} When it is not so after ten seconds.
 */
export async function until(condition: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("what the test waits for did not happen within ten seconds");
}
