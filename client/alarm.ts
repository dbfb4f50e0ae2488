import type { World } from "./world.ts";

/** A sleep that others can cut short. */
export class Alarm {
  readonly #world: World;
  #wake = () => {};

  constructor(world: World) {
    this.#world = world;
  }

  /**
   * Sleeps. One sleep at a time.
   *
   * @param ms How long, in milliseconds.
   * @returns When the time is over, or {@link ring} is called.
   */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = ms < Infinity ? this.#world.setTimeout(resolve, ms) : undefined;
      this.#wake = () => {
        this.#world.clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Ends the sleep that goes on, if one does. */
  ring(): void {
    this.#wake();
  }
}

/**
 * Waits until a promise has settled, but not longer than this.
 *
 * @param world Whose time.
 * @param promise What is waited for; whether it rejects does not matter here.
 * @param ms How long at most, in milliseconds.
 * @returns Whether it settled.
 */
export async function settlesWithin(
  world: World,
  promise: Promise<unknown>,
  ms: number,
): Promise<boolean> {
  const alarm = new Alarm(world);
  let settled = false;
  const done = () => {
    settled = true;
    alarm.ring();
  };
  const sleep = alarm.sleep(ms);
  promise.then(done, done);
  await sleep;
  return settled;
}

/**
 * How long to wait before the next try, with full jitter: many who failed together do not come back together.
 *
 * @param world Whose chance.
 * @param failures How many tries have failed in a row, from 1 on.
 * @param most Upper bound, in milliseconds.
 * @returns Milliseconds.
 */
export function backOff(world: World, failures: number, most: number): number {
  return world.random() * Math.min(most, 250 * 2 ** failures);
}
