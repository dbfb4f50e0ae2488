import { assertEquals } from "@std/assert";
import { openSession } from "../support/race.ts";
import { acquire, client, publishableKey, release, renew, sql } from "../support/stack.ts";
import { newTenant, W1 } from "../support/tenant.ts";

/** A tenant's leases on these databases, each back-dated so that the first ended first. */
async function withLeases(databases: string[], seconds: (i: number) => number) {
  const tenant = await newTenant();
  for (const [i, database_name] of databases.entries()) {
    await acquire(tenant.server, { video_id: tenant.video, database_name, ...W1, ttl_seconds: 60 });
    await tenant.backdate(seconds(i), tenant.video, database_name);
  }
  return tenant;
}

Deno.test("release_expired_locks clears what ended, writes its history, and leaves the living alone", async () => {
  await using tenant = await withLeases(["a", "b", "c"], (i) => i === 2 ? 0 : 1000 - i);
  const { data, error } = await tenant.server.rpc("release_expired_locks");
  assertEquals([data, error], [2, null]);
  for (const database of ["a", "b"]) {
    assertEquals((await tenant.state(tenant.video, database))?.lock_id, null);
    const [ended] = await tenant.history(tenant.video, database);
    assertEquals(ended?.end_reason, "expired");
    assertEquals(
      ended!.ended_at.getTime() - ended!.locked_at.getTime(),
      60_000,
      "ended when it ran out",
    );
  }
  assertEquals((await tenant.state(tenant.video, "c"))?.lock_holder_user_id, "worker-1");
  assertEquals((await tenant.server.rpc("release_expired_locks")).data, 0, "once");
});

Deno.test("release_expired_locks goes by batches, the oldest first", async () => {
  await using tenant = await withLeases(["a", "b", "c"], (i) => 2000 - i);
  const left = async () =>
    (await sql<{ name: string }[]>`
      select database_name as name from public.video_database_state
      where video_id = ${tenant.video} and lock_id is not null order by 1`).map((row) => row.name);
  assertEquals((await tenant.server.rpc("release_expired_locks", { batch_size: 2 })).data, 2);
  assertEquals(await left(), ["c"]);
  assertEquals((await tenant.server.rpc("release_expired_locks", { batch_size: 2 })).data, 1);
  assertEquals(await left(), []);
});

Deno.test("release_expired_locks waits for nobody: a row that is locked is skipped", async () => {
  await using tenant = await withLeases(["a", "b"], () => 1000);
  await using other = openSession();
  await other.run`begin`;
  await other.run`
    select from public.video_database_state where video_id = ${tenant.video} and database_name = 'a' for update`;
  assertEquals((await tenant.server.rpc("release_expired_locks")).data, 1);
  await other.run`commit`;
  assertEquals((await tenant.server.rpc("release_expired_locks")).data, 1);
});

Deno.test("two clean-ups at once end each lease once", async () => {
  const databases = Array.from({ length: 30 }, (_, i) => `db${i}`);
  await using tenant = await withLeases(databases, () => 1000);
  const runs = await Promise.all(
    Array.from({ length: 4 }, () => tenant.server.rpc("release_expired_locks")),
  );
  assertEquals(runs.map((run) => run.error), [null, null, null, null]);
  assertEquals(runs.reduce((sum, run) => sum + run.data, 0), 30);
});

Deno.test("after the clean-up everything is answered as before it", async () => {
  await using tenant = await newTenant();
  const layout = { video_id: tenant.video, database_name: "layout" };
  const { lock } = await acquire(tenant.server, { ...layout, ...W1 });
  const request = { ...layout, lock_id: lock!.lock_id };
  await tenant.backdate(1000);
  const without = [
    (await renew(tenant.server, request)).reason,
    (await acquire(tenant.server, { ...request, ...W1 })).end_reason,
  ];
  await tenant.server.rpc("release_expired_locks");
  const withIt = [
    (await renew(tenant.server, request)).reason,
    (await acquire(tenant.server, { ...request, ...W1 })).end_reason,
  ];
  assertEquals(withIt, without);
  assertEquals((await release(tenant.server, request)).reason, "expired");
});

Deno.test("release_expired_locks is for servers only, and a senseless batch is an error", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  assertEquals((await anna.client.rpc("release_expired_locks")).error?.code, "42501");
  assertEquals((await client(publishableKey).rpc("release_expired_locks")).error?.code, "42501");
  const { error } = await tenant.server.rpc("release_expired_locks", { batch_size: 0 });
  assertEquals(error?.code, "PT400");
});
