import { createTwoFilesPatch } from "diff";
import type { Change, Plan } from "./plan.ts";

/**
 * Says what a plan does.
 *
 * @param plan The plan.
 * @returns Lines for a terminal.
 */
export function describe({ title, changes, notes }: Plan): string {
  return [
    `${title}:`,
    "",
    ...linesOf(changes),
    ...(notes.length > 0 ? ["", ...notes.map((note) => `  ${note}`)] : []),
    "",
  ].join("\n");
}

/** A line for each change; for each folder of functions one, where all its files have the same lot. */
function linesOf(changes: Change[]): string[] {
  const files = new Map<string, number>();
  for (const { path, before, after } of changes) {
    const what = before === null ? "add   " : after === null ? "delete" : "change";
    const place = `  ${what}  supabase/${path.replace(/^(functions\/[^/]+\/).*/, "$1")}`;
    files.set(place, (files.get(place) ?? 0) + 1);
  }
  return [...files].map(([place, count]) =>
    place.endsWith("/") ? `${place} (${count} ${count === 1 ? "file" : "files"})` : place
  );
}

/**
 * Shows what a plan changes, as `git diff` would.
 *
 * @param plan The plan.
 * @returns Unified diffs.
 */
export function diffOf({ changes }: Plan): string {
  return changes.map(({ path, before, after }) =>
    createTwoFilesPatch(
      before === null ? "/dev/null" : `a/supabase/${path}`,
      after === null ? "/dev/null" : `b/supabase/${path}`,
      before ?? "",
      after ?? "",
    ).replace(/^=+\n/, "")
  ).join("\n");
}
