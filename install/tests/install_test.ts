// What `npx holdfast install` and `remove` do to a project's files: all of it or nothing, and nothing that the user wrote.
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { applyChanges } from "../apply_changes.ts";
import { addBlocks, removeBlocks } from "../config_blocks.ts";
import { nextVersion } from "../next_version.ts";
import { packageFiles } from "../package_files.ts";

const CHECKOUT = join(import.meta.dirname!, "../..");
const files = await packageFiles(CHECKOUT);

/** A config.toml as people have it: with comments, their own order, and functions of their own. */
const CONFIG = `# ours
project_id = "own"   # keep me

[functions.hello]
verify_jwt = true

[api]
schemas = [
  "public", # and no other
]
port = 55000
`;

/** A project in a temporary folder. */
class Project implements AsyncDisposable {
  constructor(readonly path: string) {}

  static async make(files: Record<string, string> = { "config.toml": CONFIG }): Promise<Project> {
    const project = new Project(await Deno.makeTempDir({ prefix: "holdfast-install-" }));
    await Deno.mkdir(join(project.path, "supabase"));
    for (const [path, text] of Object.entries(files)) await project.write(path, text);
    return project;
  }

  async write(path: string, text: string): Promise<void> {
    const file = join(this.path, "supabase", path);
    await Deno.mkdir(join(file, ".."), { recursive: true });
    await Deno.writeTextFile(file, text);
  }

  read(path: string): string {
    return Deno.readTextFileSync(join(this.path, "supabase", path));
  }

  /** All files below supabase/, by path. */
  all(folder = "supabase"): Record<string, string> {
    const found: Record<string, string> = {};
    for (const { name, isDirectory } of Deno.readDirSync(join(this.path, folder))) {
      const path = join(folder, name);
      if (isDirectory) Object.assign(found, this.all(path));
      else found[path.replace("supabase/", "")] = Deno.readTextFileSync(join(this.path, path));
    }
    return found;
  }

  /** Runs the command, from a checkout or a copy of one, as npx would. */
  async run(args: string[], root = CHECKOUT): Promise<{ code: number; out: string; err: string }> {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `--config=${CHECKOUT}/deno.json`, join(root, "install/main.ts"), ...args],
      cwd: this.path,
      env: { NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    return { code, out: out!, err: err! };
  }

  [Symbol.asyncDispose]() {
    return Deno.remove(this.path, { recursive: true });
  }
}

