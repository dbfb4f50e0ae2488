import { join } from "node:path";
import { min } from "simple-statistics";
import { checkOut, type Database, type Lab, type Session, videoId } from "./lab.ts";
import {
  closeRatio,
  type Contestant,
  cost,
  type Costs,
  overRounds,
  ratio,
  takeTurns,
} from "./measure.ts";
import { ours } from "./ours.ts";
import { type Goal, goal, type Section, type Table } from "./report.ts";

/** The commit before waiting became bounded and fair: what those cost is told beside it. */
export const BEFORE = "92d5d2e";

/** How much to measure. */
export interface SqlSize {
  /** Turns of each contestant, and runs in its turn. */
  limit: { rounds: number; runs: number };
  /**
   * The same for the comparison with the commit before, which looks for a few hundredths: each sitting has connections of
   * its own, as one connection may be a few hundredths faster than another for all of its life.
   */
  before: { sittings: number; rounds: number; runs: number };
}

/** What several callers do at once: each a pair on a lock of its own, or all are refused one lock. */
interface Callers {
  pair: Contestant;
  refusal?: Contestant;
}

const CLIENTS = 8;
const HOLDFAST = "Holdfast";
const BARE = "(a) limit: two bare updates";
const HISTORY = "(a) with a row of history";
const FUNCTIONS = "(a) as functions, with history";
const UPSERT = "(b) upsert, as ShedLock does";
const TWO_CALLS = "(c) read, then update";

/**
 * What a pair (acquire + release) and a refusal cost the database, beside the limit, what others do, and an earlier
 * commit. Each call is a transaction of its own.
 *
 * @param lab Where.
 * @param size How much.
 */
export async function sql(lab: Lab, size: SqlSize): Promise<Section> {
  await using database = await lab.database("now");
  const since = await beside(BEFORE, lab, database, size.before);
  await database.admin.query(
    await Deno.readTextFile(new URL("./competitors.sql", import.meta.url)),
  );
  const callers = [await holdfast(database, HOLDFAST), ...await competitors(database)];
  const refusing = callers.flatMap(({ refusal }) => refusal ?? []);
  const pairs = await takeTurns(callers.map(({ pair }) => pair), size.limit);
  const refusals = await takeTurns(refusing, size.limit);
  const rates = await takeTurns(await refusalsInside(database), size.limit);
  return {
    goals: [
      ...since,
      ...goals(pairs, refusals),
      goal(
        "refusal-upsert",
        `${CLIENTS} callers are refused again and again, without a client: time by (b) upsert ÷ Holdfast`,
        ratio(rates[UPSERT]!.wall, rates[HOLDFAST]!.wall),
        { atLeast: 3 },
      ),
      goal("refusal-wal", "bytes of WAL for a refusal", await walOf(database, refusing[0]!), {
        atMost: 0,
      }),
    ],
    tables: [table("sql-pairs", pairs), table("sql-refusals", refusals)],
    plots: [{
      id: "pairs",
      title: `Acquire + release, ${CLIENTS} callers, each on a lock of its own`,
      unit: "server CPU, µs: median, and the middle half of the rounds",
      points: Object.entries(pairs).map(([name, of]) => {
        const { figure, range: [low, high] } = overRounds(each(cost(of)));
        return { name, value: figure, low, high };
      }),
    }],
    leftOut: since.length > 0 ? [] : [`beside ${BEFORE}: this clone does not know that commit`],
  };
}

/** What a pair has now that it had not before, and how it is left out. */
const LEFT_OUT: Record<string, { what: string; sql: string }> = {
  index: {
    what: "its index that finds old history",
    sql: "drop index public.video_database_lock_history_ended_at_idx",
  },
  bound: {
    what: "its bound of waits",
    sql: `do $$
      declare
        f regprocedure;
      begin
        for f in select oid from pg_proc where proname in ('acquire_lock', 'release_lock')
          and pronamespace = 'holdfast'::regnamespace
        loop
          execute format('alter function %s reset lock_timeout', f);
        end loop;
      end
    $$`,
  },
};

