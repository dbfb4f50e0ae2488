/**
 * `deno task release:notes v0.1.0`: the notes of a release, out of CHANGELOG.md.
 *
 * @module
 */
import { join } from "node:path";

/**
 * Takes the section of a version out of a changelog.
 *
 * @param changelog The text of CHANGELOG.md; a version has a heading `## 0.1.0 - 2026-11-30`.
 * @param version What deno.json has as `version`.
 * @param tag The tag that is to be released.
 * @returns The section without its heading.
 * @throws {Error} When the tag is not that version's, or the changelog has no section for it.
 *
 * @example
 * ```ts
 * import { releaseNotes } from "./release_notes.ts";
 *
 * console.log(releaseNotes("## 0.1.0 - 2026-11-30\n\nFirst.\n", "0.1.0", "v0.1.0")); // First.
 * ```
 */
export function releaseNotes(changelog: string, version: string, tag: string): string {
  if (tag !== `v${version}`) {
    throw new Error(`The tag is ${tag}, and deno.json has version ${version}.`);
  }
  const section = changelog.split(/^## /m).find((text) =>
    /^\S+ - \d{4}-\d{2}-\d{2}\n/.test(text) && text.startsWith(`${version} `)
  );
  if (!section) {
    throw new Error(`CHANGELOG.md has no section "## ${version} - " with the day of the release.`);
  }
  return section.slice(section.indexOf("\n")).trim();
}

if (import.meta.main) {
  const project = join(import.meta.dirname!, "..");
  const [changelog, config] = await Promise.all(
    ["CHANGELOG.md", "deno.json"].map((name) => Deno.readTextFile(join(project, name))),
  );
  try {
    console.log(releaseNotes(changelog!, JSON.parse(config!).version, Deno.args[0] ?? ""));
  } catch (error) {
    console.error((error as Error).message);
    Deno.exit(1);
  }
}
