import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertRejects,
} from "@std/assert";
import { openSession, until } from "../supabase/tests/support/race.ts";
import { client, publishableKey, sql } from "../supabase/tests/support/stack.ts";
import { newTenant, type Tenant } from "../supabase/tests/support/tenant.ts";
import { createLockClient, type Lease, LockError, LockLostError } from "./mod.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const forever = () => new Promise<never>(() => {});
const layout = ({ video }: Tenant) => ({ video_id: video, database_name: "layout" });
const holder = async (tenant: Tenant) => (await tenant.state())?.lock_id ?? null;

/** Waits for a request to reject as Web Locks has it for a lock that is lost. */
async function lost(request: Promise<unknown>): Promise<LockLostError> {
  const error = await assertRejects(() => request, DOMException) as DOMException & {
    cause?: unknown;
  };
  assertEquals(error.name, "AbortError");
  assertInstanceOf(error.cause, LockLostError);
  return error.cause as LockLostError;
}

Deno.test("acquire gives a lease with everything that it says, and await using releases it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const locks = createLockClient(anna.client);
  let kept: Lease;
  {
    await using lease = await locks.acquire(layout(tenant), { ttlSeconds: 30 });
    kept = lease;
    const state = await tenant.state();
    assertEquals([lease.name, lease.mode, lease.key], ["layout", "exclusive", layout(tenant)]);
    assertEquals([lease.lockId, lease.fencingToken], [
      state!.lock_id,
      Number(state!.fencing_token),
    ]);
    assertEquals([lease.state, lease.signal.aborted], ["held", false]);
    assert(
      lease.secondsLeft > 27 && lease.secondsLeft <= 29,
      "less than the database's, by a margin",
    );
    assertEquals("state" in lease.granted && lease.granted.state.server_version, 0);
  }
  assertEquals(await holder(tenant), null);
  assertEquals([kept.state, kept.secondsLeft, kept.signal.aborted], ["lost", 0, true]);
  assertEquals((kept.signal.reason as LockLostError).reason, "released");
});

Deno.test("a worker holds in its own name, and one of the same name takes over from it", async () => {
  await using tenant = await newTenant();
  const first = createLockClient(tenant.server, { holder: "worker-1" });
  const end = lost(first.request(layout(tenant), { ttlSeconds: 2 }, forever));
  await until(async () => await holder(tenant) !== null);
  assertEquals((await tenant.state())?.lock_holder_user_id, "worker-1");
  const other = createLockClient(tenant.server, { holder: "worker-2" });
  const error = await assertRejects(
    () => other.acquire(layout(tenant), { steal: true }),
    LockError,
  );
  assertEquals([error.code, error.holder?.is_you], ["LOCK_NOT_ACQUIRED", false]);
  const again = createLockClient(tenant.server, { holder: "worker-1" });
  await again.request(layout(tenant), { steal: true }, () => {});
  assertEquals((await end).reason, "taken_over");
});

Deno.test("a set is acquired whole, and its locks are refused one by one", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const key = { video_id: tenant.video, database_names: ["layout", "captions"] };
  const locks = createLockClient(anna.client);
  await locks.request(key, async (lease) => {
    assertEquals(lease.name, "layout,captions");
    const { held } = await locks.query(key);
    assertEquals(held.map(({ name }) => name), ["layout", "captions"]);
    for (const database_name of key.database_names) {
      const one = { video_id: tenant.video, database_name };
      assertEquals(await createLockClient(ben.client).acquire(one, { ifAvailable: true }), null);
      assertEquals(await locks.acquire(one, { ifAvailable: true }), null, "nor by oneself");
    }
  });
  assertEquals(await locks.query(key), { held: [], pending: [] });
});

