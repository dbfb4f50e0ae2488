import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { StackError } from "../stack_error.ts";

/** The files of one PostgreSQL server, and how to work on them. */
export interface Cluster {
  /** The folder of the server's programs. */
  bin: string;
  /** The words before a command that PostgreSQL's own account runs. */
  runAs: string[];
  directory: string;
  majorVersion?: number;
  adminPassword: string;
  patienceMs?: number;
  signal?: AbortSignal;
}

/** The superuser. As on Supabase it is not `postgres`. */
export const ADMIN = "supabase_admin";

/**
 * Makes the database cluster, unless there is one.
 *
 * @param cluster See {@linkcode Cluster}.
 * @throws {StackError} When it cannot be made. Nothing of it is left then.
 */
export async function makeCluster(cluster: Cluster): Promise<void> {
  const { bin, runAs, directory, majorVersion = 17, adminPassword, signal } = cluster;
  if (await Deno.stat(join(directory, "PG_VERSION")).then(() => true, () => false)) return;
  const unfinished = directory + ".unfinished"; // what an interrupted start leaves is no database
  await Deno.remove(unfinished, { recursive: true }).catch(() => {});
  await run("The database could not be made", adminPassword + "\n", signal, [
    ...runAs,
    join(bin, "initdb"),
    `--pgdata=${unfinished}`,
    `--username=${ADMIN}`,
    "--pwfile=/dev/stdin",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    // the same on every machine, with any locales; older versions have no provider of their own
    ...(majorVersion < 17 ? [] : ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]),
    "--no-sync", // a cluster that a power cut broke before its first start is made anew
    "--no-instructions",
  ]);
  await Deno.rename(unfinished, directory);
}

/**
 * Ends the start on a database of another version than the project's: it would be no test of it.
 *
 * @param cluster See {@linkcode Cluster}.
 * @throws {StackError} When the version is another one.
 */
export async function assertVersion({ directory, majorVersion }: Cluster): Promise<void> {
  const version = Number(await Deno.readTextFile(join(directory, "PG_VERSION")));
  if (version === (majorVersion ?? version)) return;
  throw new StackError(
    `config.toml asks for PostgreSQL ${majorVersion} (db.major_version), and this is PostgreSQL ${version}. ` +
      "Use one of your own with --db-url.",
  );
}

/**
 * Gives the superuser the password that the stack knows: the keys of the data folder were lost, and are new.
 *
 * @param cluster See {@linkcode Cluster}; no server runs on it.
 */
export async function setPassword(cluster: Cluster): Promise<void> {
  const { bin, runAs, directory, adminPassword, signal } = cluster;
  await run(
    "The database was made with other keys, and its password could not be changed",
    `alter role ${ADMIN} password '${adminPassword}'
`,
    signal,
    [...runAs, join(bin, "postgres"), "--single", "-D", directory, "postgres"],
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
 * lives, which may be another program's by now. A number of its own parent's it knows to be old, and still looks whether the
 * memory of the server before is in use. The stack holds the folder, so only a server without a stack may be there.
 *
 * @param cluster See {@linkcode Cluster}.
 * @throws {StackError} When a server runs on the folder and does not end.
 */
export async function disownPid(
  { directory, patienceMs = 5_000, signal }: Cluster,
): Promise<void> {
  const file = join(directory, "postmaster.pid");
  for (const deadline = Date.now() + patienceMs;; await delay(50)) {
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
