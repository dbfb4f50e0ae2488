// What bounds what grows: the databases of a video, their names, and the history.
import { assertEquals } from "@std/assert";
import { openSession } from "../support/race.ts";
import { acquire, invoke, release, sql } from "../support/stack.ts";
import { newTenant, type Tenant, W1 } from "../support/tenant.ts";

/** Gives a video this many databases: db1, db2, … */
const fill = (tenant: Tenant, databases: number) =>
  sql`
    insert into public.video_database_state (video_id, database_name, tenant_id)
    select ${tenant.video}, 'db' || n, ${tenant.id} from generate_series(1, ${databases}) n`;

const databases = async (tenant: Tenant) =>
  (await sql`select from public.video_database_state where video_id = ${tenant.video}`).length;

/** The error's code, or null. */
const code = (query: Promise<unknown>) => query.then(() => null, (error) => error.code as string);

Deno.test("a video has at most 100 databases: the next name is an error, and those there are go on", async () => {
  await using tenant = await newTenant();
  await fill(tenant, 99);
  const key = (database_name: string) => ({ video_id: tenant.video, database_name });
  assertEquals((await acquire(tenant.server, { ...key("db100"), ...W1 })).acquired, true);
  const { status, body } = await invoke(tenant.server, "lock-acquire", { ...key("db101"), ...W1 });
  assertEquals([status, body.code], [400, "INVALID_REQUEST"]);
  assertEquals(body.details, [{
    path: "database_name",
    message: "must be one that the video has already: it has 100, the most that are allowed",
  }]);
  assertEquals((await acquire(tenant.server, { ...key("db1"), ...W1 })).acquired, true);
  const upserted = await tenant.server.from("video_database_state").upsert({
    ...key("db2"),
    tenant_id: tenant.id,
    server_version: 3,
  }, { onConflict: "video_id,database_name", ignoreDuplicates: true });
  assertEquals(upserted.error, null, "it is there already");
  // nothing of this name can be acquired, so there is nothing to cancel
  assertEquals(
    await release(tenant.server, { ...key("db101"), lock_id: crypto.randomUUID() }),
    { released: false, reason: "cancelled", holder: null },
  );
  assertEquals(await databases(tenant), 100);
});

Deno.test("two databases that are made at the same time count one after the other", async () => {
  await using tenant = await newTenant();
  await fill(tenant, 99);
  await using one = openSession();
  await using two = openSession();
  await one.run`begin`;
  const insert = (session: typeof one, name: string) =>
    code(session.run`
      insert into public.video_database_state (video_id, database_name, tenant_id)
      values (${tenant.video}, ${name}, ${tenant.id})`);
  assertEquals(await insert(one, "one"), null);
  const waiting = insert(two, "two");
  // the other way to fail: it does not wait, and both are there
  await Promise.race([two.blocked(), waiting]);
  await one.run`commit`;
  assertEquals(await waiting, "PT400");
  assertEquals(await databases(tenant), 100);
});

Deno.test("where there is a list of names, a name that is not on it is an error", async () => {
  await using tenant = await newTenant();
  await using session = openSession();
  const attempt = async (name: string) => {
    await session.run`savepoint here`;
    const [row] = await session.run`
      select public.acquire_lock(${tenant.video}, ${name}, 'worker-1') as answer`
      .catch((error) => [{ answer: { code: error.code, detail: error.detail } }]);
    await session.run`rollback to savepoint here`;
    return row!.answer;
  };
  await session.run`begin`;
  assertEquals((await attempt("lay-out")).acquired, true, "without a list any name will do");
  await session.run`insert into holdfast.database_names values ('layout'), ('captions')`;
  assertEquals((await attempt("layout")).acquired, true);
  const typo = await attempt("lay-out");
  assertEquals(typo.code, "PT400");
  assertEquals(JSON.parse(typo.detail), [{
    path: "database_name",
    message: "must be one of captions, layout",
  }]);
  await session.run`rollback`;
});

