import { createWriteStream, type WriteStream } from "node:fs";
import { join } from "node:path";
import { authSchema, startAuthApi } from "./auth/auth_api.ts";
import { readConfig } from "./config.ts";
import { DataFolder } from "./data_folder.ts";
import { isolateEnvironment } from "./environment.ts";
import { runEdgeFunctions } from "./functions/edge_functions.ts";
import { startGateway } from "./gateway.ts";
import { readKeys } from "./keys.ts";
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
  /** Told what the stack is doing. */
  onProgress?: (message: string) => void;
  /** Told each line that an edge function prints, besides the log file in the data folder. */
  onFunctionLog?: (name: string, line: string) => void;
}

/** A running stack. */
export interface Stack {
  /** The one address of Data API, Auth and edge functions. */
  url: string;
  publishableKey: string;
  secretKey: string;
  /** The legacy forms of the two keys. */
  anonKey: string;
  serviceRoleKey: string;
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
  const { promise: givenUp, reject: giveUp } = Promise.withResolvers<never>();
  givenUp.catch(() => {});
  options.signal?.addEventListener("abort", () => giveUp(options.signal!.reason));
  options.signal?.throwIfAborted();
  /** Whatever a step waits for, giving up ends the wait; what it began ends with what was started before it. */
  const step = <T>(work: Promise<T>): Promise<T> => Promise.race([work, givenUp]);
  const supabase = join(options.project ?? join(import.meta.dirname!, ".."), "supabase");
  if (options.fresh && options.dbUrl) {
    throw new StackError(
      "A database of your own is not emptied: leave out either --fresh or --db-url.",
    );
  }
  const config = await readConfig(supabase);
  const portOf = (asked: number | "config" = 0, own: number) => asked === "config" ? own : asked;
  await using started = new AsyncDisposableStack();

  const data = options.data ?? await Deno.makeTempDir({ prefix: "holdfast-" });
  if (!options.data) started.defer(() => Deno.remove(data, { recursive: true }));
  const folder = await DataFolder.take(data);
  started.defer(() => folder.release());
  if (options.fresh) await folder.clear();
  const logs = folder.file("logs");
  await Deno.mkdir(logs, { recursive: true, mode: 0o700 });
  const keys = await readKeys(folder.file("keys.json"));
  const gateway = startGateway(portOf(options.port, config.api.port), keys);
  started.defer(() => gateway.close());

  let dbUrl = options.dbUrl;
  let adminUrl = options.dbUrl;
  if (dbUrl === undefined) {
    progress("starting PostgreSQL");
    const postgres = await startPostgres({
      directory: folder.file("postgres"),
      port: portOf(options.dbPort, config.db.port),
      majorVersion: config.db.major_version,
      adminPassword: keys.adminPassword,
      logFile: join(logs, "postgres.log"),
      ...(options.signal ? { signal: options.signal } : {}),
      onCrash: progress,
    });
    started.defer(() => postgres.stop());
    adminUrl = postgres.adminUrl;
    dbUrl = `postgresql://postgres:postgres@127.0.0.1:${postgres.port}/postgres`;
  }

  // A stream for each function: a write that waits for the disk would hold up the gateway, which is in this process.
  const logStreams = new Map<string, WriteStream>();
  started.defer(async () => {
    for (const stream of logStreams.values()) {
      await new Promise<void>((resolve) => stream.end(resolve));
    }
  });
  const functions = runEdgeFunctions({
    folder: join(supabase, "functions"),
    config: config.functions,
    watch: options.watch ?? false,
    env: {
      SUPABASE_URL: gateway.url,
      SUPABASE_DB_URL: dbUrl,
      SUPABASE_ANON_KEY: keys.anonKey,
      SUPABASE_SERVICE_ROLE_KEY: keys.serviceRoleKey,
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishableKey }),
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secretKey }),
      SUPABASE_JWKS: JSON.stringify({ keys: [] }), // tokens are signed with a shared secret, which is no one's to know
    },
    onLog(name, line) {
      let stream = logStreams.get(name);
      if (!stream) {
        stream = createWriteStream(join(logs, `${name}.log`), { flags: "a" });
        logStreams.set(name, stream);
      }
      stream.write(line + "\n");
      options.onFunctionLog?.(name, line);
    },
  });
  started.defer(() => functions.stop());

  progress("setting up the database");
  await step(prepareDatabase(adminUrl!, {
    password: as(dbUrl).password,
    authSchema: await authSchema(),
  }));
  await step(migrate(dbUrl, supabase, { ...config.db, onProgress: progress }));

  progress("starting Data API, Auth and functions");
  const rest = await step(startDataApi({
    authenticatorUrl: as(dbUrl, "authenticator").href,
    adminUrl: adminUrl!,
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
    rest: rest.fetch,
    auth: auth.fetch,
    functionOrigin: functions.origin,
    verifies: (name) => config.functions[name]?.verify_jwt ?? false,
  });

  const { publishableKey, secretKey, anonKey, serviceRoleKey } = keys;
  await folder.publish({ pid: Deno.pid, url: gateway.url, publishableKey, secretKey, dbUrl });
  const all = started.move();
  return {
    url: gateway.url,
    publishableKey,
    secretKey,
    anonKey,
    serviceRoleKey,
    dbUrl,
    stop: () => all.disposeAsync(),
  };
}

/** A database URL, for another role with the same password. */
function as(dbUrl: string, role?: string): URL {
  const url = new URL(dbUrl);
  if (role) url.username = role;
  return url;
}
