/**
 * `deno task check:cli`: what the real Supabase CLI says about this project, as far as it can say it without Docker.
 *
 * Every check is made twice: on the project as it is, and with a fault planted that it has to find. All of it happens
 * on a copy in a temporary folder, on a PostgreSQL of its own, and against a management API on loopback.
 *
 * @module
 */
import { cp } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { startFakeManagementApi, type Upload } from "./fake_management_api.ts";
import { migrate } from "../local/postgres/migrate.ts";
import { StackError } from "../local/stack_error.ts";
import { query, startScratchServer } from "./scratch_server.ts";
import { CLI } from "./supabase_cli.ts";

/** The exit code when nothing could be checked: `EX_TEMPFAIL` of sysexits.h. */
const NOT_RUN = 75;

const HELP = `Checks the project with the real Supabase CLI (${CLI} from npm), without Docker.

  deno task check:cli    exit code 0: all is well, 1: something is not, ${NOT_RUN}: npm cannot be reached
    --if-reachable       0 as well when npm cannot be reached
    --help               this text`;

/** Where the checks are made. */
interface Lab {
  /** A copy of the project, as far as the CLI looks at it. */
  project: string;
  /** An empty database with what a Supabase project has before its first migration. */
  database: string;
  /** Another one. */
  otherDatabase: string;
  /** Runs the CLI on the copy. */
  cli(args: string[], env?: Record<string, string>): Promise<Output>;
}

interface Output {
  success: boolean;
  /** What it printed, on both channels. */
  text: string;
}

interface Check {
  /** What holds when it passes. */
  name: string;
  run(lab: Lab): Promise<void>;
  /** Proof that the check can fail. */
  fault: {
    name: string;
    plant(lab: Lab): Promise<void>;
    /** What the check says about it. */
    found: RegExp;
  };
}

/** How the CLI begins what it would rather not have found. Its exit code is often 0 all the same. */
const WARNING = /\bWARN/;

class CheckFailed extends Error {}

/** Ends the command that runs, and all that would have come after it. */
const interrupt = new AbortController();

const CHECKS: Check[] = [
  {
    name: "config.toml gives no error and no warning",
    async run({ cli }) {
      const { text } = await cli(["start"]);
      // the configuration is read first; that there is no Docker is all that may be wrong
      if (!text.includes("Cannot connect to the Docker daemon") || WARNING.test(text)) {
        throw new CheckFailed(text);
      }
    },
    fault: {
      name: "an unknown key",
      plant: ({ project }) =>
        append(join(project, "supabase/config.toml"), "\n[holdfast]\nttl = 120\n"),
      found: /WARN: .* ignores: holdfast\b/,
    },
  },
  {
    name:
      "the migrations apply to an empty database, then only the seed is left to push, then nothing",
    async run({ cli, database }) {
      const push = ["db", "push", "--include-seed", "--yes", `--remote=${database}`];
      await succeed(cli(["migration", "up", "--yes", `--remote=${database}`]));
      const seeded = await succeed(cli(push));
      if (/Applying migration/.test(seeded) || !/Seeding data from/.test(seeded)) {
        throw new CheckFailed(seeded);
      }
      const again = await succeed(cli(push));
      if (!/is up to date/.test(again) || /Seeding|Applying/.test(again)) {
        throw new CheckFailed(again);
      }
    },
    fault: {
      name: "a migration that is not SQL",
      plant: ({ project }) =>
        append(
          join(project, "supabase/migrations/29990101000000_fault.sql"),
          "create tabel fault ();",
        ),
      found: /syntax error at or near "tabel"/,
    },
  },
  {
    name: "the embedded stack applies and records migrations and seed as the CLI does",
    async run({ cli, database, otherDatabase, project }) {
      await migrate(otherDatabase, join(project, "supabase"));
      const pushed = await succeed(
        cli(["db", "push", "--include-seed", "--yes", `--remote=${otherDatabase}`]),
      );
      if (!/is up to date/.test(pushed) || /Seeding|Applying/.test(pushed)) {
        throw new CheckFailed(pushed);
      }
      for (const table of ["schema_migrations", "seed_files"]) {
        const [theirs, ours] = [
          await records(database, table),
          await records(otherDatabase, table),
        ];
        if (ours !== theirs) {
          throw new CheckFailed(
            `${table}, by the CLI:\n${theirs}\nand by the embedded stack:\n${ours}`,
          );
        }
      }
    },
    fault: {
      name: "a record that differs",
      plant: async ({ otherDatabase }) => {
        await query(
          otherDatabase,
          "update supabase_migrations.schema_migrations set name = 'another'",
        );
      },
      found: /schema_migrations, by the CLI/,
    },
  },
  {
    name: "the advisors find nothing to warn of",
    async run({ cli, database }) {
      await succeed(
        cli(["db", "advisors", "--level=warn", "--fail-on=warn", `--remote=${database}`]),
      );
    },
    fault: {
      name: "a function without search_path",
      plant: async ({ database }) => {
        await query(database, "create function public.fault() returns int language sql return 1");
      },
      found: /function_search_path_mutable/,
    },
  },
  {
    name: "a deploy uploads exactly what each function imports, and that alone type-checks",
    async run(lab) {
      const uploads = await deploy(lab);
      const functions = await functionNames(lab.project);
      assertSame("the deployed functions", [...uploads.keys()], functions);
      for (const name of functions) {
        const upload = uploads.get(name)!;
        const folder = `supabase/functions/${name}`;
        assertSame(
          `the files of ${name}`,
          [...upload.files.keys()],
          await importedFiles(lab.project, folder),
        );
        assertSame(`the settings of ${name}`, Object.entries(upload.metadata).map(String), [
          `entrypoint_path,${folder}/index.ts`,
          `import_map_path,${folder}/deno.json`,
          `name,${name}`,
          "static_patterns,",
          "verify_jwt,false",
        ]);
        await typeCheckAlone(upload);
      }
    },
    fault: {
      name: "an import of a file that is not there",
      plant: ({ project }) =>
        append(
          join(project, "supabase/functions/_shared/errors.ts"),
          'export * from "../local/fault.ts";\n',
        ),
      found: /WARN: .*fault\.ts/,
    },
  },
];

