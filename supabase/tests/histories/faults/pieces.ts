// One history under faults. Imported only when there is a stack, as what it imports wants one.
import { check, CHECKS } from "../checks.ts";
import { type History, keyOf } from "../history.ts";
import { powerOf } from "../power.ts";
import { record, type RecordOptions } from "../record.ts";
import { save } from "../save.ts";
import type { Arena } from "./arena.ts";
import type { Fault } from "./fault.ts";
import type { Figures } from "./figures.ts";
import type { Library } from "./library.ts";
import { worldOf } from "./world.ts";

const FOCUSES: RecordOptions["focus"][] = [undefined, "usual case", "line"];

/** Makes figures of a run that has not begun. */
export function newFigures(seed: number): Figures {
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: "",
    machine: "",
    seed: String(seed),
    seconds: 0,
    pieces: 0,
    power: { calls: 0, overlapping: 0, open: 0, resolved: 0 },
    searches: { decided: 0, undecided: 0 },
    grants: 0,
    writes: 0,
    beliefs: 0,
    faults: {},
    left_out: {},
    controls: {},
    violations: [],
  };
}

/**
 * Records one history under faults, and checks it.
 *
 * @param arena Where.
 * @param library The clients of the library.
 * @param faults Which faults come.
 * @param options For how long, with which seed; the figures are added to.
 * @returns How many violations were found.
 */
export async function runPiece(
  arena: Arena,
  library: Library,
  faults: readonly Fault[],
  options: { seconds: number; seed: number; n: number; sqlClients: number; figures: Figures },
): Promise<number> {
  const { seconds, seed, n, sqlClients, figures } = options;
  const names = faults.map(({ name }) => name);
  for (const fault of faults) await fault.prepare?.(arena);
  await arena.settle();
  const strikes: Record<string, number> = {};
  const focus = FOCUSES[Math.floor(n / 2) % FOCUSES.length];
  const begun = performance.now();
  const history = await record({
    seconds,
    seed,
    focus,
    sqlClients,
    world: worldOf(arena, faults, library, seed, strikes),
  });
  for (const fault of faults) await fault.mend?.(arena);
  const took = performance.now();
  const waived = faults.flatMap(({ waives }) => waives);
  const violations = check(history, waived);
  const lost = waived.includes(LOSS) ? CHECKS[LOSS]!(history).length : 0;
  const power = powerOf(history);
  console.log(
    `${names.join(" + ")}, ${
      focus ?? "everything"
    }, seed ${seed}: ${power.calls} calls, ${power.open} open, ` +
      `${history.grants.length} grants, ${JSON.stringify(strikes)}${
        lost ? `, ${lost} acknowledged and lost` : ""
      }; ` +
      `${((took - begun) / 1000).toFixed(1)} s, checked in ${
        ((performance.now() - took) / 1000).toFixed(1)
      } s`,
  );
  const saved = violations.length > 0 ? await save(history, violations) : "";
  for (const { what, why } of violations.slice(0, 5)) {
    console.log(`  VIOLATION: ${what}: ${why}\n  ${saved}`);
    figures.violations.push({ what, why, faults: names, seed, saved });
  }
  add(figures, history, names, strikes, lost, waived);
  return violations.length;
}

const LOSS = "what was acknowledged is kept";

function add(
  figures: Figures,
  history: History,
  names: string[],
  strikes: Record<string, number>,
  lost: number,
  waived: readonly string[],
) {
  figures.pieces++;
  const power = powerOf(history);
  for (const key of Object.keys(power) as (keyof typeof power)[]) figures.power[key] += power[key];
  const keys = new Set(
    history.calls.flatMap((call) => call.names.map((name) => keyOf(call, name))),
  );
  figures.searches.undecided += history.undecided.length;
  if (!waived.includes("each lock is linearizable")) {
    figures.searches.decided += keys.size - history.undecided.length;
  }
  figures.grants += history.grants.length;
  figures.writes += history.writes.length;
  figures.beliefs += history.beliefs.length;
  for (const name of names) {
    const one = figures.faults[name] ??= { histories: 0, strikes: 0, calls: 0, lost: 0 };
    one.histories++;
    one.strikes += strikes[name] ?? 0;
    one.calls += power.calls;
    one.lost += lost;
  }
}

/** Says what a run came to, in lines. */
export function report({ faults, power }: Figures): string {
  const lines = Object.entries(faults).map(([name, { histories, strikes, calls, lost }]) =>
    `${name}: ${strikes} times in ${histories} histories of ${calls} calls${
      lost ? `, ${lost} acknowledged and lost` : ""
    }`
  );
  return [...lines, JSON.stringify(power)].join("\n");
}
