import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** What the package brings into a project. */
export interface PackageFiles {
  /** The version of Holdfast. */
  version: string;
  /** The migrations in their order, by name. */
  migrations: Map<string, string>;
  /** Texts of the functions' files by their path below `supabase/` of a project. */
  functions: Map<string, string>;
  /** Names of the edge functions. */
  functionNames: string[];
  /** The migration that takes Holdfast out again. */
  removal: string;
}

/** Other functions of a project may have a `_shared` of their own. */
const inProject = (text: string) => text.replaceAll("../_shared/", "../_holdfast/");

/**
 * Reads what the package brings. Package and checkout have the same folders.
 *
 * @param root The folder of the package.
 * @returns Its files.
 */
export async function packageFiles(root: string): Promise<PackageFiles> {
  const read = (...path: string[]) => readFile(join(root, ...path), "utf8");
  const about = await read("package.json").catch(() => read("deno.json"));
  const migrations = new Map<string, string>();
  for (const name of (await readdir(join(root, "supabase/migrations"))).sort()) {
    migrations.set(name, await read("supabase/migrations", name));
  }
  const functions = new Map<string, string>();
  const folders = (await readdir(join(root, "supabase/functions"))).sort();
  for (const folder of folders) {
    for (const name of (await readdir(join(root, "supabase/functions", folder))).sort()) {
      const path = `functions/${folder.replace("_shared", "_holdfast")}/${name}`;
      functions.set(path, inProject(await read("supabase/functions", folder, name)));
    }
  }
  return {
    version: JSON.parse(about).version,
    migrations,
    functions,
    functionNames: folders.filter((name) => !name.startsWith("_")),
    removal: await read("install/remove.sql"),
  };
}
