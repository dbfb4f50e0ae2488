import { createWriteStream, type WriteStream } from "node:fs";
import { join } from "node:path";
import { authSchema, startAuthApi } from "./auth/auth_api.ts";
import { type Config, readConfig } from "./config.ts";
import { DataFolder } from "./data_folder.ts";
import { isolateEnvironment } from "./environment.ts";
import { runEdgeFunctions } from "./functions/edge_functions.ts";
import { startGateway } from "./gateway.ts";
import { type Keys, readKeys } from "./keys.ts";
import { migrate } from "./postgres/migrate.ts";
import { startPostgres } from "./postgres/postgres.ts";
import { prepareDatabase } from "./postgres/prepare_database.ts";
import { startDataApi } from "./rest/data_api.ts";
import { StackError } from "./stack_error.ts";

/** How to start a stack. Everything has a default. */
export interface StackOptions {
  /** The folder that has `supabase/`, whose config.toml the stack obeys; default: the checkout that this file belongs to. */
  project?: string;
  /** The folder that keeps database, keys and logs between starts; default: a temporary one that ends with the stack. */
  data?: string;
  /** Forget what the data folder has. */
  fresh?: boolean;
  /** The TCP port of the gateway; 0, the default, takes any free one, "config" the one of config.toml. */
  port?: number | "config";
  /** The same for the embedded PostgreSQL. */
  dbPort?: number | "config";
  /** Use this PostgreSQL instead of the embedded one. Its user sets the server up, so it has to be a superuser. */
  dbUrl?: string;
  /** Serve edge functions anew when their files change; default: false. */
  watch?: boolean;
  /** Gives up starting. */
  signal?: AbortSignal;
  /** Called with what the stack is doing. */
  onProgress?: (message: string) => void;
  /** Called with each line that an edge function prints, besides the log file in the data folder. */
  onFunctionLog?: (name: string, line: string) => void;
}

