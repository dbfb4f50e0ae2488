import { setTimeout as delay } from "node:timers/promises";
import { APPLICATION, connect, type Lab } from "./lab.ts";
import { type LoadGenerator, type LoadOptions } from "./load.ts";
import { median, quantile, ratioGoal, type Section } from "./report.ts";
import { SERVER } from "./sql_core.ts";

/** How far to grow. */
export interface GrowthSize {
  /** Numbers of videos, growing. */
  videos: number[];
  /** Rows of history, growing. */
  history: number[];
  /** Numbers of expired leases to clear. */
  expired: number[];
  /** Numbers of callers who want one lock. */
  contenders: number[];
  /** How long they try, in seconds. */
  contendersSeconds: number;
  /** How many renewals. */
  renewals: number;
  clients: number;
  rounds: number;
  /** Length of one run in whole seconds, or else `statements`. */
  seconds?: number;
  /** Statements of each client in one run. */
  statements?: number;
}

/**
 * Measures how the figures change as everything around a lock grows.
 *
 * @param lab An empty one; it is full afterwards.
 * @param reference Another empty one. It stays as small as the smallest size and takes turns with the one that grows,
 * so that what else the machine does is no part of the comparison.
 * @param run The load generator.
 * @param size How far.
 * @param onProgress Told what is being measured.
 * @returns The section of the report.
 */
export async function growth(
  lab: Lab,
  reference: Lab,
  run: LoadGenerator,
  size: GrowthSize,
  onProgress: (message: string) => void,
): Promise<Section> {
  const section: Section = {
    id: "growth",
    title: "4. How it grows",
    notes: [
      `Latencies at ${size.clients} clients on videos at random, all of them in the same database. shared_buffers is PostgreSQL's default of 128 MB, so the largest sizes live in the page cache of the system. A second database stays at the smallest size and takes turns with the one that grows; it is what the ratios are to.`,
      "Contenders ask again 100 to 300 ms after a refusal, hold the lock for 5 ms, and share 16 connections, as they would behind the Data API.",
    ],
    tables: [],
    goals: [],
    plots: [],
    leftOut: [],
    raw: {},
  };
  const raw: Record<string, unknown> = section.raw = {};
  raw.renewals = await renewals(lab, run, size, section, onProgress);
  raw.contenders = await contenders(lab, size, section, onProgress);
  if (reference !== lab) await addVideos(reference, size.videos[0]!);
  raw.videos = await videos(lab, reference, run, size, section, onProgress);
  raw.expired = await expired(lab, size, section, onProgress);
  raw.history = await history(lab, reference, run, size, section, onProgress);
  return section;
}

/** Of each round, the median in milliseconds, and the same on the database that stays small. */
interface Latencies {
  /** Whole pages in the write-ahead log for each acquire + release: one for each page that the last checkpoint wrote. */
  fullPages: number[];
  /** Pages that were not in PostgreSQL's own cache, for each acquire + release. */
  pagesRead: number[];
  grant: number[];
  refusal: number[];
  smallGrant: number[];
  smallRefusal: number[];
}

async function compare(
  lab: Lab,
  reference: Lab,
  run: LoadGenerator,
  size: GrowthSize,
): Promise<Latencies> {
  const all: Latencies = {
    grant: [],
    refusal: [],
    smallGrant: [],
    smallRefusal: [],
    fullPages: [],
    pagesRead: [],
  };
  for (let round = 0; round < size.rounds; round++) {
    const small = await latencies(reference, run, size);
    const { grant, refusal, fullPages, pagesRead } = await latencies(lab, run, size);
    all.fullPages.push(fullPages);
    all.pagesRead.push(pagesRead);
    all.grant.push(grant);
    all.refusal.push(refusal);
    all.smallGrant.push(small.grant);
    all.smallRefusal.push(small.refusal);
  }
  return all;
}

