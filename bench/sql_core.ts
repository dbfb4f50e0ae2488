import { parseArgs } from "node:util";
import { type Lab, startLab } from "./lab.ts";
import { type LoadGenerator, loadGenerator, type Workload } from "./load.ts";
import {
  type Goal,
  median,
  type Plot,
  print,
  quantile,
  ratioGoal,
  type Section,
} from "./report.ts";

/** How much to measure. */
export interface SqlCoreSize {
  /** Numbers of clients. */
  clients: number[];
  /** How often each competitor runs, in turns with the others. */
  rounds: number;
  /** Length of one run in whole seconds, or else `statements`. */
  seconds?: number;
  /** Statements of each client in one run. */
  statements?: number;
}

/** One competitor in one scenario. */
export interface SqlCoreResult {
  scenario: "own keys" | "hot key" | "refusal";
  clients: number;
  competitor: string;
  /** Pairs, or refusals, a second: one number for each round. */
  perSecond: number[];
  /** CPU time of the server for each pair or refusal, in microseconds, for each round. */
  cpuMicros: number[];
  /** Median latency of the first statement that decides (milliseconds), for each round. */
  latency: number[];
  latency99: number[];
  /** Bytes written to the write-ahead log for each pair or refusal: the most of all rounds. */
  walBytes?: number;
}

const ME =
  "select id as v, id || '/layout' as name, gen_random_uuid() as l from bench.video where n = :client_id * 50";
const HOT =
  "select id as v, id || '/layout' as name, gen_random_uuid() as l from bench.video where n = 7";

const BARE_GRANT = {
  name: "grant",
  sql: `update bench.bare set lock_id = :l, lock_holder_user_id = 'worker-7', lock_type = 'server',
    locked_at = clock_timestamp(), last_activity_at = clock_timestamp(),
    lock_expires_at = clock_timestamp() + interval '120 s', fencing_token = fencing_token + 1
    where video_id = :v and database_name = 'layout'`,
};
const BARE_RELEASE =
  `update /* release */ bench.bare set lock_id = null, lock_holder_user_id = null, lock_type = null,
    locked_at = null, last_activity_at = null, lock_expires_at = null
    where video_id = :v and database_name = 'layout'`;

/** What a caller sends to hold a lock and to let go of it again. */
const PAIRS: Record<string, Workload["steps"]> = {
  // The careful caller: chooses the lock_id, so that both calls are safe to repeat. The next lock_id comes with the
  // release, because pgbench cannot make one.
  "Holdfast": [
    {
      name: "grant",
      sql: "select acquire_lock(:v, 'layout', 'worker-7', :l)",
    },
    {
      name: "release",
      sql: "select /* release */ release_lock(:v, 'layout', :l) as r, gen_random_uuid() as l",
      sets: true,
    },
  ],
  "Holdfast, lock_id by the server": [
    { name: "grant", sql: "select acquire_lock(:v, 'layout', 'worker-7')" },
    {
      name: "release",
      sql: "select /* release */ release_lock(:v, 'layout', lock_holder_user_id => 'worker-7')",
    },
  ],
  "(a) limit: two bare updates": [
    BARE_GRANT,
    { name: "release", sql: BARE_RELEASE },
  ],
  // what any lock pays that keeps a history which answers repeated requests: one row and its two index entries
  "(a) with a row of history": [
    BARE_GRANT,
    {
      name: "release",
      sql: `with freed as (${BARE_RELEASE} returning *)
        insert into bench.history
        select video_id, database_name, gen_random_uuid(), tenant_id, 'worker-7', 'server', fencing_token,
          clock_timestamp(), clock_timestamp(), 'released'
        from freed`,
    },
  ],
  "(a) as functions, with history": [
    { name: "grant", sql: "select bench.acquire_lock(:v, 'layout', 'worker-7', :l)" },
    {
      name: "release",
      sql: "select /* release */ bench.release_lock(:v, 'layout', :l) as r, gen_random_uuid() as l",
      sets: true,
    },
  ],
  "(b) upsert, as ShedLock does": [
    {
      name: "grant",
      sql: `insert into bench.shedlock (name, lock_until, locked_at, locked_by)
        values (:name, current_timestamp + interval '120 s', current_timestamp, 'worker-7')
        on conflict (name) do update set lock_until = current_timestamp + interval '120 s',
          locked_at = current_timestamp, locked_by = 'worker-7'
        where bench.shedlock.lock_until <= current_timestamp`,
    },
    {
      name: "release",
      sql: `update /* release */ bench.shedlock set lock_until = current_timestamp
        where name = :name and locked_by = 'worker-7'`,
    },
  ],
  "(c) read, then update": [
    {
      name: "read",
      sql: "select * from bench.two_calls where video_id = :v and database_name = 'layout'",
    },
    {
      name: "grant",
      sql: `update bench.two_calls set lock_holder_user_id = 'worker-7', lock_type = 'server',
        locked_at = now(), last_activity_at = now(), lock_expires_at = now() + interval '120 s'
        where video_id = :v and database_name = 'layout'`,
    },
    {
      name: "release",
      sql: `update /* release */ bench.two_calls set lock_holder_user_id = null, lock_type = null,
        locked_at = null, last_activity_at = null, lock_expires_at = null
        where video_id = :v and database_name = 'layout' and lock_holder_user_id = 'worker-7'`,
    },
  ],
};

