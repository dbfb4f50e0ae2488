/**
 * Breaks Holdfast on purpose, one way at a time, and sees the tests fail: a test that passes against a broken lock is
 * worthless. Each mutation (tools/mutations/) is made in a copy of the project, whose stack stays up and gets the
 * database anew. After the mutations of a file of tests come its healthy runs: what a broken one left behind would show.
 *
 *     deno task test:mutations [part of what is broken, of its file, or of its tests]…
 *
 * The last line is `N of N noticed`.
 *
 * @module
 */
import { cp } from "node:fs/promises";
import { basename, join } from "node:path";
import postgres from "postgres";
import { readKeys } from "../local/keys.ts";
import { migrate } from "../local/postgres/migrate.ts";
import { type Stack, startStack } from "../local/stack.ts";
import { generatedMigrations } from "./migrations.ts";
import { MUTATIONS } from "./mutations/list.ts";
import type { Mutation } from "./mutations/mutation.ts";

const PROJECT = join(import.meta.dirname!, "..");
/** As many as the machine has cores for; the tests measure times. */
const AT_ONCE = 2;
/** A mutation may make a test wait for ever, which is noticed, too. For a file of tests, and for one test of it. */
const TOO_LONG_MS = { file: 90_000, test: 45_000 };

/** What became of one run: nothing, the name of the first test that failed, or what else was wrong. */
interface Outcome {
  failed?: string;
  wrong?: string;
}

/** A copy of the project, and a stack that runs on it. */
class Workshop implements AsyncDisposable {
  readonly #project: string;
  #stack!: Stack;
  #env!: Record<string, string>;

  private constructor(project: string) {
    this.#project = project;
  }

  static async open(): Promise<Workshop> {
    const project = await Deno.makeTempDir({ prefix: "holdfast-mutations-" });
    const left = [".git", ".holdfast", "node_modules"];
    for await (const { name } of Deno.readDir(PROJECT)) {
      if (left.includes(name) || name.startsWith(".snippets-")) continue;
      await cp(join(PROJECT, name), join(project, name), { recursive: true });
    }
    await Deno.symlink(join(PROJECT, "node_modules"), join(project, "node_modules"));
    // the schemas as they are now, in two migrations, with all that was released since
    const migrations = join(project, "supabase", "migrations");
    await Deno.remove(migrations, { recursive: true });
    await Deno.mkdir(migrations);
    for (const [name, text] of await generatedMigrations(join(project, "supabase"))) {
      await Deno.writeTextFile(join(migrations, name), text);
    }
    const workshop = new Workshop(project);
    await workshop.#start();
    return workshop;
  }

