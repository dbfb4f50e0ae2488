import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { checkOut } from "./lab.ts";
import { type Contestant, cpuMicros, overRounds, ratio, takeTurns } from "./measure.ts";
import { type Goal, goal, type Section } from "./report.ts";
import { BEFORE } from "./sql.ts";
import type { BenchStack } from "./stack.ts";

/** How much to measure. */
export interface HttpSize {
  rounds: number;
  /** Grants of each contestant in its turn. */
  runs: number;
  /** How often each function is started. */
  starts: number;
}

const FUNCTION = "lock-acquire";
const RPC = "rpc('acquire_lock')";
const PASSING = "a function that passes the call on";
const TWO_CALLS = "(c) by the caller";
const TWO_CALLS_FUNCTION = "(c) in a function";
const EMPTY = "a function that does nothing";

/**
 * What it takes over HTTP until a caller knows that the lock is held, and what a function costs that is not running yet.
 *
 * @param stack Where.
 * @param size How much.
 */
export async function http(stack: BenchStack, size: HttpSize): Promise<Section> {
  const times = await takeTurns(contestants(stack), size);
  const of = (name: string) => times[name]!.wall;
  const starts = await coldStarts(stack, size.starts);
  const believers = await advisory(stack);
  const names = [EMPTY, RPC, PASSING, FUNCTION, TWO_CALLS, TWO_CALLS_FUNCTION];
  return {
    goals: [
      goal("function-rpc", `${FUNCTION} ÷ ${RPC}`, ratio(of(FUNCTION), of(RPC)), { atMost: 1.5 }),
      goal("passing-rpc", `${PASSING} ÷ ${RPC}`, ratio(of(PASSING), of(RPC))),
      goal("function-passing", `${FUNCTION} ÷ ${PASSING}`, ratio(of(FUNCTION), of(PASSING))),
      goal(
        "two-calls-function",
        `${TWO_CALLS_FUNCTION} ÷ ${FUNCTION}`,
        ratio(of(TWO_CALLS_FUNCTION), of(FUNCTION)),
        { atLeast: 2 },
      ),
      goal("two-calls", `${TWO_CALLS} ÷ ${FUNCTION}`, ratio(of(TWO_CALLS), of(FUNCTION)), {
        atLeast: 2,
      }),
      goal("two-calls-rpc", `${TWO_CALLS} ÷ ${RPC}`, ratio(of(TWO_CALLS), of(RPC))),
      goal(
        "advisory",
        "callers of 20 who are told that they hold one pg_try_advisory_lock",
        believers,
      ),
      ...starts.goals,
    ],
    tables: [{
      id: "http",
      columns: ["way", "ms until the lock is held"],
      rows: names.map((name) => [name, overRounds(of(name)).figure / 1000]),
    }],
    plots: [{
      id: "http",
      title: "Over HTTP, until the caller knows that the lock is held",
      unit: "milliseconds, one caller: median, and the middle half of the rounds",
      points: names.map((name) => {
        const { figure, range: [low, high] } = overRounds(of(name));
        return { name, value: figure / 1000, low: low / 1000, high: high / 1000 };
      }),
    }],
    leftOut: starts.leftOut,
  };
}

/** One caller; each run is a grant, and the release before it is not timed. */
function contestants({ call, videos }: BenchStack): Contestant[] {
  const lock = { video_id: videos[0], database_name: "layout", lock_holder_user_id: "worker-7" };
  const row = `/rest/v1/bench_two_calls?video_id=eq.${videos[0]}&database_name=eq.layout`;
  const hold = (holder: string | null, lock_type: string | null, at: string | null) =>
    call(
      row,
      { lock_holder_user_id: holder, lock_type, locked_at: at, last_activity_at: at },
      "PATCH",
    );
  const grants = (path: string) => async () => {
    const { acquired } = await call(path, lock);
    if (!acquired) throw new Error(`${path}: not granted`);
  };
  const release = () => call("/rest/v1/rpc/release_lock", lock);
  const free = () => hold(null, null, null);
  return [
    { name: FUNCTION, before: release, run: grants("/functions/v1/lock-acquire") },
    { name: RPC, before: release, run: grants("/rest/v1/rpc/acquire_lock") },
    { name: PASSING, before: release, run: grants("/functions/v1/bench-passing") },
    {
      name: TWO_CALLS,
      before: free,
      async run() {
        const [{ lock_holder_user_id: held }] = await call(row);
        if (held === null) await hold("worker-7", "server", new Date().toISOString());
      },
    },
    { name: TWO_CALLS_FUNCTION, before: free, run: grants("/functions/v1/bench-two-calls") },
    { name: EMPTY, run: () => call("/functions/v1/bench-empty", lock) },
  ];
}