/** The same on one key, where the first statement says whether it won; whoever did not tries again at once. */
const HOT_PAIRS: Record<string, Workload["steps"]> = {
  "Holdfast": [
    {
      name: "grant",
      sql: `select (a ->> 'acquired')::boolean::integer as got
        from acquire_lock(:v, 'layout', 'worker-7', :l) as a`,
      sets: true,
      goOnIf: "got",
    },
    PAIRS["Holdfast"]![1]!,
  ],
  "(a) limit: two bare updates": PAIRS["(a) limit: two bare updates"]!,
  "(b) upsert, as ShedLock does": [
    {
      name: "grant",
      sql: `with u as (${PAIRS["(b) upsert, as ShedLock does"]![0]!.sql} returning 1)
        select count(*) as got from u`,
      sets: true,
      goOnIf: "got",
    },
    PAIRS["(b) upsert, as ShedLock does"]![1]!,
  ],
  "(c) read, then update": [
    {
      name: "read",
      sql: `select (lock_expires_at is null)::integer as got
        from bench.two_calls where video_id = :v and database_name = 'layout'`,
      sets: true,
      goOnIf: "got",
    },
    ...PAIRS["(c) read, then update"]!.slice(1),
  ],
};

/** Asking for a lock that another one holds. */
const REFUSALS: Record<string, Workload["steps"]> = {
  "Holdfast": [{ name: "refusal", sql: "select acquire_lock(:v, 'layout', 'worker-8', :l)" }],
  "Holdfast, lock_id by the server": [
    { name: "refusal", sql: "select acquire_lock(:v, 'layout', 'worker-8')" },
  ],
  "(b) upsert, as ShedLock does": [
    { ...PAIRS["(b) upsert, as ShedLock does"]![0]!, name: "refusal" },
  ],
  "(c) read, then update": [{ ...PAIRS["(c) read, then update"]![0]!, name: "refusal" }],
};

/** Who asks: a worker with the secret key. */
export const SERVER = { role: "service_role" };

/** What can be measured, and who takes part. */
const WORKLOADS: Record<
  SqlCoreResult["scenario"],
  { init: string; competitors: Record<string, Workload["steps"]> }
> = {
  "own keys": { init: ME, competitors: PAIRS },
  "hot key": { init: HOT, competitors: HOT_PAIRS },
  "refusal": { init: HOT, competitors: REFUSALS },
};

const SCENARIOS = Object.keys(WORKLOADS) as SqlCoreResult["scenario"][];

