// The original requirement: three scenarios, each with its four validations, and the four core cases of the tests
// that came before it. Here they run over HTTP, against a real database.
import { assert, assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { atOneBarrier } from "../support/race.ts";
import { acquire, invoke, release } from "../support/stack.ts";
import { LOCK_COLUMNS, newTenant } from "../support/tenant.ts";

const A = { lock_holder_user_id: "process-a" };
const B = { lock_holder_user_id: "process-b" };

Deno.test("seed scenario 1, lock timeout and retry", async (t) => {
  await using tenant = await newTenant();
  const layout = { video_id: tenant.video, database_name: "layout" };

  await t.step("lock prevents concurrent access", async () => {
    assertEquals((await acquire(tenant.server, { ...layout, ...A })).acquired, true);
    const refused = await acquire(tenant.server, { ...layout, ...B });
    assertEquals(refused.acquired, false);
    assertEquals(refused.holder?.lock_holder_user_id, "process-a");
  });
  await t.step("released lock can be acquired by another process", async () => {
    assertEquals((await release(tenant.server, { ...layout, ...A })).released, true);
    assertEquals((await acquire(tenant.server, { ...layout, ...B })).acquired, true);
  });
  await t.step("state transitions are atomic", async () => {
    await release(tenant.server, { ...layout, ...B });
    const answers = await atOneBarrier(
      10,
      (i) => acquire(tenant.server, { ...layout, lock_holder_user_id: `process-${i}` }),
    );
    const winners = answers.filter((answer) => answer.acquired);
    assertEquals(winners.length, 1);
    // nothing in between: the row is wholly the winner's
    const state = await tenant.state();
    assertEquals(state?.lock_id, winners[0]?.lock?.lock_id);
    assertEquals(state?.lock_holder_user_id, winners[0]?.lock?.lock_holder_user_id);
    assertEquals(Number(state?.fencing_token), winners[0]?.lock?.fencing_token);
    await release(tenant.server, { ...layout, force: true });
  });
  await t.step("timestamps reflect actual activity", async () => {
    const before = await tenant.state();
    assertEquals(before?.locked_at, null);
    const { lock, server_time } = await acquire(tenant.server, {
      ...layout,
      ...A,
      ttl_seconds: 60,
    });
    const state = await tenant.state();
    assertEquals(state?.locked_at, new Date(lock!.locked_at));
    assertEquals(state?.last_activity_at, new Date(lock!.locked_at));
    assertEquals(Date.parse(lock!.expires_at) - Date.parse(lock!.locked_at), 60_000);
    assert(Math.abs(Date.parse(server_time!) - Date.parse(lock!.locked_at)) < 5_000);
    await release(tenant.server, { ...layout, ...A });
  });
  await t.step("no orphaned lock state", async () => {
    const state = await tenant.state();
    assertEquals(state?.lock_holder_user_id, null);
    assertEquals((await tenant.history()).map((lease) => lease.end_reason).toSorted(), [
      "force_released",
      "released",
      "released",
      "released",
    ]);
  });
});

Deno.test("seed scenario 2, lock release idempotence", async (t) => {
  await using tenant = await newTenant();
  const layout = { video_id: tenant.video, database_name: "layout" };
  const { lock } = await acquire(tenant.server, { ...layout, ...A });

  await t.step("no errors on multiple releases", async () => {
    const first = await release(tenant.server, { ...layout, lock_id: lock?.lock_id });
    const second = await release(tenant.server, { ...layout, lock_id: lock?.lock_id });
    assertEquals(first.released, true);
    assertEquals(second, first, "the same release gets the same answer");
    // and by the holder's name, as the seed's system did it: nothing left to release is not an error either
    assertEquals(await release(tenant.server, { ...layout, ...A }), {
      released: false,
      reason: "not_held",
      holder: null,
    });
  });
  await t.step("database state is consistent", async () => {
    assertEquals((await tenant.history()).length, 1, "one lease ended, once");
    assertEquals(Number((await tenant.state())?.fencing_token), lock?.fencing_token);
  });
  await t.step("NULL values set correctly", async () => {
    const state = await tenant.state();
    for (const column of LOCK_COLUMNS) assertEquals(state?.[column], null, column);
  });
  await t.step("safe for use in exception handlers", async () => {
    const work = async () => {
      const mine = await acquire(tenant.server, { ...layout, ...A });
      try {
        await release(tenant.server, { ...layout, lock_id: mine.lock?.lock_id });
        throw new Error("the work failed after it had released");
      } finally {
        await release(tenant.server, { ...layout, lock_id: mine.lock?.lock_id });
      }
    };
    const error = await work().catch((error) => error);
    assertEquals(
      error.message,
      "the work failed after it had released",
      "finally hides no other error",
    );
    assertEquals((await tenant.state())?.lock_id, null);
  });
});

Deno.test("seed scenario 3, sequential acquisition by the same holder", async (t) => {
  await using tenant = await newTenant();
  const layout = { video_id: tenant.video, database_name: "layout" };

  await t.step("INSERT vs UPDATE logic handles both scenarios", async () => {
    assertEquals(await tenant.state(), undefined, "the first acquire has to insert the row");
    assertEquals((await acquire(tenant.server, { ...layout, ...A })).acquired, true);
    await release(tenant.server, { ...layout, ...A });
    assertNotEquals(await tenant.state(), undefined, "the second has to update it");
    assertEquals((await acquire(tenant.server, { ...layout, ...A })).acquired, true);
    await release(tenant.server, { ...layout, ...A });
  });
  await t.step("same process can re-acquire after release, many times", async () => {
    let last = 0;
    for (let cycle = 0; cycle < 10; cycle++) {
      const { acquired, lock } = await acquire(tenant.server, { ...layout, ...A });
      assertEquals(acquired, true);
      assertGreater(lock!.fencing_token, last);
      last = lock!.fencing_token;
      await release(tenant.server, { ...layout, lock_id: lock!.lock_id });
    }
  });
  await t.step("timestamps are updated on re-acquisition", async () => {
    const first = (await acquire(tenant.server, { ...layout, ...A })).lock!;
    await release(tenant.server, { ...layout, lock_id: first.lock_id });
    const second = (await acquire(tenant.server, { ...layout, ...A })).lock!;
    // compared as text: the answers have microseconds, a Date has not
    assertGreater(second.locked_at, first.locked_at);
    assertGreater(second.expires_at, first.expires_at);
    const state = await tenant.state();
    assertEquals(state?.lock_holder_user_id, "process-a");
    assertEquals(state?.lock_type, "server");
  });
  await t.step("no orphaned or duplicate records", async () => {
    const history = await tenant.history();
    assertEquals(history.length, 13);
    assertEquals(new Set(history.map((lease) => lease.lock_id)).size, 13);
  });
});

for (const callers of [10, 50]) {
  Deno.test(`seed core case 1, of ${callers} callers at one barrier exactly one wins`, async () => {
    await using tenant = await newTenant();
    for (const row of ["that is not there yet", "that is there"]) {
      const answers = await atOneBarrier(callers, (i) =>
        acquire(tenant.server, {
          video_id: tenant.video,
          database_name: "layout",
          lock_holder_user_id: `process-${i}`,
        }));
      const winners = answers.filter((answer) => answer.acquired);
      assertEquals(winners.length, 1, `on a row ${row}`);
      for (const loser of answers.filter((answer) => !answer.acquired)) {
        assertEquals(loser.reason, "held");
        assertEquals(loser.holder?.lock_holder_user_id, winners[0]?.lock?.lock_holder_user_id);
      }
      await release(tenant.server, {
        video_id: tenant.video,
        database_name: "layout",
        lock_id: winners[0]?.lock?.lock_id,
      });
    }
  });
}

Deno.test("seed core case 2, a stale lease is taken over by the next caller", async () => {
  await using tenant = await newTenant();
  const layout = { video_id: tenant.video, database_name: "layout" };
  const stale = (await acquire(tenant.server, { ...layout, ...A, ttl_seconds: 60 })).lock!;
  await tenant.backdate(61);
  const { acquired, lock } = await acquire(tenant.server, { ...layout, ...B });
  assertEquals(acquired, true);
  assertGreater(lock!.fencing_token, stale.fencing_token);
  const [ended] = await tenant.history();
  assertEquals(ended?.lock_id, stale.lock_id);
  assertEquals(ended?.end_reason, "expired");
  assertEquals(
    ended?.ended_at.getTime(),
    Date.parse(stale.expires_at) - 61_000,
    "it ended when it ran out, not when the next caller came",
  );
});

Deno.test("seed core case 3, a missing video is an error and leaves nothing", async () => {
  await using tenant = await newTenant();
  const missing = crypto.randomUUID();
  const { status, body } = await invoke(tenant.server, "lock-acquire", {
    video_id: missing,
    database_name: "layout",
    ...A,
  });
  assertEquals([status, body.code], [404, "VIDEO_NOT_FOUND"]);
  assertEquals(await tenant.state(missing), undefined);
});

Deno.test("seed core case 4, databases and videos are independent", async () => {
  await using tenant = await newTenant();
  const other = await tenant.addVideo();
  const tokens = [];
  for (const video_id of [tenant.video, other]) {
    for (const database_name of ["layout", "captions"]) {
      const { acquired, lock } = await acquire(tenant.server, { video_id, database_name, ...A });
      assertEquals(acquired, true);
      tokens.push(lock?.fencing_token);
    }
  }
  await release(tenant.server, { video_id: tenant.video, database_name: "layout", ...A });
  assertEquals((await tenant.state(tenant.video, "captions"))?.lock_holder_user_id, "process-a");
  assertEquals((await tenant.state(other, "layout"))?.lock_holder_user_id, "process-a");
  assertEquals(new Set(tokens).size, 4, "no token is another lock's by accident");
});