/** What an advisory lock is worth through the Data API, whose connections serve one caller after the other. */
async function advisory({ call, sql }: BenchStack): Promise<number> {
  await sql.query(`
    create function public.bench_advisory() returns boolean
    language sql return pg_catalog.pg_try_advisory_lock(2026);
    grant execute on function public.bench_advisory() to service_role;
    notify pgrst, 'reload schema'`);
  const answers: boolean[] = [];
  for (let n = 0; n < 20; n++) answers.push(await call("/rest/v1/rpc/bench_advisory", {}));
  return answers.filter((told) => told).length;
}

/** Starts functions anew; gives the CPU time of each process until its first answer, in milliseconds. */
async function coldStarts(
  stack: BenchStack,
  starts: number,
): Promise<{ goals: Goal[]; leftOut: string[] }> {
  const functions = join(stack.project, "supabase", "functions");
  const earlier = join(stack.project, BEFORE);
  await Deno.mkdir(earlier);
  const known = await checkOut(BEFORE, "supabase/functions", earlier);
  const paths: Record<string, string> = {
    empty: join(functions, "bench-empty"),
    now: join(functions, "lock-acquire"),
    ...known ? { before: join(earlier, "supabase/functions/lock-acquire") } : {},
  };
  const times: Record<string, number[]> = {};
  for (let round = -1; round < starts; round++) {
    for (const [name, path] of Object.entries(paths)) {
      const ms = await coldStart(stack, path);
      if (round >= 0) (times[name] ??= []).push(ms); // the first one may compile for the cache
    }
  }
  const what = "CPU of a function's process until its first answer, ms";
  const { empty, now, before } = times;
  return {
    goals: [
      goal("cold-empty", `${what}: ${EMPTY}`, overRounds(empty!)),
      goal("cold-now", `${what}: ${FUNCTION}`, overRounds(now!)),
      ...before
        ? [
          goal("cold-before", `${what}: ${FUNCTION} at ${BEFORE}`, overRounds(before)),
          goal("cold-ratio", `the same, ÷ at ${BEFORE}`, ratio(now!, before)),
        ]
        : [],
    ],
    leftOut: known ? [] : [`cold starts at ${BEFORE}: this clone does not know that commit`],
  };
}

async function coldStart({ url, headers }: BenchStack, folder: string): Promise<number> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const source = await Deno.readTextFile(join(folder, "index.ts"));
  // an earlier function listens by itself, where this variable says
  const [command, env] = source.includes("export default")
    ? [["serve", "--host=127.0.0.1", `--port=${port}`], {}]
    : [["run"], { DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${port}` }];
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      ...command,
      "--quiet",
      "--no-lock",
      "--node-modules-dir=none",
      "--allow-net",
      "--allow-env",
      `--config=${join(folder, "deno.json")}`,
      join(folder, "index.ts"),
    ],
    env: { SUPABASE_URL: url, SUPABASE_FUNCTION_SLUG: "bench-empty", ...env },
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    // about no video: the database is asked, and nothing is left behind
    const body = JSON.stringify({
      video_id: crypto.randomUUID(),
      database_name: "layout",
      lock_holder_user_id: "worker-7",
    });
    for (let attempt = 0; attempt < 1000; attempt++) {
      try {
        const init = { method: "POST", headers, body };
        const response = await fetch(`http://127.0.0.1:${port}/`, init);
        const text = await response.text();
        if (![200, 404].includes(response.status)) throw new Error(`${folder}: ${text}`);
        return cpuMicros([process.pid]) / 1000;
      } catch (error) {
        if (!(error instanceof TypeError)) throw error;
        await delay(10); // it does not listen yet
      }
    }
    throw new Error(`${folder} does not answer`);
  } finally {
    process.kill("SIGKILL");
    await process.status;
  }
}
