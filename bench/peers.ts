import { median } from "simple-statistics";
import { type Database, type Lab, type Session, videoId } from "./lab.ts";
import { overRounds } from "./measure.ts";
import { ours } from "./ours.ts";
import type { Plot, Section, Table } from "./report.ts";
import { type Service, startEtcd, startRedis } from "./services.ts";

/** How much to measure. */
export interface PeersSize {
  clients: number[];
  rounds: number;
  /** Length of a turn, in milliseconds. */
  turnMs: number;
}

/**
 * Acquire + release beside other lock services. The clients are in this process, and each has a lock of its own.
 *
 * @param lab Where Holdfast's database is.
 * @param size How much.
 */
export async function peers(lab: Lab, size: PeersSize): Promise<Section> {
  await using database = await lab.database("peers");
  await using started = ours();
  const starting = { started, leftOut: [] as string[] };
  const most = Math.max(...size.clients);
  const services = [
    await holdfast(database, "Holdfast, as it comes", most, true),
    await holdfast(database, "Holdfast, synchronous_commit = off", most, false),
    ...await startEtcd(starting),
    ...await startRedis(starting, true),
    ...await startRedis(starting, false),
  ];
  const rows: Table["rows"] = [];
  const points: Plot["points"] = [];
  for (const clients of size.clients) {
    const turns = services.map(() => [] as { perSecond: number; grantMs: number }[]);
    for (let round = 0; round < size.rounds; round++) {
      for (const [i, service] of services.entries()) {
        turns[i]!.push(await drive(service, clients, size.turnMs));
      }
    }
    for (const [i, { name, survives }] of services.entries()) {
      const { figure, range: [low, high] } = overRounds(turns[i]!.map((turn) => turn.perSecond));
      const grantMs = median(turns[i]!.map((turn) => turn.grantMs));
      rows.push([name, clients, Math.round(figure), grantMs, survives ? "yes" : "no"]);
      if (clients !== most) continue;
      points.push({ name: survives ? name : `${name} *`, value: figure, low, high });
    }
  }
  return {
    goals: [],
    tables: [{
      id: "peers",
      columns: ["service", "clients", "pairs a second", "grant ms", "a grant survives a crash"],
      rows,
    }],
    plots: [{
      id: "peers",
      title: "Acquire + release beside other lock services",
      unit: `pairs a second of ${most} clients in JavaScript; * a crash forgets grants`,
      points,
    }],
    leftOut: starting.leftOut,
  };
}

async function drive({ acquire }: Service, clients: number, turnMs: number) {
  const grants: number[] = [];
  const client = async (n: number, until: number) => {
    while (performance.now() < until) {
      const asked = performance.now();
      const release = await acquire(`${n}`, `worker-${n}`);
      grants.push(performance.now() - asked);
      await release();
    }
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: clients }, (_, n) => client(n, start + turnMs)));
  const perSecond = grants.length / (performance.now() - start) * 1000;
  return { perSecond, grantMs: median(grants) };
}

/** The RPCs over PostgreSQL's protocol. */
async function holdfast(
  database: Database,
  name: string,
  clients: number,
  survives: boolean,
): Promise<Service> {
  const settings = { synchronous_commit: survives ? "on" : "off" };
  const workers: { session: Session; video: string }[] = [];
  for (let n = 0; n < clients; n++) {
    workers.push({ session: await database.worker(settings), video: await videoId(database, n) });
  }
  return {
    name,
    survives,
    requests: () => 0,
    async acquire(lock, caller) {
      const { session: { ask }, video } = workers[Number(lock)]!;
      const lockId = crypto.randomUUID();
      const text = "select acquire_lock($1, 'layout', $2, $3)";
      const { acquired } = await ask(text, video, caller, lockId);
      if (!acquired) throw new Error("a free lock was refused");
      return () => ask("select release_lock($1, 'layout', $2)", video, lockId);
    },
  };
}
