// The CLI deploys a function with the function's own deno.json, while everything else here, the tests of `_shared`
// included, uses the one at the root. These tests keep the two worlds the same.
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";

const PROJECT = join(import.meta.dirname!, "../..");
const FUNCTIONS = join(PROJECT, "supabase/functions");

/** Holdfast's own; a user's functions beside them are the user's. */
const folders = Array.from(Deno.readDirSync(FUNCTIONS), ({ name }) => name)
  .filter((name) => /^(_shared|lock-)/.test(name));
const functions = folders.filter((name) => !name.startsWith("_"));

for (const name of functions) {
  Deno.test(`${name} imports the versions that the tests import`, async () => {
    const { imports } = await config(join(FUNCTIONS, name));
    const root = (await config(PROJECT)).imports;
    assertEquals(imports, Object.fromEntries(Object.keys(imports).map((key) => [key, root[key]])));
  });

  Deno.test(`${name} has no lockfile, which the edge runtime cannot read`, async () => {
    assertEquals((await config(join(FUNCTIONS, name))).lock, false);
    assert(
      !Array.from(Deno.readDirSync(join(FUNCTIONS, name))).some((entry) =>
        entry.name === "deno.lock"
      ),
    );
  });
}

Deno.test("the CLI can follow every import: a path that ends in .ts, or a name in the map of each function", async () => {
  const maps = await Promise.all(functions.map((name) => config(join(FUNCTIONS, name))));
  for (const folder of folders) {
    for (const { name } of Deno.readDirSync(join(FUNCTIONS, folder))) {
      if (!name.endsWith(".ts")) continue;
      const source = await Deno.readTextFile(join(FUNCTIONS, folder, name));
      for (const specifier of specifiers(source)) {
        assert(
          /^\.\.?\/.*\.ts$/.test(specifier) ||
            maps.every(({ imports }) => Object.hasOwn(imports, specifier)),
          `${folder}/${name} imports ${specifier}`,
        );
      }
    }
  }
});

Deno.test("the imports of a source text are found, in every form", () => {
  const source = `
    import "./a.ts";
    import type { B } from './b.ts';
    export * from "c";
    const d = await import("./d");
    new Worker(new URL("./e.ts", import.meta.url));
  `;
  assertEquals(specifiers(source), ["./a.ts", "./b.ts", "c", "./d"]);
});

/** What a source text imports, read as the CLI reads it: without looking at what is a comment. */
function specifiers(source: string): string[] {
  const imports = source.matchAll(/\b(?:from|import)\s*\(?\s*(["'])(?<specifier>.+?)\1/g);
  return Array.from(imports, ({ groups }) => groups!.specifier!);
}

async function config(
  folder: string,
): Promise<{ imports: Record<string, string>; lock?: boolean }> {
  return JSON.parse(await Deno.readTextFile(join(folder, "deno.json")));
}