/** Median latency of grant and refusal on videos at random, in milliseconds. */
async function latencies(lab: Lab, run: LoadGenerator, size: GrowthSize) {
  const { rows: [{ n }] } = await lab.sql.query("select max(n) + 1 as n from bench.video");
  // every tenth video is held by somebody else, up to a thousand of them, spread over all
  const gap = Math.max(10, Math.ceil(n / 1000));
  await lab.sql.query(
    `select acquire_lock(id, 'layout', 'worker-1', ttl_seconds => 3600) from bench.video where n % $1 = 0`,
    [gap],
  );
  const pick = (where: string) => ({
    name: "pick",
    sql: `select id as v, gen_random_uuid() as l from bench.video where n = ${where}`,
    sets: true,
  });
  // a random number that the planner sees as one value, so that the index finds it
  const any = (one: string) => `(select ${one} from (select random() as r offset 0) as t)`;
  const { clients, seconds, statements } = size;
  const turn = seconds ? { seconds } : { statements: statements! };
  const options = { clients, ...turn, settings: SERVER };
  await lab.admin.query("select extensions.pg_stat_statements_reset()");
  const grants = await run(lab, {
    init: "select 1 as unused",
    steps: [
      pick(
        any(
          `least(${n} - 1, floor(r * ${n} / ${gap}) * ${gap} + 1 + floor(random() * (${gap} - 1)))::int`,
        ),
      ),
      { name: "grant", sql: "select acquire_lock(:v, 'layout', 'worker-7', :l)" },
      { name: "release", sql: "select release_lock(:v, 'layout', :l)" },
    ],
  }, options);
  const { rows: [pages] } = await lab.admin.query(`
    select sum(wal_fpi)::float / max(calls) as full, sum(shared_blks_read)::float / max(calls) as read
    from extensions.pg_stat_statements
    where userid = 'service_role'::regrole and query like '%\\_lock(%'`);
  const refusals = await run(lab, {
    init: "select 1 as unused",
    steps: [
      pick(any(`(floor(r * (${n} / ${gap})) * ${gap})::int`)),
      { name: "refusal", sql: "select acquire_lock(:v, 'layout', 'worker-7', :l)" },
    ],
  }, options);
  await lab.sql.query(
    `select release_lock(id, 'layout', lock_holder_user_id => 'worker-1') from bench.video where n % $1 = 0`,
    [gap],
  );
  return {
    grant: median(grants.latencies["grant"]!),
    refusal: median(refusals.latencies["refusal"]!),
    fullPages: pages.full as number,
    pagesRead: pages.read as number,
  };
}

async function videos(
  lab: Lab,
  reference: Lab,
  run: LoadGenerator,
  size: GrowthSize,
  section: Section,
  onProgress: (message: string) => void,
) {
  const points: (Latencies & { videos: number })[] = [];
  const clearOne: { videos: number; ms: number }[] = [];
  for (const count of size.videos) {
    onProgress(`${count} videos`);
    await addVideos(lab, count);
    points.push({ videos: count, ...await compare(lab, reference, run, size) });
    clearOne.push({ videos: count, ms: await timeOfClearing(lab, 1) });
  }
  report(section, points, {
    file: "growth-videos",
    title: "Videos in the database",
    plot: "Latency as the number of videos grows",
    x: "videos",
    count: (p) => p.videos,
    name: (count) => `${count} videos`,
    more: ["release_expired_locks() for 1 lease, ms", (_, i) => clearOne[i]!.ms],
  });
  return { points, clearOne };
}

/** How one thing that grows is told. */
interface Growing<P> {
  file: string;
  title: string;
  plot: string;
  x: string;
  count: (p: P) => number;
  name: (count: number) => string;
  /** A column that only this one has. */
  more: [column: string, value: (p: P, i: number) => number];
}

/**
 * Table, plot and goals: the largest against the smallest, each taken as a multiple of the small database's latency
 * at that time.
 */
function report<P extends Latencies>(
  section: Section,
  points: P[],
  { file, title, plot, x, count, name, more: [column, value] }: Growing<P>,
): void {
  const [first, last] = [points[0]!, points.at(-1)!];
  const judge = last === first ? null : { atMost: 1.3 };
  const what = `${name(count(last))} ÷ ${name(count(first))}`;
  const relative = (over: number[], under: number[]) => over.map((ms, i) => ms / under[i]!);
  const goal = (of: string, latency: (p: P) => number[]) => {
    const start = median(latency(first));
    return ratioGoal(
      `median latency of a ${of}, ${what}`,
      latency(last),
      latency(last).map(() => start),
      judge,
    );
  };
  section.goals.push(
    goal("grant", (p) => relative(p.grant, p.smallGrant)),
    goal("refusal", (p) => relative(p.refusal, p.smallRefusal)),
  );
  section.tables.push({
    title,
    columns: [
      x,
      "grant ms",
      "÷ small database",
      "refusal ms",
      "÷ small database",
      "full pages in WAL for a pair",
      "pages read for a pair",
      column,
    ],
    rows: points.map((p, i) => [
      count(p),
      median(p.grant),
      median(p.grant) / median(p.smallGrant),
      median(p.refusal),
      median(p.refusal) / median(p.smallRefusal),
      median(p.fullPages),
      median(p.pagesRead),
      value(p, i),
    ]),
  });
  section.plots.push({
    file,
    title: plot,
    unit: "median, milliseconds",
    x,
    at: points.map(count),
    series: [
      { name: "grant", values: points.map((p) => median(p.grant)) },
      { name: "refusal", values: points.map((p) => median(p.refusal)) },
      { name: "grant, smallest at that time", values: points.map((p) => median(p.smallGrant)) },
      { name: "refusal, smallest", values: points.map((p) => median(p.smallRefusal)) },
    ],
  });
}