/** The package as its next version may be: one more migration, one function's file changed, one gone. */
async function nextPackage(): Promise<{ path: string } & AsyncDisposable> {
  const dir = join(CHECKOUT, ".holdfast"); // below the checkout, so that its imports are found
  await Deno.mkdir(dir, { recursive: true });
  const path = await Deno.makeTempDir({ prefix: "holdfast-next-", dir });
  for (const part of ["install", "supabase/migrations", "supabase/functions"]) {
    await cp(join(CHECKOUT, part), join(path, part), { recursive: true });
  }
  await Deno.writeTextFile(join(path, "package.json"), `{ "version": "0.2.0" }`);
  const shared = join(path, "supabase/functions/_shared");
  await Deno.writeTextFile(join(shared, "rules.ts"), "// newer\n");
  await Deno.writeTextFile(join(shared, "log.ts"), "// newer\n");
  await Deno.remove(join(shared, "not_now.ts"));
  await Deno.writeTextFile(
    join(path, "supabase/migrations/20270101000000_holdfast_next.sql"),
    "-- Generated from something.\n\nselect 'next';\n",
  );
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const migrationsOf = (project: Project) =>
  Object.keys(project.all()).filter((path) => path.startsWith("migrations/")).sort();

Deno.test("install adds what is missing, keeps what is there, and a second run changes nothing", async () => {
  await using project = await Project.make();
  const before = project.all();
  const dry = await project.run(["install", "--dry-run"]);
  assertEquals([dry.code, project.all()], [0, before]);
  assertStringIncludes(dry.out, "+[functions.lock-acquire]");
  assertMatch(dry.out, /^\+create function public\.acquire_lock\(/m);

  const first = await project.run(["install", "--yes"]);
  assertEquals(first.code, 0, first.err);
  assertStringIncludes(first.out, "npx supabase db push");
  const after = project.all();
  assert(after["config.toml"]!.startsWith(CONFIG), "what was there stays as it was");
  assertEquals(migrationsOf(project).length, 1, "one file, so that it is one transaction");
  assertMatch(migrationsOf(project)[0]!, /^migrations\/\d{14}_holdfast\.sql$/);
  assertStringIncludes(after["functions/lock-renew/index.ts"]!, "../_holdfast/lock_function.ts");
  assert(!JSON.stringify(Object.keys(after)).includes("_shared"));

  const second = await project.run(["install", "--yes"]);
  assertEquals([second.code, project.all()], [0, after]);
  assertStringIncludes(second.out, "There is nothing to do");
});

Deno.test("an upgrade adds only new migrations, replaces only files that were not edited, and names the others", async () => {
  await using project = await Project.make();
  await project.run(["install", "--yes"]);
  await project.write("functions/_holdfast/log.ts", "// ours\n");
  await project.write("functions/_holdfast/own.ts", "// ours, too\n");
  const before = project.all();
  await using next = await nextPackage();
  const upgraded = await project.run(["install", "--yes"], next.path);
  assertEquals(upgraded.code, 0, upgraded.err);
  assertStringIncludes(upgraded.out, "Upgrade Holdfast from 0.1.0 to 0.2.0");
  assertStringIncludes(upgraded.out, "supabase/functions/_holdfast/log.ts was edited, and stays");
  const after = project.all();
  const [installed, added] = migrationsOf(project);
  assertEquals(after[installed!], before[installed!]);
  assertMatch(added!, /^migrations\/\d{14}_holdfast_next\.sql$/);
  assertMatch(after[added!]!, /^-- Holdfast 0\.2\.0[^\n]*\n\nselect 'next';\n$/);
  assertEquals(after["functions/_holdfast/rules.ts"], "// newer\n");
  assertEquals(after["functions/_holdfast/log.ts"], "// ours\n");
  assertEquals(after["functions/_holdfast/own.ts"], "// ours, too\n");
  assertEquals(after["functions/_holdfast/not_now.ts"], undefined);
  assertEquals(after["config.toml"], before["config.toml"]);

  const again = await project.run(["install", "--yes"], next.path);
  assertEquals([again.code, project.all()], [0, after]);
  assertStringIncludes(again.out, "log.ts was edited");
  const back = await project.run(["install", "--yes"]);
  assertEquals([back.code, project.all()], [1, after]);
  assertStringIncludes(back.err, "the older 0.1.0");
  const all = await project.run(["install", "--yes", "--overwrite"], next.path);
  assertEquals([all.code, project.read("functions/_holdfast/log.ts")], [0, "// newer\n"]);
});

Deno.test("remove takes back what install has added, and leaves the migrations and what was edited", async () => {
  await using project = await Project.make();
  const before = project.all();
  await project.run(["install", "--yes"]);
  await project.write("functions/lock-renew/index.ts", "// ours\n");
  const { code, out, err } = await project.run(["remove", "--yes"]);
  assertEquals(code, 0, err);
  assertStringIncludes(out, "supabase/functions/lock-renew/index.ts was edited, and stays");
  const after = project.all();
  const [installed, removal] = migrationsOf(project);
  assertMatch(removal!, /_remove_holdfast\.sql$/);
  assert(removal! > installed!);
  for (const path of [installed!, removal!, "functions/lock-renew/index.ts"]) delete after[path];
  assertEquals(after, before);
  const again = await project.run(["remove", "--yes"]);
  assertEquals(again.code, 1);
  assertStringIncludes(again.err, "Holdfast is not installed here");
  const anew = await project.run(["install", "--yes", "--overwrite"]);
  assertEquals([anew.code, migrationsOf(project).length], [0, 3], anew.err);
});

/** What is refused: the project's files, the arguments, and what the refusal says. */
const REFUSED: Record<string, [files: Record<string, string>, args: string[], says: string[]]> = {
  "where there is no project": [{}, ["install", "--yes"], ["There is no supabase/config.toml"]],
  "without a terminal to ask in": [
    { "config.toml": CONFIG },
    ["install"],
    ["add --yes, or --dry-run"],
  ],
  "with a config.toml that is none": [
    { "config.toml": "[api\n" },
    ["install", "--yes"],
    ["supabase/config.toml cannot be read"],
  ],
  "with functions of the same names": [
    { "config.toml": CONFIG, "functions/lock-acquire/index.ts": "own" },
    ["install", "--yes"],
    [
      "supabase/functions/lock-acquire/index.ts is there already, and not Holdfast's",
      "--overwrite",
    ],
  ],
  "with blocks that say something else": [
    { "config.toml": "[functions.lock-acquire]\nentrypoint = './own.ts'\n" },
    ["install", "--yes"],
    [
      "[functions.lock-acquire] in supabase/config.toml has another verify_jwt: it has to be false",
      "has another entrypoint",
    ],
  ],
  "where functions is an inline table": [
    { "config.toml": "functions = { hello = { verify_jwt = true } }\n" },
    ["install", "--yes"],
    ["cannot take [functions.…] blocks at its end", "[functions.lock-renew]"],
  ],
  "with a manifest that is none": [
    { "config.toml": CONFIG, "holdfast.json": "{}" },
    ["install", "--yes"],
    ["supabase/holdfast.json is not as Holdfast wrote it"],
  ],
  "with a migration, but without the manifest": [
    { "config.toml": CONFIG, "migrations/20260101000000_holdfast.sql": "" },
    ["install", "--yes"],
    ["supabase/migrations/20260101000000_holdfast.sql is there, but not supabase/holdfast.json"],
  ],
};
for (const [what, [texts, args, says]] of Object.entries(REFUSED)) {
  Deno.test(`install refuses ${what}, says why, and changes nothing`, async () => {
    await using project = await Project.make(texts);
    const before = project.all();
    const { code, err } = await project.run(args);
    assertEquals([code, project.all()], [1, before], err);
    for (const one of says) assertStringIncludes(err, one);
    assertStringIncludes(err, "Nothing was changed");
  });
}

Deno.test("a file that cannot be written leaves all others as they were", async () => {
  await using project = await Project.make({ "config.toml": CONFIG });
  await Deno.mkdir(join(project.path, "supabase/holdfast.json.holdfast-new")); // no place for the last file
  const before = project.all();
  const { code, err } = await project.run(["install", "--yes"]);
  assertEquals([code, project.all()], [1, before], err);
  assertStringIncludes(err, "Nothing was changed");
});

Deno.test("a file that cannot take its place puts back those that have", async () => {
  await using project = await Project.make({ "old": "as it was", "taken/by-a-folder": "" });
  const before = project.all();
  const changes = [
    { path: "new", before: null, after: "1" },
    { path: "made/new", before: null, after: "2" },
    { path: "old", before: "as it was", after: "3" },
    { path: "taken", before: null, after: "4" },
  ];
  await assertRejects(() => applyChanges(join(project.path, "supabase"), changes));
  assertEquals(project.all(), before);
});

Deno.test("--members is in the migration as it was given, and comes too late afterwards", async () => {
  await using project = await Project.make();
  const query = "select 'it''s $query$' as tenant_id,\n 1 as user_id, 'x' as role;";
  await project.run(["install", "--yes", "--members", query]);
  const [path] = migrationsOf(project);
  assertStringIncludes(
    project.read(path!),
    `select set_config('holdfast.members', $query1$${query.slice(0, -1)}$query1$, true);`,
  );
  assertEquals(JSON.parse(project.read("holdfast.json")).members, query.slice(0, -1));
  const late = await project.run(["install", "--yes", "--members", "select 1"]);
  assertStringIncludes(late.err, "--members comes too late");
});

Deno.test("a migration's version comes after the project's last one, also after one that is no time", () => {
  const now = new Date("2026-11-25T10:20:30Z");
  const cases: [last: string | undefined, next: string][] = [
    [undefined, "20261125102030"],
    ["20240101000000", "20261125102030"],
    ["0001", "20261125102030"],
    ["20261125102030", "20261125102031"],
    ["20991231235959", "21000101000000"],
    ["20261199999999", "20270311000000"],
    ["9999", "99990000000001"],
    ["99999999999999", "999999999999991"],
    ["99991231235959", "999912312359591"],
  ];
  for (const [last, next] of cases) {
    if (last === "20261199999999") assert(nextVersion(last, now) > last); // no time, and still a version
    else assertEquals(nextVersion(last, now), next);
    assert(last === undefined || nextVersion(last, now) > last);
  }
});

Deno.test("blocks in config.toml come and go without a trace, also with Windows' line ends and by hand", () => {
  const names = files.functionNames;
  for (const text of [CONFIG, CONFIG.replaceAll("\n", "\r\n"), CONFIG.trimEnd(), ""]) {
    const added = addBlocks(text, names);
    assertEquals(addBlocks(added, names), added);
    const removed = removeBlocks(added, names);
    assertEquals(removed.left, []);
    // a last line gets an end
    assertEquals(removed.text, text === "" || text.endsWith("\n") ? text : text + "\n");
  }
  const some = addBlocks(CONFIG + "\n[functions.lock-acquire]\nverify_jwt = false\n", names);
  assert(some.split("[functions.lock-acquire]").length === 2);
  const edited = addBlocks(CONFIG, names).replace(
    /(renew\/index.ts")\n/,
    "$1\nstatic_files = []\n",
  );
  assertEquals(removeBlocks(edited, names).left, ["lock-renew"]);
  const inBetween = addBlocks(CONFIG, names) + "\n[storage]\nenabled = false\n";
  assertEquals(removeBlocks(inBetween, names).text, CONFIG + "\n[storage]\nenabled = false\n");
});
