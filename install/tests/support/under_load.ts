import { videoId } from "./projects.ts";
import type { Database } from "./lab.ts";

/** Lock and unlock as the system does that Holdfast replaces: look, then write. */
const OLD_WAY = [
  "select lock_holder_user_id from public.video_database_state where video_id = $1 and database_name = $2",
  "update public.video_database_state set lock_holder_user_id = 'old', lock_type = 'server', locked_at = now(), last_activity_at = now() where video_id = $1 and database_name = $2 and lock_holder_user_id is null",
  "update public.video_database_state set lock_holder_user_id = null, lock_type = null, locked_at = null, last_activity_at = null where video_id = $1 and database_name = $2 and lock_holder_user_id = 'old'",
];

/**
 * Does something while others lock and unlock in the old way, with the rights of the secret key, on videos 10 to 50.
 *
 * @param database The database.
 * @param work What is to be done meanwhile.
 * @returns How many requests there were, and how long the slowest took.
 * @throws {Error} When a caller saw anything but success, and after the work a refusal to write lock columns.
 */
export async function underLoad(
  database: Database,
  work: () => Promise<void>,
): Promise<{ requests: number; slowestMs: number }> {
  let requests = 0;
  let slowestMs = 0;
  let over = false;
  let refused = 0;
  const caller = async (n: number) => {
    const session = await database.session();
    await session.query("set role service_role");
    for (let i = n; !over; i += 7) {
      const lock = [videoId(10 + i % 40), ["layout", "captions", "shots"][i % 3]];
      for (const statement of OLD_WAY) {
        const begun = performance.now();
        await session.query(statement, lock).catch((error) => {
          if (error.code !== "42501") throw error;
          refused++;
        });
        slowestMs = Math.max(slowestMs, performance.now() - begun);
        requests++;
      }
    }
  };
  const callers = [0, 1, 2, 3].map(caller);
  try {
    await Promise.race([work(), Promise.all(callers)]);
    await new Promise((resolve) => setTimeout(resolve, 50));
  } finally {
    over = true;
  }
  await Promise.all(callers);
  if (refused === 0) throw new Error("The old way still writes lock columns.");
  return { requests, slowestMs };
}
