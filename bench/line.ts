import { setTimeout as delay } from "node:timers/promises";
import { max, median, quantile } from "simple-statistics";
import { ours } from "./ours.ts";
import { goal, type Section } from "./report.ts";
import { type Service, startEtcd, startRedis } from "./services.ts";
import type { BenchStack } from "./stack.ts";

/** How much to measure. */
export interface LineSize {
  /** Numbers of callers who wait for one lock. */
  waiters: number[];
  /** How long each holds it, in milliseconds. */
  holdMs: number;
  /** How often a single waiter waits: one hand-over is no median. */
  repeat: number;
}

/** How a wait ended. */
interface Turn {
  /** When the caller asked first, was told that it has the lock, and asked to release it: on one clock, milliseconds. */
  asked: number;
  granted: number;
  released: number;
}

/** What the waiters of one service saw. */
interface Result {
  service: string;
  waiters: number;
  /** From asking to release until the next caller knows that it has the lock. */
  handOver: number[];
  requestsPerSecond: number;
  /** Pairs of callers of whom the one who came later had the lock earlier. */
  overtakings: number;
  longestWait: number;
  /** The largest wait, as a multiple of what the caller's position asks for. */
  unfairness: number;
}

/**
 * Callers wait for one lock that each then holds for a while: Holdfast's line over HTTP, beside node-redlock and etcd.
 *
 * @param stack Where Holdfast runs.
 * @param size How much.
 * @param onProgress Told what is being measured.
 */
export async function line(
  stack: BenchStack,
  size: LineSize,
  onProgress: (message: string) => void,
): Promise<Section> {
  await using started = ours();
  const starting = { started, leftOut: [] as string[] };
  const services = [
    holdfast(stack),
    ...await startRedis(starting, true),
    ...await startEtcd(starting),
  ];
  const results: Result[] = [];
  for (const waiters of size.waiters) {
    for (const service of services) {
      onProgress(`${waiters} waiting, ${service.name}`);
      results.push(await measure(service, waiters, size));
    }
  }
  return report(results, size, starting.leftOut);
}

/** lock-acquire with `queue_seconds`, asked again after `retry_after_ms`, as often as it takes. */
function holdfast({ call, videos }: BenchStack): Service {
  let requests = 0;
  const ask = (name: string, body: Record<string, unknown>) => {
    requests++;
    return call(`/functions/v1/${name}`, {
      video_id: videos[1],
      database_name: "layout",
      ...body,
    });
  };
  return {
    name: "Holdfast",
    survives: true,
    requests: () => requests,
    async acquire(_, caller) {
      const lock_id = crypto.randomUUID();
      const request = { lock_id, lock_holder_user_id: caller, ttl_seconds: 60, queue_seconds: 10 };
      for (;;) {
        const answer = await ask("lock-acquire", request);
        if (answer.acquired) return () => ask("lock-release", { lock_id });
        if (answer.reason === "ended") throw new Error(JSON.stringify(answer));
        await delay(answer.retry_after_ms);
      }
    },
  };
}

async function measure(service: Service, waiters: number, size: LineSize): Promise<Result> {
  const handOver: number[] = [];
  const fairness: Pick<Result, "overtakings" | "longestWait" | "unfairness">[] = [];
  const start = performance.now();
  const before = await service.requests();
  for (let i = 0; i < (waiters === 1 ? size.repeat : 1); i++) {
    const turns = await queue(service, waiters, size.holdMs);
    const inOrder = turns.toSorted((a, b) => a.granted - b.granted);
    handOver.push(...inOrder.slice(1).map(({ granted }, n) => granted - inOrder[n]!.released));
    fairness.push(judge(turns));
  }
  const requests = await service.requests() - before;
  return {
    service: service.name,
    waiters,
    handOver,
    requestsPerSecond: requests / (performance.now() - start) * 1000,
    overtakings: fairness.reduce((sum, { overtakings }) => sum + overtakings, 0),
    longestWait: max(fairness.map(({ longestWait }) => longestWait)),
    unfairness: max(fairness.map(({ unfairness }) => unfairness)),
  };
}

/** One holds the lock; the others come one after the other while it does. Gives the turns in the order of coming. */
async function queue(service: Service, waiters: number, holdMs: number): Promise<Turn[]> {
  const [headStart, arrival] = [100, 20];
  const caller = async (n: number): Promise<Turn> => {
    const asked = performance.now();
    const release = await service.acquire("the hot one", `worker-${n}`);
    const granted = performance.now();
    await delay(n === 0 ? headStart + waiters * arrival + holdMs : holdMs);
    const released = performance.now();
    await release();
    return { asked, granted, released };
  };
  const turns = [caller(0)];
  for (let n = 1; n <= waiters; n++) {
    await delay(n === 1 ? headStart : arrival); // the holder first, and nobody at the same moment
    turns.push(caller(n));
  }
  return await Promise.all(turns);
}

function judge(
  [first, ...turns]: Turn[],
): Pick<Result, "overtakings" | "longestWait" | "unfairness"> {
  const waits = turns.map(({ asked, granted }) => granted - asked);
  const last = max(turns.map(({ granted }) => granted));
  const meanTurn = turns.length > 1
    ? (last - Math.min(...turns.map(({ granted }) => granted))) / (turns.length - 1)
    : 0;
  // the first waits for the holder, whoever comes at position n for n - 1 turns more
  const due = turns.map(({ asked }, n) => first!.released - asked + n * meanTurn);
  return {
    overtakings: turns.reduce(
      (sum, { granted }, n) => sum + turns.slice(0, n).filter((e) => e.granted > granted).length,
      0,
    ),
    longestWait: max(waits),
    unfairness: max(waits.map((wait, n) => wait / due[n]!)),
  };
}

function report(results: Result[], { holdMs }: LineSize, leftOut: string[]): Section {
  const ours = results.filter(({ service }) => service === "Holdfast");
  const most = ours.at(-1)!;
  const at = `${most.waiters} waiting, holds of ${holdMs / 1000} s`;
  return {
    goals: [
      ...ours.map(({ waiters, handOver }) =>
        goal(
          `line-hand-over-${waiters}`,
          `from release to the next grant, ${waiters} waiting, median ms`,
          median(handOver),
          { atMost: 150 },
        )
      ),
      goal("line-requests", `requests a second, ${at}`, most.requestsPerSecond, { atMost: 30 }),
      goal(
        "line-overtakings",
        "callers who were overtaken in the line, all runs",
        ours.reduce((sum, { overtakings }) => sum + overtakings, 0),
        { atMost: 0 },
      ),
      goal(
        "line-unfairness",
        `longest wait ÷ what the caller's position asks for, ${at}`,
        most.unfairness,
      ),
    ],
    tables: [{
      id: "line",
      columns: [
        "service",
        "waiting",
        "release to next grant, median ms",
        "95 % ms",
        "requests a second",
        "overtakings",
        "longest wait, s",
        "÷ what its position asks for",
      ],
      rows: results.map((r) => [
        r.service,
        r.waiters,
        median(r.handOver),
        quantile(r.handOver, 0.95),
        r.requestsPerSecond,
        r.overtakings,
        r.longestWait / 1000,
        r.unfairness,
      ]),
    }],
    plots: [{
      id: "line",
      title: "Overtakings as callers wait for one lock",
      unit: "pairs of whom the one who came later had the lock earlier",
      x: "callers who wait",
      points: results.map(({ service, waiters, overtakings }) => ({
        name: service,
        x: waiters,
        value: overtakings,
      })),
    }],
    leftOut,
  };
}
