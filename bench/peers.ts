import { Redis } from "ioredis";
import { median } from "simple-statistics";
import { type Database, type Lab, videoId } from "./lab.ts";
import { overRounds } from "./measure.ts";
import type { Section } from "./report.ts";
import { askEtcd, startEtcd, startRedis } from "./servers.ts";

/** How much to measure. */
export interface PeersSize {
  clients: number[];
  rounds: number;
  /** Length of a turn, in milliseconds. */
  turnMs: number;
}

/** A lock service, by one session for each client; each has a lock of its own. */
interface Peer {
  name: string;
  /** Whether a grant that was answered survives a crash of the machine. */
  survives: boolean;
  session(n: number): Promise<{ grant(): Promise<unknown>; release(): Promise<unknown> }>;
}

/**
 * Acquire + release beside other lock services, all of them asked by clients in this process.
 *
 * @param lab Where Holdfast's database is.
 * @param size How much.
 */
export async function peers(lab: Lab, size: PeersSize): Promise<Section> {
  await using started = new AsyncDisposableStack();
  await using database = await lab.database("peers");
  const running = [holdfast(database, "on"), holdfast(database, "off")];
  const leftOut: string[] = [];
  const etcd = started.use(await startEtcd());
  if (etcd) running.push(etcdPeer(etcd.port, etcd.version));
  else leftOut.push("etcd: not installed; Debian: apt-get install etcd-server");
  for (const careful of [true, false]) {
    const redis = started.use(await startRedis(careful));
    if (redis) running.push(redisPeer(redis.port, redis.version, careful, started));
    else leftOut.push("Redis: not installed; Debian: apt-get install redis-server");
  }
  const rows: Section["tables"][number]["rows"] = [];
  const points: Section["plots"][number]["points"] = [];
  for (const clients of size.clients) {
    const perSecond = running.map(() => [] as number[]);
    const grantMs = running.map(() => [] as number[]);
    for (let round = 0; round < size.rounds; round++) {
      for (const [i, peer] of running.entries()) {
        const turn = await drive(peer, clients, size.turnMs);
        perSecond[i]!.push(turn.perSecond);
        grantMs[i]!.push(turn.grantMs);
      }
    }
    for (const [i, { name, survives }] of running.entries()) {
      const { figure, range: [low, high] } = overRounds(perSecond[i]!);
      rows.push([name, clients, Math.round(figure), median(grantMs[i]!), survives ? "yes" : "no"]);
      if (clients !== size.clients.at(-1)) continue;
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
      unit: `pairs a second of ${
        size.clients.at(-1)
      } clients in JavaScript; * a crash forgets grants`,
      points,
    }],
    leftOut,
  };
}

async function drive(peer: Peer, clients: number, turnMs: number) {
  const sessions = await Promise.all(Array.from({ length: clients }, (_, n) => peer.session(n)));
  const grants: number[] = [];
  const start = performance.now();
  await Promise.all(sessions.map(async ({ grant, release }) => {
    while (performance.now() < start + turnMs) {
      const asked = performance.now();
      await grant();
      grants.push(performance.now() - asked);
      await release();
    }
  }));
  const perSecond = grants.length / (performance.now() - start) * 1000;
  return { perSecond, grantMs: median(grants) };
}

function holdfast(database: Database, synchronousCommit: "on" | "off"): Peer {
  const workers = new Map<number, ReturnType<typeof database.worker>>();
  const settings = { synchronous_commit: synchronousCommit };
  return {
    name: synchronousCommit === "on"
      ? "Holdfast, as it comes"
      : "Holdfast, synchronous_commit = off",
    survives: synchronousCommit === "on",
    async session(n) {
      if (!workers.has(n)) workers.set(n, database.worker(settings));
      const { ask } = await workers.get(n)!;
      const video = await videoId(database, n);
      let lockId: string;
      return {
        async grant() {
          lockId = crypto.randomUUID();
          const { acquired } = await ask(
            "select acquire_lock($1, 'layout', 'worker-7', $2)",
            video,
            lockId,
          );
          if (!acquired) throw new Error("Holdfast refused a free lock");
        },
        release: () => ask("select release_lock($1, 'layout', $2)", video, lockId),
      };
    },
  };
}

/** A lease and a lock, over its HTTP gateway. */
function etcdPeer(port: number, version: string): Peer {
  return {
    name: `etcd ${version}, as it comes`,
    survives: true,
    session(n) {
      let key: string;
      return Promise.resolve({
        async grant() {
          const { ID } = await askEtcd(port, "lease/grant", { TTL: 120 });
          ({ key } = await askEtcd(port, "lock/lock", { name: btoa(`lock/${n}`), lease: ID }));
        },
        release: () => askEtcd(port, "lock/unlock", { key }),
      });
    },
  };
}

const COMPARE_AND_DELETE =
  "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

/** SET NX PX, and a script that deletes only one's own. */
function redisPeer(
  port: number,
  version: string,
  careful: boolean,
  started: AsyncDisposableStack,
): Peer {
  const connections: Redis[] = [];
  return {
    name: `Redis ${version}, ${careful ? "appendfsync always" : "as it comes"}`,
    survives: careful,
    session(n) {
      const redis = connections[n] ??= new Redis(port);
      started.defer(() => redis.disconnect());
      let value: string;
      return Promise.resolve({
        async grant() {
          value = crypto.randomUUID();
          const answer = await redis.set(`lock/${n}`, value, "PX", 120_000, "NX");
          if (answer !== "OK") throw new Error("Redis refused a free lock");
        },
        release: () => redis.eval(COMPARE_AND_DELETE, 1, `lock/${n}`, value),
      });
    },
  };
}
