/**
 * Records histories while faults are let loose, and checks them.
 *
 *     deno task test:faults [--seconds N] [--seed N] [--faults a,b] [--mix a+b] [--clients N] [--piece N] [--controls] [--figures FILE] [--add]
 *
 * Without `--faults` and `--mix`, each fault comes alone in its turn, and then several at once. `--controls` lets callers at the
 * locks that are wrong on purpose and at a careless database, too, behind all else. `--figures` keeps what came out, for the page on correctness, and `--add` adds it to what is there. The last line is
 * what was found.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { openArena } from "./arena.ts";
import type { Fault } from "./fault.ts";
import { FAULTS } from "./faults.ts";
import { hasFaketime } from "./clock_fault.ts";
import { fillPage } from "./page.ts";
import { startLibrary } from "./library.ts";
import { type Random, random } from "../random.ts";
import { addUp, type Figures } from "./figures.ts";

const { values: flags } = parseArgs({
  args: Deno.args,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    faults: { type: "string" },
    mix: { type: "string" },
    clients: { type: "string", default: "7" },
    piece: { type: "string", default: "6" },
    controls: { type: "boolean", default: false },
    figures: { type: "string" },
    add: { type: "boolean", default: false },
  },
});
const PAGE = `${import.meta.dirname}/../../../../docs/internals/correctness.md`;
const seconds = Number(flags.seconds);
const seed = Number(flags.seed);

/** What comes in each piece, in turn: names of faults. */
function plan(): string[][] {
  if (flags.mix) return [flags.mix.split("+")];
  if (flags.faults) return flags.faults.split(",").map((name) => [name]);
  return [...FAULTS.map(({ name }) => [name]), ["any"], ["any"], ["any"], ["failover-sync", "any"]];
}

/** The faults of a piece: those named, and where any may come, three of those that mix. */
function chosen(names: string[], isThere: (fault: Fault) => boolean, draw: Random): Fault[] {
  // who cancels a wait for the standby, or lets it time out, is told of a commit that the standby may not have
  const beside = ["stop", "function", "network", "pgbouncer"];
  const mixable = FAULTS.filter((fault) =>
    fault.mixes && isThere(fault) && (names.length === 1 || beside.includes(fault.name))
  );
  return [
    ...new Set(names.flatMap((name) => {
      if (name === "any") return Array.from({ length: 3 }, () => draw.one(mixable));
      const fault = FAULTS.find((one) => one.name === name);
      if (!fault) throw new Error(`there is no fault ${name}: ${FAULTS.map((one) => one.name)}`);
      return [fault];
    })),
  ];
}

async function main(): Promise<number> {
  const cleanUp = new AsyncDisposableStack();
  let ending: Promise<void> | undefined;
  const end = () => ending ??= cleanUp.disposeAsync();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => end().finally(() => Deno.exit(130)));
  }
  try {
    return await run(cleanUp);
  } finally {
    await end();
  }
}

async function run(cleanUp: AsyncDisposableStack): Promise<number> {
  const begun = Date.now();
  const arena = cleanUp.use(await openArena(console.log));
  const library = cleanUp.use(startLibrary());
  arena.clients.push(library.pid);
  const { runPiece, newFigures, report } = await import("./pieces.ts");
  const figures: Figures = newFigures(seed);
  const git = await new Deno.Command("git", { args: ["rev-parse", "--short", "HEAD"] }).output();
  figures.commit = new TextDecoder().decode(git.stdout).trim();
  const isThere = (fault: Fault) =>
    fault.needs === "pgbouncer"
      ? arena.bouncer !== undefined
      : fault.needs === "faketime"
      ? hasFaketime
      : fault.needs === "disk"
      ? arena.disk() !== undefined
      : true;
  const pieces = plan().filter((names) => {
    const missing = FAULTS.find((fault) => names.includes(fault.name) && !isThere(fault));
    if (!missing) return true;
    figures.left_out[missing.name] = missing.needs!;
    console.log(`${missing.name}: left out, as there is no ${missing.needs}`);
    return false;
  });
  const ready = Date.now();
  let found = 0;
  for (let n = 0; n === 0 || Date.now() - ready < (seconds - Number(flags.piece)) * 1000; n++) {
    const faults = chosen(pieces[n % pieces.length] ?? [], isThere, random(seed + n));
    found += await runPiece(arena, library, faults, {
      seconds: Number(flags.piece),
      seed: seed + n,
      n,
      sqlClients: Number(flags.clients),
      figures,
    });
  }
  figures.seconds = Math.round((Date.now() - ready) / 1000);
  try {
    if (flags.controls) {
      const { runControls } = await import("./controls.ts");
      found += await runControls(arena, library, figures);
    }
  } finally { // what a long run has shown is not lost with a control that fails
    if (flags.figures) await keep(figures, flags.figures);
  }
  console.log(report(figures));
  console.log(
    `${found} violations in ${figures.pieces} histories, ${
      Math.round((Date.now() - begun) / 1000)
    } s, seed ${seed}`,
  );
  return found === 0 ? 0 : 1;
}

/** Keeps the figures, and fills the page on correctness with them. */
async function keep(run: Figures, file: string) {
  const cpus = await Deno.readTextFile("/proc/cpuinfo").catch(() => "");
  const name = /model name\s*: (.*)/.exec(cpus)?.[1] ?? Deno.build.arch;
  const memory = Math.round(Deno.systemMemoryInfo().total / 2 ** 30);
  run.machine =
    `${navigator.hardwareConcurrency} × ${name}, ${memory} GiB, Deno ${Deno.version.deno}`;
  const figures = flags.add ? addUp(JSON.parse(await Deno.readTextFile(file)), run) : run;
  await Deno.writeTextFile(file, JSON.stringify(figures, null, 2) + "\n");
  await Deno.writeTextFile(PAGE, fillPage(await Deno.readTextFile(PAGE), figures));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", PAGE] }).output();
}

// a connection that a fault ends may be nobody's just then
addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  const { code = "", message = "" } = event.reason ?? {};
  if (!/CONNECTION|ECONN|57P|terminated/.test(`${code} ${message}`)) console.error(event.reason);
});
let code = 1;
try {
  code = await main();
} catch (error) {
  console.error(error);
  // what went wrong first, where giving things back went wrong as well
  for (let cause = error; cause instanceof SuppressedError; cause = cause.suppressed) {
    console.error(cause.error, cause.suppressed);
  }
}
Deno.exit(code);
