import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { connect, type Lab } from "./lab.ts";
import { ours } from "./ours.ts";
import { type Cell, median, quantile, type Section } from "./report.ts";

/** How much to measure. */
export interface PeersSize {
  clients: number[];
  /** How often each takes its turn. */
  rounds: number;
  /** Length of a turn, in seconds. */
  seconds: number;
}

/** A lock service that runs, ready to be asked by one client at a time through each of its sessions. */
interface Peer extends AsyncDisposable {
  name: string;
  /** What a grant is worth after a crash, and what comes with it. */
  guarantees: string[];
  session(): Promise<Session>;
}

interface Session {
  grant(key: string): Promise<void>;
  release(key: string): Promise<void>;
  end(): Promise<void> | void;
}

/** What a peer promises, as columns of the table. */
const GUARANTEES = [
  "grant survives a crash of the machine",
  "survives the loss of a node",
  "fencing token",
  "tells who holds it",
  "history",
  "one transaction with the data",
];

/**
 * Measures Holdfast beside other lock services, all of them asked by the same client from this process.
 *
 * @param lab Holdfast's database.
 * @param size How much.
 * @param onProgress Told what is being measured.
 * @returns The section of the report. A peer that is not installed is named as left out.
 */
export async function peers(
  lab: Lab,
  size: PeersSize,
  onProgress: (message: string) => void,
): Promise<Section> {
  await using started = ours();
  const leftOut: string[] = [];
  const versions: string[] = [];
  const running: Peer[] = [
    holdfast(lab, "Holdfast, as it comes", "on"),
    holdfast(lab, "Holdfast, synchronous_commit = off", "off"),
  ];
  const start = async (
    name: string,
    binary: string,
    debianPackage: string,
    begin: ((path: string, folder: string) => Promise<Peer>)[],
  ) => {
    const path = await which(binary);
    if (!path) {
      leftOut.push(`${name}: not installed; Debian and Ubuntu: apt-get install ${debianPackage}`);
      return;
    }
    versions.push(await version(path));
    for (const each of begin) {
      const folder = await Deno.makeTempDir({ prefix: "holdfast-bench-peer-" });
      started.defer(() => Deno.remove(folder, { recursive: true }));
      running.push(started.use(await each(path, folder)));
    }
  };
  await start("etcd", "etcd", "etcd-server", [etcd]);
  await start("Redis", "redis-server", "redis-server", [
    (path, folder) => redis(path, folder, true),
    (path, folder) => redis(path, folder, false),
  ]);

  const results: {
    peer: Peer;
    clients: number;
    perSecond: number[];
    grant: number[];
    grant99: number[];
    release: number[];
  }[] = [];
  for (const clients of size.clients) {
    const of = running.map((peer) => ({
      peer,
      clients,
      perSecond: [] as number[],
      grant: [] as number[],
      grant99: [] as number[],
      release: [] as number[],
    }));
    onProgress(`peers, ${clients} client${clients === 1 ? "" : "s"}`);
    for (let round = 0; round < size.rounds; round++) {
      for (const result of of) {
        const { grants, releases, perSecond } = await drive(result.peer, clients, size.seconds);
        result.perSecond.push(perSecond);
        result.grant.push(median(grants));
        result.grant99.push(quantile(grants, 0.99));
        result.release.push(median(releases));
      }
    }
    results.push(...of);
  }
  const most = Math.max(...size.clients);
  return {
    id: "peers",
    title: "3. Beside other lock services on this machine",
    notes: [
      `The client is JavaScript in one process, the same for all; it takes a share of the CPUs and of each latency. Versions: ${
        versions.join("; ") || "none"
      }.`,
      "Compare only rows whose grants survive the same. Redis as it comes answers before anything is on disk: after a crash it forgets grants, and a second caller gets the lock while the first still believes. synchronous_commit = off is the same bargain for PostgreSQL, and just as unsafe for a lock.",
      "etcd has one setting for this, which is the careful one: each change is on disk before it is answered. It is one node here, as PostgreSQL and Redis are. Its lock waits for its turn instead of refusing.",
      "A grant of etcd is a lease and a lock, two calls of its HTTP gateway; Redis is asked with SET NX PX and released with a compare-and-delete script; Holdfast with acquire_lock and release_lock over PostgreSQL's protocol (over HTTP: part 2).",
    ],
    tables: [{
      title: "Each client on a lock of its own: medians of the rounds",
      columns: [
        "service",
        "clients",
        "pairs a second",
        "smallest … largest",
        "grant ms",
        "grant 99 % ms",
        "release ms",
        ...GUARANTEES,
      ],
      rows: results.map((r): Cell[] => [
        r.peer.name,
        r.clients,
        Math.round(median(r.perSecond)),
        `${Math.round(Math.min(...r.perSecond))} … ${Math.round(Math.max(...r.perSecond))}`,
        median(r.grant),
        median(r.grant99),
        median(r.release),
        ...r.peer.guarantees,
      ]),
    }],
    goals: [],
    plots: [{
      file: "peers",
      title: "Acquire + release beside other lock services",
      unit: `pairs a second at ${most} clients, from JavaScript; * a crash forgets grants`,
      at: [""],
      series: results.filter((r) => r.clients === most).map((r) => ({
        name: r.peer.name + (r.peer.guarantees[0]!.startsWith("yes") ? "" : " *"),
        values: [median(r.perSecond)],
        low: [Math.min(...r.perSecond)],
        high: [Math.max(...r.perSecond)],
      })),
    }],
    leftOut,
    raw: results.map(({ peer, ...numbers }) => ({ peer: peer.name, ...numbers })),
  };
}

