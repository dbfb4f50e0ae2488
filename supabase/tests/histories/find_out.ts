import { changedFunctions } from "../support/changed_functions.ts";
import type { Broken } from "./broken.ts";
import { check } from "./checks.ts";
import type { Violation } from "./history.ts";
import { record } from "./record.ts";

/**
 * Lets callers at a lock that is wrong on purpose, in short pieces, until a checker finds it out.
 *
 * @param broken In what way it is wrong.
 * @param most For how many seconds.
 * @returns What was found, and after how many seconds of calls.
 */
export async function findOut(
  { focus, isQuick, changes }: Broken,
  most = 60,
): Promise<{ found: Violation[]; seconds: number }> {
  await using schema = await changedFunctions(changes);
  let found: Violation[] = [];
  let seconds = 0;
  // a lock that is felt at once does not take long
  for (let seed = 1; found.length === 0 && seconds < most; seed++) {
    const piece = isQuick ? 1 : 3;
    seconds += piece;
    const options = { seconds: piece, seed, focus, schema: schema.name };
    found = check(await record({ ...options, sqlClients: 8, httpClients: 0 }));
  }
  return { found, seconds };
}