/** One caller, who does not wait for a disk: it would hide what is looked for. Empty where the commit is not known. */
async function beside(
  commit: string,
  lab: Lab,
  database: Database,
  size: SqlSize["before"],
): Promise<Goal[]> {
  await using ended = ours();
  const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
  ended.defer(() => Deno.remove(folder, { recursive: true }));
  if (!await checkOut(commit, "supabase/migrations", folder)) return [];
  const earlier = await lab.database("earlier", { supabase: join(folder, "supabase") });
  const off = { synchronous_commit: "off" };
  const contestants: [string, Database][] = [[HOLDFAST, database], [commit, ended.use(earlier)]];
  for (const [name, { sql }] of Object.entries(LEFT_OUT)) {
    const without = ended.use(await lab.database(`without_${name}`));
    await without.owner.query(sql);
    contestants.push([name, without]);
  }
  const found: Record<string, number[]> = {};
  for (let sitting = 0; sitting < size.sittings; sitting++) {
    await using connected = new AsyncDisposableStack();
    const callers = new Map<string, Holdfast>();
    for (const [name, of] of contestants) {
      callers.set(name, connected.use(await holdfast(of, name, 1, off)));
    }
    const each = [...callers.values()];
    const pairs = await takeTurns(each.map(({ pair }) => pair), size);
    const both = [callers.get(HOLDFAST)!, callers.get(commit)!];
    const longer = { ...size, runs: size.runs * 5 }; // as a turn of refusals is short
    const refusals = await takeTurns(both.map(({ refusal }) => refusal), longer);
    const add = (id: string, over: number[], under: number[]) =>
      (found[id] ??= []).push(closeRatio(over, under));
    add("pair-before", cost(pairs[HOLDFAST]!), cost(pairs[commit]!));
    for (const name of Object.keys(LEFT_OUT)) {
      add(`pair-before-${name}`, cost(pairs[name]!), cost(pairs[commit]!));
    }
    add("pair-before-wall", pairs[HOLDFAST]!.wall, pairs[commit]!.wall);
    add("refusal-before", cost(refusals[HOLDFAST]!), cost(refusals[commit]!));
  }
  const figure = (id: string, what: string, wanted?: { atMost: number }) =>
    goal(id, what, overRounds(found[id]!), wanted);
  const atMost = { atMost: 1.05 };
  return [
    figure("pair-before", `server CPU of a pair, ÷ at ${commit}`, atMost),
    ...Object.entries(LEFT_OUT).map(([name, { what }]) =>
      figure(`pair-before-${name}`, `the same without ${what}`)
    ),
    figure("pair-before-wall", `a pair as its caller sees it, ÷ at ${commit}`, atMost),
    figure("refusal-before", `server CPU of a refusal, ÷ at ${commit}`, atMost),
  ];
}

const ACQUIRE = "select acquire_lock($1, 'layout', $2, $3)";

/** Its connections end with it. */
type Holdfast = Callers & { refusal: Contestant } & AsyncDisposable;

/** As a careful worker calls: it chooses the lock_id, so that both calls are safe to repeat. */
async function holdfast(
  database: Database,
  name: string,
  clients = CLIENTS,
  settings: Record<string, string> = {},
): Promise<Holdfast> {
  const held = await videoId(database, 0);
  const must = (answer: Record<string, unknown>, field: string, value = true) => {
    if (answer[field] !== value) throw new Error(`${name}: ${JSON.stringify(answer)}`);
  };
  const workers = await several(database, clients, settings);
  const keep = "select acquire_lock($1, 'layout', 'worker-1', ttl_seconds => 3600)";
  await workers[0]!.ask(keep, held); // perhaps it is kept already
  return {
    pair: atOnce(name, workers, async ({ ask, video }) => {
      const lockId = crypto.randomUUID();
      must(await ask(ACQUIRE, video, "worker-7", lockId), "acquired");
      must(await ask("select release_lock($1, 'layout', $2)", video, lockId), "released");
    }),
    refusal: atOnce(name, workers, async ({ ask }) => {
      must(await ask(ACQUIRE, held, "worker-8", crypto.randomUUID()), "acquired", false);
    }),
    async [Symbol.asyncDispose]() {
      for (const worker of workers) await worker[Symbol.asyncDispose]();
    },
  };
}

