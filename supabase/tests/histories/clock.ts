import type { Sql } from "postgres";

/** The database's clock, as callers of this process see it without asking. */
export interface Clock {
  /** Microseconds since 1970. */
  now(): number;
  /** How wrong it may be, in microseconds. */
  error: number;
}

/**
 * Sets a clock by the database's: of several questions, the one that was answered fastest counts.
 *
 * @param sql A connection.
 * @returns The clock, right to half of that question's way there and back.
 */
export async function readClock(sql: Sql): Promise<Clock> {
  let best = { trip: Infinity, offset: 0 };
  for (let i = 0; i < 50; i++) {
    const sent = performance.now();
    const [row] = await sql<{ us: string }[]>`
      select (extract(epoch from clock_timestamp()) * 1000000)::bigint as us`;
    const trip = performance.now() - sent;
    if (trip < best.trip) best = { trip, offset: Number(row!.us) - (sent + trip / 2) * 1000 };
  }
  return {
    now: () => Math.round(performance.now() * 1000 + best.offset),
    error: Math.ceil(best.trip * 1000),
  };
}
