import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import { openSession } from "../support/race.ts";
import { runs } from "../support/soak.ts";
import { acquire, invoke, release, renew, sql } from "../support/stack.ts";
import { layout, newTenant, type Tenant, user, W1, W2 } from "../support/tenant.ts";

Deno.test("lock-release by lock_id ends the lease, in the words of the contract", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const answer = await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
  assertEquals(answer, {
    released: true,
    lock: {
      ...layout(tenant),
      lock_id: lock!.lock_id,
      lock_holder_user_id: "worker-1",
      lock_type: "server",
      fencing_token: lock!.fencing_token,
      locked_at: lock!.locked_at,
      released_at: answer.lock!.released_at!,
    } as unknown as typeof lock & object,
  });
  assertGreaterOrEqual(answer.lock!.released_at!, lock!.locked_at);
});

Deno.test("P5 a release repeated gets the same answer, also when others have held the lock since", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  const first = await release(tenant.server, request);
  assertEquals(await release(tenant.server, request), first);
  await acquire(tenant.server, { ...layout(tenant), ...W2 });
  const before = await tenant.state();
  assertEquals(await release(tenant.server, request), first);
  assertEquals(await tenant.state(), before, "P6: the new lease is not touched");
});

Deno.test("P6 a release that names nothing is an error, of a user too, and ends nothing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await acquire(anna.client, layout(tenant));
  const before = await tenant.state();
  // JSON drops what is undefined: here it was to be one tab's lease, and the other tab holds the lock
  for (const body of [layout(tenant), { ...layout(tenant), force: false, lock_id: undefined }]) {
    for (const caller of [anna.client, tenant.server]) {
      const answer = await invoke(caller, "lock-release", body);
      assertEquals([answer.status, answer.body.code, answer.body.details], [
        400,
        "INVALID_REQUEST",
        [{ path: "lock_id", message: "is required, or lock_holder_user_id, or force" }],
      ]);
    }
  }
  assertEquals(await tenant.state(), before);
});

Deno.test("lock-release by a user's own id ends any lease of theirs, and only theirs", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const own = (lock_holder_user_id: string) => ({ ...layout(tenant), lock_holder_user_id });
  await acquire(anna.client, layout(tenant));
  const notHis = await release(ben.client, own(ben.id));
  assertEquals([notHis.released, notHis.reason], [false, "held_by_another"]);
  assertEquals(notHis.holder?.lock_holder_user_id, anna.id);
  const inHerName = await invoke(ben.client, "lock-release", own(anna.id));
  assertEquals([inHerName.status, inHerName.body.code], [403, "FORBIDDEN"]);
  assertEquals((await release(anna.client, own(anna.id))).released, true);
  await acquire(anna.client, layout(tenant));
  assertEquals((await release(anna.client, own(anna.id.toUpperCase()))).released, true);
  assertEquals(await release(anna.client, own(anna.id)), {
    released: false,
    reason: "not_held",
    holder: null,
  });
});

Deno.test("lock-release by holder ends, for a server, server leases of that name only", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  const byName = await release(tenant.server, { ...layout(tenant), lock_holder_user_id: anna.id });
  assertEquals([byName.released, byName.reason], [false, "held_by_another"]);
  await release(anna.client, { ...layout(tenant), lock_id: lock!.lock_id });
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals(
    (await release(tenant.server, { ...layout(tenant), ...W2 })).reason,
    "held_by_another",
  );
  assertEquals((await release(tenant.server, { ...layout(tenant), ...W1 })).released, true);
});

Deno.test("lock_holder_user_id is beside neither lock_id nor force", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  for (const more of [{ lock_id: lock!.lock_id }, { force: true }]) {
    const { status, body } = await invoke(tenant.server, "lock-release", {
      ...layout(tenant),
      ...W1,
      ...more,
    });
    assertEquals([status, body.details?.map(({ path }) => path)], [400, ["lock_holder_user_id"]]);
  }
  assertEquals((await tenant.state())?.lock_id, lock!.lock_id);
});

