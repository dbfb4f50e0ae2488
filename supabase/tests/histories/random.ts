/** Draws at random, repeatably. */
export interface Random {
  /** From 0 to 1, without 1. */
  fraction(): number;
  /** True so often. */
  chance(probability: number): boolean;
  /** One of these; the field `weight`, where they have it, makes one more probable. */
  one<T>(of: readonly T[]): T;
}

/**
 * Makes a source of random draws (the generator is mulberry32).
 *
 * @param seed Equal seeds, equal draws.
 * @returns The source.
 */
export function random(seed: number): Random {
  let state = seed >>> 0;
  const fraction = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    fraction,
    chance: (probability) => fraction() < probability,
    one(of) {
      const weight = (one: unknown) => (one as { weight?: number }).weight ?? 1;
      let drawn = fraction() * of.reduce((sum, one) => sum + weight(one), 0);
      return of.find((one) => (drawn -= weight(one)) < 0) ?? of.at(-1)!;
    },
  };
}