Deno.test("a set that loses one of its locks to a steal gives the others back at once", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const key = { video_id: tenant.video, database_names: ["layout", "captions"] };
  const set = lost(createLockClient(anna.client).request(key, { ttlSeconds: 2 }, forever));
  await until(async () => await holder(tenant) !== null);
  await using stolen = await createLockClient(anna.client).acquire(layout(tenant), { steal: true });
  assertEquals((await set).reason, "taken_over");
  await until(async () => (await tenant.state(tenant.video, "captions"))?.lock_id === null);
  const [captions] = await tenant.history(tenant.video, "captions");
  assertEquals([captions?.end_reason, await holder(tenant)], ["released", stolen.lockId]);
});

Deno.test("waitSeconds bounds the wait; the error names the holder, and whether that is you", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const mine = createLockClient(anna.client);
  await using _ = await mine.acquire(layout(tenant));
  for (const [locks, isYou] of [[mine, true], [createLockClient(ben.client), false]] as const) {
    const started = performance.now();
    const error = await assertRejects(
      () => locks.acquire(layout(tenant), { waitSeconds: 1 }),
      LockError,
    );
    assertEquals([error.code, error.holder?.lock_holder_user_id, error.holder?.is_you], [
      "LOCK_NOT_ACQUIRED",
      anna.id,
      isYou,
    ]);
    const waited = performance.now() - started;
    assert(waited > 900 && waited < 1500, `waited ${waited} ms`);
  }
  await until(async () => (await mine.query({ video_id: tenant.video })).pending.length === 0);
});

Deno.test("query shows other holders and waiters, so that a deadlock of two can be seen", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const [one, two] = [createLockClient(anna.client), createLockClient(ben.client)];
  const names = ["layout", "captions"].map((database_name) => ({
    video_id: tenant.video,
    database_name,
  }));
  const [first, second] = [await one.acquire(names[0]!), await two.acquire(names[1]!)];
  const waiting = [one.acquire(names[1]!), two.acquire(names[0]!)];
  await pause(100);
  for (const locks of [one, two]) {
    const { held, pending } = await locks.query({ video_id: tenant.video });
    const who = (list: typeof held, name: string) =>
      list.filter((info) => info.name === name).map(({ clientId }) => clientId);
    assertEquals([who(held, "layout"), who(held, "captions")], [[anna.id], [ben.id]]);
    assertEquals([who(pending, "layout"), who(pending, "captions")], [[ben.id], [anna.id]]);
  }
  await first.release();
  await second.release();
  for (const lease of await Promise.all(waiting)) await lease.release();
});

Deno.test("force takes the lock from anybody, for those who have the right to", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const admin = await tenant.join("admin", "admin");
  const request = createLockClient(anna.client).request(
    layout(tenant),
    { ttlSeconds: 2 },
    forever,
  );
  const end = lost(request);
  await until(async () => await holder(tenant) !== null);
  const steal = { steal: true, force: true };
  const error = await assertRejects(
    () => createLockClient(ben.client).acquire(layout(tenant), steal),
    LockError,
  );
  assertEquals(error.code, "FORBIDDEN");
  await using lease = await createLockClient(admin.client).acquire(layout(tenant), steal);
  const { reason, holder: now } = await end;
  assertEquals([reason, now?.lock_holder_user_id], ["force_released", admin.id]);
  assertEquals(await holder(tenant), lease.lockId);
});

Deno.test("a member who is removed loses the lease as forbidden, and it does not stay", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const request = createLockClient(anna.client).request(
    layout(tenant),
    { ttlSeconds: 2 },
    forever,
  );
  const end = lost(request);
  await until(async () => await holder(tenant) !== null);
  await tenant.leave(anna);
  assertEquals((await end).reason, "forbidden");
  await until(async () => await holder(tenant) === null);
});

Deno.test("force ends the holder's lease only: those who wait have their turn first", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const admin = await tenant.join("admin", "admin");
  const held = lost(
    createLockClient(anna.client).request(layout(tenant), { ttlSeconds: 2 }, forever),
  );
  await until(async () => await holder(tenant) !== null);
  const order: string[] = [];
  const waiting = createLockClient(ben.client).request(layout(tenant), async () => {
    order.push("ben");
    await pause(300);
    order.push("ben ends");
  });
  await until(async () => (await tenant.state())?.has_line === true);
  const steal = { steal: true, force: true };
  await createLockClient(admin.client).request(layout(tenant), steal, () => order.push("admin"));
  await waiting;
  assertEquals((await held).reason, "force_released");
  assertEquals(order, ["ben", "ben ends", "admin"]);
});

