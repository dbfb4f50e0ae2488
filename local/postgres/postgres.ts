import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
// @ts-types="@types/pg"
import pg from "pg";
import { isolateEnvironment } from "../environment.ts";
import { StackError } from "../stack_error.ts";
import { account, binaries } from "./binaries.ts";
import { ADMIN, assertVersion, disownPid, makeCluster, setPassword } from "./cluster.ts";

/** Where and how the embedded PostgreSQL runs. */
export interface PostgresOptions {
  /** The folder of the database cluster; made on first use. */
  directory: string;
  /** The TCP port on 127.0.0.1; 0 takes any free one. */
  port: number;
  /** The major version that it has to be; default: the embedded one's. */
  majorVersion?: number;
  /** The folder of the server's programs; default: those of the embedded PostgreSQL. */
  bin?: string;
  /** The password of the superuser `supabase_admin`. */
  adminPassword: string;
  /** The file that the server's log is appended to. */
  logFile: string;
  /** How long to wait for a server on the folder whose stack was killed, in milliseconds; default: 5,000. */
  patienceMs?: number;
  /** Gives up starting. */
  signal?: AbortSignal;
  /** Called when the server ended by itself and is started again. */
  onCrash?: (message: string) => void;
}

/** A running server. */
export interface Postgres {
  port: number;
  /** For the superuser `supabase_admin`. */
  adminUrl: string;
  /** Ends the server after its open transactions were aborted. Idempotent. */
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL 17 and keeps it running: when it dies, it is started again on the same port and data.
 *
 * Only the package's binaries are used; its class ends the whole process on its own terms.
 *
 * @param options See {@linkcode PostgresOptions}.
 * @returns The server, which answers already.
 * @throws {StackError} When the port is taken, the folder is not usable, or the server does not start.
 */
export async function startPostgres(options: PostgresOptions): Promise<Postgres> {
  isolateEnvironment();
  const bin = options.bin ?? await binaries();
  const runAs = await account(options.directory);
  const cluster = { bin, runAs, ...options };
  const anyPort = options.port === 0;
  await makeCluster(cluster);
  await assertVersion(cluster);
  await disownPid(cluster);

  let passwordIsSet = false;
  for (let attempt = 1;; attempt++) {
    const port = anyPort ? freePort() : assertFree(options.port);
    const server = new Server(bin, runAs, { ...options, port });
    try {
      await server.ready();
      return server;
    } catch (error) {
      await server.stop();
      options.signal?.throwIfAborted();
      if (!(error instanceof Error)) throw error;
      // another process may have taken the port that was free a moment ago
      if (anyPort && attempt < 5 && error.message.includes("could not bind")) continue;
      if ((error as { code?: string }).code !== WRONG_PASSWORD || passwordIsSet) throw error;
      await setPassword(cluster);
      passwordIsSet = true;
    }
  }
}

/** One life of the server's process. */
interface Life {
  process: Deno.ChildProcess;
  over: boolean;
  /** How it ended, when everything that belonged to it has ended as well. */
  end: Promise<Deno.CommandStatus>;
}

class Server implements Postgres {
  readonly port: number;
  readonly adminUrl: string;
  readonly #command: string[];
  readonly #options: PostgresOptions;
  #life: Life;
  #lastLines: string[] = [];
  #stopping = false;

  constructor(bin: string, runAs: string[], options: PostgresOptions) {
    this.port = options.port;
    this.adminUrl =
      `postgresql://${ADMIN}:${options.adminPassword}@127.0.0.1:${options.port}/postgres`;
    this.#options = options;
    const settings = Object.entries({ ...SETTINGS, port: options.port });
    this.#command = [
      ...runAs,
      join(bin, "postgres"),
      "-D",
      options.directory,
      ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ];
    this.#life = this.#begin();
  }

