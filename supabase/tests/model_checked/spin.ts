import { join } from "node:path";

const FOLDER = import.meta.dirname!;

/** A model, compiled to a program that searches all its states. */
export interface Checker {
  /**
   * Searches.
   *
   * @param env `MUTANT`, `WITNESS` or `WRONG`.
   * @returns The first assertion that does not hold, or null; and how many states there were.
   */
  search(env?: Record<string, string>): Promise<{ violated: string | null; states: number }>;
  /** The events of the search before, which found something. */
  trail(env?: Record<string, string>): Promise<string[]>;
}

/** Runs a program, and gives what it prints. */
async function run(
  cwd: string,
  command: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(command, { args, cwd, env }).output().catch(
    (error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new Error(
        `The model is checked by spin and a C compiler, and there is no ${command}. Install them (apt-get install spin gcc libc6-dev).`,
      );
    },
  );
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

/**
 * Compiles a model.
 *
 * @param folder A folder for what is made; models are copied there.
 * @param model The model's file, without `.pml`.
 * @param options For the C compiler.
 * @param flags For each search.
 * @returns The checker.
 * @throws {Error} Where spin or the compiler is missing, with what to install, or the model is wrong.
 */
export async function compile(
  folder: string,
  model: string,
  options: string[],
  flags: string[] = [],
): Promise<Checker> {
  for await (const { name } of Deno.readDir(FOLDER)) {
    if (name.endsWith(".pml")) await Deno.copyFile(join(FOLDER, name), join(folder, name));
  }
  await Deno.remove(join(folder, "pan.c")).catch(() => {});
  const said = await run(folder, "spin", ["-a", `${model}.pml`]);
  const program = join(folder, model);
  const built = await run(folder, "gcc", [
    ...["-O0", "-w", "-DMEMLIM=4000", ...options],
    ...["-o", program, "pan.c"],
  ]);
  if (!await Deno.stat(program).then(() => true, () => false)) throw new Error(said + built);
  return {
    async search(env = {}) {
      const text = await run(folder, program, ["-m1000000", ...flags], env);
      const [, states] = /(\d+) states, stored/.exec(text) ?? [];
      if (!states) throw new Error(text);
      if (/max search depth too small|out of memory/.test(text)) throw new Error(text);
      const violated = /assertion violated (.*) \(at|(acceptance cycle) \(at/.exec(text);
      return { violated: violated ? violated[1] ?? violated[2]! : null, states: Number(states) };
    },
    async trail(env = {}) {
      return eventsIn(await run(folder, program, ["-r", `${model}.pml.trail`], env));
    },
  };
}

/**
 * Takes a random way through a model.
 *
 * @param folder Where a model was compiled.
 * @param model The model.
 * @param seed Which way.
 * @param steps How long.
 * @returns Its events.
 */
export async function simulate(
  folder: string,
  model: string,
  seed: number,
  steps: number,
): Promise<string[]> {
  return eventsIn(
    await run(folder, "spin", [`-n${seed}`, `-u${steps}`, "-DSIMULATED", `${model}.pml`]),
  );
}

function eventsIn(text: string): string[] {
  return [...text.matchAll(/EV (\w+ \d+ \w+ \d+)/g)].map(([, event]) => event!);
}

/** The model's names for answers, by their numbers: spin counts each list from its end. */
export const ANSWERS: readonly string[] = (() => {
  const text = Deno.readTextFileSync(join(FOLDER, "lease.pml"));
  const lists = [...text.matchAll(/^mtype = \{ (.*) \};/gm)].map(([, names]) => names!.split(", "));
  return ["", ...lists.flatMap((names) => names.toReversed())];
})();