/** How to measure it otherwise. */
export interface SqlCoreOptions {
  /** Told what is being measured. */
  onProgress?: (message: string) => void;
  /** Another port than the server's own: that of a pooler. */
  port?: number;
  /** False: each statement is parsed and planned anew. */
  prepared?: boolean;
  /** Default: all. */
  scenarios?: SqlCoreResult["scenario"][];
}

/**
 * Measures acquire_lock() + release_lock() against what they could cost at best, and against what others do.
 *
 * @param lab Where.
 * @param run The load generator.
 * @param size How much.
 * @param options See {@linkcode SqlCoreOptions}.
 * @returns A result for each competitor of each scenario.
 */
export async function sqlCore(
  lab: Lab,
  run: LoadGenerator,
  size: SqlCoreSize,
  { onProgress = () => {}, port = lab.port, prepared = true, scenarios = SCENARIOS }:
    SqlCoreOptions = {},
): Promise<SqlCoreResult[]> {
  const { seconds, statements } = size;
  const turn = seconds ? { seconds } : { statements: statements! };
  const results: SqlCoreResult[] = [];
  for (const scenario of scenarios) {
    const { init, competitors } = WORKLOADS[scenario];
    const held = scenario === "refusal";
    for (const clients of size.clients) {
      onProgress(`${scenario}, ${clients} client${clients === 1 ? "" : "s"}`);
      await tidy(lab);
      await setLocks(lab, held);
      const of = new Map(
        Object.keys(competitors).map((competitor) => [competitor, {
          scenario,
          clients,
          competitor,
          perSecond: [],
          cpuMicros: [],
          latency: [],
          latency99: [],
        } as SqlCoreResult]),
      );
      // reading for the first time tidies pages and remembers what it saw, which is no cost of the statement
      for (const steps of seconds ? Object.values(competitors) : []) {
        const settings = SERVER;
        await run(lab, { init, steps }, { clients, statements: 20, settings, port, prepared });
      }
      for (let round = 0; round < size.rounds; round++) {
        for (const [competitor, steps] of Object.entries(competitors)) {
          if (!held) {
            await setLocks(lab, false);
          }
          await lab.admin.query("select extensions.pg_stat_statements_reset()");
          const { history: past } = await counted(lab);
          const r = await run(lab, { init, steps }, {
            clients,
            ...turn,
            settings: SERVER,
            port,
            prepared,
          });
          const { grants, wal, history } = await counted(lab);
          const ended = history - past;
          if (scenario === "own keys" && /Holdfast|history/.test(competitor) && ended < grants) {
            throw new Error(`${competitor}: ${grants} releases, but only ${ended} leases ended`);
          }
          const done = scenario === "refusal" ? r.statements : grants;
          const result = of.get(competitor)!;
          result.perSecond.push(r.perSecond * done / r.statements);
          if (r.serverCpuMicros !== null) {
            result.cpuMicros.push(r.serverCpuMicros * r.statements / done);
          }
          // (c) has two calls before it knows
          const read = r.latencies["read"] ?? [];
          const grant = r.latencies[scenario === "refusal" ? "refusal" : "grant"]!;
          if (grant.length > 0) {
            result.latency.push(median(grant) + (read.length > 0 ? median(read) : 0));
            result.latency99.push(
              quantile(grant, 0.99) + (read.length > 0 ? quantile(read, 0.99) : 0),
            );
          }
          result.walBytes = Math.max(result.walBytes ?? 0, wal / done);
        }
      }
      results.push(...of.values());
    }
  }
  return results;
}

/** So that each scenario begins alike, and none pays for the one before. */
async function tidy(lab: Lab): Promise<void> {
  await lab.admin.query("vacuum analyze");
  await lab.admin.query("checkpoint");
}

