import { assert, assertEquals, assertGreater } from "@std/assert";
import { acquire, invoke, renew } from "../support/stack.ts";
import { layout, newTenant, user, W1 } from "../support/tenant.ts";
import { WAYS_TO_END } from "../support/ways_to_end.ts";

Deno.test("lock-renew moves the expiry to ttl_seconds from now, and keeps grant and token", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
  const { renewed, lock: now, server_time, ...rest } = await renew(tenant.server, {
    ...layout(tenant),
    lock_id: lock!.lock_id,
    ttl_seconds: 90,
  });
  assertEquals(renewed, true);
  assertEquals(rest, { queue: { length: 0 } });
  assertEquals(now, { ...lock!, expires_at: now!.expires_at, ttl_seconds: 90 });
  assertEquals(Date.parse(now!.expires_at) - Date.parse(server_time!), 90_000);
});

Deno.test("P3 renewal never moves an expiry backwards", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 3600 });
  const { renewed, lock: now } = await renew(tenant.server, {
    ...layout(tenant),
    lock_id: lock!.lock_id,
    ttl_seconds: 1,
  });
  assertEquals(renewed, true);
  assertEquals(now!.expires_at, lock!.expires_at);
});

Deno.test("lock-renew with active: false keeps the lease and leaves last_activity_at alone", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
  await tenant.backdate(10);
  const before = await tenant.state();
  const request = { ...layout(tenant), lock_id: lock!.lock_id, ttl_seconds: 60 };
  await renew(tenant.server, { ...request, active: false });
  const idle = await tenant.state();
  assertEquals(idle?.last_activity_at, before?.last_activity_at);
  assert(idle!.lock_expires_at! > before!.lock_expires_at!);
  await renew(tenant.server, request);
  assert((await tenant.state())!.last_activity_at! > before!.last_activity_at!);
});

Deno.test("P7 a renewal that comes too late says how the lease was lost, and never revives it", async (t) => {
  for (const [way, end] of Object.entries(WAYS_TO_END)) {
    await t.step(way, async () => {
      await using tenant = await newTenant();
      const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
      await end(tenant, lock!.lock_id);
      const before = await tenant.state();
      const late = await renew(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
      assertEquals([late.renewed, late.reason], [false, way.split(" ")[0]]);
      assertEquals(
        late.holder?.lock_holder_user_id,
        way.includes("another") ? "worker-2" : undefined,
      );
      assertEquals([late.database_name, late.queue], ["layout", undefined]);
      assert(late.server_time);
      assertEquals(await tenant.state(), before, "nothing was written");
    });
  }
});

Deno.test("lock-renew never inserts or takes: an unknown lock_id is not_held", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), lock_id: crypto.randomUUID() };
  const none = await renew(tenant.server, request);
  assertEquals(none, {
    renewed: false,
    reason: "not_held",
    database_name: "layout",
    holder: null,
    server_time: none.server_time!,
  });
  assertEquals(await tenant.state(), undefined, "no row was made");
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const answer = await renew(tenant.server, request);
  assertEquals([answer.renewed, answer.reason], [false, "not_held"]);
  assertEquals(answer.holder?.lock_holder_user_id, "worker-1");
});

Deno.test("P6 another caller's lock_id, known exactly, renews nothing", async () => {
  await using tenant = await newTenant();
  await using elsewhere = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben", "admin");
  const mallory = await elsewhere.join("mallory");
  const { lock } = await acquire(anna.client, layout(tenant));
  const before = await tenant.state();
  const request = { ...layout(tenant), lock_id: lock!.lock_id, ttl_seconds: 3600 };
  for (const caller of [ben.client, tenant.server]) {
    const answer = await renew(caller, request);
    assertEquals([answer.renewed, answer.reason], [false, "not_held"]);
    assertEquals(answer.holder?.lock_holder_user_id, anna.id);
  }
  const stranger = await invoke(mallory.client, "lock-renew", request);
  const missing = await invoke(mallory.client, "lock-renew", {
    ...request,
    video_id: crypto.randomUUID(),
  });
  assertEquals([stranger.status, stranger.body], [404, missing.body]);
  assertEquals(await tenant.state(), before);
  assertEquals((await renew(anna.client, request)).renewed, true);
});

Deno.test("a lock_id of another video or database renews nothing", async () => {
  await using tenant = await newTenant();
  const other = await tenant.addVideo();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  for (
    const lockName of [{ video_id: other, database_name: "layout" }, {
      video_id: tenant.video,
      database_name: "captions",
    }]
  ) {
    assertEquals(
      (await renew(tenant.server, { ...lockName, lock_id: lock!.lock_id })).reason,
      "not_held",
    );
  }
});

Deno.test("renewals by users who are not signed up for the tenant do not even see the lock", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const outsider = await user("mallory");
  const { status } = await invoke(outsider.client, "lock-renew", {
    ...layout(tenant),
    lock_id: (await tenant.state())!.lock_id,
  });
  assertEquals(status, 404);
});

Deno.test("a lease that is renewed in time is held far past its first TTL", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 10 });
  for (let beat = 0; beat < 5; beat++) {
    await tenant.backdate(9);
    const { renewed, lock: now } = await renew(tenant.server, {
      ...layout(tenant),
      lock_id: lock!.lock_id,
      ttl_seconds: 10,
    });
    assertEquals([renewed, now?.fencing_token], [true, lock!.fencing_token]);
  }
  const { lock: old } = await acquire(tenant.server, {
    ...layout(tenant),
    ...W1,
    lock_id: lock!.lock_id,
  });
  assertGreater(Date.parse(old!.expires_at) - Date.parse(old!.locked_at), 45_000);
});
