import type { Power } from "../power.ts";

/** What a run amounts to; docs/internals/correctness.md is filled from it. */
export interface Figures {
  date: string;
  commit: string;
  machine: string;
  seed: number;
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
