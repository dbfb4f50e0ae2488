import { assertEquals, assertGreater } from "@std/assert";
import { acquire, invoke, release, renew } from "../support/stack.ts";
import { newTenant, type Tenant } from "../support/tenant.ts";

const layout = (tenant: Tenant) => ({ video_id: tenant.video, database_name: "layout" });

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
});

Deno.test("take_over takes nothing from anybody else, and a free lock it just acquires", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben", "admin");
  const { acquired, lock } = await acquire(anna.client, { ...layout(tenant), take_over: true });
  assertEquals(acquired, true);
  const refused = await acquire(ben.client, { ...layout(tenant), take_over: true });
  assertEquals([refused.acquired, refused.reason, refused.holder?.is_you], [false, "held", false]);
  assertEquals((await tenant.state())?.lock_id, lock!.lock_id);
});

Deno.test("take_over of a server's lease by a user, or by a server at all, is refused", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const name = { lock_holder_user_id: anna.id };
  await acquire(tenant.server, { ...layout(tenant), ...name });
  const refused = await acquire(anna.client, { ...layout(tenant), take_over: true });
  assertEquals([refused.acquired, refused.holder?.is_you], [false, false]);
  const { status, body } = await invoke(tenant.server, "lock-acquire", {
    ...layout(tenant),
    ...name,
    take_over: true,
  });
  assertEquals([status, body.code], [403, "FORBIDDEN"]);
});

Deno.test("a lease that ran out before the take-over ended by expiry, not by take-over", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await acquire(anna.client, layout(tenant));
  await tenant.backdate(121);
  await acquire(anna.client, { ...layout(tenant), take_over: true });
  assertEquals((await tenant.history()).map((lease) => lease.end_reason), ["expired"]);
});
