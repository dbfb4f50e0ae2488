/** Time that stands still but for {@link VirtualTime.run}. */
export interface VirtualTime extends Disposable {
  /** Milliseconds since it began. */
  now(): number;
  /**
   * Runs timers in their order, until none is left.
   *
   * @param each Called after each of them, when all that it set off has come to rest.
   */
  run(each: () => void): Promise<void>;
}

/** Longer chains of promises than any in what is tested. */
const MICROTASKS = 150;

async function comeToRest(): Promise<void> {
  for (let i = 0; i < MICROTASKS; i++) await Promise.resolve();
}

/**
 * Puts the process's clocks and timers under a test's control: `setTimeout`, `clearTimeout`, `AbortSignal.timeout`,
 * `performance.now`, `Date.now`, and `Math.random` by a seed. `using` puts them back.
 *
 * @param seed Decides all chance.
 * @returns The time.
 */
export function virtualTime(seed: number): VirtualTime {
  const timers = new Map<number, { at: number; run: () => void }>();
  let now = 1_000;
  let next = 1;
  const real = {
    setTimeout: globalThis.setTimeout,
    clearTimeout: globalThis.clearTimeout,
    performanceNow: performance.now,
    dateNow: Date.now,
    random: Math.random,
    timeout: AbortSignal.timeout,
  };
  globalThis.setTimeout = ((run: () => void, ms = 0) => {
    timers.set(next, { at: now + Math.max(0, ms), run });
    return next++;
  }) as unknown as typeof setTimeout;
  globalThis.clearTimeout =
    ((timer: number) => timers.delete(timer)) as unknown as typeof clearTimeout;
  performance.now = () => now;
  Date.now = () => 1_800_000_000_000 + now;
  Math.random = random(seed);
  AbortSignal.timeout = (ms) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(new DOMException("No answer", "TimeoutError")), ms);
    return controller.signal;
  };
  return {
    now: () => now,
    async run(each) {
      await comeToRest();
      each();
      while (timers.size > 0) {
        const [[id, timer]] = [...timers].sort(([a, x], [b, y]) => x.at - y.at || a - b) as [
          [number, { at: number; run: () => void }],
        ];
        timers.delete(id);
        now = Math.max(now, timer.at);
        timer.run();
        await comeToRest();
        each();
      }
    },
    [Symbol.dispose]() {
      globalThis.setTimeout = real.setTimeout;
      globalThis.clearTimeout = real.clearTimeout;
      performance.now = real.performanceNow;
      Date.now = real.dateNow;
      Math.random = real.random;
      AbortSignal.timeout = real.timeout;
    },
  };
}

/** A small generator (mulberry32): the same numbers for the same seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
