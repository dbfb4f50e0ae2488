// What callers see while PostgreSQL is away, full, slow or killed, and that nothing which was answered is lost. On a
// stack of its own, whose PostgreSQL the test can stop.
import { assert, assertEquals, assertGreater, assertGreaterOrEqual, assertLess } from "@std/assert";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { runs } from "../../supabase/tests/support/soak.ts";
import type { Answer, Lock } from "../../supabase/tests/support/stack.ts";
import { type Postgres, startPostgres } from "../postgres/postgres.ts";
import { type Stack, startStack } from "../stack.ts";

/** The demo tenant's, from supabase/seed.sql. */
const VIDEO = "00000000-0000-4000-8000-000000000101";
const WORKER = "worker-1";

let directory: string;
let server: Postgres;
let stack: Stack;
let sql: postgres.Sql;
const functionLog: Record<string, unknown>[] = [];

Deno.test.beforeAll(async () => {
  directory = await Deno.makeTempDir({ prefix: "holdfast-test-" });
  server = await startServer(0);
  stack = await startStack({
    dbUrl: server.adminUrl,
    onFunctionLog: (_, line) => functionLog.push(JSON.parse(line)),
  });
  sql = postgres(server.adminUrl, { max: 1, onnotice() {} });
});

Deno.test.afterAll(async () => {
  await sql.end();
  await stack.stop();
  await server.stop();
  await Deno.remove(directory, { recursive: true });
});

function startServer(port: number): Promise<Postgres> {
  return startPostgres({
    directory: join(directory, "postgres"),
    port,
    adminPassword: "secret",
    logFile: join(directory, "postgres.log"),
  });
}

/** Calls a function as a worker does. Only a 200, and a 503 that says when to come again, are answers here. */
async function call(
  name: string,
  body: Record<string, unknown>,
  signal?: AbortSignal,
): Promise<Answer & { status: number; ms: number }> {
  const begun = performance.now();
  const response = await fetch(`${stack.url}/functions/v1/${name}`, {
    method: "POST",
    headers: { apikey: stack.secretKey, "content-type": "application/json" },
    body: JSON.stringify(body),
    ...(signal ? { signal } : {}),
  });
  const answer: Answer = await response.json();
  const { status } = response;
  if (status !== 200) {
    assertEquals([status, answer.code], [503, "DATABASE_UNAVAILABLE"], JSON.stringify(answer));
    assertEquals(response.headers.get("retry-after"), "1");
  }
  return { ...answer, status, ms: performance.now() - begun };
}

/** A request that is valid for all three functions, for a database of the test's own. */
const request = (database_name: string) => ({
  video_id: VIDEO,
  database_name,
  lock_id: crypto.randomUUID(),
});

/** Repeats a request, as a client does, until it is answered. */
async function answered(name: string, body: Record<string, unknown>): Promise<Answer> {
  for (const end = Date.now() + 15_000; Date.now() < end; await delay(20)) {
    const answer = await call(name, body);
    if (answer.status === 200) return answer;
    unanswered++;
  }
  throw new Error(`${name} was not answered for 15 s`);
}
let unanswered = 0;

Deno.test("the database is down: every function says so at once, and works again when it is back", async () => {
  const own = request("down");
  const { lock } = await call("lock-acquire", { ...own, lock_holder_user_id: WORKER });
  await server.stop();
  for (let round = 0; round < 5; round++) {
    for (const name of ["lock-acquire", "lock-renew", "lock-release"]) {
      const named = name === "lock-acquire" ? { lock_holder_user_id: WORKER } : {};
      const { status, ms } = await call(name, { ...own, ...named });
      assertEquals(status, 503, name);
      assertLess(ms, 2000);
    }
  }
  server = await startServer(server.port);
  assertEquals((await answered("lock-renew", own)).lock?.fencing_token, lock!.fencing_token);
  assertEquals((await answered("lock-release", own)).released, true);
});