  async #start(): Promise<void> {
    const data = join(this.#project, ".holdfast");
    this.#stack = await startStack({ project: this.#project, data, fresh: true });
    this.#env = {
      NO_COLOR: "1",
      SUPABASE_URL: this.#stack.url,
      SUPABASE_PUBLISHABLE_KEY: this.#stack.publishableKey,
      SUPABASE_SECRET_KEY: this.#stack.secretKey,
      SUPABASE_DB_URL: this.#stack.dbUrl,
      SUPABASE_JWT_SECRET: (await readKeys(join(data, "keys.json"))).jwtSecret,
    };
  }

  /** Makes a mutation, runs the tests that have to notice, and mends what was broken. */
  async run(mutation: Mutation): Promise<Outcome> {
    const file = join(this.#project, mutation.file);
    const healthy = await Deno.readTextFile(file);
    await Deno.writeTextFile(file, mutated(healthy, mutation));
    try {
      await this.#renew(mutation.file);
      return await this.test(mutation.test, mutation.only);
    } catch (error) {
      return { wrong: String(error) };
    } finally {
      await Deno.writeTextFile(file, healthy);
      await this.#renew(mutation.file).catch(() => this.#restart());
    }
  }

  async #restart(): Promise<void> {
    await this.#stack.stop();
    await this.#start();
  }

  /** Has the stack run what the project's files say, after this one has changed. */
  async #renew(file: string): Promise<void> {
    if (file.startsWith("supabase/functions/")) await this.#restart();
    else if (file.startsWith("supabase/schemas/")) {
      const supabase = join(this.#project, "supabase");
      // the schemas as they are now, whatever was released since the first migrations
      await Deno.remove(join(supabase, "migrations"), { recursive: true });
      await Deno.mkdir(join(supabase, "migrations"));
      for (const [name, text] of await generatedMigrations(supabase)) {
        await Deno.writeTextFile(join(supabase, "migrations", name), text);
      }
      const sql = postgres(this.#stack.dbUrl, { max: 1, onnotice() {} });
      try {
        await sql.unsafe(ANEW);
      } finally {
        await sql.end();
      }
      await migrate(this.#stack.dbUrl, supabase);
    }
  }

  /** Runs a file of tests, or those of its tests whose names have this in them, until the first one fails. */
  async test(file: string, only?: string): Promise<Outcome> {
    const tests = new Deno.Command(Deno.execPath(), {
      args: [
        ...["test", "-A", "--no-check", "--fail-fast", `${file}_test.ts`],
        ...(only === undefined ? [] : [`--filter=${only}`]),
      ],
      cwd: this.#project,
      env: this.#env,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      tests.kill("SIGKILL");
    }, TOO_LONG_MS[only === undefined ? "file" : "test"]);
    const { success, stdout, stderr } = await tests.output();
    clearTimeout(timer);
    if (late) return { failed: "no end" };
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    if (success) return / 0 passed/.test(text) ? { wrong: "there is no such test" } : {};
    const failed = text.match(/^ *(.+) \.\.\. (?:FAILED|cancelled)/m)?.[1];
    if (failed === undefined) return { wrong: text.trim().slice(-2000) };
    return { failed: `${failed}: ${text.match(/^error: (.+)/m)?.[1]}` };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.stop();
    await Deno.remove(this.#project, { recursive: true });
  }
}

/** Empties the database of all that the migrations made, and of what a broken run has left. */
const ANEW = `
  select pg_terminate_backend(pid) from pg_stat_activity
  where usename in ('postgres', 'authenticator') and pid <> pg_backend_pid() and state <> 'idle';
  drop schema if exists public, holdfast cascade;
  create schema public authorization pg_database_owner;
  grant usage on schema public to public, postgres, anon, authenticated, service_role;
  drop schema supabase_migrations cascade;
`;

function mutated(text: string, { file, from, to }: Mutation): string {
  if (text.split(from).length !== 2) {
    throw new Error(`${file} does not have exactly one ${JSON.stringify(from)}`);
  }
  return text.replace(from, () => to);
}

const chosen = MUTATIONS.filter(({ what, file, test }) =>
  Deno.args.length === 0 || Deno.args.some((part) => `${what}\n${file}\n${test}`.includes(part))
);
// all at once, so that a text that has changed is found before half an hour's work
for (const mutation of MUTATIONS) {
  mutated(await Deno.readTextFile(join(PROJECT, mutation.file)), mutation);
}

const open = new Set<Workshop>();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.addSignalListener(signal, async () => {
    for (const workshop of open) await workshop[Symbol.asyncDispose]().catch(() => {});
    Deno.exit(130);
  });
}

let noticed = 0;
const survivors: string[] = [];
const flaws: string[] = [];
const groups = Object.values(Object.groupBy(chosen, ({ test }) => test)) as Mutation[][];
groups.sort((a, b) => a.length - b.length);

async function work(): Promise<void> {
  await using workshop = await Workshop.open();
  open.add(workshop);
  for (let group = groups.pop(); group !== undefined; group = groups.pop()) {
    for (const mutation of group) {
      const begun = performance.now();
      const { failed, wrong } = await workshop.run(mutation);
      const seconds = ((performance.now() - begun) / 1000).toFixed(1);
      const about = `${seconds} s  ${mutation.what} (${basename(mutation.file)}; ${mutation.test})`;
      if (wrong !== undefined) flaws.push(`WRONG     ${about}: ${wrong}`);
      else if (failed === undefined) survivors.push(`SURVIVED  ${about}`);
      else noticed++;
      console.log(
        wrong !== undefined
          ? flaws.at(-1)
          : failed
          ? `noticed   ${about}: ${failed}`
          : survivors.at(-1),
      );
    }
    const whole = group.some(({ only }) => only === undefined);
    const parts = whole ? [undefined] : new Set(group.map(({ only }) => only));
    for (const only of parts) {
      const { failed, wrong } = await workshop.test(group[0]!.test, only);
      const flaw = failed ?? wrong;
      if (flaw !== undefined) flaws.push(`WRONG     ${group[0]!.test} without a mutation: ${flaw}`);
      console.log(flaw === undefined ? `healthy   ${group[0]!.test} ${only ?? ""}` : flaws.at(-1));
    }
  }
}

await Promise.all(Array.from({ length: Math.min(AT_ONCE, groups.length) }, work));
for (const line of [...survivors, ...flaws]) console.log(line);
console.log(`${noticed} of ${chosen.length} noticed`);
Deno.exit(noticed === chosen.length && flaws.length === 0 ? 0 : 1);
