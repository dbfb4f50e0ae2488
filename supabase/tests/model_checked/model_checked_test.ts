// A model of one lock (lease.pml) and of the line (fair.pml), which spin searches through, every state of it. Broken models show
// that each property can fail, witnesses that it is not true for want of anything happening; and the model is tied to the real
// thing both ways: its ways are gone over HTTP and by SQL, and what was recorded there is accepted by it.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { runs } from "../support/soak.ts";
import { recordRun } from "./recorded.ts";
import { replay } from "./replay.ts";
import { compile, simulate } from "./spin.ts";

const folder = await Deno.makeTempDir({ prefix: "holdfast-model-" });
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));

/** What breaks the model, and which property notices: a part of the assertion. */
const MUTANTS: [what: string, property: RegExp][] = [
  ["a grant reads, then updates (P1, P5)", /holder==k|was_granted/],
  ["a token is a count of the row's grants (P4)", /token>newest/],
  ["a grant passes open guarded writes (P4)", /writes==0/],
  ["an acquire does not look at the history (P5)", /was_granted/],
  ["an acquire does not look at cancellations (P5)", /was_granted/],
  ["a release ends anybody's lease (P6)", /holder==id/],
  ["an acquire does not look at the line (P12)", /ahead==0/],
  ["a guard forgets that leases end (P4)", /has_lease/],
  ["a renewal revives (P6)", /has_lease/],
];

/** What has to be possible in the model, by its number there. */
const WITNESSES: Record<number, string> = {
  1: "P1 the next one is granted a lease that ran out",
  3: "P4 a guarded write commits beside the release of its lease",
  4: "P4 a grant after the row was deleted",
  5: "P5 an acquire is refused that its release overtook",
  6: "P6 a late release meets somebody else's lease",
  7: "P12 a newcomer is refused while another one has the turn",
  8: "P4 a write with an old token is refused",
  9: "P5 a repeated acquire comes after the release",
  10: "P6 a holder takes its own lease over",
  11: "P2 an acquire finds the row changed between its read and its write",
  12: "P12 the first of several in the line is granted",
};

// one after the other: they share file names
const lease = await compile(folder, "lease", ["-DSAFETY"]);
const fair = await compile(folder, "fair", ["-DNFAIR=4"], ["-a", "-f"]);

Deno.test("P1 P4 P5 P6 P12 hold in every state of the model", async () => {
  const { violated, states } = await lease.search();
  assertEquals(violated, null);
  assert(states > 100_000, `${states} states are too few to show anything`);
  const page = await Deno.readTextFile(
    new URL("../../../docs/internals/correctness.md", import.meta.url),
  );
  assertStringIncludes(page, `all of its ${states.toLocaleString("en")} states`);
});

for (const [i, [what, property]] of MUTANTS.entries()) {
  Deno.test(`the model is found out where ${what}`, async () => {
    const { violated } = await lease.search({ MUTANT: String(i + 1) });
    assertMatch(violated ?? "nothing was found", property);
  });
}

for (const [number, what] of Object.entries(WITNESSES)) {
  Deno.test(`it is possible in the model, and the same over HTTP: ${what}`, async () => {
    const env = { WITNESS: number };
    const { violated } = await lease.search(env);
    assertMatch(violated ?? "it is not possible", /seen/);
    await replay(await lease.trail(env));
  });
}

Deno.test("P12 a caller who keeps asking is served, in every fair way through the model", async () => {
  assertEquals((await fair.search()).violated, null);
  for (
    const [MUTANT, what] of [["1", "there is no line"], ["2", "dead callers keep their places"]]
  ) {
    assertEquals((await fair.search({ MUTANT: MUTANT! })).violated, "acceptance cycle", what);
  }
});

Deno.test("what the model does on random ways, the real thing does", async () => {
  for (let i = 0; i < runs(4, 100); i++) {
    const seed = 1 + (Date.now() + i) % 1_000_000;
    const events = await simulate(folder, "lease", seed, 4_000);
    assert(events.length > 20, "the way is too short");
    await replay(events.slice(0, 60));
  }
});

Deno.test("what was recorded of many callers at the same time, the model accepts; and not with another answer", async () => {
  for (let i = 0; i < runs(1, 20); i++) {
    const seed = 1 + (Date.now() + i) % 1_000_000;
    const { header, size, count } = await recordRun(seed, 5, 12);
    await Deno.writeTextFile(join(folder, "run.h"), header);
    await Deno.writeTextFile(join(folder, "run_size.h"), size);
    const run = await compile(folder, "run", ["-DSAFETY", "-DNOREDUCE"], ["-E"]);
    assertMatch(
      (await run.search()).violated ?? `not accepted: seed ${seed}\n${header}`,
      /finished</,
    );
    // one answer turned into another one, in eight places; of two calls at the same time either may be right now and then
    let refused = 0;
    for (let place = 0; place < 8; place++) {
      const WRONG = String(Math.floor(place * count / 8));
      if ((await run.search({ WRONG })).violated === null) refused++;
    }
    assert(refused >= 5, `only ${refused} of 8 wrong runs are refused`);
  }
});