Deno.test("the database restarts while callers call: each gets an answer or a 503, and then answers again", async () => {
  const own = { ...request("restart"), lock_holder_user_id: WORKER, ttl_seconds: 600 };
  const { lock } = await call("lock-acquire", own);
  let over = false;
  const seen = { 200: 0, 503: 0 };
  const callers = Array.from({ length: 4 }, async () => {
    while (!over) {
      const { status, lock: repeated, ms } = await call("lock-acquire", own);
      seen[status as 200 | 503]++;
      if (status === 200) assertEquals(repeated?.fencing_token, lock!.fencing_token);
      assertLess(ms, 11_000);
    }
  });
  await delay(100);
  await server.stop();
  await delay(200);
  server = await startServer(server.port);
  assertEquals((await answered("lock-acquire", own)).acquired, true);
  over = true;
  await Promise.all(callers);
  assertGreater(seen[200], 0);
  assertGreater(seen[503], 0);
});

Deno.test("out of connections: 503 while others have every slot, and grants when they let go", async () => {
  await sql`select`; // has a connection from now on
  const others: postgres.Sql[] = [];
  const takeEverySlot = async () => {
    while (true) {
      const batch = Array.from(
        { length: 10 },
        () => postgres(server.adminUrl, { max: 1, onnotice() {} }),
      );
      others.push(...batch);
      const came = await Promise.allSettled(batch.map((other) => other`select`));
      const turnedAway = came.find((one) => one.status === "rejected");
      if (turnedAway) return assertEquals(turnedAway.reason.code, "53300");
    }
  };
  const ended = () =>
    sql`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'data-api'`;
  const own = { ...request("full"), lock_holder_user_id: WORKER };
  try {
    // the Data API loses the connections that it has, and others have the slots before it comes again
    await takeEverySlot();
    await until(async () => (await ended()).length === 0);
    await takeEverySlot();
    const { status, ms } = await call("lock-acquire", own);
    assertEquals(status, 503);
    assertLess(ms, 2000);
  } finally {
    await Promise.all(others.map((other) => other.end({ timeout: 0 })));
  }
  assertEquals((await answered("lock-acquire", own)).acquired, true);
  assertEquals((await leasesOf("full")).length, 1, "the one that was turned away did nothing");
});

Deno.test("P11 a row that is held for too long: busy, or 503 by a shorter statement timeout, nothing half-done, and then the grant", async () => {
  const before = request("slow");
  await call("lock-acquire", { ...before, lock_holder_user_id: WORKER });
  await call("lock-release", before);
  const held = request("slow-held");
  await call("lock-acquire", { ...held, lock_holder_user_id: WORKER });
  const gate = postgres(server.adminUrl, { max: 1, onnotice() {} });
  const next = { ...request("slow"), lock_holder_user_id: WORKER };
  const rows = () => sql`select xmin, s from public.video_database_state s order by s`;
  const untouched = await rows();
  const all = () =>
    Promise.all([
      call("lock-acquire", next),
      call("lock-renew", held),
      call("lock-release", held),
    ]);
  try {
    await gate`begin`;
    await gate`select from public.video_database_state for update`;
    // more than the Data API has connections: those who wait for one are not forgotten either
    const more = Array.from({ length: 20 }, () => call("lock-acquire", next));
    for (const { status, reason, ms } of [...await all(), ...await Promise.all(more)]) {
      assertEquals([status, reason], [200, "busy"]);
      assertLess(ms, 3_000);
    }
    const refused = await call("lock-acquire", {
      ...request("slow-held"),
      lock_holder_user_id: "another",
    });
    assertEquals(refused.reason, "held", "P10 a refusal needs no row lock");

    await sql`alter role service_role set statement_timeout = '100ms'`;
    await sql`notify pgrst`;
    await until(async () => (await call("lock-acquire", next)).status === 503); // it has heard of it
    // each alone, as only one at a time waits longer than that
    for (const name of ["lock-acquire", "lock-renew", "lock-release"]) {
      const { status, ms } = await call(name, name === "lock-acquire" ? next : held);
      assertEquals(status, 503, name);
      assertLess(ms, 3_000);
    }
    assertEquals(await rows(), untouched);
  } finally {
    await gate`rollback`;
    await gate.end();
    await sql`alter role service_role reset statement_timeout`;
    await sql`notify pgrst`;
  }
  assertEquals((await answered("lock-acquire", next)).acquired, true);
  assertEquals((await answered("lock-renew", held)).renewed, true);
  assertEquals((await answered("lock-release", held)).released, true);
});

