import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { PASSWORD, type Server } from "./server.ts";

/**
 * Takes a base backup of a running server, as `pg_basebackup` would, by PostgreSQL's own functions.
 *
 * @param server The server.
 * @param directory An empty folder for the copy.
 * @param isWhole Whether the copy has to come up by itself; else it gets what was written meanwhile from the primary.
 */
export async function baseBackup(
  server: Server,
  directory: string,
  isWhole: boolean,
): Promise<void> {
  const client = new pg.Client({ connectionString: server.url });
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query("select pg_backup_start('copy', true)");
    await copy(`${server.directory}/.`, directory);
    const { rows: [row] } = await client.query("select labelfile from pg_backup_stop(false)");
    await Deno.writeTextFile(join(directory, "backup_label"), row.labelfile);
    if (isWhole) await copy(`${server.directory}/pg_wal/.`, join(directory, "pg_wal"));
  } finally {
    await client.end().catch(() => {});
  }
  await Deno.remove(join(directory, "postmaster.pid")).catch(() => {});
  for await (const { name } of Deno.readDir(join(directory, "pg_replslot"))) {
    await Deno.remove(join(directory, "pg_replslot", name), { recursive: true });
  }
  const { uid, gid } = await Deno.stat(directory);
  await Deno.chown(join(directory, "backup_label"), uid!, gid!).catch(() => {});
}

/** Files may come and go while they are copied: what PostgreSQL wrote meanwhile is in its log. */
async function copy(from: string, to: string): Promise<void> {
  await new Deno.Command("cp", { args: ["-a", from, to], stdout: "null", stderr: "null" }).output();
}

/**
 * Starts a standby of a server, and waits until it streams.
 *
 * @param server The primary.
 * @param standby The server to be, on a base backup.
 * @param port Where it finds the primary.
 */
export async function startStandby(server: Server, standby: Server, port: number): Promise<void> {
  const file = join(standby.directory, "standby.signal");
  await Deno.writeTextFile(file, "");
  await Deno.chmod(file, 0o644);
  await standby.start({
    primary_conninfo:
      `host=127.0.0.1 port=${port} user=supabase_admin password=${PASSWORD} application_name=standby`,
    hot_standby: "on",
    recovery_target_timeline: "latest",
  });
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    const [row] = await server.ask("select state from pg_stat_replication");
    if (row?.state === "streaming") return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the standby does not stream");
}
