import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { APPLICATION, type Lab } from "./lab.ts";

/** One statement of a workload: its own transaction, prepared. `:name` is a variable of the client. */
export interface Step {
  /** Latencies are reported under this name. */
  name: string;
  sql: string;
  /** The columns of the one row that it returns become variables. */
  sets?: boolean;
  /** The variable (1 or 0) that says whether to go on to the next step, or to begin again. */
  goOnIf?: string;
}

/** What each client does over and over. */
export interface Workload {
  /** Once for each client, before its first step: the columns of the one row become variables. */
  init: string;
  steps: Step[];
}

/** How to run a workload. */
export interface LoadOptions {
  clients: number;
  /** Whole seconds; or else `statements`. */
  seconds?: number;
  /** Statements of each client. */
  statements?: number;
  /** Settings of each connection, such as the role. */
  settings?: Record<string, string>;
  /** Another port than the database's own: that of a pooler. */
  port?: number;
  /** False: each statement is parsed and planned anew, as through a pooler that knows no prepared ones. */
  prepared?: boolean;
}

/** What a run gave. */
export interface LoadResult {
  /** Statements a second, all clients together, without the time to connect. */
  perSecond: number;
  statements: number;
  /** Latencies in milliseconds, by the name of the step; without the first of each client, which prepares. */
  latencies: Record<string, number[]>;
  /** CPU time of the server for each statement, in microseconds. */
  serverCpuMicros: number | null;
}

/** Runs a workload to its end. */
export type LoadGenerator = (
  lab: Lab,
  workload: Workload,
  options: LoadOptions,
) => Promise<LoadResult>;

/**
 * The load generator of this machine.
 *
 * pgbench, because the client shares the CPUs with the server: a JavaScript client spends more CPU on a statement
 * than the server does, which hides the difference between two statements. Where pgbench is missing this says so
 * and falls back to one in JavaScript.
 *
 * @returns The generator, and what to print and record about it.
 */
export async function loadGenerator(): Promise<
  { run: LoadGenerator; name: string; warning?: string }
> {
  const path = await findPgbench();
  if (path && !Deno.env.has("BENCH_WITHOUT_PGBENCH")) {
    const { stdout } = await new Deno.Command(path, { args: ["--version"] }).output();
    const name = new TextDecoder().decode(stdout).trim();
    return { name, run: (lab, workload, options) => pgbench(path, lab, workload, options) };
  }
  return {
    name: "node-postgres in this process",
    run: inProcess,
    warning:
      "pgbench is missing (Debian: apt-get install postgresql-15): the load comes from JavaScript, " +
      "which needs more CPU than the server does and so flatters every ratio between two statements.",
  };
}

async function findPgbench(): Promise<string | undefined> {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  // Debian keeps it out of PATH, one folder for each version
  const debian = "/usr/lib/postgresql";
  try {
    const versions = [...Deno.readDirSync(debian)].map(({ name }) => name);
    folders.unshift(
      ...versions.sort((a, b) => Number(b) - Number(a)).map((v) => join(debian, v, "bin")),
    );
  } catch {
    // not Debian
  }
  for (const folder of folders) {
    const path = join(folder, "pgbench");
    if (await Deno.stat(path).then(({ isFile }) => isFile, () => false)) return path;
  }
  return undefined;
}

async function pgbench(
  path: string,
  lab: Lab,
  workload: Workload,
  { clients, seconds, statements, settings = {}, port = lab.port, prepared = true }: LoadOptions,
): Promise<LoadResult> {
  const script = join(lab.folder, "script.sql");
  await Deno.writeTextFile(script, pgbenchScript(workload));
  const log = await Deno.makeTempDir({ dir: lab.folder, prefix: "log-" });
  // connections of a pooler outlive the run, and what they used is not known before they end
  const cpu = () => port === lab.port ? lab.cpuSeconds() : Promise.resolve(null);
  const before = await cpu();
  const { success, stdout, stderr } = await new Deno.Command(path, {
    args: [
      "--no-vacuum",
      `--protocol=${prepared ? "prepared" : "extended"}`,
      `--client=${clients}`,
      `--jobs=${Math.min(clients, navigator.hardwareConcurrency)}`,
      seconds ? `--time=${seconds}` : `--transactions=${statements}`,
      "--log",
      `--log-prefix=${join(log, "t")}`,
      "--define=fresh=1",
      "--define=step=0",
      `--file=${script}`,
      "postgres",
    ],
    env: {
      PGHOST: "127.0.0.1",
      PGPORT: String(port),
      PGUSER: "postgres",
      PGPASSWORD: new URL(lab.url).password,
      // a pooler hands the name on to connections that outlive the run
      ...(port === lab.port ? { PGAPPNAME: APPLICATION } : {}),
      PGOPTIONS: startupOptions(settings),
    },
    stdout: "piped",
    stderr: "piped",
  }).output();
  const out = new TextDecoder().decode(stdout);
  const err = new TextDecoder().decode(stderr);
  if (!success || /aborted|ERROR/.test(err)) throw new Error(`pgbench failed:\n${err}${out}`);
  const after = await cpu();
  const count = Number(/number of transactions actually processed: (\d+)/.exec(out)![1]);
  const perSecond = Number(/tps = ([\d.]+)/.exec(out)![1]);

  const latencies = emptyLatencies(workload);
  // which step a line is about follows from its number, unless a step may be repeated
  const steps = workload.steps.some(({ goOnIf }) => goOnIf) ? undefined : workload.steps;
  for (const { name } of Deno.readDirSync(log)) {
    for (const line of (await Deno.readTextFile(join(log, name))).split("\n")) {
      const [, number, micros] = line.split(" ", 3).map(Number);
      // the first ones of each client also prepare, and compile the functions
      if (!steps || micros === undefined || number! <= 2 * steps.length) continue;
      latencies[steps[(number! - 1) % steps.length]!.name]!.push(micros / 1000);
    }
  }
  await Deno.remove(log, { recursive: true });
  return {
    perSecond,
    statements: count,
    latencies,
    serverCpuMicros: perStatement(before, after, count),
  };
}