Deno.test("a caller who hangs up does not keep the function waiting for the database", async () => {
  const held = request("hang-up");
  await call("lock-acquire", { ...held, lock_holder_user_id: WORKER });
  const gate = postgres(server.adminUrl, { max: 1, onnotice() {} });
  try {
    await gate`begin`;
    await gate`select from public.video_database_state where database_name = 'hang-up' for update`;
    const hangUp = new AbortController();
    const waiting = call("lock-renew", held, hangUp.signal).catch(() => "hung up");
    await until(async () =>
      (await sql`select from pg_stat_activity where wait_event_type = 'Lock'`).length > 0
    );
    const lines = functionLog.length;
    hangUp.abort();
    assertEquals(await waiting, "hung up");
    await until(() => functionLog.length > lines);
    const { function: name, outcome, ms } = functionLog.at(-1)!;
    assertEquals([name, outcome], ["lock-renew", "CALLER_GONE"]);
    assertLess(ms as number, 3000);
  } finally {
    await gate`rollback`;
    await gate.end();
  }
});

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 15_000; Date.now() < end; await delay(5)) {
    if (await condition()) return;
  }
  throw new Error("what the test waits for did not happen within 15 seconds");
}

/** What a worker saw of one acquisition of its own. */
interface Seen {
  grant: Lock;
  /** The latest end that it was promised, by the grant or a renewal; milliseconds. */
  until: number;
  /** When it was released, by the answer. */
  released?: string;
}

/** A lease as the database has it, from the history or, with the end that it has by now, from the state row. */
interface Lease {
  database_name: string;
  lock_id: string;
  fencing_token: string;
  locked_at: Date;
  ended_at: Date;
  end_reason: string | null;
}

/** Every lease of these databases, in the order of their tokens. */
async function leasesOf(...databases: string[]): Promise<Lease[]> {
  return [
    ...await sql<Lease[]>`
      select database_name, lock_id, fencing_token, locked_at, ended_at, end_reason
      from public.video_database_lock_history
      where database_name in ${sql(databases)}
      union all
      select database_name, lock_id, fencing_token, locked_at, lock_expires_at,
        case when lock_expires_at <= clock_timestamp() then 'expired' end
      from public.video_database_state
      where database_name in ${sql(databases)} and lock_id is not null
      order by fencing_token`,
  ];
}

/** Kills, with the signal that cannot be caught. */
async function kill(what: "the server" | "a connection"): Promise<void> {
  if (what === "the server") {
    const file = await Deno.readTextFile(join(directory, "postgres", "postmaster.pid"));
    return Deno.kill(parseInt(file), "SIGKILL");
  }
  const [backend] = await sql<{ pid: number }[]>`
    select pid from pg_stat_activity where application_name = 'data-api' order by random()`;
  Deno.kill(backend!.pid, "SIGKILL");
}

