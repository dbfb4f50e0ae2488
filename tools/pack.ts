/**
 * Packs Holdfast for npm: the client as one ESM file with its types, and `npx holdfast` with what it installs.
 *
 *     deno task pack              writes .holdfast/pack/, with the tarball, and checks it with publint and attw
 *     deno task pack --projects   also installs it in fresh projects: Node 20, Node 24, and Vite with TypeScript
 *
 * @module
 */
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build, stop } from "esbuild";
import { INSTALLED, packInstaller } from "./pack_installer.ts";
import { tryInProjects } from "./pack_projects.ts";

const PROJECT = join(import.meta.dirname!, "..");
const OUT = join(PROJECT, ".holdfast/pack");

/** What the whole library may come to, minified and gzipped, in bytes. */
export const MAX_BYTES = 6000;

/**
 * The whole library as one file.
 *
 * @param minify Whether to make it small.
 * @returns Its text.
 */
export async function bundle(minify: boolean): Promise<Uint8Array> {
  const { outputFiles } = await build({
    absWorkingDir: PROJECT,
    entryPoints: ["client/mod.ts"],
    bundle: true,
    format: "esm",
    target: "es2022",
    external: ["@supabase/supabase-js"],
    minify,
    write: false,
  });
  await stop();
  return outputFiles[0]!.contents;
}

/**
 * What the library comes to.
 *
 * @returns Bytes, minified and gzipped.
 */
export async function packedBytes(): Promise<number> {
  return gzipSync(await bundle(true), { level: 9 }).byteLength;
}

/** The project's deno.json, which has the versions. */
async function versions(): Promise<{ version: string; supabase: string }> {
  const { imports, version } = JSON.parse(await Deno.readTextFile(join(PROJECT, "deno.json")));
  return { version, supabase: imports["@supabase/supabase-js"].split("@").at(-1) };
}

/** The package's own description. */
function manifest(version: string, supabase: string) {
  return {
    name: "holdfast",
    version,
    description: "Exclusive locks for Supabase projects, with the shape of the W3C's Web Locks",
    license: "MIT",
    type: "module",
    sideEffects: false,
    exports: { ".": { types: "./types/client/mod.d.ts", default: "./index.js" } },
    bin: { holdfast: "bin/holdfast.js" },
    files: ["index.js", "types", "bin", ...INSTALLED, "README.md", "LICENSE"],
    engines: { node: ">=20.3" },
    peerDependencies: { "@supabase/supabase-js": `^${supabase}` },
  };
}

/** How the types are made. */
const TYPES = {
  compilerOptions: {
    ...{ target: "es2022", lib: ["es2022", "dom", "dom.iterable", "esnext.disposable"], types: [] },
    ...{ module: "esnext", moduleResolution: "bundler", allowImportingTsExtensions: true },
    ...{ strict: true, declaration: true, emitDeclarationOnly: true, skipLibCheck: true },
    ...{ rootDir: PROJECT, outDir: join(OUT, "types") },
  },
  files: [join(PROJECT, "client/mod.ts")],
};

/** Types, by TypeScript itself; their imports end in `.js`, as npm's consumers have it. */
async function writeTypes(): Promise<void> {
  const config = join(OUT, "tsconfig.json");
  await Deno.writeTextFile(config, JSON.stringify(TYPES));
  await run(["npx", "--yes", "--package=typescript@5.9.3", "tsc"], ["--project", config]);
  await Deno.remove(config);
  for await (const path of filesIn(join(OUT, "types"))) {
    const text = (await Deno.readTextFile(path)).replaceAll(
      /(["'])(\.{1,2}\/[^"']+)\.ts\1/g,
      '"$2.js"',
    );
    const needsDisposable = text.includes("AsyncDisposable");
    await Deno.writeTextFile(
      path,
      needsDisposable ? `/// <reference lib="esnext.disposable" />\n${text}` : text,
    );
  }
}

async function* filesIn(folder: string): AsyncGenerator<string> {
  for await (const entry of Deno.readDir(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory) yield* filesIn(path);
    else yield path;
  }
}

async function run([command, ...first]: string[], args: string[], cwd = PROJECT): Promise<void> {
  const { success } = await new Deno.Command(command!, {
    args: [...first, ...args],
    cwd,
    env: { npm_config_update_notifier: "false" },
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`${command} ${args[0]} failed`);
}

/**
 * Writes the package and its tarball.
 *
 * @returns The tarball's path.
 */
export async function pack(): Promise<string> {
  await Deno.remove(OUT, { recursive: true }).catch(() => {});
  await Deno.mkdir(OUT, { recursive: true });
  const { version, supabase } = await versions();
  await Deno.writeTextFile(
    join(OUT, "package.json"),
    JSON.stringify(manifest(version, supabase), null, 2),
  );
  await Deno.writeFile(join(OUT, "index.js"), await bundle(false));
  await Deno.copyFile(join(PROJECT, "docs/reference/client.md"), join(OUT, "README.md"));
  await Deno.copyFile(join(PROJECT, "LICENSE"), join(OUT, "LICENSE"));
  await packInstaller(OUT);
  await writeTypes();
  await run(["npm", "pack", "--silent"], ["--ignore-scripts"], OUT);
  return join(OUT, `holdfast-${version}.tgz`);
}

if (import.meta.main) {
  const bytes = await packedBytes();
  console.log(`${bytes} of at most ${MAX_BYTES} bytes, minified and gzipped`);
  if (bytes > MAX_BYTES) throw new Error("The client is too large.");
  const tarball = await pack();
  await run(["npx", "--yes", "publint@0.3.25"], ["--strict", tarball]);
  await run(["npx", "--yes", "@arethetypeswrong/cli@0.18.5"], ["--profile", "esm-only", tarball]);
  if (Deno.args.includes("--projects")) {
    await tryInProjects(tarball, `@supabase/supabase-js@${(await versions()).supabase}`);
  }
  console.log(tarball);
}
