import { setTimeout as delay } from "node:timers/promises";
import { type Database, type Lab } from "./lab.ts";
import { type Contestant, cost, ratio, takeTurns } from "./measure.ts";
import { type Goal, goal, type Plot, type Section, show, type Table } from "./report.ts";

/** How far to grow. */
export interface GrowthSize {
  rounds: number;
  runs: number;
  /** Numbers of videos, and of rows of history; the first is the small database that all are compared with. */
  sizes: number[];
  renewals: number;
  /** Leases that ended and are cleared at once. */
  expired: number;
}

/**
 * How the costs change as everything around a lock grows.
 *
 * @param lab Where.
 * @param size How far.
 * @param onProgress Told what is being measured.
 */
export async function growth(
  lab: Lab,
  size: GrowthSize,
  onProgress: (message: string) => void,
): Promise<Section> {
  await using small = await lab.database("small", { videos: size.sizes[0]!, past: size.sizes[0]! });
  await using large = await lab.database("large", { videos: size.sizes[0]!, past: size.sizes[0]! });
  onProgress(`${show(size.renewals)} renewals`);
  const goals = await renewals(large, size.renewals);
  const rows: Table["rows"] = [];
  const points: Plot["points"] = [];
  for (const kind of ["videos", "rows of history"]) {
    points.push({ name: `pair, ${kind}`, x: size.sizes[0]!, value: 1 });
    points.push({ name: `refusal, ${kind}`, x: size.sizes[0]!, value: 1 });
    for (const count of size.sizes.slice(1)) {
      onProgress(`${show(count)} ${kind}`);
      await fill(large, kind === "videos" ? "add_videos" : "add_past", count);
      const pairs = await compare(small, large, false, size);
      const refusals = await compare(small, large, true, size);
      const clearing = kind === "videos" ? await clear(large, 1) : null; // it reads no history
      rows.push([
        kind,
        count,
        pairs.cpu.figure,
        pairs.wall.figure,
        refusals.cpu.figure,
        clearing,
      ]);
      points.push({ name: `pair, ${kind}`, x: count, value: pairs.cpu.figure });
      points.push({ name: `refusal, ${kind}`, x: count, value: refusals.cpu.figure });
      if (count !== size.sizes.at(-1)) continue;
      goals.push(...ofKind(kind, count, size.sizes[0]!, pairs, refusals));
    }
  }
  onProgress(`${show(size.expired)} leases that ended`);
  const seconds = await clear(large, size.expired) / 1000;
  goals.push(
    goal(
      "expired",
      `leases that ended, cleared in a second, of ${show(size.expired)}`,
      size.expired / seconds,
    ),
  );
  return {
    goals,
    tables: [{
      id: "growth",
      columns: [
        "what grows",
        "to",
        "pair, server CPU ÷ small",
        "pair, time ÷ small",
        "refusal, server CPU ÷ small",
        "release_expired_locks() for 1 lease, ms",
      ],
      rows,
    }],
    plots: [{
      id: "growth",
      title: "Costs as the database grows",
      unit: `server CPU, as a multiple of that with ${show(size.sizes[0])}`,
      x: "rows",
      points,
    }],
    leftOut: [],
  };
}

/** The goals for what grows, at its largest. */
function ofKind(kind: string, count: number, from: number, pairs: Compared, refusals: Compared) {
  const id = kind.split(" ").at(-1);
  const what = `${show(count)} ${kind} ÷ ${show(from)}`;
  const atMost = { atMost: 1.3 };
  return [
    goal(`${id}-pair`, `server CPU of a pair, ${what}`, pairs.cpu, atMost),
    goal(`${id}-pair-wall`, `the same, as its caller sees it`, pairs.wall, atMost),
    goal(`${id}-refusal`, `server CPU of a refusal, ${what}`, refusals.cpu, atMost),
  ];
}

type Compared = Awaited<ReturnType<typeof compare>>;

async function fill({ admin }: Database, procedure: string, count: number): Promise<void> {
  await admin.query("set work_mem = '512MB'");
  await admin.query(`call bench.${procedure}($1)`, [count]);
  await admin.query("vacuum analyze");
  await admin.query("checkpoint");
}