/** A running stack. */
export interface Stack {
  /** The one address of Data API, Auth and edge functions. */
  url: string;
  publishableKey: string;
  secretKey: string;
  /** The database, as the role `postgres`. */
  dbUrl: string;
  /** Ends everything that the stack started. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts a Supabase stack without Docker: PostgreSQL with the project's migrations and seed, Data API, Auth, and the
 * project's edge functions, behind one address.
 *
 * @param options See {@linkcode StackOptions}.
 * @returns The stack, which answers already.
 * @throws {StackError} With a message for the user, when something is in the way. Nothing is left running then.
 * @example
 * ```ts
 * import { startStack } from "./stack.ts";
 *
 * const stack = await startStack();
 * const answer = await fetch(`${stack.url}/rest/v1/videos?select=id`, { headers: { apikey: stack.secretKey } });
 * console.assert(answer.ok);
 * await answer.body?.cancel();
 * await stack.stop();
 * ```
 */
export async function startStack(options: StackOptions = {}): Promise<Stack> {
  isolateEnvironment();
  const progress = options.onProgress ?? (() => {});
  const step = giveUpWith(options.signal);
  const supabase = join(options.project ?? join(import.meta.dirname!, ".."), "supabase");
  if (options.fresh && options.dbUrl) {
    throw new StackError(
      "A database of your own is not emptied: leave out either --fresh or --db-url.",
    );
  }
  const config = await readConfig(supabase);
  await using started = new AsyncDisposableStack();

  const data = options.data ?? await Deno.makeTempDir({ prefix: "holdfast-" });
  if (!options.data) started.defer(() => Deno.remove(data, { recursive: true }));
  const folder = await DataFolder.take(data);
  started.defer(() => folder.release());
  if (options.fresh) await folder.clear();
  await Deno.mkdir(folder.file("logs"), { recursive: true, mode: 0o700 });
  const keys = await readKeys(folder.file("keys.json"));
  const gateway = startGateway(portOf(options.port, config.api.port), keys);
  started.defer(() => gateway.close());

  const { dbUrl, adminUrl } = options.dbUrl === undefined
    ? await startDatabase(started, folder, keys, config, options)
    : { dbUrl: options.dbUrl, adminUrl: options.dbUrl };
  const functions = runEdgeFunctions({
    folder: join(supabase, "functions"),
    config: config.functions,
    watch: options.watch ?? false,
    env: functionEnvironment(gateway.url, dbUrl, keys),
    onLog: functionLog(started, folder.file("logs"), options.onFunctionLog),
  });
  started.defer(() => functions.stop());

  progress("setting up the database");
  const { password } = new URL(dbUrl);
  await step(prepareDatabase(adminUrl, { password, authSchema: await authSchema() }));
  await step(migrate(dbUrl, supabase, { ...config.db, onProgress: progress }));

  progress("starting Data API, Auth and functions");
  const rest = await step(startDataApi({
    authenticatorUrl: as(dbUrl, "authenticator").href,
    adminUrl,
    jwtSecret: keys.jwtSecret,
    ...config.api,
  }));
  started.defer(() => rest.close());
  const auth = startAuthApi({
    databaseUrl: as(dbUrl, "supabase_auth_admin").href,
    jwtSecret: keys.jwtSecret,
    config: config.auth,
  });
  started.defer(() => auth.close());
  await step(functions.ready);
  gateway.open({
    rest: (request) => rest.fetch(request),
    auth: auth.fetch,
    functionOrigin: functions.origin,
    verifies: (name) => config.functions[name]?.verify_jwt ?? false,
  });

  const { publishableKey, secretKey } = keys;
  const { url } = gateway;
  await folder.publish({ pid: Deno.pid, url, publishableKey, secretKey, dbUrl });
  const all = started.move();
  const stop = () => all.disposeAsync();
  return { url, publishableKey, secretKey, dbUrl, stop };
}

/** Giving up ends the wait of any step; what it began ends with what was started before it. */
function giveUpWith(signal?: AbortSignal): <T>(work: Promise<T>) => Promise<T> {
  signal?.throwIfAborted();
  const { promise: givenUp, reject } = Promise.withResolvers<never>();
  givenUp.catch(() => {});
  signal?.addEventListener("abort", () => reject(signal.reason));
  return (work) => Promise.race([work, givenUp]);
}

/** What the platform gives to a function. */
function functionEnvironment(url: string, dbUrl: string, keys: Keys): Record<string, string> {
  return {
    SUPABASE_URL: url,
    SUPABASE_DB_URL: dbUrl,
    SUPABASE_ANON_KEY: keys.anonKey,
    SUPABASE_SERVICE_ROLE_KEY: keys.serviceRoleKey,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
    SUPABASE_JWKS: JSON.stringify({ keys: [] }), // tokens are signed with a shared secret, which is no one's to know
  };
}

/** The port that an option asks for, where config.toml has its own. */
function portOf(asked: number | "config" = 0, own: number): number {
  return asked === "config" ? own : asked;
}

/** The embedded PostgreSQL, and the names of its database for `postgres` and for its superuser. */
async function startDatabase(
  started: AsyncDisposableStack,
  folder: DataFolder,
  keys: Keys,
  config: Config,
  { dbPort, signal, onProgress = () => {} }: StackOptions,
): Promise<{ dbUrl: string; adminUrl: string }> {
  onProgress("starting PostgreSQL");
  const postgres = await startPostgres({
    directory: folder.file("postgres"),
    port: portOf(dbPort, config.db.port),
    majorVersion: config.db.major_version,
    adminPassword: keys.adminPassword,
    logFile: join(folder.file("logs"), "postgres.log"),
    ...(signal ? { signal } : {}),
    onCrash: onProgress,
  });
  started.defer(() => postgres.stop());
  return {
    adminUrl: postgres.adminUrl,
    dbUrl: `postgresql://postgres:postgres@127.0.0.1:${postgres.port}/postgres`,
  };
}

/** Takes what the functions print, each to a file of its own. */
function functionLog(
  started: AsyncDisposableStack,
  logs: string,
  also: StackOptions["onFunctionLog"],
): (name: string, line: string) => void {
  // A stream for each function: a write that waits for the disk would hold up the gateway, which is in this process.
  const streams = new Map<string, WriteStream>();
  started.defer(async () => {
    for (const stream of streams.values()) {
      await new Promise<void>((resolve) => stream.end(resolve));
    }
  });
  return (name, line) => {
    let stream = streams.get(name);
    if (!stream) {
      stream = createWriteStream(join(logs, `${name}.log`), { flags: "a" });
      streams.set(name, stream);
    }
    stream.write(line + "\n");
    also?.(name, line);
  };
}

/** A database URL, for another role with the same password. */
function as(dbUrl: string, role: string): URL {
  const url = new URL(dbUrl);
  url.username = role;
  return url;
}
