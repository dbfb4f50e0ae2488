import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import Redlock from "redlock";

/** A lock service that callers wait at. */
export interface Service {
  name: string;
  /** Whether a grant that was answered survives a crash of the machine. */
  survives: boolean;
  /** Waits for a lock; gives what releases it again. */
  acquire(lock: string, caller: string): Promise<() => Promise<unknown>>;
  /** How many requests it had from all callers until now. */
  requests(): number | Promise<number>;
}

/** Starts services that end with a stack; tells in `leftOut` of one that is not installed. */
export interface Starting {
  started: AsyncDisposableStack;
  leftOut: string[];
}

/** etcd's lock over its HTTP gateway: a lease, and the lock, which is answered when it is the caller's turn. */
export async function startEtcd(starting: Starting): Promise<Service[]> {
  let requests = 0;
  const ask = async (port: number, action: string, body: unknown) => {
    requests++;
    const init = { method: "POST", body: JSON.stringify(body) };
    const response = await fetch(`http://127.0.0.1:${port}/v3/${action}`, init);
    const answer = await response.json();
    if (!response.ok || answer.error) throw new Error(`etcd ${action}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const server = await start("etcd", "etcd-server", starting, (port, folder) => {
    const peer = `http://127.0.0.1:${freePort()}`;
    const client = `http://127.0.0.1:${port}`;
    return [
      "--name=bench",
      `--data-dir=${join(folder, "data")}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=bench=${peer}`,
    ];
  }, (port) => ask(port, "lease/grant", { TTL: 5 }));
  if (!server) return [];
  const { port, version } = server;
  return [{
    name: `etcd ${version}, as it comes`,
    survives: true,
    requests: () => requests,
    async acquire(lock) {
      const { ID } = await ask(port, "lease/grant", { TTL: 600 });
      const { key } = await ask(port, "lock/lock", { name: btoa(lock), lease: ID });
      return () => ask(port, "lock/unlock", { key });
    },
  }];
}

/**
 * node-redlock on one Redis, with its defaults, but for the number of tries, which is unlimited.
 *
 * @param starting Ends it again.
 * @param careful Whether each change is on disk before it is answered; as Redis comes, it is not.
 */
export async function startRedis(starting: Starting, careful: boolean): Promise<Service[]> {
  const server = await start(
    "redis-server",
    "redis-server",
    starting,
    (port, folder) => [
      ...["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder],
      ...careful ? ["--appendonly", "yes", "--appendfsync", "always"] : [],
    ],
    async (port) => {
      const redis = new Redis(port, { lazyConnect: true, retryStrategy: () => null });
      redis.on("error", () => {}); // connect() tells
      await redis.connect().finally(() => redis.disconnect());
    },
  );
  if (!server) return [];
  const connect = () => {
    const redis = new Redis(server.port);
    starting.started.defer(() => redis.disconnect());
    return redis;
  };
  const observer = connect();
  const free: Redlock[] = []; // each caller has a connection of its own
  return [{
    name: `node-redlock on Redis ${server.version}, ${
      careful ? "appendfsync always" : "as it comes"
    }`,
    survives: careful,
    async requests() {
      const told = await observer.info("commandstats");
      return Number(/cmdstat_evalsha:calls=(\d+)/.exec(told)?.[1] ?? 0);
    },
    async acquire(lock) {
      const redlock = free.pop() ?? new Redlock([connect()], { retryCount: -1 });
      const held = await redlock.acquire([lock], 60_000);
      return () => held.release().finally(() => free.push(redlock));
    },
  }];
}

/** Starts a program and waits until it answers; nothing where it is not installed. */
async function start(
  binary: string,
  debianPackage: string,
  { started, leftOut }: Starting,
  args: (port: number, folder: string) => string[],
  answers: (port: number) => Promise<unknown>,
): Promise<{ port: number; version: string } | undefined> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-" });
  started.defer(() => Deno.remove(folder, { recursive: true }));
  // etcd takes settings from its environment, and Debian keeps servers where PATH need not lead
  const environment = { clearEnv: true, env: { PATH: `${Deno.env.get("PATH")}:/usr/sbin` } };
  const port = freePort();
  let process: Deno.ChildProcess;
  let version: string;
  try {
    const { stdout } = await new Deno.Command(binary, { args: ["--version"], ...environment })
      .output();
    version = /[\d.]{5,}/.exec(new TextDecoder().decode(stdout))?.[0] ?? "?";
    process = new Deno.Command(binary, {
      args: args(port, folder),
      ...environment,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    leftOut.push(`${binary}: not installed; Debian: apt-get install ${debianPackage}`);
    return undefined;
  }
  started.defer(() => end(process));
  for (let attempt = 0;; attempt++) {
    try {
      await answers(port);
      return { port, version };
    } catch (error) {
      if (attempt === 200) throw error;
      await delay(50);
    }
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function end(process: Deno.ChildProcess): Promise<void> {
  process.kill("SIGTERM");
  const impatience = setTimeout(() => process.kill("SIGKILL"), 5_000);
  await process.status;
  clearTimeout(impatience);
}
