import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../local/auth/auth_api.ts";
import { migrate } from "../local/postgres/migrate.ts";
import { startPostgres } from "../local/postgres/postgres.ts";
import { prepareDatabase } from "../local/postgres/prepare_database.ts";
import { ours, whole } from "./ours.ts";

/** A PostgreSQL with the project's migrations and nothing else on it, for one measurement. */
export interface Lab extends AsyncDisposable {
  port: number;
  /** As the role `postgres`, which owns the tables. */
  url: string;
  /** As a superuser: statistics, settings, checkpoints. */
  adminUrl: string;
  /** A connection as `postgres`. */
  sql: pg.Client;
  /** A connection as the superuser. */
  admin: pg.Client;
  /** A folder for the files of this measurement; it ends with the lab. */
  folder: string;
  /** CPU time that the server used until now, in seconds; `null` where the system does not tell. */
  cpuSeconds(): Promise<number | null>;
}

const PASSWORD = "bench";

/** How the connections of a load name themselves, so that their end can be waited for. */
export const APPLICATION = "bench-load";

/**
 * Starts a PostgreSQL of its own, as the embedded stack runs it (`fsync` on, `wal_level` logical), with the
 * project's migrations applied. Data API and functions are left out: what is measured here is the database.
 *
 * @param options.videos How many videos to make, each with a free state row of its database `layout`.
 * @returns The lab. Disposing of it stops the server and removes its data.
 */
export async function startLab({ videos }: { videos: number }): Promise<Lab> {
  const started = ours();
  try {
    return await whole(start(started, videos));
  } catch (error) {
    await started.disposeAsync();
    throw error;
  }
}

async function start(started: AsyncDisposableStack, videos: number): Promise<Lab> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
  started.defer(() => Deno.remove(folder, { recursive: true }));
  const directory = join(folder, "postgres");
  const server = await startPostgres({
    directory,
    port: 0,
    adminPassword: PASSWORD,
    logFile: join(folder, "postgres.log"),
  });
  started.defer(() => server.stop());
  await prepareDatabase(server.adminUrl, { password: PASSWORD, authSchema: await authSchema() });
  const url = `postgresql://postgres:${PASSWORD}@127.0.0.1:${server.port}/postgres`;
  await migrate(url, join(import.meta.dirname!, "..", "supabase"));

  const sql = await connect(url);
  started.defer(() => sql.end());
  const admin = await connect(server.adminUrl);
  started.defer(() => admin.end());
  await sql.query(await Deno.readTextFile(new URL("./competitors.sql", import.meta.url)));
  await sql.query("call bench.add_videos($1)", [videos]);
  await sql.query("call bench.add_past(10000)");
  await admin.query("vacuum analyze");
  await admin.query("checkpoint");

  const pid = (await Deno.readTextFile(join(directory, "postmaster.pid"))).split("\n")[0]!;
  return {
    port: server.port,
    url,
    adminUrl: server.adminUrl,
    sql,
    admin,
    folder,
    cpuSeconds: () => cpuSeconds(admin, pid),
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
}

/** A connection whose loss is noticed by the query that needs it. */
export async function connect(url: string, options?: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, ...(options ? { options } : {}) });
  client.on("error", () => {});
  await client.connect();
  return client;
}

/**
 * What the server used, its ended connections included: the kernel adds a process's time to its parent's when it
 * ends, so this waits until the connections of the measurement are gone.
 */
async function cpuSeconds(admin: pg.Client, pid: string): Promise<number | null> {
  for (let i = 0; i < 100; i++) {
    const { rows } = await admin.query(
      "select count(*)::int as n from pg_stat_activity where application_name = $1",
      [APPLICATION],
    );
    if (rows[0].n === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // a connection leaves the view a moment before its process ends
  await new Promise((resolve) => setTimeout(resolve, 50));
  try {
    const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ").map(Number);
    // utime, stime, cutime, cstime in hundredths of a second
    return fields.slice(11, 15).reduce((sum, ticks) => sum + ticks, 0) / 100;
  } catch {
    return null;
  }
}
