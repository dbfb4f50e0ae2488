import { join } from "node:path";
import type { History, Violation } from "./history.ts";
import { timeline } from "./timeline.ts";

/**
 * Keeps a history that does not hold, and draws it.
 *
 * @param history The history.
 * @param violations What was found.
 * @returns Where it is.
 */
export async function save(history: History, violations: Violation[]): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-history-" });
  await Deno.writeTextFile(
    join(folder, "history.json"),
    JSON.stringify({ violations, ...history }, null, 1),
  );
  for (const [i, violation] of violations.slice(0, 5).entries()) {
    await Deno.writeTextFile(join(folder, `violation-${i + 1}.svg`), timeline(history, violation));
  }
  return folder;
}
