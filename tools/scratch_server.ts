import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../local/auth/auth_api.ts";
import { startPostgres } from "../local/postgres/postgres.ts";
import { prepareDatabase } from "../local/postgres/prepare_database.ts";

/** A PostgreSQL of one's own, for a few moments; its disposal leaves nothing behind. */
export interface ScratchServer extends AsyncDisposable {
  /**
   * Makes a database with what a Supabase project has before its first migration.
   *
   * @param scripts SQL, each run as one transaction of the role `postgres`.
   * @returns The database, as its owner.
   */
  database(...scripts: string[]): Promise<string>;
}

const PASSWORD = "scratch";
const TEMPLATE = "a_supabase_project";

/**
 * Starts a server in a temporary folder.
 *
 * @returns The server; end it with `await using`.
 */
export async function startScratchServer(): Promise<ScratchServer> {
  await using starting = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "holdfast-scratch-" });
  starting.defer(() => Deno.remove(folder, { recursive: true }));
  const server = await startPostgres({
    directory: join(folder, "postgres"),
    port: 0,
    adminPassword: PASSWORD,
    logFile: join(folder, "postgres.log"),
  });
  starting.defer(() => server.stop());
  const url = (database: string) => server.adminUrl.replace(/postgres$/, database);
  await query(server.adminUrl, "alter system set fsync = off"); // nothing here outlives a power cut
  await query(server.adminUrl, "select pg_reload_conf()");
  await query(server.adminUrl, `create database ${TEMPLATE}`);
  await prepareDatabase(url(TEMPLATE), { password: PASSWORD, authSchema: await authSchema() });
  let made = 0;
  const done = starting.move();
  return {
    async database(...scripts) {
      const name = `scratch_${++made}`;
      await query(
        server.adminUrl,
        `create database ${name} template ${TEMPLATE} owner postgres`,
      );
      const owner = url(name).replace("supabase_admin", "postgres");
      for (const script of scripts) await query(owner, script);
      return owner;
    },
    [Symbol.asyncDispose]: () => done.disposeAsync(),
  };
}

/**
 * Runs one or more statements, as one transaction.
 *
 * @param url The database and its user.
 * @param sql The statements.
 * @returns The rows of the last.
 */
export async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return [await client.query(sql)].flat().at(-1)!.rows;
  } finally {
    await client.end();
  }
}