/** Fills up to a number of videos. Checked already, sorted: a table of this size is not what is measured. */
async function addVideos(lab: Lab, upTo: number): Promise<void> {
  await lab.admin.query("begin");
  // no foreign key is looked up for rows that are made here from each other
  await lab.admin.query("set local session_replication_role = replica");
  await lab.admin.query("set local work_mem = '512MB'");
  await lab.admin.query("set local maintenance_work_mem = '1GB'");
  await lab.admin.query(
    `with first as materialized (select coalesce(max(n) + 1, 0) as n from bench.video),
    made as materialized (
      select first.n + row_number() over () - 1 as n, id from first,
        lateral (select gen_random_uuid() as id from generate_series(first.n, $1::int - 1) order by 1) as ids
    ),
    numbered as (insert into bench.video select n, id from made),
    videos as (
      insert into public.videos (id, tenant_id, storage_key, status)
      select id, '00000000-0000-4000-8000-0000000000be', 'bench/' || n, 'ready' from made
    )
    insert into public.video_database_state (video_id, database_name, tenant_id)
    select id, 'layout', '00000000-0000-4000-8000-0000000000be' from made`,
    [upTo],
  );
  await lab.admin.query("commit");
  await lab.admin.query(
    "vacuum analyze bench.video, public.videos, public.video_database_state, public.video_database_lock_history",
  );
  await lab.admin.query("checkpoint");
}

async function history(
  lab: Lab,
  reference: Lab,
  run: LoadGenerator,
  size: GrowthSize,
  section: Section,
  onProgress: (message: string) => void,
) {
  const points: (Latencies & { rows: number; megabytes: number })[] = [];
  let filled = 0;
  await lab.admin.query("truncate public.video_database_lock_history");
  for (const count of size.history) {
    onProgress(`history of ${count} rows`);
    await lab.admin.query("set work_mem = '512MB'");
    await lab.admin.query(
      `insert into public.video_database_lock_history
      select v.id, 'layout', gen_random_uuid(), '00000000-0000-4000-8000-0000000000be', 'worker-3', 'server', i.n,
        now() - i.n * interval '1 second', now() - i.n * interval '1 second' + interval '30 s', 'released'
      from bench.video v
      join generate_series($1::int, $2::int - 1) as i (n) on v.n = i.n % (select max(n) + 1 from bench.video)
      order by 1`,
      [filled, count],
    );
    filled = count;
    await lab.admin.query("vacuum analyze public.video_database_lock_history");
    await lab.admin.query("checkpoint");
    const { rows: [{ mb }] } = await lab.admin.query(
      "select pg_total_relation_size('public.video_database_lock_history') / 1e6 as mb",
    );
    points.push({
      rows: count,
      megabytes: Number(mb),
      ...await compare(lab, reference, run, size),
    });
  }
  report(section, points, {
    file: "growth-history",
    title: "Rows of history",
    plot: "Latency as the history grows",
    x: "rows of history",
    count: (p) => p.rows,
    name: (count) => `history of ${count} rows`,
    more: ["size with indexes, MB", (p) => Math.round(p.megabytes)],
  });
  return points;
}

async function expired(
  lab: Lab,
  size: GrowthSize,
  section: Section,
  onProgress: (message: string) => void,
) {
  const { rows: [{ n }] } = await lab.sql.query("select max(n) + 1 as n from bench.video");
  const points: { expired: number; ms: number; calls: number }[] = [];
  for (const count of size.expired.filter((e) => e <= n)) {
    onProgress(`${count} expired leases`);
    let calls = 0;
    const ms = await timeOfClearing(lab, count, () => calls++);
    points.push({ expired: count, ms, calls });
  }
  section.tables.push({
    title: `Expired leases to clear, among ${n} videos`,
    columns: ["expired", "batch", "calls", "seconds in all", "leases a second", "ms a call"],
    rows: points.map((p) => [
      p.expired,
      batchFor(p.expired),
      p.calls,
      p.ms / 1000,
      Math.round(p.expired / p.ms * 1000),
      p.ms / p.calls,
    ]),
  });
  section.plots.push({
    file: "growth-expired",
    title: `Clearing expired leases among ${n} videos`,
    unit: "seconds in all",
    x: "expired leases",
    at: points.map((p) => p.expired),
    series: [{ name: "release_expired_locks()", values: points.map((p) => p.ms / 1000) }],
    log: true,
  });
  for (const missing of size.expired.filter((e) => e > n)) {
    section.leftOut.push(`${missing} expired leases: this run has only ${n} videos`);
  }
  return points;
}