Deno.test("P6 another caller's lock_id, known exactly, releases nothing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben", "admin");
  const { lock } = await acquire(anna.client, layout(tenant));
  const before = await tenant.state();
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  for (const caller of [ben.client, tenant.server]) {
    const answer = await release(caller, request);
    assertEquals([answer.released, answer.reason], [false, "held_by_another"]);
    assertEquals(answer.holder?.is_you, false);
  }
  assertEquals(await tenant.state(), before);
});

Deno.test("P8 a user of another tenant learns nothing from a lock_id, held or ended", async () => {
  await using tenant = await newTenant();
  await using elsewhere = await newTenant();
  const anna = await tenant.join("anna");
  const mallory = await elsewhere.join("mallory");
  const { lock } = await acquire(anna.client, layout(tenant));
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  const missing = { ...request, video_id: crypto.randomUUID() };
  const stranger = async () => {
    const theirs = await invoke(mallory.client, "lock-release", request);
    const none = await invoke(mallory.client, "lock-release", missing);
    assertEquals([theirs.status, theirs.body], [404, none.body]);
  };
  await stranger();
  await release(anna.client, request);
  await stranger();
});

Deno.test("P6 a near-miss lock_id releases nothing: it is cancelled, the first time and every time", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const { has_line: _, ...before } = (await tenant.state())!;
  const last = lock!.lock_id.at(-1) === "0" ? "1" : "0";
  const nearMiss = { ...layout(tenant), lock_id: lock!.lock_id.slice(0, -1) + last };
  const first = await release(tenant.server, nearMiss);
  assertEquals([first.released, first.reason], [false, "cancelled"]);
  assertEquals(first.holder?.lock_holder_user_id, "worker-1");
  assertEquals(await release(tenant.server, nearMiss), first);
  const { has_line, ...after } = (await tenant.state())!;
  assertEquals(after, before);
  assertEquals(has_line, true, "acquire has to look for the cancellation");
  // what was not released goes on as before
  const mine = { ...layout(tenant), lock_id: lock!.lock_id };
  assertEquals((await renew(tenant.server, mine)).renewed, true);
  assertEquals((await release(tenant.server, mine)).released, true);
});

Deno.test("P5 a release that overtakes its acquire cancels it: the late acquire is refused, for each caller", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  for (const [caller, who] of [[anna.client, {}], [tenant.server, W1]] as const) {
    for (const row of ["is not there yet", "is there"]) {
      const early = { ...layout(tenant), lock_id: crypto.randomUUID() };
      assertEquals(await release(caller, early), {
        released: false,
        reason: "cancelled",
        holder: null,
      }, `the row ${row}`);
      const late = await acquire(caller, { ...early, ...who });
      assertEquals(late, {
        acquired: false,
        reason: "ended",
        database_name: "layout",
        end_reason: "cancelled",
        ended_at: late.ended_at!,
        holder: null,
        retry_after_ms: 0,
        server_time: late.server_time!,
      });
      assertEquals(late.ended_at! <= late.server_time!, true);
      assertEquals((await renew(caller, early)).reason, "cancelled");
      assertEquals((await tenant.state())?.lock_id, null, "no lease that nobody holds");
    }
  }
  assertEquals((await tenant.history()).length, 0, "there was no lease");
  // and the lock is free for everybody else
  assertEquals((await acquire(tenant.server, { ...layout(tenant), ...W2 })).acquired, true);
});

Deno.test("P5 an acquire and its release that are both in flight: either order is right, and no lease is left", async () => {
  await using tenant = await newTenant();
  await using one = openSession({ role: "service_role" });
  await using other = openSession({ role: "service_role" });
  const seen = new Set<string>();
  for (let round = 0; round < runs(150, 2_000); round++) {
    const lock_id = crypto.randomUUID();
    // some on a row that is there and some on one that is not
    const database = round % 5 ? "layout" : "captions";
    if (database === "captions") {
      await sql`
        delete from public.video_database_state where video_id = ${tenant.video} and database_name = 'captions'`;
    }
    const acquiring = () =>
      one
        .run`select public.acquire_lock(${tenant.video}, ${database}, 'worker-1', ${lock_id}::uuid) as answer`;
    const releasing = () =>
      other
        .run`select public.release_lock(${tenant.video}, ${database}, ${lock_id}::uuid) as answer`;
    const both = round % 2
      ? await Promise.all([acquiring(), releasing()])
      : (await Promise.all([releasing(), acquiring()])).toReversed();
    const [acquired, released] = both.map(([row]) => row?.answer);
    const outcome = [
      acquired.acquired ? "acquired" : acquired.end_reason ?? acquired.reason,
      released.released ? "released" : released.reason,
    ].join();
    seen.add(outcome);
    const state = await tenant.state(tenant.video, database);
    assertEquals(state?.lock_id ?? null, null, `round ${round}: ${outcome}`);
  }
  assertEquals(
    [...seen].filter((outcome) => !["acquired,released", "cancelled,cancelled"].includes(outcome)),
    [],
  );
});

