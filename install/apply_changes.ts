import { mkdir, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Change } from "./plan.ts";

/**
 * Makes changes in a folder: all of them, or none. New texts are first written beside their files; only when all are on
 * the disk do they take their places. Where even that fails, what was changed is put back.
 *
 * @param folder The folder.
 * @param changes What to change; paths below the folder.
 * @throws {Error} Of the file system. All is as it was then.
 */
export async function applyChanges(folder: string, changes: Change[]): Promise<void> {
  const beside = (path: string) => join(folder, `${path}.holdfast-new`);
  const made: string[] = [];
  const done: Change[] = [];
  try {
    for (const { path, after } of changes) {
      if (after === null) continue;
      const first = await mkdir(dirname(join(folder, path)), { recursive: true });
      if (first) made.push(first);
      await writeFile(beside(path), after);
    }
    for (const change of changes) {
      const target = join(folder, change.path);
      if (change.after === null) await rm(target);
      else await rename(beside(change.path), target);
      done.push(change);
    }
  } catch (error) {
    for (const { path, before } of done) {
      if (before === null) await rm(join(folder, path), { force: true });
      else await writeFile(join(folder, path), before);
    }
    for (const { path } of changes) {
      await rm(beside(path), { force: true, recursive: true }).catch(() => {});
    }
    for (const path of made.reverse()) await rm(path, { recursive: true, force: true });
    throw error;
  }
  // folders that are empty now
  for (const { path, after } of changes) {
    if (after === null) await rmdir(dirname(join(folder, path))).catch(() => {});
  }
}