/** As docs/operations.md has it: what the schedule takes, or the largest there is after a long outage. */
function batchFor(expired: number): number {
  return expired > 10_000 ? 100_000 : 10_000;
}

async function timeOfClearing(lab: Lab, count: number, onCall = () => {}): Promise<number> {
  await lab.admin.query(
    `update public.video_database_state s
    set lock_id = gen_random_uuid(), lock_holder_user_id = 'worker-2', lock_type = 'server',
      locked_at = now() - interval '3 min', last_activity_at = now() - interval '3 min',
      lock_expires_at = now() - interval '1 min', fencing_token = fencing_token + 1
    from (select id from bench.video where n % 10 <> 0 order by n desc limit $1) as v
    where s.video_id = v.id and s.database_name = 'layout'`,
    [count],
  );
  // the fewest that a small test has may all be held
  await lab.admin.query("vacuum analyze public.video_database_state");
  await using client = await disposable(lab.url);
  const start = performance.now();
  const batch = batchFor(count);
  let released: number;
  do {
    onCall();
    const { rows } = await client.sql.query("select release_expired_locks($1) as n", [batch]);
    released = rows[0].n;
  } while (released === batch);
  return performance.now() - start;
}

async function disposable(url: string) {
  const sql = await connect(url, "-c role=service_role");
  return { sql, [Symbol.asyncDispose]: () => sql.end() };
}

async function renewals(
  lab: Lab,
  run: LoadGenerator,
  size: GrowthSize,
  section: Section,
  onProgress: (message: string) => void,
) {
  onProgress(`${size.renewals} renewals`);
  await addVideos(lab, Math.min(1000, size.videos[0]!));
  await lab.sql.query(`
    create table bench.held as
    select n, id, lock_id from bench.video join public.video_database_state on video_id = id,
      lateral acquire_lock(id, 'layout', 'worker-7', ttl_seconds => 3600) as a limit 0`);
  await lab.sql.query(
    "select acquire_lock(id, 'layout', 'worker-7', ttl_seconds => 3600) from bench.video",
  );
  await lab.sql.query(`
    insert into bench.held select n, id, s.lock_id from bench.video join public.video_database_state s on video_id = id`);
  await lab.sql.query("alter table bench.held add primary key (n)");
  await lab.sql.query("grant select on bench.held to service_role");
  const { rows: [{ n }] } = await lab.sql.query("select count(*)::int as n from bench.held");
  await lab.admin.query("vacuum full public.video_database_state");
  const before = await stateTable(lab);
  const options: LoadOptions = {
    clients: size.clients,
    statements: Math.ceil(size.renewals / size.clients),
    settings: SERVER,
  };
  const start = performance.now();
  const r = await run(lab, {
    init: "select 1 as unused",
    steps: [{
      name: "renewal",
      sql: `select renew_lock(k.id, 'layout', k.lock_id, 3600)
        from (select floor(random() * ${n})::int as n offset 0) as any_one join bench.held k using (n)`,
    }],
  }, options);
  const seconds = (performance.now() - start) / 1000;
  // statistics reach the view when the connections that gathered them have ended
  await delay(200);
  const after = await stateTable(lab);
  const updates = after.updates - before.updates;
  const hot = (after.hot - before.hot) / updates;
  section.goals.push(
    {
      what: `share of HOT updates in ${r.statements} renewals of ${n} leases, %`,
      goal: "≥ 95",
      figure: hot * 100,
      met: hot >= 0.95,
    },
    {
      what: "size of the table and its indexes, after ÷ before",
      goal: "bounded: ≤ 3",
      figure: after.bytes / before.bytes,
      met: after.bytes / before.bytes <= 3,
    },
  );
  section.tables.push({
    title: "A table that is renewed all the time",
    columns: [
      "renewals",
      "leases",
      "a second",
      "median ms",
      "HOT %",
      "kB before (packed)",
      "kB after",
      "autovacuum runs",
    ],
    rows: [[
      r.statements,
      n,
      Math.round(r.perSecond),
      median(r.latencies["renewal"]!),
      hot * 100,
      before.bytes / 1024,
      after.bytes / 1024,
      after.vacuums - before.vacuums,
    ]],
  });
  if (updates < r.statements * 0.99) {
    throw new Error(`${r.statements} renewals made only ${updates} updates`);
  }
  await lab.sql.query("select release_lock(id, 'layout', lock_id) from bench.held");
  return { before, after, seconds, perSecond: r.perSecond };
}

