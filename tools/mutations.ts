/**
 * Breaks Holdfast on purpose, one way at a time, and sees the tests fail: a lock test that passes against a broken lock is
 * worthless. Each mutation (tools/mutation_list.ts) is made in a copy of the project, on a stack of its own; before them,
 * each file of tests has to pass on a copy without any.
 *
 *     deno task test:mutations [part of what is broken, of its file, or of its tests' file]…
 *
 * @module
 */
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { type Stack, startStack } from "../local/stack.ts";
import { generatedMigrations } from "./migrations.ts";
import { type Mutation, MUTATIONS } from "./mutation_list.ts";

const PROJECT = join(import.meta.dirname!, "..");
/** As many as the machine has cores for; the tests measure times. */
const AT_ONCE = 2;
/** A mutation may make a test wait for ever, which is noticed, too. */
const TOO_LONG_MS = 120_000;

/** What the tests said of a project: the name of the first that failed, or nothing. */
async function firstFailure(project: string, stack: Stack, test: string) {
  const tests = new Deno.Command(Deno.execPath(), {
    args: [
      ...["test", "-A", "--no-check", "--fail-fast", "--config", join(PROJECT, "deno.json")],
      join(project, "supabase", "tests", `${test}_test.ts`),
    ],
    env: {
      NO_COLOR: "1",
      SUPABASE_URL: stack.url,
      SUPABASE_PUBLISHABLE_KEY: stack.publishableKey,
      SUPABASE_SECRET_KEY: stack.secretKey,
      SUPABASE_DB_URL: stack.dbUrl,
    },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    tests.kill("SIGKILL");
  }, TOO_LONG_MS);
  const { success, stdout, stderr } = await tests.output();
  clearTimeout(timer);
  if (success) return undefined;
  if (late) return "no end";
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return text.match(/^(.+) \.\.\. FAILED/m)?.[1] ?? text.trim().slice(-2000);
}

/** Runs a file of tests on a copy of the project that is broken in one way, or in none. */
async function run(mutation: Mutation | undefined, test: string): Promise<string | undefined> {
  const project = await Deno.makeTempDir({ prefix: "holdfast-mutation-" });
  try {
    for (const folder of ["supabase", "docs"]) {
      await cp(join(PROJECT, folder), join(project, folder), { recursive: true });
    }
    if (mutation) {
      const file = join(project, "supabase", mutation.file);
      await Deno.writeTextFile(file, mutated(await Deno.readTextFile(file), mutation));
    }
    // the schemas as they are now, whatever was released since the first migrations
    const migrations = join(project, "supabase", "migrations");
    await Deno.remove(migrations, { recursive: true });
    await Deno.mkdir(migrations);
    for (const [name, text] of await generatedMigrations(join(project, "supabase"))) {
      await Deno.writeTextFile(join(migrations, name), text);
    }
    const stack = await startStack({ project });
    try {
      return await firstFailure(project, stack, test);
    } finally {
      await stack.stop();
    }
  } finally {
    await Deno.remove(project, { recursive: true });
  }
}

function mutated(text: string, { file, from, to }: Mutation): string {
  if (text.split(from).length !== 2) {
    throw new Error(`${file} does not have exactly one ${JSON.stringify(from)}`);
  }
  return text.replace(from, () => to);
}

/** Works a list off, a few at a time. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  }));
}

const chosen = MUTATIONS.filter(({ what, file, test }) =>
  Deno.args.length === 0 || Deno.args.some((part) => `${what}\n${file}\n${test}`.includes(part))
);
// all at once, so that a text that has changed is found before an hour's work
for (const mutation of MUTATIONS) {
  mutated(await Deno.readTextFile(join(PROJECT, "supabase", mutation.file)), mutation);
}

const flawed: string[] = [];
await each([...new Set(chosen.map(({ test }) => test))], async (test) => {
  const failure = await run(undefined, test);
  if (failure !== undefined) flawed.push(`${test}_test.ts fails without a mutation: ${failure}`);
});
for (const line of flawed) console.log(line);

const survivors: string[] = [];
await each(chosen, async (mutation) => {
  const { what, file, test } = mutation;
  const failure = await run(mutation, test);
  if (failure === undefined) survivors.push(what);
  console.log(
    failure === undefined
      ? `SURVIVED  ${what}  (${file}; ${test}_test.ts)`
      : `noticed   ${what}  (${test}_test.ts: ${failure})`,
  );
});
console.log(
  `\n${chosen.length - survivors.length} of ${chosen.length} mutations were noticed`,
);
for (const what of survivors) console.log(`  not: ${what}`);
Deno.exit(survivors.length + flawed.length === 0 ? 0 : 1);
