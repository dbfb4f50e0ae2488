/** A sleep that others can cut short. */
export class Alarm {
  /** Ends the sleep that goes on, if one does. */
  ring: () => void = () => {};

  /**
   * Sleeps. One sleep at a time.
   *
   * @param ms How long, in milliseconds.
   * @returns When the time is over, or {@link ring} is called.
   */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms < Infinity ? setTimeout(resolve, ms) : undefined;
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
  const sleep = alarm.sleep(ms);
  let settled = false;
  const settle = () => {
    settled = true;
    alarm.ring();
  };
  promise.then(settle, settle);
  await sleep;
  return settled;
}

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
