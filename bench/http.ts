import { join } from "node:path";
import { runEdgeFunctions } from "../local/functions/edge_functions.ts";
import { type Stack, startStack } from "../local/stack.ts";
import { connect } from "./lab.ts";
import type { Answer, Task } from "./http_client.ts";
import { ours, whole } from "./ours.ts";
import { type Cell, median, quantile, ratioGoal, type Section } from "./report.ts";

/** How much to measure. */
export interface HttpSize {
  clients: number[];
  /** How often each competitor takes its turn. */
  rounds: number;
  /** Grants of each client in a turn. */
  grants: number;
  /** How often a function is started cold. */
  coldStarts: number;
}

interface Competitor {
  name: string;
  /** Requests that decide, one after the other: this is what is timed. */
  grant(video: string, worker: string): Task[];
  /** Lets go again; not timed. */
  release(video: string, worker: string): Task[];
  /** Whether it got the lock. */
  granted(answers: Answer[]): boolean;
}

/**
 * Measures what lock-acquire costs over HTTP, on a whole stack.
 *
 * @param size How much.
 * @param onProgress Told what is being measured.
 * @returns The section of the report.
 */
export async function http(
  size: HttpSize,
  onProgress: (message: string) => void,
): Promise<Section> {
  await using started = ours();
  const project = await projectForBench();
  started.defer(() => Deno.remove(project, { recursive: true }));
  const stack = await whole(startStack({ project }));
  started.defer(() => stack.stop());
  const videos = await prepare(stack, Math.max(...size.clients));
  const client = new Worker(new URL("./http_client.ts", import.meta.url), { type: "module" });
  started.defer(() => client.terminate());
  const ask = (tasks: Task[][][]) =>
    new Promise<Answer[][][]>((resolve, reject) => {
      client.onmessage = ({ data }) => resolve(data);
      client.onerror = (event) => reject(new Error(event.message));
      client.postMessage(tasks);
    });

  const competitors = competitorsOf(stack);
  const results: {
    competitor: string;
    clients: number;
    median: number[];
    p99: number[];
    perSecond: number[];
  }[] = [];
  for (const clients of size.clients) {
    onProgress(`over HTTP, ${clients} client${clients === 1 ? "" : "s"}`);
    const of = competitors.map(({ name }) => ({
      competitor: name,
      clients,
      median: [] as number[],
      p99: [] as number[],
      perSecond: [] as number[],
    }));
    for (let round = -1; round < size.rounds; round++) {
      for (const [n, competitor] of competitors.entries()) {
        const tasks = Array.from(
          { length: clients },
          (_, c) =>
            Array.from({ length: round < 0 ? 5 : size.grants }, () => [
              ...competitor.grant(videos[c]!, `worker-${c}`),
              ...competitor.release(videos[c]!, `worker-${c}`),
            ]),
        );
        const start = performance.now();
        const answers = await ask(tasks);
        const seconds = (performance.now() - start) / 1000;
        if (round < 0) continue; // warms up connections and compilers
        const parts = competitor.grant("", "").length;
        const times = answers.flat().map((of) => {
          const grant = of.slice(0, parts);
          if (of.some(({ status }) => status >= 300) || !competitor.granted(grant)) {
            throw new Error(`${competitor.name}: ${JSON.stringify(of)}`);
          }
          return grant.reduce((sum, { ms }) => sum + ms, 0);
        });
        of[n]!.median.push(median(times));
        of[n]!.p99.push(quantile(times, 0.99));
        of[n]!.perSecond.push(times.length / seconds);
      }
    }
    results.push(...of);
  }

  onProgress("cold starts");
  const cold = await coldStarts(stack, size.coldStarts);
  const one = Math.min(...size.clients);
  const goals = [...new Set(size.clients)].flatMap((clients) => {
    const of = (name: string) =>
      results.find((r) => r.clients === clients && r.competitor === name)!.median;
    const at = `${clients} client${clients === 1 ? "" : "s"}`;
    const judge = <T>(goal: T) => clients === one ? goal : null;
    return [
      ratioGoal(
        `median of lock-acquire ÷ rpc('acquire_lock') on the same Data API, ${at}`,
        of(FUNCTION),
        of(RPC),
        judge({ atMost: 1.5 }),
      ),
      ratioGoal(
        `median of (c) in a function ÷ lock-acquire, ${at}`,
        of(TWO_CALLS_FUNCTION),
        of(FUNCTION),
        judge({ atLeast: 2 }),
      ),
      ratioGoal(
        `median of (c) by the caller, without a function ÷ lock-acquire, ${at}`,
        of(TWO_CALLS),
        of(FUNCTION),
        judge({ atLeast: 2 }),
      ),
      ratioGoal(
        `median of (c) by the caller ÷ rpc('acquire_lock'), both without a function, ${at}`,
        of(TWO_CALLS),
        of(RPC),
        null,
      ),
      ratioGoal(
        `median of a function that passes the call on ÷ rpc('acquire_lock'), ${at}`,
        of(PASSING_FUNCTION),
        of(RPC),
        null,
      ),
      ratioGoal(
        `median of lock-acquire ÷ a function that passes the call on, ${at}`,
        of(FUNCTION),
        of(PASSING_FUNCTION),
        null,
      ),
    ];
  });
  return {
    id: "http",
    title: "2. Over HTTP",
    notes: [
      "On the embedded stack: its gateway and Data API are one process, each function is another, and the caller is a thread of its own. On the hosted platform the network comes on top of each request, and PostgREST is in the Data API's place.",
      "Timed is what it takes to know that the lock is held. A function that passes the call on reads the request and calls the RPC with supabase-js and the caller's key, and nothing else: no check, no error table, no deadline, no log. The contract allows no function to do less. (c) reads and then updates, two calls of the Data API, once from the caller directly and once in an edge function, which is lock-acquire's like.",
      "A cold start is the time from starting a function's process until its first answer. The hosted platform starts functions in another way, so only its order of magnitude carries over.",
    ],
    tables: [
      {
        title: "Latency of a grant, medians of the rounds",
        columns: ["way", "clients", "median ms", "smallest … largest", "99 % ms", "pairs a second"],
        rows: results.map((r): Cell[] => [
          r.competitor,
          r.clients,
          median(r.median),
          `${Math.min(...r.median).toFixed(2)} … ${Math.max(...r.median).toFixed(2)}`,
          median(r.p99),
          Math.round(median(r.perSecond)),
        ]),
      },
      {
        title: "A function that is not running yet",
        columns: ["", "median ms", "smallest … largest"],
        rows: [
          ["cold: start of the process and first answer", cold.first],
          ["its second answer", cold.second],
        ].map(([name, ms]): Cell[] => [
          name as string,
          median(ms as number[]),
          `${Math.min(...ms as number[]).toFixed(1)} … ${Math.max(...ms as number[]).toFixed(1)}`,
        ]),
      },
    ],
    goals,
    plots: [{
      file: "http",
      title: "Until the caller knows that the lock is held, over HTTP",
      unit: `milliseconds at ${one} client: median of the rounds, and the smallest and largest`,
      at: [""],
      series: results.filter((r) => r.clients === one).map((r) => ({
        name: r.competitor,
        values: [median(r.median)],
        low: [Math.min(...r.median)],
        high: [Math.max(...r.median)],
      })),
    }],
    leftOut: [],
    raw: { results, cold },
  };
}

