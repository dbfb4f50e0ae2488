/** A sleep that others can cut short. */
export class Alarm {
  /** Ends the sleep that goes on, if one does. */
  ring: () => void = () => {};

  /**
   * Sleeps. One sleep at a time.
   *
   * @param ms How long, in milliseconds; 25 days or more are for ever.
   * @returns When the time is over, or {@link ring} is called.
   */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      // a timer takes no more than 31 bits, and runs at once with more
      const timer = ms < 2 ** 31 ? setTimeout(resolve, ms) : undefined;
      this.ring = () => resolve(clearTimeout(timer));
    });
  }
}

/**
 * Waits until a promise has settled, but not longer than this.
 *
 * @param promise What is waited for; whether it rejects does not matter here.
 * @param ms How long at most, in milliseconds.
 * @returns Whether it settled.
 */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const alarm = new Alarm();
  let settled = false;
  const settle = () => {
    settled = true;
    alarm.ring();
  };
  promise.then(settle, settle);
  await alarm.sleep(ms);
  return settled;
}

/** One instant on two clocks, in milliseconds: `performance.now()`, which only ever grows, and `Date.now()`. */
export type Instant = readonly [monotonic: number, wall: number];

/**
 * Takes the time.
 *
 * @returns Now.
 */
export const takeTime = (): Instant => [performance.now(), Date.now()];

/**
 * How long ago an instant was. Some monotonic clocks stand still while a machine sleeps, and a wall clock may be set: the
 * larger of the two is on the safe side.
 *
 * @param instant In the past.
 * @returns Milliseconds.
 */
export const timeSince = ([monotonic, wall]: Instant): number =>
  Math.max(performance.now() - monotonic, Date.now() - wall);

/**
 * How long to wait before the next try, with full jitter: many who failed together do not come back together.
 *
 * @param failures How many tries have failed in a row, from 1 on.
 * @param most Upper bound, in milliseconds.
 * @returns Milliseconds.
 */
export function backOff(failures: number, most: number): number {
  return Math.random() * Math.min(most, 250 * 2 ** failures);
}
