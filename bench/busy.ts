import { setTimeout as delay } from "node:timers/promises";
import { overRounds, ratio } from "./measure.ts";
import { goal, type Section } from "./report.ts";
import type { BenchStack } from "./stack.ts";

/** How much to measure. */
export interface BusySize {
  /** How many ask for one lock. */
  callers: number;
  rounds: number;
  /** Length of a quiet time, and of a busy one, in milliseconds. */
  turnMs: number;
}

/**
 * What callers of one busy lock do to everybody else: an unrelated request of the project, while a guarded write under
 * that lock is open, whose lease has ended.
 *
 * @param stack Where.
 * @param size How much.
 */
export async function busy(stack: BenchStack, size: BusySize): Promise<Section> {
  const { call, sql, videos } = stack;
  const lock = { video_id: videos[2], database_name: "layout" };
  const acquire = (holder: string, more = {}) =>
    call("/functions/v1/lock-acquire", { ...lock, lock_holder_user_id: holder, ...more });
  const held = await acquire("worker-0", { ttl_seconds: 1 });
  await sql.query("begin");
  try {
    await sql.query("set local role service_role");
    await sql.query("select assert_lock_held($1, 'layout', $2)", [
      lock.video_id,
      held.lock.fencing_token,
    ]);
    await delay(1_100); // now the lease has ended, and the write is still open
    const quiet: number[] = [];
    const crowded: number[] = [];
    const reasons = new Map<string, number>();
    await unrelated(stack, size.turnMs / 4);
    for (let round = 0; round < size.rounds; round++) {
      quiet.push(await unrelated(stack, size.turnMs));
      const end = performance.now() + size.turnMs;
      const callers = Array.from({ length: size.callers }, async (_, n) => {
        await delay(Math.random() * 500);
        while (performance.now() < end) {
          const { acquired, reason, retry_after_ms } = await acquire(`worker-${n}`);
          if (acquired) throw new Error("granted while a guarded write was open");
          reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
          await delay(retry_after_ms);
        }
      });
      await delay(500); // until all of them are there
      crowded.push(await unrelated(stack, size.turnMs - 500));
      await Promise.all(callers);
    }
    const told = [...reasons].map(([reason, n]) => `${n} × ${reason}`).join(", ");
    return {
      goals: [
        goal(
          "busy",
          `an unrelated request while ${size.callers} ask for one busy lock, ÷ its quiet median`,
          ratio(crowded, quiet),
          { atMost: 2 },
        ),
      ],
      tables: [{
        id: "busy",
        columns: ["an unrelated request", "median ms"],
        rows: [
          ["quiet", overRounds(quiet).figure],
          [`${size.callers} callers of one busy lock (${told})`, overRounds(crowded).figure],
        ],
      }],
      plots: [],
      leftOut: [],
    };
  } finally {
    await sql.query("rollback");
  }
}

/** The median of a small request of the Data API, asked now and then for a while: milliseconds. */
async function unrelated({ call }: BenchStack, ms: number): Promise<number> {
  const times: number[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    const start = performance.now();
    await call("/rest/v1/videos?select=id&limit=1");
    times.push(performance.now() - start);
    await delay(20);
  }
  return overRounds(times).figure;
}
