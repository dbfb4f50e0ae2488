// Many callers want sets of locks that overlap, in any order of the names: nobody deadlocks, nobody wins half a set, nobody
// is overtaken, and all get on.
import { assert, assertEquals } from "@std/assert";
import { type Door, newestHttpDoor, sqlDoor } from "../support/doors.ts";
import { runs } from "../support/soak.ts";
import { type Lock, sql } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";

const NAMES = ["audio", "captions", "chapters", "layout"];

interface Grant {
  names: string[];
  token: number;
  /** When it got its place, or the grant if it never had to wait: in microseconds. */
  came: number;
}

/** One caller: gets sets, holds each for a moment, and gives it back, so many times. */
async function work(
  door: Door,
  { video, holder, times, holding, deadline }: {
    video: string;
    holder: string;
    times: number;
    /** Who holds what, as the callers see it. */
    holding: Map<string, string>;
    deadline: number;
  },
): Promise<Grant[]> {
  const grants: Grant[] = [];
  while (grants.length < times) {
    const names = shuffled(NAMES).slice(0, 1 + Math.floor(Math.random() * 3));
    // one alone by its name, as the usual caller asks: it must not overtake a set either
    const which = names.length === 1 ? { database_name: names[0] } : { database_names: names };
    const key = { video_id: video, ...which, lock_id: crypto.randomUUID() };
    const asking = { ...key, lock_holder_user_id: holder, ttl_seconds: 60, queue_seconds: 30 };
    const gone = Math.random() < 0.1;
    let came: number | undefined;
    for (;;) {
      // a caller who dies in the line holds it up no longer than a place lasts
      const answer = await door(
        {},
        "acquire_lock",
        gone ? { ...asking, queue_seconds: 1 } : asking,
      );
      assert(Date.now() < deadline, `${holder} does not get on: ${JSON.stringify(answer)}`);
      if (answer.acquired) {
        const [lock] = (answer.locks ?? [answer.lock]) as Lock[];
        for (const name of names) {
          assertEquals(holding.get(name), undefined, `${name} is held already`);
          holding.set(name, key.lock_id);
        }
        came ??= await microseconds(sql`${lock!.locked_at}::timestamptz`);
        grants.push({ names, token: lock!.fencing_token, came });
        await pause(5);
        for (const name of names) holding.delete(name);
        while ((await door({}, "release_lock", key)).released !== true);
        break;
      }
      if (gone) {
        if (Math.random() < 0.5) await door({}, "release_lock", key);
        break;
      }
      assert(["held", "queued", "busy", undefined].includes(answer.reason as string));
      if (came === undefined && (answer.queue as { position: number | null })?.position) {
        came = await microseconds(
          sql`(select min(queued_at) from holdfast.place where lock_id = ${key.lock_id})`,
        );
      }
      await pause(20);
    }
  }
  return grants;
}

/** Watches the rows until it is stopped: a set is seen whole or not at all. */
async function watch(video: string, stop: AbortSignal): Promise<number> {
  let seen = 0;
  while (!stop.aborted) {
    const rows = await sql<{ names: string; set: string; tokens: number }[]>`
      select string_agg(database_name, ' ' order by database_name collate "C") as names,
        coalesce(array_to_string(lock_database_names, ' '), min(database_name)) as set, count(distinct fencing_token)::integer as tokens
      from public.video_database_state where video_id = ${video} and lock_id is not null
      group by lock_id, lock_database_names`;
    for (const { names, set, tokens } of rows) {
      assertEquals([names, tokens], [set, 1], "a set is held whole, with one token");
      if (set.includes(" ")) seen++;
    }
    await pause(3);
  }
  return seen;
}

Deno.test("overlapping sets of many callers never deadlock, never half-win, overtake nobody, and always get on", async () => {
  await using tenant = await newTenant();
  await using stack = new AsyncDisposableStack();
  const http = await newestHttpDoor();
  const times = runs(4, 200);
  const caller = {
    video: tenant.video,
    times,
    holding: new Map<string, string>(),
    deadline: Date.now() + runs(60_000, 1_800_000),
  };
  const before = await deadlocks();
  const stop = new AbortController();
  const watching = watch(tenant.video, stop.signal);
  const all = await Promise.all(
    Array.from(
      { length: 12 },
      (_, i) => work(i % 3 === 0 ? http : sqlDoor(stack), { ...caller, holder: `worker-${i}` }),
    ),
  ).finally(() => stop.abort());
  assert(await watching > 0, "sets were seen");
  const grants = all.flat().sort((a, b) => a.token - b.token);
  assertEquals(grants.length, 12 * times);
  // P12: of two that want the same lock, the one that came first had it first
  for (const [i, later] of grants.entries()) {
    for (const earlier of grants.slice(0, i)) {
      if (earlier.names.some((name) => later.names.includes(name))) {
        assert(
          earlier.came < later.came,
          `${JSON.stringify(earlier)} overtook ${JSON.stringify(later)}`,
        );
      }
    }
  }
  assertEquals(await deadlocks(), before, "deadlocks that PostgreSQL had to break");
});

/** How many there were in this database, ever. */
async function deadlocks(): Promise<string> {
  // a session reports its numbers a second after its last transaction, or when it is idle
  await pause(1100);
  const [row] = await sql<{ deadlocks: string }[]>`
    select deadlocks from pg_stat_database where datname = current_database()`;
  return row!.deadlocks;
}

async function microseconds(time: ReturnType<typeof sql>): Promise<number> {
  const [row] = await sql<{ us: string | null }[]>`
    select (extract(epoch from ${time}) * 1000000)::bigint as us`;
  return Number(row!.us ?? NaN);
}

function shuffled<T>(all: T[]): T[] {
  return all.map((one) => [Math.random(), one] as const).sort(([a], [b]) => a - b).map(([, one]) =>
    one
  );
}

function pause(most: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.random() * most));
}