Deno.test("P6 a cancellation counts for its caller alone: another's acquire with that lock_id is granted", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const request = { ...layout(tenant), lock_id: crypto.randomUUID() };
  for (const caller of [ben.client, tenant.server]) {
    assertEquals((await release(caller, request)).reason, "cancelled");
  }
  assertEquals((await acquire(ben.client, request)).end_reason, "cancelled");
  assertEquals((await acquire(anna.client, request)).acquired, true);
  assertEquals((await release(anna.client, request)).released, true);
});

Deno.test("a cancellation is kept for an hour, and then pruned", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), lock_id: crypto.randomUUID() };
  await release(tenant.server, request);
  const age = (minutes: number) =>
    sql`
      update holdfast.cancellation set cancelled_at = clock_timestamp() - ${minutes} * interval '1 minute'
      where lock_id = ${request.lock_id}`;
  const late = () => acquire(tenant.server, { ...request, ...W1 });
  await age(59);
  await sql`select public.release_expired_locks()`;
  assertEquals((await late()).end_reason, "cancelled");
  await age(61);
  await sql`select public.release_expired_locks()`;
  assertEquals((await late()).acquired, true, "a lock_id that nobody remembers is as good as new");
  assertEquals((await tenant.state())?.has_line, false, "nothing to look for any more");
});

Deno.test("P7 releasing a lease that ran out says expired, clears the row, and keeps saying it", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await tenant.backdate(500);
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  const first = await release(tenant.server, request);
  assertEquals(first, { released: false, reason: "expired", holder: null });
  assertEquals(await release(tenant.server, request), first);
  assertEquals((await tenant.state())?.lock_id, null);
  const [ended] = await tenant.history();
  assertEquals([ended?.end_reason, ended?.ended_at.getTime()], [
    "expired",
    Date.parse(lock!.expires_at) - 500_000,
  ]);
  // however the release names it
  for (const named of [W1, { force: true }]) {
    await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await tenant.backdate(500);
    assertEquals(await release(tenant.server, { ...layout(tenant), ...named }), first);
    assertEquals((await tenant.state())?.lock_id, null);
  }
});

Deno.test("force ends any lease: for the secret key and an admin, for nobody else", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const chief = await tenant.join("chief", "admin");
  const force = { ...layout(tenant), force: true };

  await acquire(anna.client, layout(tenant));
  const forbidden = await invoke(anna.client, "lock-release", force);
  assertEquals([forbidden.status, forbidden.body.code], [403, "FORBIDDEN"]);
  const outsider = await invoke((await user("mallory")).client, "lock-release", force);
  assertEquals([outsider.status, outsider.body.code], [404, "VIDEO_NOT_FOUND"]);
  assertEquals((await tenant.state())?.lock_holder_user_id, anna.id);

  for (const caller of [chief.client, tenant.server]) {
    const { lock } = await acquire(anna.client, { ...layout(tenant), lock_id: crypto.randomUUID() })
      .then(async (answer) => answer.lock ? answer : { lock: await held(tenant) });
    assertEquals((await release(caller, force)).released, true);
    assertEquals(await release(caller, force), {
      released: false,
      reason: "not_held",
      holder: null,
    });
    // the holder learns it
    const late = await release(anna.client, { ...layout(tenant), lock_id: lock!.lock_id });
    assertEquals(late, { released: false, reason: "force_released", holder: null });
  }
  assertEquals((await tenant.history()).map((lease) => [lease.end_reason, lease.ended_by]), [
    ["force_released", chief.id],
    ["force_released", "service_role"],
  ]);
});

