import { assertEquals, assertGreater } from "@std/assert";
import { acquire, release, renew } from "../support/stack.ts";
import { layout, newTenant } from "../support/tenant.ts";

Deno.test("take_over moves a user's own lease to their second tab; the first learns taken_over", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const first = (await acquire(anna.client, layout(tenant))).lock!;
  const refused = await acquire(anna.client, layout(tenant));
  assertEquals([refused.acquired, refused.holder?.is_you], [false, true], "not without take_over");

  const second = (await acquire(anna.client, { ...layout(tenant), take_over: true })).lock!;
  assertGreater(second.fencing_token, first.fencing_token);
  assertEquals(second.lock_id === first.lock_id, false);

  const old = { ...layout(tenant), lock_id: first.lock_id };
  const before = await tenant.state();
  const renewal = await renew(anna.client, old);
  assertEquals([renewal.renewed, renewal.reason, renewal.holder?.is_you], [
    false,
    "taken_over",
    true,
  ]);
  const late = await release(anna.client, old);
  assertEquals([late.released, late.reason, late.holder?.is_you], [false, "taken_over", true]);
  const repeated = await acquire(anna.client, old);
  assertEquals([repeated.acquired, repeated.reason, repeated.end_reason], [
    false,
    "ended",
    "taken_over",
  ]);
  assertEquals(await tenant.state(), before, "P6: the first tab never touches the second's lease");
  assertEquals((await tenant.history()).map((lease) => [lease.lock_id, lease.end_reason]), [
    [first.lock_id, "taken_over"],
  ]);
});

Deno.test("take_over repeated with the same lock_id is the same grant, not another take-over", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await acquire(anna.client, layout(tenant));
  const request = { ...layout(tenant), take_over: true, lock_id: crypto.randomUUID() };
  const first = await acquire(anna.client, request);
  assertEquals((await acquire(anna.client, request)).lock, first.lock);
  assertEquals((await tenant.history()).length, 1);
  // and once it has ended it is over, take_over or not
  await release(anna.client, { ...layout(tenant), lock_id: request.lock_id });
  assertEquals((await acquire(anna.client, request)).end_reason, "released");
});

Deno.test("take_over takes nothing from another holder, and acquires a free lock", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben", "admin");
  const { acquired, lock } = await acquire(anna.client, { ...layout(tenant), take_over: true });
  assertEquals(acquired, true);
  const refused = await acquire(ben.client, { ...layout(tenant), take_over: true });
  assertEquals([refused.acquired, refused.reason, refused.holder?.is_you], [false, "held", false]);
  assertEquals((await tenant.state())?.lock_id, lock!.lock_id);
});

Deno.test("take_over by a server of the same name: a restarted worker takes over its own lease", async () => {
  await using tenant = await newTenant();
  const w1 = { ...layout(tenant), lock_holder_user_id: "worker-1" };
  const first = (await acquire(tenant.server, w1)).lock!;
  const other = { ...layout(tenant), lock_holder_user_id: "worker-2", take_over: true };
  const refused = await acquire(tenant.server, other);
  assertEquals([refused.acquired, refused.reason, refused.holder?.is_you], [false, "held", false]);

  const second = (await acquire(tenant.server, { ...w1, take_over: true })).lock!;
  assertEquals([second.lock_holder_user_id, second.lock_type], ["worker-1", "server"]);
  assertGreater(second.fencing_token, first.fencing_token);
  const old = { ...layout(tenant), lock_id: first.lock_id };
  const before = await tenant.state();
  const lost = await renew(tenant.server, old);
  assertEquals([lost.renewed, lost.reason, lost.holder?.is_you], [false, "taken_over", true]);
  assertEquals((await release(tenant.server, old)).reason, "taken_over");
  assertEquals((await acquire(tenant.server, { ...w1, ...old })).end_reason, "taken_over");
  assertEquals(await tenant.state(), before, "P6: what is left of the old one touches nothing");
  assertEquals((await tenant.history()).map((lease) => [lease.lock_id, lease.end_reason]), [
    [first.lock_id, "taken_over"],
  ]);
});

Deno.test("take_over between a server and a user is refused, also where the server has the user's id for a name", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const name = { lock_holder_user_id: anna.id };
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...name });
  const byUser = await acquire(anna.client, { ...layout(tenant), take_over: true });
  assertEquals([byUser.acquired, byUser.reason, byUser.holder?.is_you], [false, "held", false]);
  await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
  await acquire(anna.client, layout(tenant));
  const byServer = await acquire(tenant.server, { ...layout(tenant), ...name, take_over: true });
  assertEquals([byServer.acquired, byServer.reason, byServer.holder?.is_you], [
    false,
    "held",
    false,
  ]);
});

Deno.test("a lease that ran out before the take-over ended by expiry, not by take-over", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  // by either way to name it
  for (const name of [{ database_name: "layout" }, { database_names: ["layout"] }]) {
    const request = { video_id: tenant.video, ...name };
    const { acquired } = await acquire(anna.client, { ...request, take_over: true });
    assertEquals(acquired, true);
    await tenant.backdate(121);
    await acquire(anna.client, { ...request, take_over: true });
    await tenant.backdate(121);
  }
  assertEquals(
    (await tenant.history()).map((lease) => lease.end_reason),
    ["expired", "expired", "expired"],
  );
});