/** Makes every check and prints one line for each, until it is interrupted. */
async function runChecks(lab: Lab): Promise<boolean> {
  let passed = true;
  const report = (name: string, failure?: string) => {
    interrupt.signal.throwIfAborted();
    passed &&= failure === undefined;
    console.log(
      failure === undefined
        ? `ok      ${name}`
        : `FAILED  ${name}\n${failure.trim().replace(/^/gm, "        ")}`,
    );
  };
  for (const { name, run } of CHECKS) report(name, await failureOf(() => run(lab)));
  // Faults are not taken out again. So they come after the checks, those first that no other check looks at.
  for (const { run, fault } of CHECKS.toReversed()) {
    await fault.plant(lab);
    const failure = await failureOf(() => run(lab));
    report(
      `${fault.name} is found`,
      fault.found.test(failure ?? "") ? undefined : `The check says: ${failure ?? "all is well"}`,
    );
  }
  return passed;
}

function failureOf(run: () => Promise<void>): Promise<string | undefined> {
  return run().then(
    () => undefined,
    (error) =>
      error instanceof CheckFailed
        ? error.message
        : error instanceof Error
        ? error.stack
        : String(error),
  );
}

/** Sets the lab up; its disposal leaves nothing behind. */
async function openLab(cliPath: string): Promise<Lab & AsyncDisposable> {
  await using opening = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "holdfast-cli-" });
  opening.defer(() => Deno.remove(folder, { recursive: true }));

  const project = join(folder, "project");
  await cp(join(import.meta.dirname!, "../supabase"), join(project, "supabase"), {
    recursive: true,
    filter: (path) => !/[/\\]\.(temp|branches)$/.test(path),
  });

  const server = opening.use(await startScratchServer());
  const url = (database: string) => {
    const url = new URL(database);
    url.searchParams.set("sslmode", "disable");
    return url.href;
  };
  const done = opening.move();
  return {
    project,
    database: url(await server.database()),
    otherDatabase: url(await server.database()),
    cli: (args, env) =>
      execute(cliPath, ["--workdir", project, ...args], { ...cliEnvironment(folder), ...env }),
    [Symbol.asyncDispose]: () => done.disposeAsync(),
  };
}

/** The CLI keeps its own files in the given folder, reports to no one that it runs, and finds no Docker to start anything on. */
function cliEnvironment(folder: string): Record<string, string> {
  const inherited = Object.entries(Deno.env.toObject()).filter(([name]) =>
    !name.startsWith("SUPABASE_")
  );
  return {
    ...Object.fromEntries(inherited),
    DO_NOT_TRACK: "1",
    DOCKER_HOST: `unix://${folder}/no-docker.sock`,
    SUPABASE_HOME: join(folder, "supabase-home"),
    SUPABASE_NO_KEYRING: "1",
    SUPABASE_NO_UPDATE_NOTIFIER: "1",
  };
}

/** Has npm fetch the CLI, and gives the path of its command; `null` when npm cannot be reached. */
async function fetchCli(): Promise<string | null> {
  const args = ["--yes", `--package=${CLI}`, "--call=command -v supabase"];
  const { success, text } = await execute("npx", args, {
    ...Deno.env.toObject(),
    npm_config_fetch_retries: "1",
  })
    .catch((error) => {
      if (error instanceof Deno.errors.NotFound) return { success: false, text: "ENOTFOUND npx" };
      throw error;
    });
  if (success) return text.trim().split("\n").at(-1)!;
  if (
    /\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ENOTCACHED)\b/
      .test(text)
  ) {
    return null;
  }
  throw new CheckFailed(`npm does not give ${CLI}:\n${text}`);
}

