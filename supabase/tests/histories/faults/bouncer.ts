import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { account } from "../../../../local/postgres/binaries.ts";
import { PASSWORD } from "./server.ts";
import { endWithUs, signal } from "./processes.ts";

/** A PgBouncer in front of the database, in transaction mode. */
export interface Bouncer {
  readonly port: number;
  /** Starts it again: after an orderly end, or a SIGKILL. */
  restart(how: "SIGINT" | "SIGKILL"): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Starts PgBouncer, if it is installed (Debian: `apt-get install pgbouncer`).
 *
 * @param root A folder for its files.
 * @param upstream The port of the database.
 * @returns PgBouncer, or nothing where there is none.
 */
export async function startBouncer(root: string, upstream: number): Promise<Bouncer | undefined> {
  const program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].find((path) => exists(path));
  if (!program) return undefined;
  const folder = join(root, "pgbouncer");
  const runAs = await account(folder);
  await Deno.chmod(folder, 0o755);
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  await Deno.writeTextFile(join(folder, "users"), `"supabase_admin" "${PASSWORD}"\n`);
  await Deno.writeTextFile(
    join(folder, "ini"),
    `
[databases]
postgres = host=127.0.0.1 port=${upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${join(folder, "users")}
pool_mode = transaction
default_pool_size = 10
server_login_retry = 0.1
ignore_startup_parameters = extra_float_digits
`,
  );
  let process: Deno.ChildProcess;
  const start = async () => {
    const [command, ...args] = [...runAs, program, "-q", join(folder, "ini")];
    process = new Deno.Command(command!, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const watchdog = endWithUs(process.pid, "KILL");
    process.status.then(() => watchdog.stdin.close().catch(() => {}));
    for (const end = Date.now() + 5_000; Date.now() < end; await delay(20)) {
      if (await reaches(port)) return;
    }
    throw new Error("PgBouncer does not start");
  };
  const end = async (how: Deno.Signal) => {
    signal(process.pid, how);
    const impatience = setTimeout(() => signal(process.pid, "SIGKILL"), 1_000);
    await process.status;
    clearTimeout(impatience);
  };
  await start();
  return {
    port,
    async restart(how) {
      await end(how);
      await start();
    },
    stop: () => end("SIGKILL"),
  };
}

async function reaches(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch {
    return false;
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