async function stateTable(lab: Lab) {
  const { rows: [row] } = await lab.admin.query(`
    select n_tup_upd::float as updates, n_tup_hot_upd::float as hot, autovacuum_count::float as vacuums,
      pg_total_relation_size(relid)::float as bytes
    from pg_stat_user_tables where relid = 'public.video_database_state'::regclass`);
  return row as { updates: number; hot: number; vacuums: number; bytes: number };
}

interface Contention {
  contenders: number;
  grantsPerSecond: number;
  refusalsPerSecond: number;
  /** From the answer to a release to the answer of the next grant, in milliseconds. */
  handOver: number[];
}

async function contenders(
  lab: Lab,
  size: GrowthSize,
  section: Section,
  onProgress: (message: string) => void,
) {
  const { rows: [{ id }] } = await lab.sql.query("select id from bench.video where n = 7");
  const results: Contention[] = [];
  for (const count of size.contenders) {
    onProgress(`${count} contenders`);
    results.push(await contend(lab, id, count, size.contendersSeconds));
  }
  section.tables.push({
    title: "Contenders for one lock",
    columns: [
      "contenders",
      "useful grants a second",
      "refusals a second",
      "release to next grant, median ms",
      "95 % ms",
    ],
    rows: results.map((r) => [
      r.contenders,
      r.grantsPerSecond,
      Math.round(r.refusalsPerSecond),
      median(r.handOver),
      quantile(r.handOver, 0.95),
    ]),
  });
  section.plots.push({
    file: "growth-contenders-grants",
    title: "Useful grants of one lock as its contenders grow",
    unit: "grants a second",
    x: "contenders",
    at: results.map((r) => r.contenders),
    series: [{ name: "grants a second", values: results.map((r) => r.grantsPerSecond) }],
  }, {
    file: "growth-contenders-wait",
    title: "From release to next grant as the contenders grow",
    unit: "milliseconds",
    x: "contenders",
    at: results.map((r) => r.contenders),
    series: [
      { name: "median", values: results.map((r) => median(r.handOver)) },
      { name: "95 %", values: results.map((r) => quantile(r.handOver, 0.95)) },
    ],
    log: true,
  });
  return results;
}

async function contend(
  lab: Lab,
  video: string,
  count: number,
  seconds: number,
): Promise<Contention> {
  const free = await Promise.all(
    Array.from(
      { length: Math.min(16, count) },
      () => connect(lab.url, `-c role=service_role -c application_name=${APPLICATION}`),
    ),
  );
  const connections = [...free];
  const waiting: ((client: typeof free[number]) => void)[] = [];
  const call = async (name: string, text: string, values: unknown[]) => {
    const client = free.pop() ??
      await new Promise<typeof free[number]>((resolve) => waiting.push(resolve));
    try {
      return (await client.query({ name, text, values })).rows[0].answer;
    } finally {
      const next = waiting.shift();
      if (next) next(client);
      else free.push(client);
    }
  };
  const result = { grants: 0, refusals: 0, handOver: [] as number[] };
  let releasedAt: number | undefined;
  const end = performance.now() + seconds * 1000;
  try {
    await Promise.all(Array.from({ length: count }, async (_, i) => {
      const pause = () => delay(100 + Math.random() * 200);
      await delay(Math.random() * 200);
      while (performance.now() < end) {
        const answer = await call(
          "acquire",
          "select acquire_lock($1, 'layout', $2, ttl_seconds => 30) as answer",
          [video, `worker-${i}`],
        );
        if (answer.acquired) {
          result.grants++;
          if (releasedAt !== undefined) result.handOver.push(performance.now() - releasedAt);
          await delay(5);
          await call(
            "release",
            "select release_lock($1, 'layout', $2) as answer",
            [video, answer.lock.lock_id],
          );
          releasedAt = performance.now();
        } else {
          result.refusals++;
        }
        await pause();
      }
    }));
  } finally {
    await Promise.all(connections.map((client) => client.end()));
  }
  return {
    contenders: count,
    grantsPerSecond: result.grants / seconds,
    refusalsPerSecond: result.refusals / seconds,
    handOver: result.handOver,
  };
}
