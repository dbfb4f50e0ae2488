/**
 * Runs the tests on a stack: the one that the environment names, else an embedded one of their own.
 *
 *     deno task test [files and options of deno test]
 *     deno task test:supabase [the same]     on the stack that `supabase start` runs, never on an embedded one
 *
 * The last line is `N passed, N failed`.
 *
 * @module
 */
import { basename, join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { isolateEnvironment } from "../local/environment.ts";
import { readKeys } from "../local/keys.ts";
import { ADMIN } from "../local/postgres/cluster.ts";
import { StackError } from "../local/stack_error.ts";
import { startStack } from "../local/stack.ts";
import { CLI } from "./supabase_cli.ts";

/** What the tests need to know of a stack, and how the Supabase CLI calls it. */
const VARIABLES = {
  SUPABASE_URL: "api.url",
  SUPABASE_PUBLISHABLE_KEY: "auth.publishable_key",
  SUPABASE_SECRET_KEY: "auth.secret_key",
  SUPABASE_DB_URL: "db.url",
};
type Environment = Record<keyof typeof VARIABLES, string> & {
  /** Lets a test sign a token that has expired; a stack that keeps it is tested without. */
  SUPABASE_JWT_SECRET?: string;
};

const PROJECT = join(import.meta.dirname!, "..");
const ON_ANY_STACK = ["supabase/tests"];
/** The whole, in lines of equal length: they run side by side, each on a stack of its own, as all wait now and then. */
const LINES = [
  ["supabase/tests", "--ignore=supabase/tests/model_checked"],
  ["supabase/tests/model_checked", "local/tests", "install"],
  ["client", "examples"],
];

async function main([...args]: string[]): Promise<number> {
  isolateEnvironment();
  const supabase = args[0] === "--supabase" && args.shift() !== undefined;
  const given = environment();
  if (supabase) return await test(args, ON_ANY_STACK, given ?? await fromSupabase());
  if (given) return await test(args, [...ON_ANY_STACK, "local/tests"], given);

  const isWhole = args.every((arg) => arg.startsWith("-"));
  const codes = await Promise.all(
    (isWhole ? LINES : [ON_ANY_STACK]).map((line, i) =>
      onStackOfItsOwn(args, line, i === 0 ? "as they run" : "after the others")
    ),
  );
  return codes.find((code) => code !== 0) ?? 0;
}

/** Runs tests on an embedded stack that starts and ends with them. */
async function onStackOfItsOwn(
  args: string[],
  folders: string[],
  shown: "as they run" | "after the others" = "as they run",
): Promise<number> {
  await using cleanUp = new AsyncDisposableStack();
  const data = await Deno.makeTempDir({ prefix: "holdfast-test-" });
  cleanUp.defer(() => Deno.remove(data, { recursive: true }));
  const stack = await startStack({ project: PROJECT, data, signal: interrupt.signal });
  cleanUp.defer(() => stack.stop());
  const { jwtSecret, adminPassword } = await readKeys(join(data, "keys.json"));
  await neverSync(stack.dbUrl, adminPassword);
  const code = await test(args, folders, {
    SUPABASE_URL: stack.url,
    SUPABASE_PUBLISHABLE_KEY: stack.publishableKey,
    SUPABASE_SECRET_KEY: stack.secretKey,
    SUPABASE_DB_URL: stack.dbUrl,
    SUPABASE_JWT_SECRET: jwtSecret,
  }, shown);
  if (code !== 0 && !interrupt.signal.aborted) await showLogs(join(data, "logs"));
  return code;
}

/** Nothing here outlives a power cut, so no commit waits for the disk. Tests of that have servers of their own. */
async function neverSync(dbUrl: string, adminPassword: string): Promise<void> {
  const url = new URL(dbUrl);
  Object.assign(url, { username: ADMIN, password: adminPassword });
  const admin = new pg.Client({ connectionString: url.href });
  await admin.connect();
  await admin.query("alter system set fsync = off");
  await admin.query("select pg_reload_conf()");
  await admin.end();
}

/** The stack that the environment names, if it names one. */
function environment(): Environment | undefined {
  const names = Object.keys(VARIABLES) as (keyof typeof VARIABLES)[];
  const missing = names.filter((name) => !Deno.env.get(name));
  if (missing.includes("SUPABASE_URL")) return undefined;
  if (missing.length > 0) {
    throw new StackError(
      `SUPABASE_URL is set, but not ${missing.join(", ")}. Set all four, or none.`,
    );
  }
  return Object.fromEntries(names.map((name) => [name, Deno.env.get(name)])) as Environment;
}

/** Asks the Supabase CLI for the stack that it runs. */
async function fromSupabase(): Promise<Environment> {
  const overrides = Object.entries(VARIABLES).flatMap((
    [name, path],
  ) => ["--override-name", `${path}=${name}`]);
  const { stdout, stderr } = await new Deno.Command("npx", {
    args: ["--yes", CLI, "status", "-o", "env", ...overrides],
    cwd: PROJECT,
    env: { DO_NOT_TRACK: "1" },
  }).output().catch(() => ({
    stdout: new Uint8Array(),
    stderr: new TextEncoder().encode("npx is missing"),
  }));
  const text = new TextDecoder().decode(stdout);
  const values = Object.fromEntries(
    [...text.matchAll(/^(\w+)="(.*)"$/gm)].map(([, name, value]) => [name, value]),
  );
  const missing = Object.keys(VARIABLES).filter((name) => !values[name]);
  if (missing.length === 0) {
    const { JWT_SECRET: secret } = values; // by its own name: a CLI that does not print it is no failure
    return { ...values, ...(secret ? { SUPABASE_JWT_SECRET: secret } : {}) } as Environment;
  }
  throw new StackError(
    `No Supabase stack to test on: run supabase start, or set ${
      Object.keys(VARIABLES).join(", ")
    }.\n` +
      new TextDecoder().decode(stderr).trim(),
  );
}

/** Runs `deno test` and says at last how many tests passed and failed. */
async function test(
  args: string[],
  folders: string[],
  env: Environment,
  shown: "as they run" | "after the others" = "as they run",
): Promise<number> {
  const chosen = await Promise.all(args.map((arg) => Deno.stat(arg).then(() => true, () => false)));
  const child = new Deno.Command(Deno.execPath(), {
    // types are what `deno task check` looks at, once for all
    args: [
      "test",
      "-A",
      "--no-check",
      ...args,
      ...(chosen.includes(true) ? [] : folders),
    ],
    cwd: chosen.includes(true) ? Deno.cwd() : PROJECT,
    env: { ...env, ...(Deno.stdout.isTerminal() ? { FORCE_COLOR: "1" } : {}) },
    stdout: "piped",
  }).spawn();
  interrupt.signal.addEventListener("abort", () => {
    try {
      child.kill("SIGTERM");
    } catch {
      // Ctrl-C has ended it already
    }
  });
  let output = "";
  const decoder = new TextDecoder();
  for await (const chunk of child.stdout) {
    if (shown === "as they run") await Deno.stdout.write(chunk);
    output += decoder.decode(chunk, { stream: true });
  }
  const { code } = await child.status;
  // deno-lint-ignore no-control-regex
  const plain = output.replace(/\x1b\[[\d;]*m/g, "");
  if (shown === "after the others") held.push(withoutPassed(plain));
  const [, passed = "0", failed = code === 0 ? "0" : "1"] =
    plain.match(/(\d+) passed(?: \([^)]*\))? \| (\d+) failed/) ?? [];
  total.passed += Number(passed);
  total.failed += Number(failed);
  return code;
}

/** The names of hundreds of tests that passed say nothing after the fact: a line for each file, and what failed. */
function withoutPassed(output: string): string {
  return output.replace(/^(?: *\S.* \.\.\.| *\S.* \.\.\. ok \(.*\))\n/gm, "");
}

/** What the functions said last, which is in their logs while all is well. */
async function showLogs(folder: string): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (name === "postgres.log") continue;
    const lines = (await Deno.readTextFile(join(folder, name))).trimEnd().split("\n").slice(-SHOWN);
    console.error(`\n--- ${basename(name, ".log")}, its last lines\n${lines.join("\n")}`);
  }
}

const SHOWN = 10;

const interrupt = new AbortController();
/** What was printed by tests that ran beside others. */
const held: string[] = [];
const total = { passed: 0, failed: 0 };

if (import.meta.main) {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => interrupt.abort(new StackError("Interrupted.")));
  }
  let code = 1;
  try {
    code = await main(Deno.args);
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    console.error(error.message);
  }
  for (const output of held) console.log(output);
  if (total.passed + total.failed > 0) {
    console.log(`${total.passed} passed, ${total.failed} failed`);
  }
  Deno.exit(interrupt.signal.aborted ? 130 : code);
}
