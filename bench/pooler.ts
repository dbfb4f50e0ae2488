import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { type Lab } from "./lab.ts";
import { type LoadGenerator } from "./load.ts";
import { ours } from "./ours.ts";
import { end, freePorts, until, version, which } from "./peers.ts";
import { median, type Section } from "./report.ts";
import { sqlCore, type SqlCoreResult, type SqlCoreSize } from "./sql_core.ts";

/** How much to measure. */
export interface PoolerSize extends SqlCoreSize {
  /** Callers at the barrier. */
  racers: number;
  /** How often they race. */
  races: number;
}

/**
 * Runs the tests of mutual exclusion and the SQL core through PgBouncer in transaction mode, where each transaction
 * may be on another connection than the one before.
 *
 * @param lab The database behind it.
 * @param run The load generator.
 * @param size How much.
 * @param onProgress Told what is being measured.
 * @returns The section of the report.
 * @throws {Error} When a race has no winner, or two.
 */
export async function pooler(
  lab: Lab,
  run: LoadGenerator,
  size: PoolerSize,
  onProgress: (message: string) => void,
): Promise<Section> {
  const section: Section = {
    id: "pooler",
    title: "5. Through a transaction-mode pooler",
    notes: [
      "Both columns parse and plan each statement anew (extended protocol, nothing prepared): what is compared is the way, not the preparing.",
    ],
    tables: [],
    goals: [],
    plots: [],
    leftOut: [],
    raw: {},
  };
  const path = await which("pgbouncer");
  if (!path) {
    section.leftOut.push(
      "PgBouncer: not installed; Debian and Ubuntu: apt-get install pgbouncer",
    );
    return section;
  }
  section.notes.push(`${await version(path)}, 20 server connections.`);
  await using started = ours();
  const bouncer = await startPgBouncer(started, lab, path);

  onProgress(`${size.races} races of ${size.racers} through the pooler`);
  const advisory = await advisoryLocksHeldByTwo(bouncer.url);
  const wins = await races(bouncer.url, lab, size);
  section.goals.push({
    what: `races of ${size.racers} callers with exactly one winner, of ${size.races}`,
    goal: `${size.races}`,
    figure: wins,
    met: wins === size.races,
  }, {
    what:
      "the same test on pg_try_advisory_lock: callers who were told that they hold it, after one did",
    goal: "",
    figure: advisory,
    met: null,
  });

  const measure = async (port: number, way: string) => ({
    way,
    results: await sqlCore(lab, run, { ...size, rounds: 1 }, {
      port,
      prepared: false,
      scenarios: ["own keys", "refusal"],
    }),
  });
  const key = (r: SqlCoreResult) => `${r.scenario}|${r.clients}|${r.competitor}`;
  const all = new Map<string, { r: SqlCoreResult; direct: number[]; pooled: number[] }>();
  for (let round = 0; round < size.rounds; round++) {
    onProgress(`direct and pooled, round ${round + 1}`);
    for (
      const { way, results } of [
        await measure(lab.port, "direct"),
        await measure(bouncer.port, "pooled"),
      ]
    ) {
      for (const r of results) {
        const entry = all.get(key(r)) ?? { r, direct: [], pooled: [] };
        entry[way as "direct" | "pooled"].push(...r.perSecond);
        all.set(key(r), entry);
      }
    }
  }
  section.tables.push({
    title: "Pairs or refusals a second, medians of the rounds",
    columns: [
      "scenario",
      "clients",
      "competitor",
      "direct",
      "through PgBouncer",
      "direct ÷ pooled",
    ],
    rows: [...all.values()].map(({ r, direct, pooled }) => [
      r.scenario,
      r.clients,
      r.competitor,
      Math.round(median(direct)),
      Math.round(median(pooled)),
      median(direct.map((x, i) => x / pooled[i]!)),
    ]),
  });
  section.raw = [...all.values()].map(({ r, direct, pooled }) => ({
    scenario: r.scenario,
    clients: r.clients,
    competitor: r.competitor,
    direct,
    pooled,
  }));
  return section;
}

/** Everybody asks at once, over and over; only one may win, with the next token, and a guarded write tells who. */
async function races(url: string, lab: Lab, { racers, races }: PoolerSize): Promise<number> {
  const { rows: [{ id }] } = await lab.sql.query("select id from bench.video where n = 3");
  await lab.sql.query("select release_lock($1, 'layout', force => true)", [id]);
  const clients = await Promise.all(Array.from({ length: racers }, async () => {
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => {});
    await client.connect();
    return client;
  }));
  let wins = 0;
  let lastToken: number | undefined;
  try {
    for (let race = 0; race < races; race++) {
      const answers = await Promise.all(clients.map(async (client, i) => {
        const { rows } = await client.query(
          "select acquire_lock($1, 'layout', $2) as answer",
          [id, `racer-${i}`],
        );
        return rows[0].answer;
      }));
      const winners = answers.filter(({ acquired }) => acquired);
      const losers = answers.filter(({ acquired, reason }) => !acquired && reason === "held");
      if (winners.length !== 1 || losers.length !== racers - 1) {
        throw new Error(
          `race ${race}: ${winners.length} winners and ${losers.length} refused of ${racers}`,
        );
      }
      const { lock_id, fencing_token } = winners[0].lock;
      if (lastToken !== undefined && fencing_token !== lastToken + 1) {
        throw new Error(`race ${race}: token ${fencing_token} after ${lastToken}`);
      }
      lastToken = fencing_token;
      const [first] = clients;
      await first!.query("select assert_lock_held($1, 'layout', $2)", [id, fencing_token]);
      const { rows } = await first!.query(
        "select release_lock($1, 'layout', $2) as answer",
        [id, lock_id],
      );
      if (!rows[0].answer.released) throw new Error(`race ${race}: the winner could not release`);
      wins++;
    }
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
  return wins;
}

/** The control of this test: it has to notice a lock that does not work here. */
async function advisoryLocksHeldByTwo(url: string): Promise<number> {
  const clients = [0, 1, 2].map(() => new pg.Client({ connectionString: url }));
  await Promise.all(clients.map((client) => client.connect()));
  let holders = 0;
  try {
    for (const client of clients) {
      const { rows } = await client.query("select pg_try_advisory_lock(4711) as got");
      if (rows[0].got) holders++;
    }
    await clients[0]!.query("select pg_advisory_unlock_all()");
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
  return holders;
}

interface PgBouncer {
  port: number;
  url: string;
}

async function startPgBouncer(
  started: AsyncDisposableStack,
  lab: Lab,
  path: string,
): Promise<PgBouncer> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-pooler-" });
  started.defer(() => Deno.remove(folder, { recursive: true }));
  const [port] = freePorts(1);
  const { password } = new URL(lab.url);
  const file = join(folder, "pgbouncer.ini");
  await Deno.writeTextFile(
    file,
    `[databases]
postgres = host=127.0.0.1 port=${lab.port} dbname=postgres user=postgres password=${password} connect_query='set role service_role'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 20
max_client_conn = 200
ignore_startup_parameters = extra_float_digits, options
`,
  );
  // it refuses to run as root
  const asNobody = Deno.uid() === 0 ? ["-u", "nobody"] : [];
  await Deno.chmod(folder, 0o755);
  const process = new Deno.Command(path, {
    args: ["-q", ...asNobody, file],
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  started.defer(() => end(process));
  const url = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
  await until(async () => {
    const client = new pg.Client({ connectionString: url });
    client.on("error", () => {});
    await client.connect();
    await client.end();
  }, process);
  return { port: port!, url };
}