/** Frees every lock, as a run ends where its time does; or has somebody else hold the hot one. */
async function setLocks(lab: Lab, held: boolean): Promise<void> {
  await lab.admin.query(`
    update public.video_database_state set lock_id = null, lock_holder_user_id = null, lock_type = null,
      locked_at = null, last_activity_at = null, lock_expires_at = null where lock_id is not null;
    update bench.shedlock set lock_until = now() where lock_until > now();
    update bench.bare set lock_id = null, lock_holder_user_id = null, lock_type = null, locked_at = null,
      last_activity_at = null, lock_expires_at = null where lock_id is not null;
    update bench.two_calls set lock_holder_user_id = null, lock_type = null, locked_at = null,
      last_activity_at = null, lock_expires_at = null where lock_expires_at is not null;
  `);
  if (!held) return;
  await lab.sql.query(`
    select acquire_lock(id, 'layout', 'worker-7', ttl_seconds => 3600) from bench.video where n = 7`);
  await lab.sql.query(`
    update bench.shedlock set lock_until = now() + interval '1 hour'
    where name = (select id || '/layout' from bench.video where n = 7)`);
  await lab.sql.query(`
    update bench.two_calls set lock_holder_user_id = 'worker-7', lock_expires_at = now() + interval '1 hour'
    where video_id = (select id from bench.video where n = 7)`);
}

async function counted(lab: Lab): Promise<{ grants: number; wal: number; history: number }> {
  const { rows } = await lab.admin.query(`
    select
      coalesce(sum(calls) filter (where query like '%/* release */%'), 0)::int as grants,
      coalesce(sum(wal_bytes), 0)::float as wal,
      (select count(*)::int from public.video_database_lock_history)
        + (select count(*)::int from bench.history) as history
    from extensions.pg_stat_statements
    where userid = 'service_role'::regrole and query not like '%bench.video%'`);
  return rows[0];
}

/**
 * The figures beside what is asked of them.
 *
 * @param results From {@linkcode sqlCore}.
 * @param judged The number of clients that the goals are about.
 * @returns The section of the report.
 */
