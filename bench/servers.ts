import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";

/** Another lock service, running on this machine. */
export interface Server extends AsyncDisposable {
  port: number;
  /** What it calls itself. */
  version: string;
}

/**
 * Starts etcd, as it comes: each change is on disk before it is answered.
 *
 * @returns It, or nothing where it is not installed.
 */
export function startEtcd(): Promise<Server | undefined> {
  return start("etcd", (port, folder) => {
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
  }, (port) => askEtcd(port, "lease/grant", { TTL: 5 }));
}

/** Calls etcd's HTTP gateway. */
// deno-lint-ignore no-explicit-any
export async function askEtcd(port: number, action: string, body: unknown): Promise<any> {
  const response = await fetch(`http://127.0.0.1:${port}/v3/${action}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok || answer.error) throw new Error(`etcd ${action}: ${JSON.stringify(answer)}`);
  return answer;
}

/**
 * Starts Redis.
 *
 * @param careful Whether each change is on disk before it is answered; as it comes, it is not.
 * @returns It, or nothing where it is not installed.
 */
export function startRedis(careful: boolean): Promise<Server | undefined> {
  return start(
    "redis-server",
    (port, folder) => [
      ...["--port", `${port}`, "--bind", "127.0.0.1", "--dir", folder],
      ...careful ? ["--appendonly", "yes", "--appendfsync", "always"] : [],
    ],
    async (port) => {
      const redis = new Redis(port, { lazyConnect: true, retryStrategy: () => null });
      redis.on("error", () => {}); // connect() tells
      try {
        await redis.connect();
      } finally {
        redis.disconnect();
      }
    },
  );
}

async function start(
  binary: string,
  args: (port: number, folder: string) => string[],
  answers: (port: number) => Promise<unknown>,
): Promise<Server | undefined> {
  await using started = new AsyncDisposableStack();
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
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  started.defer(() => end(process));
  for (let attempt = 0;; attempt++) {
    try {
      await answers(port);
      break;
    } catch (error) {
      if (attempt === 200) throw error;
      await delay(50);
    }
  }
  const all = started.move();
  return { port, version, [Symbol.asyncDispose]: () => all.disposeAsync() };
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