interface Worker extends Session {
  video: string;
}

/** Connections, each with a video of its own; the first video is nobody's own. */
async function several(
  database: Database,
  clients: number,
  settings: Record<string, string> = {},
): Promise<Worker[]> {
  const workers: Worker[] = [];
  for (let n = 1; n <= clients; n++) {
    workers.push({ ...await database.worker(settings), video: await videoId(database, n) });
  }
  return workers;
}

function atOnce(
  name: string,
  workers: Worker[],
  call: (worker: Worker) => Promise<unknown>,
): Contestant {
  return {
    name,
    pids: workers.map(({ pid }) => pid),
    run: () => Promise.all(workers.map(call)),
  };
}

const grant = (table: string) =>
  `update ${table} set lock_id = $2, lock_holder_user_id = 'worker-7', lock_type = 'server',
    locked_at = clock_timestamp(), last_activity_at = clock_timestamp(),
    lock_expires_at = clock_timestamp() + interval '120 s', fencing_token = fencing_token + 1
  where video_id = $1 and database_name = 'layout'`;
const release = (table: string) =>
  `update ${table} set lock_id = null, lock_holder_user_id = null, lock_type = null,
    locked_at = null, last_activity_at = null, lock_expires_at = null
  where video_id = $1 and database_name = 'layout'`;
const READ = "select * from public.bench_two_calls where database_name = 'layout' and video_id = ";
const upsert = (name: string) =>
  `insert into bench.shedlock (name, lock_until, locked_at, locked_by)
  values (${name}, now() + interval '1 hour', now(), 'worker-7')
  on conflict (name) do update
  set lock_until = now() + interval '1 hour', locked_at = now(), locked_by = 'worker-7'
  where bench.shedlock.lock_until <= now()`;

/** The statements of a pair, and of a refusal: $1 is the video, $2 the lock_id. */
const STATEMENTS: Record<string, { pair: string[]; refusal?: string }> = {
  [BARE]: { pair: [grant("bench.bare"), release("bench.bare")] },
  [HISTORY]: {
    pair: [
      grant("bench.bare"),
      `with freed as (${release("bench.bare")} returning *)
      insert into bench.history (video_id, database_name, lock_id, tenant_id, lock_holder_user_id,
        lock_type, fencing_token, locked_at, ended_at, end_reason)
      select video_id, database_name, gen_random_uuid(), tenant_id, 'worker-7', 'server',
        fencing_token, clock_timestamp(), clock_timestamp(), 'released'
      from freed`,
    ],
  },
  [FUNCTIONS]: {
    pair: [
      "select bench.acquire_lock($1, 'layout', 'worker-7', $2)",
      "select bench.release_lock($1, 'layout', $2)",
    ],
  },
  [UPSERT]: {
    pair: [
      upsert("$1::text"),
      "update bench.shedlock set lock_until = now() where name = $1::text and locked_by = 'worker-7'",
    ],
    refusal: upsert("'the hot one'"),
  },
  [TWO_CALLS]: {
    pair: [`${READ}$1`, grant("public.bench_two_calls"), release("public.bench_two_calls")],
    refusal: `${READ}'00000000-0000-4000-8000-0000000000be'`,
  },
};