  /** Waits until the server answers, and keeps it answering from then on. */
  async ready(): Promise<void> {
    while (!this.#life.over) {
      const error = await tryToConnect(this.adminUrl);
      if (!error) {
        this.#supervise();
        return;
      }
      if (!PASSES.test(error.code ?? error.message)) throw new NotReady(error);
      await delay(30, undefined, this.#options.signal && { signal: this.#options.signal });
    }
    await this.#life.end;
    throw new StackError(`PostgreSQL did not start:\n${this.#lastLines.join("\n")}`);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const { process, end } = this.#life;
    kill(process, "SIGINT"); // a fast shutdown: open transactions are aborted
    const impatience = setTimeout(() => kill(process, "SIGQUIT"), 10_000);
    await end;
    clearTimeout(impatience);
  }

  #begin(): Life {
    const [command, ...args] = this.#command;
    const process = new Deno.Command(command!, {
      args,
      env: { LC_ALL: "C" },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      detached: true, // Ctrl-C in the terminal is for the stack, which ends the server in its own order
    }).spawn();
    const watchdog = watch(process.pid);
    const logged = this.#keepLog(process.stderr);
    const end = process.status.then(async (status) => {
      life.over = true;
      kill(watchdog, "SIGKILL");
      await Promise.all([logged, watchdog.stdin.close().catch(() => {}), watchdog.status]);
      return status;
    });
    const life: Life = { process, over: false, end };
    return life;
  }

  async #keepLog(log: ReadableStream<Uint8Array>): Promise<void> {
    using file = await Deno.open(this.#options.logFile, {
      create: true,
      append: true,
      mode: 0o600,
    });
    for await (const chunk of log) {
      await file.write(chunk);
      const lines = new TextDecoder().decode(chunk).trimEnd().split("\n");
      this.#lastLines = [...this.#lastLines, ...lines].slice(-10);
    }
  }

  async #supervise(): Promise<void> {
    let wait = 0;
    while (true) {
      const begun = performance.now();
      const { signal, code } = await this.#life.end;
      if (this.#stopping) return;
      this.#options.onCrash?.(
        `PostgreSQL ended (${signal ?? `exit code ${code}`}); starting it again`,
      );
      // What it left behind needs a moment to notice, and until then the memory that it shares is in use.
      wait = performance.now() - begun > 1_000 ? 100 : Math.min(100 + 2 * wait, 2_000);
      await delay(wait);
      if (this.#stopping) return;
      this.#life = this.#begin();
    }
  }
}

/** Ends the server when this process ends in a way that leaves it no time to do so itself: the pipe closes. */
function watch(pid: number): Deno.ChildProcess {
  return new Deno.Command("sh", {
    args: ["-c", 'read -r _; kill -INT "$1"', "sh", String(pid)],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
}

const SETTINGS = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "", // a socket's path has a limit that a data folder's may exceed
  max_connections: 100,
  wal_level: "logical",
  shared_preload_libraries: "pg_stat_statements",
  timezone: "UTC",
  log_timezone: "UTC",
};

function assertFree(port: number): number {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return port;
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new StackError(
      `Port ${port} for the database is taken. Take another one with --db-port (0 = any free one).`,
    );
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** The server is there, and does not let the stack in for a reason that time does not change. */
class NotReady extends StackError {
  readonly code: string | undefined;

  constructor({ code, message }: Error & { code?: string }) {
    super(`PostgreSQL runs, but cannot be used: ${message}${code ? ` (${code})` : ""}`);
    this.code = code;
  }
}

/** What is wrong while a server starts, is full, or has just lost a connection: SQLSTATEs, and errors of the network. */
const PASSES = /^(57P0|53|08|ECONN|EPIPE|ETIMEDOUT|Connection terminated|timeout expired)/;

const WRONG_PASSWORD = "28P01";

async function tryToConnect(url: string): Promise<Error & { code?: string } | undefined> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5_000 });
  client.on("error", () => {});
  try {
    await client.connect();
  } catch (error) {
    return error as Error;
  } finally {
    await client.end().catch(() => {});
  }
  return undefined;
}

function kill(process: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    process.kill(signal);
  } catch {
    // it has ended already
  }
}
