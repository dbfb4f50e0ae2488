// A process that takes leases, never renews them, and prints for each when its signal aborted.
// Arguments: for how many seconds, a table that is guarded with `layout`, the video ids.
import { createClient } from "@supabase/supabase-js";
import { createLockClient } from "../mod.ts";

/** What is reported of one lease. Times are those of this machine, in milliseconds, as the database's are too. */
export interface Report {
  /** When its signal aborted. */
  abortedAt: number;
  /** When the database gives it away. */
  expiresAt: number;
  /** Whether the process's loop turned twice between the client's deadline and the database's. */
  ran: boolean;
  /** What became of a guarded write that was sent when the lease was over. */
  write: string;
}

const [seconds, table, ...videos] = Deno.args as [string, string, ...string[]];
const key = Deno.env.get("SUPABASE_SECRET_KEY")!;
const supabase = createClient(Deno.env.get("SUPABASE_URL")!, key, {
  global: {
    // cut off from the moment of the grant on, but for the writes
    fetch: (input, init) =>
      /lock-(renew|release)/.test(String(input))
        ? Promise.reject(new TypeError("cut off"))
        : fetch(input, init),
  },
});
const locks = createLockClient(supabase, { holder: `worker-${Deno.pid}` });
const now = () => performance.timeOrigin + performance.now();
const ticks: number[] = [];
const ticker = setInterval(() => ticks.push(now()), 5);

async function one(video_id: string): Promise<Report> {
  const options = { ttlSeconds: 2, waitSeconds: Infinity };
  const lease = await locks.acquire({ video_id, database_name: "layout" }, options);
  const deadline = now() + lease.secondsLeft * 1000;
  const { signal } = lease;
  const abortedAt = await new Promise<number>((resolve) => {
    if (signal.aborted) return resolve(now());
    signal.addEventListener("abort", () => resolve(now()));
  });
  const expiresAt = Date.parse("lock" in lease.granted ? lease.granted.lock.expires_at : "");
  // twice: in the first turn after a stop the timers that were due before the deadline's run before it
  const ran = ticks.filter((tick) => tick > deadline && tick < expiresAt).length > 1;
  await new Promise((resolve) => setTimeout(resolve, Math.max(0, expiresAt - now())));
  // not by lease.guard, which would not even send it
  const { error } = await supabase.from(table).insert({ video_id, line: "late" })
    .setHeader("x-fencing-token", String(lease.fencingToken));
  return { abortedAt, expiresAt, ran, write: error?.code ?? "written" };
}

do {
  for (const report of await Promise.all(videos.map(one))) console.log(JSON.stringify(report));
} while (performance.now() < Number(seconds) * 1000);
clearInterval(ticker);
Deno.exit(0); // the releases that were cut off are still tried
