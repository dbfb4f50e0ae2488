// Clients of the library, in a process of their own, so that it can be stopped. Takes a job a line on its standard input, and
// answers with a line: their calls, and until when they believed that they held each lease.
import { TextLineStream } from "@std/streams/text-line-stream";
import { createClient } from "@supabase/supabase-js";
import { createLockClient } from "../../../../client/mod.ts";
import type { Lease } from "../../../../client/lease.ts";
import type { Answer, Call, History } from "../history.ts";
import { suffer, type Trouble, TROUBLES } from "../network.ts";
import { pause } from "../pause.ts";
import { type Random, random } from "../random.ts";
import { inNumbers } from "../recording.ts";

/** What the clients are to do. */
export interface Job {
  url: string;
  key: string;
  video: string;
  /** When to end, in milliseconds since 1970. */
  until: number;
  seed: number;
  /** What to add to this machine's clock to get the database's, in microseconds. */
  offset: number;
  hasTrouble: boolean;
}

/** What they did. */
export interface Report {
  calls: Omit<Call, "n">[];
  beliefs: History["beliefs"];
}

const NAMES = ["layout", "captions", "audio"];

async function work(job: Job): Promise<Report> {
  const draw = random(job.seed);
  const report: Report = { calls: [], beliefs: [] };
  await Promise.all(
    [0, 1].map((i) => one(job, `library ${i}`, report, random(draw.fraction() * 2 ** 32))),
  );
  return report;
}

const now = (job: Job) =>
  Math.round((performance.timeOrigin + performance.now()) * 1000 + job.offset);

/** One client: it waits for locks, holds them for a while, and believes what the library says. */
async function one(job: Job, holder: string, report: Report, draw: Random) {
  const supabase = createClient(job.url, job.key, {
    auth: { persistSession: false, autoRefreshToken: false },
    global: { fetch: recordingFetch(job, holder, report, draw) as typeof fetch },
  });
  const locks = createLockClient(supabase, { holder });
  while (Date.now() < job.until) {
    const key = { video_id: job.video, database_name: draw.one(NAMES) };
    const options = { ttlSeconds: draw.one([1, 2]), waitSeconds: 1, ifAvailable: draw.chance(0.3) };
    try {
      const lease = await locks.acquire(key, options as { waitSeconds: number });
      if (lease) await hold(job, lease, report, draw);
    } catch {
      // what went wrong is in the calls
    }
    await pause(draw.fraction() * 60);
  }
  await locks.releaseAll();
}

/** Holds a lease for a while, and notes until when it was believed. A process that was stopped believes nothing meanwhile. */
async function hold(job: Job, lease: Lease, report: Report, draw: Random) {
  const belief = { key: `${job.video} ${lease.name}`, id: lease.lockId, until: 0 };
  report.beliefs.push(belief);
  const end = performance.now() + draw.one([20, 100, 400, 1500]) * (0.5 + draw.fraction());
  for (let last = performance.now(); performance.now() < end; last = performance.now()) {
    await pause(5);
    if (performance.now() - last > 50) continue;
    const at = now(job);
    if (lease.signal.aborted) break;
    belief.until = at;
  }
  if (draw.chance(0.15)) return; // it forgets to release, until the end
  await lease.release();
}

type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Takes the calls of the lock functions down, and lets them suffer what networks do. */
function recordingFetch(job: Job, holder: string, report: Report, draw: Random): Fetch {
  return async (input, init) => {
    const op = /functions\/v1\/lock-(acquire|renew|release)$/.exec(String(input))?.[1];
    if (!op) return await fetch(input, init);
    const trouble: Trouble = job.hasTrouble && draw.chance(0.3) ? draw.one(TROUBLES) : "none";
    const send = async (signal?: AbortSignal) => {
      const response = await fetch(input, signal ? { ...init, signal } : init);
      const body = await response.text();
      return new Response(body, { status: response.status, headers: response.headers });
    };
    const again = () => record(job, holder, op, String(init?.body), report, () => send());
    return await record(
      job,
      holder,
      op,
      String(init?.body),
      report,
      () => suffer(trouble, send, again, draw),
    );
  };
}

async function record(
  job: Job,
  holder: string,
  op: string,
  body: string,
  report: Report,
  send: () => Promise<Response>,
): Promise<Response> {
  const fields = JSON.parse(body);
  const call: Omit<Call, "n"> = {
    client: holder,
    op: op as Call["op"],
    holder,
    type: "server",
    video: job.video,
    names: fields.database_names ?? [fields.database_name],
    isSet: fields.database_names !== undefined,
    ask: askOf(op, fields),
    called: now(job),
    returned: null,
    answer: null,
  };
  report.calls.push(call);
  const response = await send();
  const answer = inNumbers(await response.clone().json().catch(() => ({}))) as Answer;
  if (response.status < 500) {
    call.answer = answer;
    call.returned = now(job);
  } else if (answer.code === "INTERNAL_ERROR") {
    call.answer = { sqlstate: `500 ${JSON.stringify(answer)}` };
    call.returned = now(job);
  }
  return response;
}

// deno-lint-ignore no-explicit-any
function askOf(op: string, fields: Record<string, any>): Call["ask"] {
  const { lock_id, ttl_seconds, take_over, queue_seconds, active, force } = fields;
  return {
    id: lock_id,
    ...(op !== "release" ? { ttl: ttl_seconds ?? 120 } : {}),
    ...(op === "acquire" ? { takeOver: take_over ?? false, queue: queue_seconds ?? 0 } : {}),
    ...(op === "renew" ? { active: active ?? true } : {}),
    ...(force ? { force } : {}),
  };
}

if (import.meta.main) {
  addEventListener("unhandledrejection", (event) => event.preventDefault());
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream() as never)
    .pipeThrough(new TextLineStream()) as ReadableStream<string>;
  for await (const line of lines) {
    if (line) console.log(JSON.stringify(await work(JSON.parse(line))));
  }
  Deno.exit(0);
}
