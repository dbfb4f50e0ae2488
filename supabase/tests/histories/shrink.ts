import { CHECKS } from "./checks.ts";
import { type History, keyOf, type Violation } from "./history.ts";

/**
 * Makes a history that does not hold smaller, where that is cheap: of what it says, only the locks that the violation is about,
 * and only until it shows. What is left out could not change the verdict, so that what is left is a proof, too.
 *
 * @param history The history.
 * @param violation What was found.
 * @returns A smaller history in which the same is found; the same one where there is none.
 */
export function shrink(history: History, violation: Violation): History {
  const shown = history.calls.filter(({ n }) => violation.calls.includes(n));
  const keys = new Set(shown.flatMap((call) => call.names.map((name) => keyOf(call, name))));
  const end = Math.max(...shown.map(({ called, returned }) => returned ?? called));
  const isOf = (key: string) => keys.has(key);
  const ofTheseLocks = {
    ...history,
    calls: history.calls.filter((call) =>
      call.names.length === 0 || call.names.some((name) => isOf(keyOf(call, name)))
    ),
    grants: history.grants.filter(({ key }) => isOf(key)),
    cancelled: history.cancelled.filter(({ key }) => isOf(key)),
    writes: history.writes.filter(({ key }) => isOf(key)),
    beliefs: history.beliefs.filter(({ key }) => isOf(key)),
  };
  // what had not come back by then may have done anything, and its answer is of later
  const untilItShows = {
    ...ofTheseLocks,
    calls: ofTheseLocks.calls.filter(({ called }) => called <= end),
  };
  const smaller = [untilItShows, ofTheseLocks].find((one) =>
    CHECKS[violation.what]!({ ...one, undecided: [] }).length > 0
  );
  return smaller ?? history;
}
