import { parseArgs } from "node:util";
import { busy } from "./busy.ts";
import { differences, fillDocs, readFigures, writeFigures } from "./docs.ts";
import { growth } from "./growth.ts";
import { guard } from "./guard.ts";
import { http } from "./http.ts";
import { Lab, ROOT } from "./lab.ts";
import { line } from "./line.ts";
import { ours, unlessInterrupted, whole } from "./ours.ts";
import { peers } from "./peers.ts";
import { goalTable, type Measured, type Section, show, type Table } from "./report.ts";
import { sql } from "./sql.ts";
import { type BenchStack, startBenchStack } from "./stack.ts";

const HELP = `Measures Holdfast: deno task bench [options]

  --only=a,b       parts to run: sql, guard, http, busy, line, peers, growth; default: all, some 15 minutes
  --growth=N       the largest number of videos and of rows of history; default: 1000000
  --quick          proves in less than 15 seconds that everything here works; its figures mean nothing
  --docs           only fills the figures that were measured into the documentation

What is found replaces what bench/figures.json had of these parts, and is filled into the marked places of docs/.`;

const { values: options } = parseArgs({
  args: Deno.args,
  options: {
    help: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    docs: { type: "boolean", default: false },
    only: { type: "string" },
    growth: { type: "string", default: "1000000" },
  },
});

await using started = ours();
let lab: Promise<Lab> | undefined;
let stack: Promise<BenchStack> | undefined;
const progress = (message: string) => console.error(`  ${message} …`);

/** The parts, by name; each as it is measured, and as it is only tried. */
const parts: Record<string, (quick: boolean) => Promise<Section>> = {
  async sql(quick) {
    return await sql(await theLab(), {
      limit: quick ? { rounds: 1, runs: 2 } : { rounds: 20, runs: 50 },
      before: quick ? { sittings: 1, rounds: 2, runs: 5 } : { sittings: 21, rounds: 40, runs: 30 },
    });
  },
  async guard(quick) {
    return await guard(await theLab(), {
      ...quick ? { rounds: 1, runs: 2, rows: 100 } : { rounds: 15, runs: 200, rows: 10_000 },
    });
  },
  async http(quick) {
    return await http(await theStack(), {
      ...quick ? { rounds: 1, runs: 2, starts: 1 } : { rounds: 20, runs: 50, starts: 10 },
    });
  },
  async busy(quick) {
    return await busy(await theStack(), {
      ...quick ? { callers: 5, rounds: 1, turnMs: 700 } : { callers: 50, rounds: 5, turnMs: 8_000 },
    });
  },
  async line(quick) {
    return await line(await theStack(), {
      ...quick
        ? { waiters: [1, 3], holdMs: 20, repeat: 1 }
        : { waiters: [1, 10, 50], holdMs: 1_000, repeat: 7 },
    }, progress);
  },
  async peers(quick) {
    return await peers(await theLab(), {
      ...quick
        ? { clients: [2], rounds: 1, turnMs: 50 }
        : { clients: [1, 8], rounds: 7, turnMs: 1_000 },
    });
  },
  async growth(quick) {
    const most = Number(options.growth);
    const sizes = [1e3, 1e5, 1e6, 1e7].filter((n) => n < most);
    return await growth(await theLab(), {
      ...quick
        ? { rounds: 1, runs: 2, sizes: [100, 200], renewals: 100, expired: 10 }
        : { rounds: 15, runs: 300, sizes: [...sizes, most], renewals: 300_000, expired: 10_000 },
    }, progress);
  },
};

if (options.help) console.log(HELP);
else if (options.docs) await fillDocs();
else await unlessInterrupted(main(options.quick, options.only?.split(",") ?? Object.keys(parts)));

async function main(quick: boolean, wanted: string[]): Promise<void> {
  const start = performance.now();
  const found: Record<string, Measured> = {};
  const about = {
    date: new Date().toISOString().slice(0, 10),
    commit: await currentCommit(),
    machine: machine(),
  };
  const run = async (names: string[]) => {
    for (const name of names) {
      const part = parts[name];
      if (!part) throw new Error(`There is no part ${name}.\n\n${HELP}`);
      progress(name);
      found[name] = { ...await part(quick), ...about };
      if (quick) continue;
      print(found[name]);
      // the figures of many minutes are kept, whatever happens to the next part
      await writeFigures({ ...await readFigures(), [name]: found[name] });
    }
  };
  const overHttp = (name: string) => ["http", "busy", "line"].includes(name);
  // what is only tried need not be alone on the machine
  const chains = quick
    ? [wanted.filter(overHttp), wanted.filter((name) => !overHttp(name))]
    : [wanted];
  await Promise.all(chains.map(run));
  const seconds = ((performance.now() - start) / 1000).toFixed(0);
  const leftOut = Object.values(found).flatMap((section) => section.leftOut);
  for (const line of leftOut) console.log(`left out: ${line}`);
  if (quick) {
    const told = await differences();
    if (told.length > 0) {
      throw new Error(`${told.join("\n")}\nRun \`deno task bench --docs\` to fill the figures in.`);
    }
    console.log(
      `All parts of the bench ran, in ${seconds} s; the figures of --quick mean nothing.`,
    );
  } else {
    await fillDocs();
    const judged = Object.values(found).flatMap(({ goals }) => goals).filter(({ wanted }) =>
      wanted
    );
    const met = judged.filter(({ met }) => met).length;
    console.log(`\n${about.machine}, ${seconds} s: ${met} of ${judged.length} goals met.`);
  }
}

async function theLab(): Promise<Lab> {
  lab ??= whole(Lab.start()).then((lab) => started.use(lab));
  return await lab;
}

async function theStack(): Promise<BenchStack> {
  stack ??= whole(startBenchStack()).then((stack) => started.use(stack));
  return await stack;
}

function print({ goals, tables }: Section): void {
  for (const { columns, rows } of [goalTable(goals), ...tables] as Table[]) {
    console.table(
      rows.map((row) => Object.fromEntries(columns.map((name, i) => [name || " ", show(row[i])]))),
    );
  }
}

/** The commit that is measured; a `+` says that the checkout has changes of its own where it matters. */
async function currentCommit(): Promise<string> {
  const git = async (...args: string[]) => {
    const { stdout } = await new Deno.Command("git", { args: ["-C", ROOT, ...args] }).output();
    return new TextDecoder().decode(stdout).trim();
  };
  try {
    const changed = await git("status", "--porcelain", "--", "supabase", "local");
    return await git("rev-parse", "--short", "HEAD") + (changed ? "+" : "");
  } catch {
    return "unknown"; // no git here
  }
}

function machine(): string {
  let cpu = "unknown CPU";
  try {
    cpu = /model name\s*: (.*)/.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1] ?? cpu;
  } catch {
    // not Linux
  }
  const memory = Math.round(Deno.systemMemoryInfo().total / 2 ** 30);
  return `${navigator.hardwareConcurrency} × ${cpu}, ${memory} GiB, ${Deno.build.os}, Deno ${Deno.version.deno}`;
}
