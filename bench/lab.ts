import { dirname, join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../local/auth/auth_api.ts";
import { migrate } from "../local/postgres/migrate.ts";
import { type Postgres, startPostgres } from "../local/postgres/postgres.ts";
import { prepareDatabase } from "../local/postgres/prepare_database.ts";
import { ours } from "./ours.ts";

/** What is in a database of the lab. */
export interface DatabaseOptions {
  /** The folder that has `migrations/`; default: this checkout's. */
  supabase?: string;
  /** How many videos, each with a free state row of its database `layout`; default: 1,000. */
  videos?: number;
  /** How many leases of the past; default: 10,000. */
  past?: number;
}

/** A database of the lab. Its connections end with it, and it is dropped. */
export interface Database extends AsyncDisposable {
  /** A superuser, past triggers and foreign keys: for what a measurement arranges. */
  admin: pg.Client;
  /** The owner of the tables. */
  owner: pg.Client;
  /** A new connection as `service_role`, that is a worker with the secret key. */
  worker(settings?: Record<string, string>): Promise<Session>;
}

/** A connection, and the server's process that works for it. */
export interface Session extends AsyncDisposable {
  pid: number;
  /** Runs a prepared statement; gives the first column of its first row. */
  // deno-lint-ignore no-explicit-any
  ask(text: string, ...values: unknown[]): Promise<any>;
}

/** The root of the repository. */
export const ROOT = dirname(import.meta.dirname!);

const PASSWORD = "bench";

/** A PostgreSQL server for measurements, set up as the embedded stack has it, and nothing else on it. */
export class Lab implements AsyncDisposable {
  readonly #started: AsyncDisposableStack;
  readonly #server: Postgres;

  private constructor(started: AsyncDisposableStack, server: Postgres) {
    this.#started = started;
    this.#server = server;
  }

  /** Starts the server. It ends, and its folder goes, with the lab. */
  static async start(): Promise<Lab> {
    await using started = ours();
    const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
    started.defer(() => Deno.remove(folder, { recursive: true }));
    const server = await startPostgres({
      directory: join(folder, "postgres"),
      port: 0,
      adminPassword: PASSWORD,
      logFile: join(folder, "postgres.log"),
    });
    started.defer(() => server.stop());
    return new Lab(ours(started.move()), server);
  }

  /** Makes a database with the project's migrations, some videos and a past. */
  async database(name: string, options: DatabaseOptions = {}): Promise<Database> {
    const { supabase = join(ROOT, "supabase"), videos = 1000, past = 10_000 } = options;
    await using started = new AsyncDisposableStack();
    const server = started.use(await this.#connect("postgres"));
    await server.query(`create database ${name}`);
    started.defer(async () => void await server.query(`drop database ${name} with (force)`));
    await prepareDatabase(this.#url(name), { password: PASSWORD, authSchema: await authSchema() });
    await migrate(this.#url(name, "postgres"), supabase);
    const replica = { session_replication_role: "replica" };
    const admin = started.use(await this.#connect(name, undefined, replica));
    const owner = started.use(await this.#connect(name, "postgres"));
    await admin.query(await Deno.readTextFile(new URL("./fill.sql", import.meta.url)));
    await admin.query("call bench.add_videos($1)", [videos]);
    await admin.query("call bench.add_past($1)", [past]);
    await admin.query("vacuum analyze");
    const all = started.move();
    return {
      admin,
      owner,
      worker: async (settings = {}) => {
        const worker = { role: "service_role", ...settings };
        return session(all.use(await this.#connect(name, "postgres", worker)));
      },
      [Symbol.asyncDispose]: () => all.disposeAsync(),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#started.disposeAsync();
  }

  #url(database: string, user?: string): string {
    const url = new URL(this.#server.adminUrl);
    url.pathname = database;
    if (user) Object.assign(url, { username: user, password: PASSWORD });
    return url.href;
  }

  async #connect(database: string, user?: string, settings: Record<string, string> = {}) {
    const client = new pg.Client({
      connectionString: this.#url(database, user),
      options: Object.entries(settings).map(([key, value]) => `-c ${key}=${value}`).join(" "),
    });
    client.on("error", () => {}); // the query that needs the connection tells
    await client.connect();
    return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
  }
}

async function session(client: pg.Client): Promise<Session> {
  const names = new Map<string, string>();
  const ask = async (text: string, ...values: unknown[]) => {
    const name = names.get(text) ?? `s${names.size}`;
    names.set(text, name);
    const { rows } = await client.query({ name, text, values, rowMode: "array" });
    return rows[0]?.[0];
  };
  return {
    pid: await ask("select pg_backend_pid()"),
    ask,
    [Symbol.asyncDispose]: () => client.end(),
  };
}

/** The id of a video by its number, as fill.sql makes it. */
export async function videoId({ admin }: Database, n: number): Promise<string> {
  return (await admin.query("select id from bench.video where n = $1", [n])).rows[0].id;
}

/**
 * What the repository had at an earlier commit.
 *
 * @param commit Which commit.
 * @param path Which folder of it.
 * @param to A folder that gets `path`.
 * @returns Whether it could be had: a clone need not know the commit.
 */
export async function checkOut(commit: string, path: string, to: string): Promise<boolean> {
  const command = 'git -C "$1" archive "$2" "$3" | tar -x -C "$4"';
  await new Deno.Command("sh", {
    args: ["-c", command, "sh", ROOT, commit, path, to],
    stderr: "null",
  }).output().catch(() => undefined); // no git here
  return await Deno.stat(join(to, path)).then(() => true, () => false);
}
