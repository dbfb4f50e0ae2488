import { createHash } from "node:crypto";
import { removeBlocks } from "./config_blocks.ts";
import { nextVersion } from "./next_version.ts";
import type { PackageFiles } from "./package_files.ts";
import type { Change, Plan } from "./plan.ts";
import { MANIFEST, type Project } from "./project.ts";
import { Refusal } from "./refusal.ts";

/**
 * Finds out what a removal has to do. It only reads.
 *
 * @param project The project.
 * @param files What the package brings.
 * @param now The time, for the name of the migration.
 * @returns The plan.
 * @throws {Refusal} When Holdfast is not installed.
 */
export async function planRemoval(
  project: Project,
  files: PackageFiles,
  now = new Date(),
): Promise<Plan> {
  const { manifest } = project;
  if (!manifest) {
    throw new Refusal(`Holdfast is not installed here: there is no supabase/${MANIFEST}.`);
  }
  if (manifest.version !== files.version) {
    throw new Refusal(
      `The project has Holdfast ${manifest.version}, and this is ${files.version}. Run \`npx holdfast@${manifest.version} remove\`.`,
    );
  }
  const version = nextVersion(project.migrations.at(-1)?.split("_")[0], now);
  const changes: Change[] = [
    { path: `migrations/${version}_remove_holdfast.sql`, before: null, after: files.removal },
  ];
  const notes = [
    "The migrations that installed Holdfast stay: the database remembers that it has run them.",
  ];
  for (const [path, hash] of Object.entries(manifest.files)) {
    const before = await project.read(path);
    if (before === null) continue;
    if (createHash("sha256").update(before).digest("hex") === hash) {
      changes.push({ path, before, after: null });
    } else notes.push(`supabase/${path} was edited, and stays.`);
  }
  const { text, left } = removeBlocks(project.config.text, files.functionNames);
  if (text !== project.config.text) {
    changes.push({ path: "config.toml", before: project.config.text, after: text });
  }
  for (const name of left) {
    notes.push(`[functions.${name}] in supabase/config.toml was edited, and stays.`);
  }
  changes.push({ path: MANIFEST, before: await project.read(MANIFEST), after: null });
  return {
    title: `Remove Holdfast ${manifest.version}`,
    changes,
    notes,
    next: [
      ...files.functionNames.map((name) => `npx supabase functions delete ${name}`),
      "npx supabase db push",
    ],
  };
}
