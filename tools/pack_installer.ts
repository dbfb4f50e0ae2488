import { cp } from "node:fs/promises";
import { join } from "node:path";
import { build, stop } from "esbuild";

const PROJECT = join(import.meta.dirname!, "..");

/** What `npx holdfast install` reads of the package, where the checkout has it, too. */
export const INSTALLED = ["supabase/migrations", "supabase/functions", "install/remove.sql"];

/**
 * Writes `npx holdfast` into a package: one file with the libraries that it uses, so that the package depends on none,
 * their licenses, and what it installs.
 *
 * @param out The folder of the package.
 */
export async function packInstaller(out: string): Promise<void> {
  const { metafile } = await build({
    absWorkingDir: PROJECT,
    entryPoints: ["install/main.ts"],
    outfile: join(out, "bin/holdfast.js"),
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
    banner: { js: "#!/usr/bin/env node" },
    legalComments: "none", // they are in LICENSES.txt, whole
    metafile: true,
  });
  await stop();
  await Deno.chmod(join(out, "bin/holdfast.js"), 0o755);
  await Deno.writeTextFile(
    join(out, "bin/LICENSES.txt"),
    await licenses(Object.keys(metafile.inputs)),
  );
  for (const path of INSTALLED) {
    await cp(join(PROJECT, path), join(out, path), { recursive: true });
  }
}

/** The licenses of the packages that some files belong to. */
async function licenses(files: string[]): Promise<string> {
  const folders = new Set(
    files.map((file) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(file)?.[0]).filter(Boolean),
  );
  const texts: string[] = [];
  for (const folder of [...folders].sort()) {
    const path = join(PROJECT, folder!);
    const { name, version, license } = JSON.parse(
      await Deno.readTextFile(join(path, "package.json")),
    );
    const file = [...Deno.readDirSync(path)].find((entry) => /^licen[cs]e/i.test(entry.name));
    const text = file ? await Deno.readTextFile(join(path, file.name)) : `License: ${license}`;
    texts.push(`${name} ${version}\n\n${text.trim()}\n`);
  }
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}