async function competitors(database: Database): Promise<Callers[]> {
  await database.admin.query(`
    insert into bench.bare (video_id, database_name, tenant_id)
    select id, 'layout', id from bench.video where n <= ${CLIENTS};
    insert into public.bench_two_calls select * from bench.bare`);
  const callers: Callers[] = [];
  for (const [name, { pair, refusal }] of Object.entries(STATEMENTS)) {
    const workers = await several(database, CLIENTS);
    const send = async ({ ask, video }: Worker, texts: string[]) => {
      const values = [video, crypto.randomUUID()];
      for (const text of texts) {
        await ask(text, ...values.slice(0, text.includes("$2") ? 2 : text.includes("$1") ? 1 : 0));
      }
    };
    callers.push({
      pair: atOnce(name, workers, (worker) => send(worker, pair)),
      ...refusal ? { refusal: atOnce(name, workers, (worker) => send(worker, [refusal])) } : {},
    });
  }
  return callers;
}

/** Refusals in a loop in the server, each a transaction: a client in JavaScript would take longer than they do. */
async function refusalsInside(database: Database): Promise<Contestant[]> {
  const held = await videoId(database, 0);
  const workers = await several(database, CLIENTS);
  const loop = (call: string) =>
    `do $$ begin for i in 1..50 loop ${call}; commit; end loop; end $$`;
  return Object.entries({
    [HOLDFAST]: loop(`perform acquire_lock('${held}', 'layout', 'worker-8')`),
    [UPSERT]: loop(STATEMENTS[UPSERT]!.refusal!),
  }).map(([name, text]) => atOnce(name, workers, ({ ask }) => ask(text)));
}

/** Bytes of the write-ahead log for a refusal: the least of three tries, as the server itself writes now and then. */
async function walOf({ admin }: Database, { run }: Contestant): Promise<number> {
  const position = async () =>
    Number((await admin.query("select pg_current_wal_insert_lsn() - '0/0' as n")).rows[0].n);
  const bytes: number[] = [];
  for (let attempt = 0; attempt < 3; attempt++) {
    const before = await position();
    for (let i = 0; i < 10; i++) await run();
    bytes.push((await position() - before) / (10 * CLIENTS));
  }
  return min(bytes);
}

/** What one of the callers took. */
const each = (micros: number[]) => micros.map((n) => n / CLIENTS);

function goals(pairs: Record<string, Costs>, refusals: Record<string, Costs>): Goal[] {
  const pair = (over: string, under: string) => ratio(cost(pairs[over]!), cost(pairs[under]!));
  const what = "server CPU of a pair";
  return [
    goal("pair-limit", `${what}, ÷ (a) the limit`, pair(HOLDFAST, BARE), { atMost: 1.15 }),
    goal("history-limit", "(a) with a row of history ÷ (a)", pair(HISTORY, BARE)),
    goal("functions-limit", "(a) as functions, with history ÷ (a)", pair(FUNCTIONS, BARE)),
    goal("pair-functions", `${what}, ÷ (a) as functions`, pair(HOLDFAST, FUNCTIONS)),
    goal("pair-upsert", `${what}, ÷ (b) upsert`, pair(HOLDFAST, UPSERT), { atMost: 1.1 }),
    goal("functions-upsert", "(a) as functions, with history ÷ (b)", pair(FUNCTIONS, UPSERT)),
    goal("pair-cpu", `${what}, µs`, overRounds(each(cost(pairs[HOLDFAST]!)))),
    goal("refusal-cpu", "server CPU of a refusal, µs", overRounds(each(cost(refusals[HOLDFAST]!)))),
  ];
}

function table(id: string, costs: Record<string, Costs>): Table {
  return {
    id,
    columns: ["", "server CPU µs", `${CLIENTS} at once, ms`],
    rows: Object.entries(costs).map(([name, of]) => [
      name,
      overRounds(each(cost(of))).figure,
      overRounds(of.wall).figure / 1000,
    ]),
  };
}
