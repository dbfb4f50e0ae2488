// A PostgreSQL of its own, with a database for each project that Holdfast is installed into.
import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../../../local/auth/auth_api.ts";
import { startPostgres } from "../../../local/postgres/postgres.ts";
import { prepareDatabase } from "../../../local/postgres/prepare_database.ts";

/** One project's database. */
export interface Database {
  /** As the role `postgres`, whose migrations run. */
  url: string;
  /** As a superuser. */
  adminUrl: string;
  /** What the statements since the last look gave notice of. */
  notices: string[];
  /** Runs one or more statements as `postgres`; the rows of the last. */
  query<Row = Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>;
  /** Runs a migration: in one transaction. */
  migrate(text: string): Promise<void>;
  /** Runs statements as a superuser. */
  admin(text: string): Promise<void>;
  /** Another session of `postgres`. */
  session(): Promise<pg.Client>;
}

/** A server; its disposal leaves nothing behind. */
export interface Lab extends AsyncDisposable {
  /** A new database, with what a Supabase project has before its first migration. */
  database(): Promise<Database>;
}

/** The password of every role. */
export const PASSWORD = "postgres";

/**
 * Starts a server.
 *
 * @param options.major The major version; default: the embedded one's.
 * @param options.bin The folder of its programs; default: the embedded one's.
 * @returns The lab.
 */
export async function openLab(options: { major?: number; bin?: string } = {}): Promise<Lab> {
  await using opening = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "holdfast-adopt-" });
  opening.defer(() => Deno.remove(folder, { recursive: true }));
  const server = await startPostgres({
    directory: join(folder, "postgres"),
    port: 0,
    adminPassword: PASSWORD,
    logFile: join(folder, "postgres.log"),
    ...(options.major ? { majorVersion: options.major } : {}),
    ...(options.bin ? { bin: options.bin } : {}),
  });
  opening.defer(() => server.stop());
  const admin = server.adminUrl;
  const urlOf = (name: string) => admin.replace(/postgres$/, name);
  // nothing here outlives a power cut
  await execute(admin, "alter system set fsync = off");
  await execute(admin, "select pg_reload_conf()");
  await execute(admin, "create database template");
  await prepareDatabase(urlOf("template"), { password: PASSWORD, authSchema: await authSchema() });
  let databases = 0;
  const done = opening.move();
  return {
    async database() {
      const name = `project_${++databases}`;
      await execute(admin, `create database ${name} template template owner postgres`);
      return done.use(await open(urlOf(name)));
    },
    [Symbol.asyncDispose]: () => done.disposeAsync(),
  };
}

async function execute(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(text).finally(() => client.end());
}

async function open(adminUrl: string): Promise<Database & AsyncDisposable> {
  const url = adminUrl.replace("//supabase_admin:", "//postgres:");
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const notices: string[] = [];
  const sessions = [client];
  client.on("notice", ({ message }) => notices.push(message ?? ""));
  client.on("error", () => {}); // the server ends before it
  const run = async (text: string, values?: unknown[]) => {
    const results = [await client.query(text, values)].flat();
    return results.at(-1)!.rows;
  };
  return {
    url,
    adminUrl,
    notices,
    query: run,
    async migrate(text) {
      await client.query("begin");
      try {
        await client.query(text);
        await client.query("commit");
      } catch (error) {
        await client.query("rollback");
        throw error;
      }
    },
    admin: (text) => execute(adminUrl, text),
    async session() {
      const session = new pg.Client({ connectionString: url });
      await session.connect();
      sessions.push(session);
      return session;
    },
    async [Symbol.asyncDispose]() {
      for (const session of sessions) await session.end();
    },
  };
}
