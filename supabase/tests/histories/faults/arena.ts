import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startStack } from "../../../../local/stack.ts";
import { type Bouncer, startBouncer } from "./bouncer.ts";
import { childrenOf, commandOf } from "./processes.ts";
import { openRoute, type Route } from "./route.ts";
import { makeServer, PASSWORD, type Server } from "./server.ts";

/** A stack that may be treated badly: its database is behind a route, and may become another one. */
export interface Arena extends AsyncDisposable {
  /** What is the primary now. */
  primary: Server;
  readonly route: Route;
  /** PgBouncer in front of the route; none where it is not installed. */
  readonly bouncer: Bouncer | undefined;
  /** The address of the functions. */
  readonly url: string;
  readonly secretKey: string;
  /** Makes room for a server: a small disk of its own where this process may mount one. */
  room(): Promise<Room>;
  /** The small disk of the primary; none where there cannot be one. */
  disk(): string | undefined;
  /** Another server takes over; the one before is gone for good. */
  succeed(next: Server): Promise<void>;
  /** The processes of the functions. */
  functions(): Promise<number[]>;
  /** Clients that run in processes of their own. */
  clients: number[];
  /** Waits until the database and the functions answer again. */
  settle(): Promise<void>;
}

/** Where a server's files are. */
export interface Room {
  directory: string;
  /** Whether it is a disk of its own. */
  isDisk: boolean;
  leave(): Promise<void>;
}

/** Enough for a cluster and its write-ahead log, and soon full. */
const DISK = "320m";

/**
 * Starts a stack for faults, and tells tests of it by the environment.
 *
 * @param say Told what is going on.
 * @returns The stack; `await using` ends everything.
 */
export async function openArena(say: (line: string) => void): Promise<Arena> {
  await using cleanUp = new AsyncDisposableStack();
  const root = await Deno.makeTempDir({ prefix: "holdfast-faults-" });
  // of no use to anybody else, but PostgreSQL's account has to get in
  await Deno.chmod(root, 0o755);
  cleanUp.defer(() => Deno.remove(root, { recursive: true }).catch(() => {}));
  const rooms = new Map<string, Room>();
  cleanUp.defer(async () => {
    for (const room of rooms.values()) await room.leave().catch(() => {});
  });
  const room = async () => {
    const made = await makeRoom(join(root, `server-${rooms.size}`));
    rooms.set(made.directory, made);
    return made;
  };
  const first = await makeServer((await room()).directory);
  await first.start({}, {});
  const route = cleanUp.use(openRoute(first.port));
  cleanUp.defer(() => arena.primary.stop());
  const bouncer = await startBouncer(root, route.port);
  if (bouncer) cleanUp.defer(() => bouncer.stop());
  const url = (user: string, port: number) =>
    `postgresql://${user}:${PASSWORD}@127.0.0.1:${port}/postgres`;
  const stack = await startStack({ dbUrl: url("supabase_admin", route.port) });
  cleanUp.defer(() => stack.stop());
  const arena: Omit<Arena, typeof Symbol.asyncDispose> = {
    primary: first,
    route,
    bouncer,
    url: stack.url,
    secretKey: stack.secretKey,
    room,
    clients: [],
    disk() {
      const { directory, isDisk } = rooms.get(this.primary.directory)!;
      return isDisk ? join(directory, "..") : undefined;
    },
    async succeed(next) {
      const before = this.primary;
      await before.kill("all");
      this.primary = next;
      route.to = next.port;
      route.cut();
      await rooms.get(before.directory)!.leave();
      say(`  the database is ${next.directory.slice(root.length + 1)} now`);
    },
    async functions() {
      const found: number[] = [];
      for (const pid of await childrenOf(Deno.pid)) {
        if ((await commandOf(pid)).includes("function_worker.ts")) found.push(pid);
      }
      return found;
    },
    async settle() {
      await this.primary.start();
      for (const end = Date.now() + 30_000; Date.now() < end; await delay(50)) {
        if (await answersAll(stack.url, stack.secretKey)) return;
      }
      throw new Error("the functions do not answer any more");
    },
  };
  Deno.env.set("SUPABASE_URL", stack.url);
  Deno.env.set("SUPABASE_PUBLISHABLE_KEY", stack.publishableKey);
  Deno.env.set("SUPABASE_SECRET_KEY", stack.secretKey);
  Deno.env.set("SUPABASE_DB_URL", url("postgres", route.port));
  const all = cleanUp.move();
  return Object.assign(arena, { [Symbol.asyncDispose]: () => all.disposeAsync() });
}

/** Whether each function answers as it should, of a video that does not exist. */
async function answersAll(url: string, apikey: string): Promise<boolean> {
  const body = JSON.stringify({
    video_id: crypto.randomUUID(),
    database_name: "layout",
    lock_id: crypto.randomUUID(),
  });
  const statuses = await Promise.all(
    ["lock-acquire", "lock-renew", "lock-release"].map(async (name) => {
      const response = await fetch(`${url}/functions/v1/${name}`, {
        method: "POST",
        headers: { apikey, "content-type": "application/json" },
        body,
      }).catch(() => null);
      await response?.body?.cancel();
      return response?.status ?? 0;
    }),
  );
  return statuses.every((status) => status === 400 || status === 404);
}

async function makeRoom(path: string): Promise<Room> {
  await Deno.mkdir(path);
  const isDisk = Deno.uid() === 0 &&
    await run("mount", "-t", "tmpfs", "-o", `size=${DISK}`, "none", path);
  const directory = join(path, "data");
  await Deno.mkdir(directory, { mode: 0o700 });
  return {
    directory,
    isDisk,
    async leave() {
      if (isDisk && !await run("umount", path)) await run("umount", "-l", path);
      await Deno.remove(path, { recursive: true }).catch(() => {});
    },
  };
}

async function run(command: string, ...args: string[]): Promise<boolean> {
  const { success } = await new Deno.Command(command, { args, stdout: "null", stderr: "null" })
    .output().catch(() => ({ success: false }));
  return success;
}
