/** What the client takes from its surroundings. Tests bring their own, with a time that they set. */
export interface World {
  /** Milliseconds on a monotonic clock. What counts is only ever how much time has passed. */
  now(): number;
  /** Milliseconds on the wall clock: only to notice that a machine slept, which stops some monotonic clocks. */
  wall(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** From 0 to below 1. */
  random(): number;
}

/** The real one. */
export const REAL_WORLD: World = {
  now: () => performance.now(),
  wall: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (timer) => clearTimeout(timer as number),
  random: Math.random,
};