export function sqlCoreSection(results: SqlCoreResult[], judged = 8): Section {
  const goals: Goal[] = [];
  const find = (scenario: string, clients: number, competitor: string) =>
    results.find((r) =>
      r.scenario === scenario && r.clients === clients && r.competitor.startsWith(competitor)
    )!;
  for (const clients of new Set(results.map((r) => r.clients))) {
    const at = `${clients} client${clients === 1 ? "" : "s"}`;
    const if8 = <T>(goal: T) => clients === judged ? goal : null;
    const own = find("own keys", clients, "Holdfast");
    const a = find("own keys", clients, "(a) limit");
    const b = find("own keys", clients, "(b)");
    const history = find("own keys", clients, "(a) with");
    const functions = find("own keys", clients, "(a) as functions");
    const refusal = find("refusal", clients, "Holdfast");
    const upsert = find("refusal", clients, "(b)");
    goals.push(
      ratioGoal(
        `pairs a second, (a) the limit ÷ Holdfast, ${at}`,
        a.perSecond,
        own.perSecond,
        if8({ atMost: 1.15 }),
      ),
      ratioGoal(
        `the same, (a) the limit ÷ (a) with a row of history, ${at}`,
        a.perSecond,
        history.perSecond,
        null,
      ),
      ratioGoal(
        `the same, (a) the limit ÷ (a) as functions, with history, ${at}`,
        a.perSecond,
        functions.perSecond,
        null,
      ),
      ratioGoal(
        `the same, (a) as functions, with history ÷ Holdfast, ${at}`,
        functions.perSecond,
        own.perSecond,
        null,
      ),
      ratioGoal(
        `median latency of a grant, Holdfast ÷ (b) upsert, ${at}`,
        own.latency,
        b.latency,
        if8({ atMost: 1.1 }),
      ),
      ratioGoal(
        `the same, (a) as functions, with history ÷ (b) upsert, ${at}`,
        functions.latency,
        b.latency,
        null,
      ),
      ratioGoal(
        `refusals a second, Holdfast ÷ (b) upsert, ${at}`,
        refusal.perSecond,
        upsert.perSecond,
        if8({ atLeast: 3 }),
      ),
      {
        what: `bytes of WAL for each refusal, ${at}`,
        goal: if8("0") ?? "",
        figure: refusal.walBytes!,
        met: if8(refusal.walBytes === 0),
      },
    );
    if (own.cpuMicros.length > 0 && a.cpuMicros.length > 0) {
      goals.push(
        ratioGoal(
          `server CPU for a pair, Holdfast ÷ (a) the limit, ${at}`,
          own.cpuMicros,
          a.cpuMicros,
          null,
        ),
      );
    }
  }
  const most = results.some((r) => r.clients === judged)
    ? judged
    : Math.max(...results.map((r) => r.clients));
  const plot = (scenario: SqlCoreResult["scenario"], file: string, title: string): Plot => {
    const shown = results.filter((r) => r.scenario === scenario && r.clients === most);
    return {
      file,
      title,
      unit: `a second at ${most} clients: median of the rounds, and the smallest and largest`,
      at: [""],
      series: shown.map(({ competitor, perSecond }) => ({
        name: competitor,
        values: [median(perSecond)],
        low: [Math.min(...perSecond)],
        high: [Math.max(...perSecond)],
      })),
    };
  };
  return {
    id: "sql",
    title: "1. The SQL core",
    notes: [
      "A pair is acquire + release, each a transaction of its own that is on disk before it is answered. Every statement is prepared.",
      "Own keys: each client has a video of its own. Hot key: all want the same one, and who is refused asks again at once, so the CPUs are busy with refusals; only pairs that were granted count. (a) never refuses: its callers queue for the row.",
      "Holdfast: the caller chooses the lock_id, so that both calls are safe to repeat, and both look it up in the history. The goals are judged by this row.",
      "(a) with a row of history adds to (a) what any lock has to write that can answer a repeated request after the lease has ended.",
      "(a) as functions puts those statements where the SQL contract has them, in functions that answer JSON, and asks nothing: not who calls, nor what they may see, nor whether the request is valid or repeated. It is the least that functions of this form cost.",
      "(a) decides nothing, (b) knows no token, holder or history and cannot say who holds it, (c) lets two callers win.",
      "The server's CPU time is the kernel's count for all of PostgreSQL's processes, so it does not depend on what else the machine does.",
    ],
    tables: [{
      title: "Medians of the rounds",
      columns: [
        "scenario",
        "clients",
        "competitor",
        "per second",
        "smallest … largest",
        "server CPU µs",
        "median ms to the decision",
        "99 % ms",
        "WAL bytes",
      ],
      rows: results.map((r) => [
        r.scenario,
        r.clients,
        r.competitor,
        Math.round(median(r.perSecond)),
        `${Math.round(Math.min(...r.perSecond))} … ${Math.round(Math.max(...r.perSecond))}`,
        r.cpuMicros.length > 0 ? median(r.cpuMicros) : null,
        r.latency.length > 0 ? median(r.latency) : null,
        r.latency99.length > 0 ? median(r.latency99) : null,
        r.walBytes ?? null,
      ]),
    }],
    goals,
    plots: [
      plot("own keys", "sql-pairs", "Acquire + release, each client on its own lock"),
      plot("refusal", "sql-refusals", "Refusals of a lock that somebody holds"),
      plot("hot key", "sql-hot-key", "Granted acquire + release, all clients on one lock"),
    ],
    leftOut: [],
    raw: results,
  };
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      quick: { type: "boolean", default: false },
      clients: { type: "string", default: "1,8,16" },
      rounds: { type: "string", default: "5" },
      seconds: { type: "string", default: "2" },
    },
  });
  const size = values.quick ? { clients: [8], rounds: 1, seconds: 1 } : {
    clients: values.clients.split(",").map(Number),
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
  };
  const load = await loadGenerator();
  if (load.warning) console.log(load.warning);
  await using lab = await startLab({ videos: 1000 });
  print(sqlCoreSection(await sqlCore(lab, load.run, size, { onProgress: console.log })));
}
