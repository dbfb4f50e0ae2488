import type { Power } from "../power.ts";

/**
 * Adds up what two runs amount to, also such as were made side by side.
 *
 * @param one A run.
 * @param other Another one.
 * @returns Both.
 */
export function addUp(one: Figures, other: Figures): Figures {
  const sum = <T extends object>(a: T, b: T): T =>
    Object.fromEntries(
      [...new Set([...Object.keys(a), ...Object.keys(b)])].map((key) => {
        const [x, y] = [a[key as keyof T], b[key as keyof T]];
        if (typeof (x ?? y) === "object" && (x ?? y) !== null) return [key, sum(x ?? {}, y ?? {})];
        return [key, (x as number ?? 0) + (y as number ?? 0)];
      }),
    ) as T;
  const { seconds, pieces, power, searches, grants, writes, beliefs, faults } = one;
  const own = { seconds, pieces, power, searches, grants, writes, beliefs, faults };
  return {
    ...other,
    ...sum(
      own,
      Object.fromEntries(
        Object.keys(own).map((key) => [key, other[key as keyof Figures]]),
      ) as typeof own,
    ),
    seed: `${one.seed}, ${other.seed}`,
    left_out: { ...one.left_out, ...other.left_out },
    controls: { ...one.controls, ...other.controls },
    violations: [...one.violations, ...other.violations],
  };
}

/** What a run amounts to; docs/internals/correctness.md is filled from it. */
export interface Figures {
  date: string;
  commit: string;
  machine: string;
  /** Of each run that was added up. */
  seed: string;
  seconds: number;
  pieces: number;
  power: Power;
  /** Locks of one history whose linearizability was decided, and those where the search gave up. */
  searches: { decided: number; undecided: number };
  grants: number;
  writes: number;
  beliefs: number;
  /** How often each fault was let loose, in how many histories. */
  faults: Record<string, { histories: number; strikes: number; calls: number; lost: number }>;
  /** Faults that this machine could not have, and what was missing. */
  left_out: Record<string, string>;
  /** Locks that are wrong on purpose: after how many seconds each was found out; null: it was not. */
  controls: Record<string, number | null>;
  violations: { what: string; why: string; faults: string[]; seed: number; saved: string }[];
}
