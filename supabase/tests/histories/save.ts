import { join } from "node:path";
import type { History, Violation } from "./history.ts";
import { shrink } from "./shrink.ts";
import { timeline } from "./timeline.ts";

/**
 * Keeps a history that does not hold, makes it smaller for each of the first violations, and draws it.
 *
 * @param history The history.
 * @param violations What was found.
 * @returns Where it is.
 */
export async function save(history: History, violations: Violation[]): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-history-" });
  const write = (name: string, text: string) => Deno.writeTextFile(join(folder, name), text);
  await write("history.json", JSON.stringify({ violations, ...history }, null, 1));
  for (const [i, violation] of violations.slice(0, 5).entries()) {
    const smaller = shrink(history, violation);
    await write(
      `violation-${i + 1}.json`,
      JSON.stringify({ violations: [violation], ...smaller }, null, 1),
    );
    await write(`violation-${i + 1}.svg`, timeline(smaller, violation));
  }
  return folder;
}