/** Two callers in turns, one of each database: grants and releases, or refusals, on videos all over the table. */
async function compare(small: Database, large: Database, held: boolean, size: GrowthSize) {
  const contestants = [await caller(small, "small", held), await caller(large, "large", held)];
  const { small: below, large: above } = await takeTurns(contestants, size);
  for (const database of held ? [small, large] : []) {
    const { ask } = await database.worker();
    await ask(`
      select count(release_lock(video_id, database_name, force => true))
      from public.video_database_state where lock_holder_user_id = 'worker-1'`);
  }
  return { cpu: ratio(cost(above!), cost(below!)), wall: ratio(above!.wall, below!.wall) };
}

async function caller(database: Database, name: string, held: boolean): Promise<Contestant> {
  const { pid, ask } = await database.worker({ synchronous_commit: "off" });
  const { rows: [{ gap }] } = await database.admin.query(
    "select greatest(10, count(*) / 1000)::int as gap from bench.video",
  );
  const { rows: videos } = await database.admin.query(
    "select id from bench.video where (n % $1 = 0) = $2 order by random() limit 5000",
    [gap, held],
  );
  const acquire = "select acquire_lock($1, 'layout', $2, $3, 3600)";
  for (const { id } of held ? videos : []) await ask(acquire, id, "worker-1", crypto.randomUUID());
  let next = 0;
  return {
    name,
    pids: [pid],
    async run() {
      const [{ id }, lockId] = [videos[next++ % videos.length]!, crypto.randomUUID()];
      const { acquired } = await ask(acquire, id, "worker-7", lockId);
      if (acquired === held) throw new Error(`${id}: acquired is ${acquired}`);
      if (!held) await ask("select release_lock($1, 'layout', $2)", id, lockId);
    },
  };
}

/** How long it takes to clear so many leases that ended, in milliseconds. */
async function clear(database: Database, leases: number): Promise<number> {
  const { ask } = await database.worker();
  await ask(
    `select count(acquire_lock(id, 'layout', 'worker-2', ttl_seconds => 1))
    from (select id from bench.video where n % 10 <> 0 order by n desc limit $1) v`,
    leases,
  );
  await delay(1_100);
  const start = performance.now();
  let cleared = 0;
  while (cleared < leases) {
    const more = await ask("select release_expired_locks()");
    if (more === 0) throw new Error(`cleared ${cleared} leases of ${leases}`);
    cleared += more;
  }
  return performance.now() - start;
}

/** Two callers renew a thousand leases again and again, in a loop in the server. */
async function renewals(database: Database, count: number): Promise<Goal[]> {
  const { admin } = database;
  const workers = [await database.worker(), await database.worker()];
  const lease = "id, 'layout', md5('lock' || n)::uuid";
  await workers[0]!.ask(
    `select count(acquire_lock(id, 'layout', 'worker-7', md5('lock' || n)::uuid, 3600)) from bench.video`,
  );
  await admin.query("vacuum full public.video_database_state");
  const before = await stateTable(database);
  await Promise.all(workers.map(({ ask }) =>
    ask(`do $$
      declare
        v_n integer;
        v_videos constant integer := (select count(*) from bench.video);
      begin
        set synchronous_commit = off;
        for i in 1..${count / workers.length} loop
          v_n := floor(random() * v_videos);
          perform renew_lock(${lease}, 3600) from bench.video where n = v_n;
          commit;
        end loop;
      end
    $$`)
  ));
  // a session keeps its statistics to itself for a while
  for (const { ask } of workers) await ask("select pg_stat_force_next_flush()");
  const after = await stateTable(database);
  await workers[0]!.ask(`select count(release_lock(${lease})) from bench.video`);
  const updates = after.updates - before.updates;
  if (updates < count * 0.99) throw new Error(`${count} renewals made ${updates} updates`);
  const hot = (after.hot - before.hot) / updates * 100;
  const what = `${show(count)} renewals`;
  return [
    goal("hot", `HOT updates in ${what}, %`, hot, { atLeast: 95 }),
    goal("bloat", `size of the table after ${what}, ÷ before`, after.bytes / before.bytes, {
      atMost: 3,
    }),
  ];
}

async function stateTable({ admin }: Database) {
  const { rows: [row] } = await admin.query(`
    select n_tup_upd::float as updates, n_tup_hot_upd::float as hot,
      pg_total_relation_size(relid)::float as bytes
    from pg_stat_user_tables where relid = 'public.video_database_state'::regclass`);
  return row as { updates: number; hot: number; bytes: number };
}
