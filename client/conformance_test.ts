import { assertEquals } from "@std/assert";
import { WEB_LOCKS } from "./conformance/suite.ts";
import type { TestedManager } from "./conformance/surroundings.ts";

// The suite is right if the locks of those who wrote the specification's implementations pass it. Ours are tested with it
// in web_locks_test.ts, Chromium's in browser_test.ts.

const { locks } = navigator as unknown as { locks: TestedManager };
for (const [i, { name, run }] of WEB_LOCKS.entries()) {
  Deno.test(`Deno's navigator.locks: ${name}`, () => run({ locks, a: `a${i}`, b: `b${i}` }));
}

/** Where Node 24.9 is known to differ from the specification. */
const NODE_DIFFERS = [
  "combinations are judged before the signal is asked whether it has aborted",
  "who waits stops waiting when the signal aborts, and the holder goes on", // still listed as pending afterwards
];

Deno.test("Node 24's navigator.locks pass the suite, but for two known differences", async () => {
  const { stdout, stderr } = await new Deno.Command("npx", {
    args: [
      "--yes",
      "node@24.9.0",
      "--no-warnings",
      `${import.meta.dirname}/conformance/in_node.ts`,
    ],
    env: { npm_config_update_notifier: "false" },
  }).output();
  const printed = new TextDecoder().decode(stdout);
  if (!printed) throw new Error(new TextDecoder().decode(stderr));
  const { cases, failed } = JSON.parse(printed);
  assertEquals([cases, Object.keys(failed)], [WEB_LOCKS.length, NODE_DIFFERS]);
});