Deno.test("P6 force with a lock_id ends that acquisition, and none that came after it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const chief = await tenant.join("chief", "admin");
  for (const caller of [chief.client, tenant.server]) {
    const { lock } = await acquire(anna.client, layout(tenant));
    const forced = { ...layout(tenant), lock_id: lock!.lock_id, force: true };
    const first = await release(caller, forced);
    assertEquals(first, {
      released: true,
      lock: {
        ...layout(tenant),
        lock_id: lock!.lock_id,
        lock_holder_user_id: anna.id,
        lock_type: "client",
        fencing_token: lock!.fencing_token,
        locked_at: lock!.locked_at,
        released_at: first.lock!.released_at!,
      } as unknown as typeof lock & object,
    });
    const next = await acquire(anna.client, layout(tenant));
    const before = await tenant.state();
    assertEquals(await release(caller, forced), first, "the same answer again");
    assertEquals(await tenant.state(), before);
    await release(anna.client, { ...layout(tenant), lock_id: next.lock!.lock_id });
  }
  const { status } = await invoke(anna.client, "lock-release", {
    ...layout(tenant),
    lock_id: crypto.randomUUID(),
    force: true,
  });
  assertEquals(status, 403);
});

Deno.test("force with a lock_id that never was ends nothing, and cancels nobody's acquisition", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const unknown = { ...layout(tenant), lock_id: crypto.randomUUID() };
  assertEquals(await release(tenant.server, { ...unknown, force: true }), {
    released: false,
    reason: "not_held",
    holder: null,
  });
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const before = await tenant.state();
  const answer = await release(tenant.server, { ...unknown, force: true });
  assertEquals([answer.released, answer.reason], [false, "held_by_another"]);
  assertEquals(await tenant.state(), before);
  await release(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals((await acquire(anna.client, unknown)).acquired, true);
});

Deno.test("ended_by names nobody where nobody forced it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  await release(anna.client, { ...layout(tenant), lock_id: lock!.lock_id });
  await acquire(anna.client, layout(tenant));
  await acquire(anna.client, { ...layout(tenant), take_over: true });
  await tenant.backdate(121);
  await sql`select public.release_expired_locks()`;
  assertEquals((await tenant.history()).map((lease) => [lease.end_reason, lease.ended_by]), [
    ["released", null],
    ["taken_over", null],
    ["expired", null],
  ]);
});

const held = async (tenant: Tenant) => ({ lock_id: (await tenant.state())!.lock_id! });

Deno.test("release after the caller lost the right to the video still works; acquire and renew then do not", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  await tenant.leave(anna);
  for (const [name, body] of [["lock-renew", request], ["lock-acquire", layout(tenant)]] as const) {
    const answer = await invoke(anna.client, name, body);
    assertEquals([answer.status, answer.body.code], [404, "VIDEO_NOT_FOUND"], name);
  }
  const first = await release(anna.client, request);
  assertEquals(first.released, true);
  assertEquals(await release(anna.client, request), first);
  // what is not hers is not hers to know any more
  for (const named of [{ lock_holder_user_id: anna.id }, { lock_id: crypto.randomUUID() }]) {
    const { status } = await invoke(anna.client, "lock-release", { ...layout(tenant), ...named });
    assertEquals(status, 404);
  }
});

Deno.test("P8 who lost the right to the video learns how the lease ended, and not who holds the lock now", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  await release(tenant.server, { ...layout(tenant), force: true });
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  assertEquals((await release(anna.client, request)).holder?.lock_holder_user_id, "worker-1");
  await tenant.leave(anna);
  assertEquals(await release(anna.client, request), {
    released: false,
    reason: "force_released",
    holder: null,
  });
});

Deno.test("a video deleted under its holder: renew says 404, release says how it was lost", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  const request = { ...layout(tenant), lock_id: lock!.lock_id };
  await sql`delete from public.videos where id = ${tenant.video}`;
  assertEquals((await invoke(anna.client, "lock-renew", request)).status, 404);
  assertEquals(await release(anna.client, request), {
    released: false,
    reason: "force_released",
    holder: null,
  });
  const [ended] = await tenant.history();
  assertEquals([ended?.lock_id, ended?.end_reason], [lock!.lock_id, "force_released"]);
});
