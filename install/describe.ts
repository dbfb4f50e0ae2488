import { createTwoFilesPatch } from "diff";
import type { Plan } from "./plan.ts";

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
    ...changes.map(({ path, before, after }) =>
      `  ${before === null ? "add   " : after === null ? "delete" : "change"}  supabase/${path}`
    ),
    ...(notes.length > 0 ? ["", ...notes.map((note) => `  ${note}`)] : []),
    "",
  ].join("\n");
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