const FUNCTION = "lock-acquire";
const RPC = "rpc('acquire_lock')";
const TWO_CALLS = "(c) by the caller";
const TWO_CALLS_FUNCTION = "(c) in a function";
const EMPTY_FUNCTION = "a function that does nothing";
const PASSING_FUNCTION = "a function that passes the call on";

function competitorsOf(stack: Stack): Competitor[] {
  const headers = { apikey: stack.secretKey, "content-type": "application/json" };
  const post = (path: string, body: unknown): Task => ({
    url: stack.url + path,
    method: "POST",
    headers,
    body: JSON.stringify(body),
  });
  const lock = (video_id: string, lock_holder_user_id: string) => ({
    video_id,
    database_name: "layout",
    lock_holder_user_id,
  });
  const release = (video: string, worker: string) => [
    post("/rest/v1/rpc/release_lock", lock(video, worker)),
  ];
  const row = (video: string) =>
    `${stack.url}/rest/v1/bench_two_calls?video_id=eq.${video}&database_name=eq.layout`;
  const patch = (video: string, body: unknown): Task => ({
    url: row(video),
    method: "PATCH",
    headers,
    body: JSON.stringify(body),
  });
  return [
    {
      name: FUNCTION,
      grant: (video, worker) => [post("/functions/v1/lock-acquire", lock(video, worker))],
      release,
      granted: ([answer]) => answer!.text.includes('"acquired":true'),
    },
    {
      name: RPC,
      grant: (video, worker) => [post("/rest/v1/rpc/acquire_lock", lock(video, worker))],
      release,
      granted: ([answer]) => /"acquired" ?: ?true/.test(answer!.text),
    },
    {
      name: TWO_CALLS,
      grant: (video, worker) => [
        { url: row(video), method: "GET", headers },
        patch(video, {
          lock_holder_user_id: worker,
          lock_type: "server",
          locked_at: "2026-01-01T00:00:00Z",
          last_activity_at: "2026-01-01T00:00:00Z",
        }),
      ],
      release: (video) => [patch(video, NOBODY)],
      granted: ([read]) => /"lock_holder_user_id" ?: ?null/.test(read!.text),
    },
    {
      name: TWO_CALLS_FUNCTION,
      grant: (video, worker) => [post(`/functions/v1/${TWO_CALLS_SLUG}`, lock(video, worker))],
      release: (video) => [patch(video, NOBODY)],
      granted: ([answer]) => answer!.text.includes('"acquired":true'),
    },
    {
      name: PASSING_FUNCTION,
      grant: (video, worker) => [post(`/functions/v1/${PASSING_SLUG}`, lock(video, worker))],
      release,
      granted: ([answer]) => /"acquired" ?: ?true/.test(answer!.text),
    },
    {
      name: EMPTY_FUNCTION,
      grant: (video, worker) => [post(`/functions/v1/${EMPTY_SLUG}`, lock(video, worker))],
      release: () => [],
      granted: () => true,
    },
  ];
}

