/**
 * Records histories while faults are let loose, and checks them.
 *
 *     deno task test:faults [--seconds N] [--seed N] [--faults a,b] [--mix a+b] [--clients N] [--piece N] [--figures FILE]
 *
 * Without `--faults` and `--mix`, each fault comes alone in its turn, and then several at once. The last line is what was found.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { openArena } from "./arena.ts";
import type { Fault } from "./fault.ts";
import { FAULTS } from "./faults.ts";
import { hasFaketime } from "./clock_fault.ts";
import { startLibrary } from "./library.ts";
import { random } from "../random.ts";
import type { Figures } from "./figures.ts";

const { values: flags } = parseArgs({
  args: Deno.args,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    faults: { type: "string" },
    mix: { type: "string" },
    clients: { type: "string", default: "7" },
    piece: { type: "string", default: "6" },
    figures: { type: "string" },
  },
});
const seconds = Number(flags.seconds);
const seed = Number(flags.seed);

/** What comes in each piece, in turn. */
function plan(): Fault[][] {
  const named = (name: string) => {
    const fault = FAULTS.find((one) => one.name === name);
    if (!fault) throw new Error(`there is no fault ${name}: ${FAULTS.map((one) => one.name)}`);
    return fault;
  };
  if (flags.mix) return [flags.mix.split("+").map(named)];
  if (flags.faults) return flags.faults.split(",").map((name) => [named(name)]);
  return [...FAULTS.map((fault) => [fault]), "mix", "mix", "mix"].map((one) =>
    one === "mix" ? [] : one as Fault[]
  );
}

async function main(): Promise<number> {
  const begun = Date.now();
  await using cleanUp = new AsyncDisposableStack();
  const arena = cleanUp.use(await openArena(console.log));
  const library = cleanUp.use(startLibrary());
  arena.clients.push(library.pid);
  const { runPiece, newFigures, report } = await import("./pieces.ts");
  const figures: Figures = newFigures(seed);
  const isThere = (fault: Fault) =>
    fault.needs === "pgbouncer"
      ? arena.bouncer !== undefined
      : fault.needs === "faketime"
      ? hasFaketime
      : fault.needs === "disk"
      ? arena.disk() !== undefined
      : true;
  const pieces = plan();
  const ready = Date.now();
  let found = 0;
  for (let n = 0; n === 0 || Date.now() - ready < (seconds - Number(flags.piece)) * 1000; n++) {
    const draw = random(seed + n);
    let faults = pieces[n % pieces.length]!;
    if (faults.length === 0) {
      const mixable = FAULTS.filter((fault) => fault.mixes && isThere(fault));
      faults = Array.from({ length: 3 }, () => draw.one(mixable));
      faults = [...new Set(faults)];
    }
    const missing = faults.find((fault) => !isThere(fault));
    if (missing) {
      figures.left_out[missing.name] = missing.needs!;
      if (n >= pieces.length) continue;
      console.log(`${missing.name}: left out, as there is no ${missing.needs}`);
      continue;
    }
    found += await runPiece(arena, library, faults, {
      seconds: Number(flags.piece),
      seed: seed + n,
      n,
      sqlClients: Number(flags.clients),
      figures,
    });
  }
  figures.seconds = Math.round((Date.now() - ready) / 1000);
  if (flags.figures) {
    await Deno.writeTextFile(flags.figures, JSON.stringify(figures, null, 2) + "\n");
  }
  console.log(report(figures));
  console.log(
    `${found} violations in ${figures.pieces} histories, ${
      Math.round((Date.now() - begun) / 1000)
    } s, seed ${seed}`,
  );
  return found === 0 ? 0 : 1;
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
