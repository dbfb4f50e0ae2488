// Runs the suite against the LockManager of the Node that runs this file, and prints what failed as one JSON object.
import { WEB_LOCKS } from "./suite.ts";
import type { TestedManager } from "./surroundings.ts";

const { locks } = navigator as unknown as { locks: TestedManager };
const failed: Record<string, string> = {};
for (const [i, { name, run }] of WEB_LOCKS.entries()) {
  try {
    await run({ locks, a: `a${i}`, b: `b${i}` });
  } catch (error) {
    failed[name] = String(error);
  }
}
console.log(JSON.stringify({ cases: WEB_LOCKS.length, failed }));