const NOBODY = {
  lock_holder_user_id: null,
  lock_type: null,
  locked_at: null,
  last_activity_at: null,
};

const TWO_CALLS_SLUG = "bench-two-calls";
const PASSING_SLUG = "bench-passing";
const EMPTY_SLUG = "bench-empty";

const EMPTY = "export default { fetch: async (request) => Response.json(await request.json()) };\n";

/** A copy of the project with three functions more: (c), one that only passes the call on, and one that does nothing. */
async function projectForBench(): Promise<string> {
  const project = await Deno.makeTempDir({ prefix: "holdfast-bench-project-" });
  const root = join(import.meta.dirname!, "..", "supabase");
  const functions = join(project, "supabase", "functions");
  await copy(join(root, "migrations"), join(project, "supabase", "migrations"));
  await copy(join(root, "functions"), functions);
  const { imports } = JSON.parse(await ownFile("../deno.json"));
  const client = "@supabase/supabase-js";
  const config = JSON.stringify({ imports: { [client]: imports[client] }, lock: false });
  const sources = [
    [TWO_CALLS_SLUG, await ownFile("two_calls_function.ts")],
    [PASSING_SLUG, await ownFile("passing_function.ts")],
    [EMPTY_SLUG, EMPTY],
  ] as const;
  for (const [slug, source] of sources) {
    const folder = join(functions, slug);
    await Deno.mkdir(folder);
    await Deno.writeTextFile(join(folder, "deno.json"), config);
    await Deno.writeTextFile(join(folder, "index.ts"), source);
    await Deno.writeTextFile(join(folder, "caller_client.ts"), await ownFile("caller_client.ts"));
  }
  return project;
}

const ownFile = (name: string) => Deno.readTextFile(new URL(name, import.meta.url));

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isFile, isDirectory } of Deno.readDir(from)) {
    if (isFile) await Deno.copyFile(join(from, name), join(to, name));
    else if (isDirectory && name !== "node_modules") await copy(join(from, name), join(to, name));
  }
}

async function prepare(stack: Stack, videos: number): Promise<string[]> {
  const sql = await connect(stack.dbUrl);
  try {
    const { rows } = await sql.query(
      `insert into public.videos (tenant_id, storage_key, status)
      select '00000000-0000-4000-8000-0000000000be', 'bench/' || n, 'ready' from generate_series(1, $1) as n
      returning id`,
      [videos],
    );
    const ids = rows.map(({ id }) => id as string);
    // the row of the system that Holdfast replaces, which has no lease and no token
    await sql.query(`
      create table public.bench_two_calls (
        video_id uuid not null,
        database_name text not null,
        server_version integer not null default 0,
        lock_holder_user_id text,
        lock_type text,
        locked_at timestamptz,
        last_activity_at timestamptz,
        primary key (video_id, database_name)
      ) with (fillfactor = 70);
      alter table public.bench_two_calls enable row level security;
      grant select, update on public.bench_two_calls to service_role`);
    await sql.query(
      "insert into public.bench_two_calls (video_id, database_name) select unnest($1::uuid[]), 'layout'",
      [ids],
    );
    return ids;
  } finally {
    await sql.end();
  }
}

/** Starts lock-acquire anew, as often as asked, and has it answer twice. */
async function coldStarts(stack: Stack, times: number) {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-function-" });
  const from = join(import.meta.dirname!, "..", "supabase", "functions");
  const first: number[] = [];
  const second: number[] = [];
  try {
    for (const name of ["_shared", "lock-acquire"]) {
      await copy(join(from, name), join(folder, name));
    }
    for (let i = 0; i < times; i++) {
      const start = performance.now();
      const functions = runEdgeFunctions({
        folder,
        env: { SUPABASE_URL: stack.url },
        watch: false,
        onLog() {},
      });
      try {
        await functions.ready;
        const answer = async () => {
          // a question about no video is answered by the database too, and leaves nothing behind
          const response = await fetch(functions.origin("lock-acquire")!, {
            method: "POST",
            headers: { apikey: stack.secretKey, "content-type": "application/json" },
            body: JSON.stringify({
              video_id: crypto.randomUUID(),
              database_name: "layout",
              lock_holder_user_id: "worker-7",
            }),
          });
          const text = await response.text();
          if (response.status !== 404) throw new Error(`lock-acquire: ${response.status} ${text}`);
        };
        await answer();
        first.push(performance.now() - start);
        const again = performance.now();
        await answer();
        second.push(performance.now() - again);
      } finally {
        await functions.stop();
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return { first, second };
}
