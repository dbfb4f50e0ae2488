// The recorder and the checkers are worth what they find: every lock that is wrong on purpose, within a minute, mostly a few seconds. The gate
// meets those that are felt at once; SOAK=1 or HISTORY_SECONDS all of them.
import { assert } from "@std/assert";
import { changedFunctions } from "../support/changed_functions.ts";
import { isSoak } from "../support/soak.ts";
import { BROKEN } from "./broken.ts";
import { findOut } from "./find_out.ts";

const all = isSoak || Deno.env.has("HISTORY_SECONDS");
const [only = ""] = [Deno.env.get("HISTORY_BROKEN")];

Deno.test("each lock that is wrong on purpose can be made: what it changes is still there", async () => {
  for (const { changes } of BROKEN) {
    await using _ = await changedFunctions(changes);
  }
});

for (const broken of BROKEN) {
  if (only ? broken.what !== only : !broken.isQuick && !all) continue;
  Deno.test(`a lock is found out where ${broken.what}`, async () => {
    const { found, seconds } = await findOut(broken);
    assert(found.length > 0, "nothing was found within a minute");
    if (all || only) {
      console.log(`${seconds} s: ${[...new Set(found.map((one) => one.what))].join("; ")}`);
    }
  });
}
