import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
// @ts-types="@types/pg"
import pg from "pg";
import { account, binaries } from "../../../../local/postgres/binaries.ts";
import { ADMIN, disownPid, makeCluster } from "../../../../local/postgres/cluster.ts";
import { childrenOf, endWithUs, signal } from "./processes.ts";

/** A PostgreSQL that a test may treat badly. */
export interface Server {
  readonly directory: string;
  readonly port: number;
  /** For the superuser. */
  readonly url: string;
  /** Starts it, and waits until it answers: for as long as it takes, as a crash may have left it much to do. */
  start(settings?: Record<string, string>, env?: Record<string, string>): Promise<void>;
  /** SIGKILL: of all its processes, or of the postmaster alone, whose backends go on until they notice. */
  kill(whom: "all" | "postmaster"): Promise<void>;
  /** Ends it in an orderly way. */
  stop(): Promise<void>;
  /** One statement as the superuser, on a connection of its own. */
  ask<T extends pg.QueryResultRow>(text: string): Promise<T[]>;
  /** Whether its postmaster lives. */
  isUp(): boolean;
}

/** The password of the superuser and of the stack's roles. */
export const PASSWORD = "faults";

const SETTINGS = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "100",
  max_prepared_transactions: "20",
  wal_level: "logical",
  max_wal_size: "96MB",
  min_wal_size: "32MB",
  wal_keep_size: "64MB",
  shared_preload_libraries: "pg_stat_statements",
  timezone: "UTC",
  log_timezone: "UTC",
  // nothing may be lost in a crash: these are PostgreSQL's defaults, said aloud
  fsync: "on",
  synchronous_commit: "on",
};

/**
 * Makes a server in a folder.
 *
 * @param directory The folder; it may be there, and empty.
 * @param files Whether a cluster has to be made, or a copy of one is, or will be, there.
 * @returns The server, not started.
 */
// deno-lint-ignore holdfast/short-functions -- the parts of one server share its process and its port
export async function makeServer(
  directory: string,
  files: "new" | "copied" = "new",
): Promise<Server> {
  const bin = await binaries();
  const runAs = await account(directory);
  const cluster = { bin, runAs, directory, adminPassword: PASSWORD };
  if (files === "new") {
    await Deno.remove(directory, { recursive: true });
    await makeCluster(cluster);
  }
  const port = freePort();
  const url = `postgresql://${ADMIN}:${PASSWORD}@127.0.0.1:${port}/postgres`;
  let process: Deno.ChildProcess | undefined;
  let said: Record<string, string> = {};
  let saidEnv: Record<string, string> = {};

  function spawn() {
    const all = Object.entries({ ...SETTINGS, ...said, port: String(port) });
    const [command, ...args] = [
      ...runAs,
      join(bin, "postgres"),
      "-D",
      directory,
      ...all.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
    ];
    const log = Deno.openSync(`${directory}.log`, { create: true, append: true });
    const born = new Deno.Command(command!, {
      args,
      env: { LC_ALL: "C", ...saidEnv },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      detached: true,
    }).spawn();
    born.stderr.pipeTo(log.writable).catch(() => {});
    const watchdog = endWithUs(born.pid, "QUIT");
    born.status.then(async () => {
      if (process === born) process = undefined;
      await watchdog.stdin.close().catch(() => {});
    });
    process = born;
  }

  return {
    directory,
    port,
    url,
    isUp: () => process !== undefined,
    async start(settings = said, env = saidEnv) {
      [said, saidEnv] = [settings, env];
      for (const end = Date.now() + 60_000; Date.now() < end; await delay(40)) {
        if (!process) {
          await disownPid(cluster).catch(() => {});
          spawn();
        }
        if (await answers(url)) return;
      }
      throw new Error(`${directory} does not start: ${directory}.log says why`);
    },
    async kill(whom) {
      if (!process) return;
      const { pid, status } = process;
      const children = await childrenOf(pid);
      signal(pid, "SIGKILL");
      if (whom === "all") { for (const child of children) signal(child, "SIGKILL"); }
      await status;
    },
    async stop() {
      if (!process) return;
      const { pid, status } = process;
      for (const child of await childrenOf(pid)) signal(child, "SIGCONT");
      signal(pid, "SIGINT");
      const impatience = setTimeout(() => signal(pid, "SIGQUIT"), 5_000);
      await status;
      clearTimeout(impatience);
    },
    async ask(text) {
      const client = await connect(url);
      try {
        return (await client.query(text)).rows;
      } finally {
        await client.end().catch(() => {});
      }
    },
  };
}

/** Connects as an operator, whatever a fault has made the default; a time-out may strike before that is heard. */
async function connect(url: string): Promise<pg.Client> {
  const off = ["statement", "lock", "transaction", "idle_session"].map((name) =>
    `-c ${name}_timeout=0`
  );
  for (let tries = 0;; tries++) {
    const client = new pg.Client({
      connectionString: url,
      connectionTimeoutMillis: 5_000,
      options: [...off, "-c default_transaction_isolation=read\\ committed"].join(" "),
    });
    client.on("error", () => {});
    try {
      await client.connect();
      return client;
    } catch (error) {
      client.end().catch(() => {});
      if (tries > 50 || !/^(25P0|57P05)/.test((error as { code?: string }).code ?? "")) throw error;
    }
  }
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 });
  client.on("error", () => {});
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
