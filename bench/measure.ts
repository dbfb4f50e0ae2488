import { median, quantile } from "simple-statistics";

/** Someone who takes part in a comparison. */
export interface Contestant {
  name: string;
  /** What is measured, once. */
  run(): Promise<unknown>;
  /** Goes before each run, and is no part of what its caller sees. */
  before?(): Promise<unknown>;
  /** The server's processes that work for it; their CPU time is told too. */
  pids?: number[];
}

/** What a run of a contestant took, in microseconds: one number for each round. */
export interface Costs {
  /** CPU time of the server; not numbers where the system does not tell. */
  cpu: number[];
  /** The median that the caller saw. */
  wall: number[];
}

/**
 * Compares contestants that take turns, so that what else the machine does meets all of them.
 *
 * @param contestants Who takes part.
 * @param size.rounds How often each has its turn. One round more, before these, warms everything up.
 * @param size.runs How often each runs in its turn.
 * @returns What a run took, by the contestant's name.
 */
export async function takeTurns(
  contestants: Contestant[],
  { rounds, runs }: { rounds: number; runs: number },
): Promise<Record<string, Costs>> {
  const costs: Record<string, Costs> = {};
  for (const { name } of contestants) costs[name] = { cpu: [], wall: [] };
  for (let round = -1; round < rounds; round++) {
    // another order each time: whoever follows a dear one may find cold caches
    const first = Math.max(round, 0) % contestants.length;
    const order = [...contestants.slice(first), ...contestants.slice(0, first)];
    for (const contestant of order) {
      const { name, pids = [] } = contestant;
      const start = cpuMicros(pids);
      const wall = await times(contestant, runs);
      if (round < 0) continue;
      costs[name]!.cpu.push((cpuMicros(pids) - start) / runs);
      costs[name]!.wall.push(median(wall));
    }
  }
  return costs;
}

/** How long each of so many runs took, in microseconds. */
async function times({ run, before }: Contestant, runs: number): Promise<number[]> {
  const wall: number[] = [];
  for (let i = 0; i < runs; i++) {
    await before?.();
    const start = performance.now();
    await run();
    wall.push((performance.now() - start) * 1000);
  }
  return wall;
}

/**
 * CPU time of processes, all of their threads together.
 *
 * @param pids Which ones.
 * @returns Microseconds, to the nanosecond; not a number where the system does not tell.
 */
export function cpuMicros(pids: number[]): number {
  let nanos = 0;
  try {
    for (const pid of pids) {
      for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
        const path = `/proc/${pid}/task/${name}/schedstat`;
        nanos += Number(Deno.readTextFileSync(path).split(" ")[0]);
      }
    }
  } catch {
    return NaN;
  }
  return nanos / 1000;
}

/** A figure over several rounds. */
export interface Figure {
  figure: number;
  /** Between these is the middle half of the rounds. */
  range: [number, number];
}

/** The median of the rounds, and where the middle half of them is. */
export function overRounds(values: number[]): Figure {
  return { figure: median(values), range: [quantile(values, 0.25), quantile(values, 0.75)] };
}

/**
 * How many times as much one takes as another, round by round.
 *
 * @param over One number for each round.
 * @param under The other's, of the same rounds.
 */
export function ratio(over: number[], under: number[]): Figure {
  return overRounds(over.map((value, i) => value / under[i]!));
}

/**
 * The same for a difference of a few hundredths: what else the machine does only adds, so the tenth of the turns that
 * were disturbed least is compared.
 *
 * @param over One number for each round.
 * @param under The other's, of the same rounds.
 */
export function closeRatio(over: number[], under: number[]): number {
  return quantile(over, 0.1) / quantile(under, 0.1);
}

/** The server's CPU time where it is known, or else what the caller saw. */
export function cost({ cpu, wall }: Costs): number[] {
  return cpu.every((micros) => micros > 0) ? cpu : wall;
}