async function execute(
  command: string,
  args: string[],
  env: Record<string, string>,
): Promise<Output> {
  const { signal } = interrupt;
  const output = await new Deno.Command(command, {
    args,
    env,
    clearEnv: true,
    stdin: "null",
    signal,
  })
    .output();
  const text = [output.stderr, output.stdout].map((bytes) => new TextDecoder().decode(bytes)).join(
    "",
  );
  return { success: output.success, text };
}

/** What a command printed that ended well and warned of nothing. */
async function succeed(output: Promise<Output>): Promise<string> {
  const { success, text } = await output;
  if (!success || WARNING.test(text)) throw new CheckFailed(text);
  return text;
}

/** Deploys all functions to a management API of our own, and returns what arrived there. */
async function deploy({ project, cli }: Lab): Promise<Map<string, Upload>> {
  const api = startFakeManagementApi();
  try {
    const profile = join(project, "profile.yaml");
    await Deno.writeTextFile(
      profile,
      `name: fake\napi_url: ${api.url}\ndashboard_url: ${api.url}\nproject_host: fake.invalid\npooler_host: fake.invalid\n`,
    );
    const text = await succeed(cli(
      [
        "--profile",
        profile,
        "functions",
        "deploy",
        "--use-api",
        "--yes",
        "--remote=abcdefghijklmnopqrst",
      ],
      { SUPABASE_ACCESS_TOKEN: `sbp_${"0".repeat(40)}` },
    ));
    if (api.unknown.length > 0) {
      throw new CheckFailed(`${text}\nThe fake does not know: ${api.unknown.join(", ")}`);
    }
    return api.uploads;
  } finally {
    await api.close();
  }
}

async function functionNames(project: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(join(project, "supabase/functions"))) {
    if (!/^[._]/.test(name)) names.push(name);
  }
  return names;
}

/** The files of the project that a function needs, by Deno's own account: its configuration and all that it imports. */
async function importedFiles(project: string, folder: string): Promise<string[]> {
  const config = `${folder}/deno.json`;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", `--config=${config}`, `${folder}/index.ts`],
    cwd: project,
  }).output();
  const { modules }: { modules: { specifier: string; local?: string; error?: string }[] } = JSON
    .parse(new TextDecoder().decode(stdout));
  for (const { error } of modules) if (error) throw new CheckFailed(error);
  const root = await Deno.realPath(project);
  const local = modules.flatMap((module) =>
    module.specifier.startsWith("file:") && module.local ? [module.local] : []
  );
  return [config, ...local.map((path) => relative(root, path))];
}

/** Type-checks an upload in a folder where nothing else is, with the settings that it brings. */
async function typeCheckAlone({ files, metadata }: Upload): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-upload-" });
  try {
    for (const [path, content] of files) {
      await Deno.mkdir(join(folder, dirname(path)), { recursive: true });
      await Deno.writeFile(join(folder, path), content);
    }
    const { success, text } = await execute(
      Deno.execPath(),
      [
        "check",
        `--config=${join(folder, metadata.import_map_path!)}`,
        join(folder, metadata.entrypoint_path!),
      ],
      { ...Deno.env.toObject(), NO_COLOR: "1" },
    );
    if (!success) throw new CheckFailed(text);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function assertSame(what: string, actual: string[], expected: string[]): void {
  const [is, should] = [actual, expected].map((items) => items.toSorted().join("\n  "));
  if (is !== should) throw new CheckFailed(`${what} are\n  ${is}\nand should be\n  ${should}`);
}

/** The rows of a table that the CLI keeps about what it applied, as text. */
async function records(database: string, table: string): Promise<string> {
  const rows = await query(
    database,
    // the CLI records a migration's statements one by one, the embedded stack all in one
    `select (to_jsonb(t) || jsonb_build_object('statements', (
       select regexp_replace(string_agg(s, ';'), '[\\s;]+', '', 'g')
       from jsonb_array_elements_text(to_jsonb(t) -> 'statements') s
     )))::text as record
     from supabase_migrations.${table} t order by 1`,
  );
  return rows.map(({ record }) => record).join("\n");
}

async function append(file: string, text: string): Promise<void> {
  await Deno.writeTextFile(file, text, { append: true });
}

async function main(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { "if-reachable": { type: "boolean" }, help: { type: "boolean" } },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => interrupt.abort(new CheckFailed("Interrupted.")));
  }
  try {
    const cliPath = await fetchCli();
    if (cliPath === null) {
      console.log(
        `NOT RUN ${CLI}: npm cannot be reached, so what the Supabase CLI says is not checked`,
      );
      return values["if-reachable"] ? 0 : NOT_RUN;
    }
    await using lab = await openLab(cliPath);
    return await runChecks(lab) ? 0 : 1;
  } catch (error) {
    if (!(error instanceof CheckFailed || error instanceof StackError)) throw error;
    console.error(error.message);
    return interrupt.signal.aborted ? 130 : 1;
  }
}

if (import.meta.main) {
  Deno.exit(await main(Deno.args));
}