function pgbenchScript({ init, steps }: Workload): string {
  const lines = ["\\if :fresh", `${init} \\gset`, "\\set fresh 0", "\\endif"];
  steps.forEach(({ sql, sets, goOnIf }, i) => {
    lines.push(i === 0 ? "\\if :step = 0" : `\\elif :step = ${i}`);
    lines.push(sets ? `${sql} \\gset` : `${sql};`);
    const next = (i + 1) % steps.length;
    if (!goOnIf) lines.push(`\\set step ${next}`);
    else lines.push(`\\if :${goOnIf}`, `\\set step ${next}`, "\\else", "\\set step 0", "\\endif");
  });
  return [...lines, "\\endif", ""].join("\n");
}

/** The same in JavaScript, for a machine without pgbench. */
async function inProcess(
  lab: Lab,
  workload: Workload,
  {
    clients,
    seconds,
    statements = Infinity,
    settings = {},
    port = lab.port,
    prepared = true,
  }: LoadOptions,
): Promise<LoadResult> {
  const url = new URL(lab.url);
  url.port = String(port);
  const options = startupOptions(settings);
  const cpu = () => port === lab.port ? lab.cpuSeconds() : Promise.resolve(null);
  const before = await cpu();
  const connections = await Promise.all(
    Array.from({ length: clients }, async () => {
      const client = new pg.Client({
        connectionString: url.href,
        ...(port === lab.port ? { application_name: APPLICATION } : {}),
        ...(options ? { options } : {}),
      });
      client.on("error", () => {});
      await client.connect();
      return client;
    }),
  );
  const latencies = emptyLatencies(workload);
  let count = 0;
  const start = performance.now();
  const end = seconds ? start + seconds * 1000 : Infinity;
  try {
    await Promise.all(connections.map(async (client, clientId) => {
      const variables: Record<string, unknown> = { client_id: clientId };
      const query = async (sql: string, sets = false) => {
        const names: string[] = [];
        const text = sql.replace(/(?<!:):([a-z]\w*)/g, (_, name) => {
          if (!names.includes(name)) names.push(name);
          return `$${names.indexOf(name) + 1}`;
        });
        const name = `s${[...text].reduce((h, c) => (h * 31 + c.charCodeAt(0)) | 0, 7)}`;
        const values = names.map((n) => variables[n]);
        const { rows } = await client.query({ ...(prepared ? { name } : {}), text, values });
        if (sets) Object.assign(variables, rows[0]);
      };
      await query(workload.init, true);
      for (let i = 0, step = 0; i < statements && performance.now() < end; i++) {
        const { name, sql, sets, goOnIf } = workload.steps[step]!;
        const began = performance.now();
        await query(sql, sets);
        count++;
        if (i >= 2 * workload.steps.length) latencies[name]!.push(performance.now() - began);
        step = goOnIf && !Number(variables[goOnIf]) ? 0 : (step + 1) % workload.steps.length;
      }
    }));
  } finally {
    await Promise.all(connections.map((client) => client.end()));
  }
  const perSecond = count / ((performance.now() - start) / 1000);
  const serverCpuMicros = perStatement(before, await cpu(), count);
  return { perSecond, statements: count, latencies, serverCpuMicros };
}

/** The settings of a session, in the form that libpq and node-postgres take. */
function startupOptions(settings: Record<string, string>): string {
  return Object.entries(settings).map(([k, v]) => `-c ${k}=${v.replaceAll(" ", "\\ ")}`).join(" ");
}

function emptyLatencies({ steps }: Workload): Record<string, number[]> {
  return Object.fromEntries(steps.map(({ name }) => [name, [] as number[]]));
}

function perStatement(before: number | null, after: number | null, count: number): number | null {
  return before === null || after === null ? null : (after - before) * 1e6 / count;
}