Deno.test("an idle holder gives way to a waiter, and only then", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const idle = { ttlSeconds: 2, maxIdleSeconds: 1 };
  const events: string[] = [];
  const request = createLockClient(anna.client).request(layout(tenant), idle, async (lease) => {
    lease.addEventListener(
      "waiting",
      () => events.push(`${lease.waiting.length}: ${lease.waiting.holders}`),
    );
    for (let i = 0; i < 4; i++) {
      await pause(500);
      lease.touch();
    }
    await forever();
  });
  const end = lost(request);
  await pause(1500);
  const before = (await tenant.state())!.last_activity_at!;
  await createLockClient(ben.client).request(layout(tenant), () => {});
  assertEquals((await end).reason, "idle");
  assertEquals(events[0], `1: ${ben.id}`);
  const [ended] = await tenant.history();
  assertEquals(ended!.end_reason, "released");
  assertGreater(ended!.ended_at.getTime() - before.getTime(), 1200, "not while it was touched");
});

Deno.test("an idle holder without waiters keeps the lease, without looking active", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const idle = { ttlSeconds: 1, maxIdleSeconds: 0.1 };
  await using lease = await createLockClient(anna.client).acquire(layout(tenant), idle);
  await pause(300);
  const { last_activity_at } = (await tenant.state())!;
  await pause(1200);
  assertEquals((await tenant.state())!.last_activity_at, last_activity_at);
  assertEquals(lease.state, "held");
});

Deno.test("a detached lease stays held, and of several who resume it exactly one gets it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const locks = createLockClient(anna.client);
  const handle = await locks.request(layout(tenant), (lease) => JSON.stringify(lease.detach()));
  assertEquals(await holder(tenant), JSON.parse(handle).lockId, "not released");
  // each has been told that it is held before the first one takes it
  const invoke = async (name: string, options: object) => {
    const result = await anna.client.functions.invoke(name, options);
    if (name === "lock-renew") await pause(150);
    return result;
  };
  const slow = Object.create(anna.client, { functions: { value: { invoke } } });
  const tries = await Promise.allSettled(
    [1, 2, 3].map(() => createLockClient(slow).resume(JSON.parse(handle))),
  );
  const won = tries.filter((one) => one.status === "fulfilled");
  assertEquals(won.length, 1);
  const { value: lease } = won[0]!;
  assertGreater(lease.fencingToken, JSON.parse(handle).fencingToken);
  assertEquals([lease.state, await holder(tenant)], ["held", lease.lockId]);
  for (const one of tries) {
    if (one.status === "rejected") assertEquals(one.reason.cause.reason, "taken_over");
  }
  await lease.release();
  assertEquals((await lost(locks.resume(JSON.parse(handle)))).reason, "taken_over");
  assertEquals(await holder(tenant), null);
});

Deno.test("a worker's detached lease is resumed in the same name by another worker", async () => {
  await using tenant = await newTenant();
  const lease = await createLockClient(tenant.server, { holder: "worker-1" }).acquire(
    layout(tenant),
  );
  await using resumed = await createLockClient(tenant.server, { holder: "worker-2" }).resume(
    lease.detach(),
  );
  assertEquals((await tenant.state())?.lock_id, resumed.lockId);
  assertEquals((await tenant.state())?.lock_holder_user_id, "worker-1");
});

Deno.test("releaseAll releases what is held and gives up what waits", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const locks = createLockClient(anna.client);
  const held = lost(locks.request(layout(tenant), forever));
  const waits = assertRejects(() => locks.request(layout(tenant), () => {}), DOMException);
  await pause(100);
  await locks.releaseAll();
  assertEquals((await held).reason, "released");
  assertEquals((await waits).name, "AbortError");
  assertEquals(await holder(tenant), null);
});

