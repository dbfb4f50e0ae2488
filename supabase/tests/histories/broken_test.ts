// The recorder and the checkers are worth what they find: every lock that is wrong on purpose, within a minute, mostly a few seconds. The gate
// meets those that are felt at once; SOAK=1 or HISTORY_SECONDS all of them.
import { assert } from "@std/assert";
import { changedFunctions } from "../support/changed_functions.ts";
import { isSoak } from "../support/soak.ts";
import { BROKEN } from "./broken.ts";
import { check } from "./checks.ts";
import type { Violation } from "./history.ts";
import { record } from "./record.ts";

const all = isSoak || Deno.env.has("HISTORY_SECONDS");
const [only = ""] = [Deno.env.get("HISTORY_BROKEN")];

for (const { what, focus, isQuick, changes } of BROKEN) {
  if (only ? what !== only : !isQuick && !all) continue;
  Deno.test(`a lock is found out where ${what}`, async () => {
    await using schema = await changedFunctions(changes);
    let found: Violation[] = [];
    let seconds = 0;
    // in short pieces, so that a lock that is felt at once does not take long
    for (let seed = 1; found.length === 0 && seconds < 60; seed++) {
      const piece = isQuick ? 1 : 3;
      seconds += piece;
      const options = { seconds: piece, seed, focus, schema: schema.name };
      found = check(await record({ ...options, sqlClients: 8, httpClients: 0 }));
    }
    assert(found.length > 0, "nothing was found within a minute");
    if (all || only) {
      console.log(`${seconds} s: ${[...new Set(found.map((one) => one.what))].join("; ")}`);
    }
  });
}
