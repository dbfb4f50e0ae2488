import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import { acquire, invoke, release, sql } from "../support/stack.ts";
import { newTenant, type Tenant, user } from "../support/tenant.ts";

const layout = (tenant: Tenant) => ({ video_id: tenant.video, database_name: "layout" });
const W1 = { lock_holder_user_id: "worker-1" };
const W2 = { lock_holder_user_id: "worker-2" };

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

Deno.test("lock-release by a user who names themselves ends their own lease, and only theirs", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  await acquire(anna.client, layout(tenant));
  const his = { ...layout(tenant), lock_holder_user_id: ben.id };
  const hers = { ...layout(tenant), lock_holder_user_id: anna.id };
  const notHis = await release(ben.client, his);
  assertEquals([notHis.released, notHis.reason], [false, "held_by_another"]);
  assertEquals(notHis.holder?.lock_holder_user_id, anna.id);
  assertEquals((await release(anna.client, hers)).released, true);
  assertEquals(await release(anna.client, hers), {
    released: false,
    reason: "not_held",
    holder: null,
  });
});

Deno.test("lock-release by holder is for servers, and ends server leases only", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await acquire(anna.client, layout(tenant));
  const byName = await release(tenant.server, { ...layout(tenant), lock_holder_user_id: anna.id });
  assertEquals([byName.released, byName.reason], [false, "held_by_another"]);
  await release(anna.client, { ...layout(tenant), lock_holder_user_id: anna.id });
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals(
    (await release(tenant.server, { ...layout(tenant), ...W2 })).reason,
    "held_by_another",
  );
  assertEquals((await release(tenant.server, { ...layout(tenant), ...W1 })).released, true);
});

Deno.test("P6 somebody else's lock_id, known exactly, releases nothing", async () => {
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

Deno.test("P6 a near-miss lock_id releases nothing", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const last = lock!.lock_id.at(-1) === "0" ? "1" : "0";
  const answer = await release(tenant.server, {
    ...layout(tenant),
    lock_id: lock!.lock_id.slice(0, -1) + last,
  });
  assertEquals([answer.released, answer.reason], [false, "held_by_another"]);
  assertEquals((await tenant.state())?.lock_id, lock!.lock_id);
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
});

Deno.test("force ends whatever lease there is: for the secret key and an admin, for nobody else", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const chief = await tenant.join("chief", "admin");
  const force = { ...layout(tenant), force: true };

  await acquire(anna.client, layout(tenant));
  const refused = await invoke(anna.client, "lock-release", force);
  assertEquals([refused.status, refused.body.code], [403, "FORBIDDEN"]);
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
  assertEquals((await tenant.history()).map((lease) => lease.end_reason), [
    "force_released",
    "force_released",
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
  const { status } = await invoke(anna.client, "lock-release", {
    ...layout(tenant),
    lock_holder_user_id: anna.id,
  });
  assertEquals(status, 404);
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