Deno.test("prune_lock_history deletes what ended long enough ago, in batches, and waits for nobody", async () => {
  await using tenant = await newTenant();
  const entries = (days: number[]) =>
    sql`
      insert into public.video_database_lock_history (
        video_id, tenant_id, database_name, lock_id, lock_holder_user_id, lock_type, locked_at, ended_at, end_reason,
        fencing_token
      )
      select ${tenant.video}, ${tenant.id}, 'layout', gen_random_uuid(), 'worker-1', 'server', now(),
        now() - d * interval '1 day', 'released', d
      from unnest(${days}::integer[]) d`;
  const left = async () => (await tenant.history()).map((entry) => Number(entry.fencing_token));
  const prune = async (args: Record<string, unknown>) => {
    const { data, error } = await tenant.server.rpc("prune_lock_history", args);
    return error?.code ?? data;
  };
  await prune({ older_than: "3000 days" });
  await entries([1, 89, 91, 4001, 4002, 4003]);
  assertEquals(await prune({ older_than: "4000 days", batch_size: 2 }), 2);
  await using other = openSession();
  await other.run`begin`;
  await other.run`
    select from public.video_database_lock_history
    where video_id = ${tenant.video} and fencing_token > 4000 for update`;
  assertEquals(await prune({ older_than: "4000 days" }), 0, "another transaction is at it");
  await other.run`rollback`;
  assertEquals(await prune({ older_than: "4000 days" }), 1);
  assertEquals(await left(), [1, 89, 91]);
  await prune({});
  assertEquals(await left(), [1, 89], "90 days, where nothing is said");
  for (const args of [{ older_than: "23 hours" }, { batch_size: 0 }, { batch_size: 100_001 }]) {
    assertEquals(await prune(args), "PT400", JSON.stringify(args));
  }
  assertEquals(await left(), [1, 89]);
});

Deno.test("lock_counts shows what is held, lapsed, waited for, and how leases ended in the last hour", async () => {
  await using tenant = await newTenant();
  const counts = async () =>
    Object.fromEntries(
      (await sql<{ what: string; locks: string }[]>`select * from holdfast.lock_counts`)
        .map(({ what, locks }) => [what, Number(locks)]),
    );
  const before = await counts();
  const lock = (database_name: string) => ({
    video_id: tenant.video,
    database_name,
    lock_holder_user_id: "w1",
  });
  for (const name of ["held", "lapsed", "ended", "long-ago"]) {
    await acquire(tenant.server, lock(name));
  }
  await tenant.backdate(121, tenant.video, "lapsed");
  for (const name of ["ended", "long-ago"]) await release(tenant.server, lock(name));
  await sql`
    update public.video_database_lock_history set ended_at = ended_at - interval '61 minutes'
    where video_id = ${tenant.video} and database_name = 'long-ago'`;
  for (
    const [name, lock_id] of [["held", crypto.randomUUID()], ["held", crypto.randomUUID()]] as const
  ) {
    await acquire(tenant.server, {
      ...lock(name),
      lock_holder_user_id: "w2",
      lock_id,
      queue_seconds: 60,
    });
  }
  await sql`
    update holdfast.place set kept_until = now() - interval '1 s'
    where lock_id = (select min(lock_id::text)::uuid from holdfast.place where video_id = ${tenant.video})`;
  await release(tenant.server, {
    video_id: tenant.video,
    database_name: "held",
    lock_id: crypto.randomUUID(),
  });
  const after = await counts();
  const added = Object.fromEntries(
    Object.entries(after).map(([what, n]) => [what, n - before[what]!]).filter(([, n]) => n !== 0),
  );
  assertEquals(added, {
    "held": 1,
    "lapsed": 1,
    "waiting": 1,
    "ended in the last hour: released": 1,
    "cancelled in the last hour": 1,
  });
});

Deno.test("neither the locks nor their history can be truncated, by whomever", async () => {
  for (const table of ["video_database_state", "video_database_lock_history"]) {
    assertEquals(await code(sql.unsafe(`truncate public.${table}`)), "0A000", table);
  }
});