Deno.test("signing out releases at once, with the last token", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const supabase = client(publishableKey);
  const email = `leaver-${crypto.randomUUID()}@example.com`;
  const { data } = await supabase.auth.signUp({ email, password: "long enough" });
  await sql`insert into public.tenant_members (tenant_id, user_id) values (${tenant.id}, ${
    data.user!.id
  })`;
  const locks = createLockClient(supabase);
  const held = lost(locks.request(layout(tenant), forever));
  await until(async () => await holder(tenant) !== null);
  await supabase.auth.signOut();
  assertEquals((await held).reason, "released");
  await until(async () => await holder(tenant) === null);
  await using _ = await createLockClient(anna.client).acquire(layout(tenant), {
    ifAvailable: true,
  }) as Lease;
  await sql`delete from auth.users where id = ${data.user!.id}`;
});

Deno.test("watch reports holders and waiters as they come and go, by polling every five seconds where Realtime is missing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const real = globalThis.setTimeout;
  // the test does not wait so long
  globalThis.setTimeout =
    ((run: () => void, ms?: number) => real(run, ms === 5000 ? 100 : ms)) as typeof setTimeout;
  const reported: number[] = [];
  const watcher = await tenant.join("ben");
  const stop = createLockClient(watcher.client).watch({ video_id: tenant.video }, ({ held }) => {
    reported.push(held.length);
  });
  try {
    await until(() => Promise.resolve(reported.length === 1));
    await using _ = await createLockClient(anna.client).acquire(layout(tenant));
    await until(() => Promise.resolve(reported.length === 2));
    await pause(250);
    assertEquals(reported, [0, 1]); // the lease is released at the end of this block
  } finally {
    stop();
    globalThis.setTimeout = real;
  }
  await watcher.client.realtime.disconnect();
});

/** A table of the application's own, guarded. */
async function guardedTable(): Promise<{ name: string } & AsyncDisposable> {
  const name = `guarded_${crypto.randomUUID().slice(0, 8)}`;
  await sql.unsafe(`
    create table public.${name} (video_id uuid not null, line text not null);
    grant select, insert on public.${name} to authenticated, service_role;
    select holdfast.guard('public.${name}', database => 'layout');
    notify pgrst, 'reload schema'`);
  return {
    name,
    async [Symbol.asyncDispose]() {
      await sql.unsafe(`select holdfast.unguard('public.${name}'); drop table public.${name}`);
    },
  };
}

Deno.test("guard: a write of a live lease passes, one of a lost lease is refused and ends the lease here", async () => {
  await using tenant = await newTenant();
  await using table = await guardedTable();
  const anna = await tenant.join("anna");
  const row = { video_id: tenant.video, line: "one" };
  const locks = createLockClient(anna.client);
  let refusedAt = Infinity;
  const request = locks.request(layout(tenant), async (lease) => {
    const good = await lease.guard(anna.client.from(table.name).insert(row)).select();
    assertEquals([good.error, good.data], [null, [row]]);
    await tenant.backdate(61); // as after a long sleep, of which the client knows nothing
    const late = await lease.guard(anna.client.from(table.name).insert(row));
    assertEquals(late.error?.code, "PT412");
    refusedAt = performance.now();
    await forever();
  });
  assertEquals((await lost(request)).reason, "expired");
  assertLess(performance.now() - refusedAt, 5000, "at once, and not at the next renewal");
});

Deno.test("guard: a write is given up as soon as the lease is lost, also while the database hangs", async () => {
  await using tenant = await newTenant();
  await using table = await guardedTable();
  const anna = await tenant.join("anna");
  await using session = openSession();
  await session.run.unsafe(`begin; lock table public.${table.name} in access exclusive mode`);
  const lease = await createLockClient(anna.client).acquire(layout(tenant));
  const write = lease.guard(
    anna.client.from(table.name).insert({ video_id: tenant.video, line: "one" }).throwOnError(),
  );
  const result = assertRejects(async () => await write);
  await pause(100);
  await lease.release();
  await result;
  await session.run`rollback`;
});