Deno.test("kill -9 of PostgreSQL and its backends under load: no grant that was answered is lost, tokens grow, never two holders", async () => {
  const [settings] = await sql`
    select current_setting('fsync') as fsync, current_setting('synchronous_commit') as commits,
      current_setting('full_page_writes') as pages`;
  assertEquals(settings, { fsync: "on", commits: "on", pages: "on" });

  const databases = ["kill-a", "kill-b", "kill-c"];
  const seen: Seen[] = [];
  const refused: { lock_id: string; answer: Answer }[] = [];
  let over = false;
  unanswered = 0;

  /** Acquires, renews and releases like a client that knows nothing of the kills, and repeats what was not answered. */
  async function worker(number: number): Promise<void> {
    for (let round = number; !over; round++) {
      const own = request(databases[round % databases.length]!);
      const answer = await answered("lock-acquire", {
        ...own,
        lock_holder_user_id: `worker-${number}`,
        ttl_seconds: 1 + round % 3,
      });
      if (!answer.acquired) {
        refused.push({ lock_id: own.lock_id, answer });
        await delay(5);
        continue;
      }
      const mine: Seen = { grant: answer.lock!, until: Date.parse(answer.lock!.expires_at) };
      seen.push(mine);
      for (let beat = 0; beat < round % 4; beat++) {
        await delay(5);
        const renewal = await answered("lock-renew", { ...own, ttl_seconds: 1 });
        if (renewal.lock) mine.until = Date.parse(renewal.lock.expires_at);
      }
      if (round % 5 === 0) continue; // a worker that dies: the lease ends by itself
      const { released, lock, reason } = await answered("lock-release", own);
      if (released) mine.released = lock!.released_at!;
      else if (reason !== "busy") assertEquals(reason, "expired"); // after busy it ends by itself
    }
  }

  const workers = Promise.all(Array.from({ length: 6 }, (_, i) => worker(i)));
  let died = false; // a worker whose check failed ends the test, not only the worker
  workers.catch(() => died = true);
  for (let round = 0; round < runs(2, 60) && !died; round++) {
    await delay(300);
    await kill(round % 2 === 0 ? "the server" : "a connection");
    const grants = seen.length;
    await until(() => seen.length > grants + 5 || died);
  }
  over = true;
  await workers;

  assertGreater(unanswered, 0, "the kills hit a call, or this has shown nothing");
  await assertAllKept(databases, seen, refused);
});

/** What the workers were answered, against what the database has kept. */
async function assertAllKept(
  databases: string[],
  seen: Seen[],
  refused: { lock_id: string; answer: Answer }[],
): Promise<void> {
  const leases = await leasesOf(...databases);
  const byId = new Map(leases.map((lease) => [lease.lock_id, lease]));
  for (const { grant, until, released } of seen) {
    const lease = byId.get(grant.lock_id)!;
    assert(lease, `the grant ${grant.fencing_token} of ${grant.database_name} is lost`);
    assertEquals(Number(lease.fencing_token), grant.fencing_token);
    assertEquals(lease.locked_at.getTime(), Date.parse(grant.locked_at));
    const ended = lease.ended_at.getTime();
    if (released) assertEquals([lease.end_reason, ended], ["released", Date.parse(released)]);
    else assertGreaterOrEqual(ended, until, "a renewal that was answered is lost");
  }
  for (const { lock_id, answer } of refused) {
    const lease = byId.get(lock_id);
    if (answer.reason === "busy") continue; // it says nothing of the tries before it, whose answers were lost
    if (answer.reason === "held") {
      assertEquals(lease, undefined, "refused, and yet granted");
    } else {
      assertEquals([answer.reason, answer.end_reason], ["ended", "expired"]);
      assertEquals(lease?.ended_at.getTime(), Date.parse(answer.ended_at!));
    }
  }
  for (const database of databases) {
    leases.filter((lease) => lease.database_name === database).reduce((before, lease) => {
      assertGreater(BigInt(lease.fencing_token), BigInt(before.fencing_token));
      assertGreaterOrEqual(lease.locked_at.getTime(), before.ended_at.getTime(), "two holders");
      return lease;
    });
    // the same by the workers' answers alone
    seen.filter(({ grant }) => grant.database_name === database)
      .toSorted((a, b) => a.grant.fencing_token - b.grant.fencing_token)
      .reduce((before, next) => {
        assertGreater(next.grant.fencing_token, before.grant.fencing_token);
        const end = before.released ? Date.parse(before.released) : before.until;
        assertGreaterOrEqual(
          Date.parse(next.grant.locked_at),
          end,
          "two holders, by their answers",
        );
        return next;
      });
  }
}