async function drive(peer: Peer, clients: number, seconds: number) {
  const sessions = await Promise.all(Array.from({ length: clients }, () => peer.session()));
  const grants: number[] = [];
  const releases: number[] = [];
  let pairs = 0;
  try {
    // each connection's first call prepares its statements
    await Promise.all(sessions.map(async (session, i) => {
      await session.grant(`${i}`);
      await session.release(`${i}`);
    }));
    const start = performance.now();
    const end = start + seconds * 1000;
    await Promise.all(sessions.map(async (session, i) => {
      while (performance.now() < end) {
        const t0 = performance.now();
        await session.grant(`${i}`);
        const t1 = performance.now();
        await session.release(`${i}`);
        grants.push(t1 - t0);
        releases.push(performance.now() - t1);
        pairs++;
      }
    }));
    return { grants, releases, perSecond: pairs / ((performance.now() - start) / 1000) };
  } finally {
    await Promise.all(sessions.map((session) => session.end()));
  }
}

function holdfast(lab: Lab, name: string, synchronousCommit: "on" | "off"): Peer {
  return {
    name,
    guarantees: [
      synchronousCommit === "on" ? "yes" : "no: the last 0.6 s may be lost",
      "with a synchronous replica",
      "yes",
      "yes",
      "yes",
      "yes",
    ],
    async session() {
      const client = await connect(
        lab.url,
        `-c role=service_role -c synchronous_commit=${synchronousCommit}`,
      );
      const { rows } = await client.query("select n, id from bench.video where n < 100");
      const ids = new Map(rows.map(({ n, id }) => [String(n), id as string]));
      const call = async (query: pg.QueryConfig, outcome: string) => {
        const { rows: [{ answer }] } = await client.query(query);
        if (!answer[outcome]) throw new Error(`${name}: ${JSON.stringify(answer)}`);
      };
      let lockId: string;
      return {
        grant: (key) =>
          call({
            name: "acquire",
            text: "select acquire_lock($1, 'layout', 'worker-7', $2) as answer",
            values: [ids.get(key), lockId = crypto.randomUUID()],
          }, "acquired"),
        release: (key) =>
          call({
            name: "release",
            text: "select release_lock($1, 'layout', $2) as answer",
            values: [ids.get(key), lockId],
          }, "released"),
        end: () => client.end(),
      };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

async function etcd(path: string, folder: string): Promise<Peer> {
  const [port, peerPort] = freePorts(2);
  const url = `http://127.0.0.1:${port}`;
  const process = new Deno.Command(path, {
    args: [
      "--name=bench",
      `--data-dir=${join(folder, "data")}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
      `--initial-advertise-peer-urls=http://127.0.0.1:${peerPort}`,
      `--initial-cluster=bench=http://127.0.0.1:${peerPort}`,
    ],
    clearEnv: true, // ETCD_… variables would be settings
    env: { PATH: Deno.env.get("PATH") ?? "" },
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  const post = async (action: string, body: unknown) => {
    const response = await fetch(`${url}/v3/${action}`, {
      method: "POST",
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (!response.ok || answer.error) throw new Error(`etcd ${action}: ${JSON.stringify(answer)}`);
    return answer;
  };
  try {
    await until(() => post("lease/grant", { TTL: 5 }), process);
  } catch (error) {
    await end(process);
    throw error;
  }
  return {
    name: "etcd, as it comes = careful",
    guarantees: ["yes", "with 3 nodes", "yes (revision)", "no", "no", "no"],
    session() {
      let held: string;
      return Promise.resolve({
        async grant(key: string) {
          const { ID } = await post("lease/grant", { TTL: 120 });
          held = (await post("lock/lock", { name: btoa(`lock/${key}`), lease: ID })).key;
        },
        async release() {
          await post("lock/unlock", { key: held });
        },
        end() {},
      });
    },
    [Symbol.asyncDispose]: () => end(process),
  };
}

const COMPARE_AND_DELETE =
  "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

async function redis(path: string, folder: string, careful: boolean): Promise<Peer> {
  const [port] = freePorts(1);
  const process = new Deno.Command(path, {
    args: [
      `--port ${port}`,
      "--bind 127.0.0.1",
      `--dir ${folder}`,
      ...(careful ? ["--appendonly yes", "--appendfsync always"] : []),
    ].flatMap((setting) => setting.split(" ")),
    stdin: "null",
    stdout: "null",
    stderr: "null",
    detached: true,
  }).spawn();
  const open = () => RedisSession.open(port!);
  try {
    await until(async () => (await open()).end(), process);
  } catch (error) {
    await end(process);
    throw error;
  }
  return {
    name: careful ? "Redis, appendfsync always" : "Redis, as it comes",
    guarantees: [
      careful ? "yes" : "no: up to an hour may be lost",
      "no (replication is asynchronous)",
      "no",
      "no",
      "no",
      "no",
    ],
    session: open,
    [Symbol.asyncDispose]: () => end(process),
  };
}

/** As much of a Redis client as a lock needs. */
class RedisSession implements Session {
  readonly #connection: Deno.TcpConn;
  readonly #buffer = new Uint8Array(512);
  #script = "";
  #value = "";

  private constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
    connection.setNoDelay(true);
  }

  static async open(port: number): Promise<RedisSession> {
    const session = new RedisSession(await Deno.connect({ hostname: "127.0.0.1", port }));
    const answer = await session.#call("SCRIPT", "LOAD", COMPARE_AND_DELETE);
    session.#script = answer.split("\r\n")[1]!;
    return session;
  }

  async grant(key: string): Promise<void> {
    this.#value = crypto.randomUUID();
    const answer = await this.#call("SET", `lock/${key}`, this.#value, "NX", "PX", "120000");
    if (answer !== "+OK\r\n") throw new Error(`Redis refused: ${answer}`);
  }

  async release(key: string): Promise<void> {
    const answer = await this.#call("EVALSHA", this.#script, "1", `lock/${key}`, this.#value);
    if (answer !== ":1\r\n") throw new Error(`Redis did not release: ${answer}`);
  }

  end(): void {
    this.#connection.close();
  }

  async #call(...words: string[]): Promise<string> {
    const request = words.map((word) => `$${word.length}\r\n${word}\r\n`).join("");
    const bytes = new TextEncoder().encode(`*${words.length}\r\n${request}`);
    for (let sent = 0; sent < bytes.length;) {
      sent += await this.#connection.write(bytes.subarray(sent));
    }
    // answers here are short enough to come in one piece
    const n = await this.#connection.read(this.#buffer);
    return new TextDecoder().decode(this.#buffer.subarray(0, n ?? 0));
  }
}

/** The path of a program, also where Debian keeps the ones of the administrator. */
export async function which(binary: string): Promise<string | undefined> {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  for (const folder of [...folders, "/usr/sbin", "/usr/local/sbin"]) {
    const path = join(folder, binary);
    if (await Deno.stat(path).then(({ isFile }) => isFile, () => false)) return path;
  }
  return undefined;
}

/** The first line of what a program says of its version. */
export async function version(path: string): Promise<string> {
  const { stdout } = await new Deno.Command(path, { args: ["--version"], stderr: "null" }).output();
  return new TextDecoder().decode(stdout).split("\n")[0]!.replace(
    / (sha|malloc|bits|build)=.*/,
    "",
  );
}

/** Ports that were free a moment ago. */
export function freePorts(count: number): number[] {
  const listeners = Array.from(
    { length: count },
    () => Deno.listen({ hostname: "127.0.0.1", port: 0 }),
  );
  const ports = listeners.map(({ addr }) => addr.port);
  for (const listener of listeners) listener.close();
  return ports;
}

/** Tries until it works, for ten seconds, or until the program that it is about has ended. */
export async function until(
  works: () => Promise<unknown>,
  process: Deno.ChildProcess,
): Promise<void> {
  let ended = false;
  process.status.then(() => ended = true);
  const end = performance.now() + 10_000;
  for (;;) {
    try {
      await works();
      return;
    } catch (error) {
      if (ended) throw new Error("The program ended before it answered", { cause: error });
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Ends a program, at once if it does not want to. */
export async function end(process: Deno.ChildProcess): Promise<void> {
  const kill = (signal: Deno.Signal) => {
    try {
      process.kill(signal);
    } catch {
      // it has ended
    }
  };
  kill("SIGTERM");
  const timer = setTimeout(() => kill("SIGKILL"), 5_000);
  await process.status;
  clearTimeout(timer);
}
