// acquire_lock, renew_lock and release_lock do the usual case in one piece. Nothing but speed depends on that, so nothing else
// would notice if a row got stuck in a shape that they take for unusual.
import { assertEquals } from "@std/assert";
import { type Change, changedFunctions } from "../support/changed_functions.ts";
import { sqlDoor } from "../support/doors.ts";
import { openSession } from "../support/race.ts";
import { acquire, release, renew, sql } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";

/** Functions that do the usual case, and fail in all others. */
const ONLY_USUAL: readonly Change[] = ["acquire", "renew", "release"].map((name) => [
  `${name}_in_turn`,
  "\nbegin\n",
  "\nbegin\n  raise exception 'this was not the usual case';\n",
]);

Deno.test("a lock that has been through everything is acquired, renewed and released by the usual case again", async () => {
  await using tenant = await newTenant();
  await using stack = new AsyncDisposableStack();
  const anna = await tenant.join("anna");
  const { name } = stack.use(await changedFunctions(ONLY_USUAL));
  const door = sqlDoor(stack, name);
  const key = { video_id: tenant.video, database_name: "layout" };
  const mine = () => ({ ...key, lock_id: crypto.randomUUID(), lock_holder_user_id: "worker-1" });

  for (
    const way of [
      "created",
      "renewed",
      "asserted",
      "taken over",
      "of a user",
      "in a set",
      "waited for",
      "cancelled long ago",
    ]
  ) {
    const lock = mine();
    const set = {
      ...mine(),
      database_name: null,
      database_names: ["layout", "captions"],
    };
    const { lock: granted } = await acquire(tenant.server, lock);
    if (way === "renewed") await renew(tenant.server, { ...key, lock_id: lock.lock_id });
    if (way === "asserted") {
      await using session = openSession({ role: "service_role" });
      await session.run`
        select public.assert_lock_held(${tenant.video}, 'layout', ${granted!.fencing_token})`;
    }
    if (way === "taken over") {
      await sqlDoor(stack)({}, "acquire_lock", { ...mine(), take_over: true });
    }
    const waiting = { ...mine(), lock_holder_user_id: "worker-2" };
    if (way === "waited for") await acquire(tenant.server, { ...waiting, queue_seconds: 60 });
    await release(tenant.server, { ...key, force: true });
    if (way === "waited for") {
      assertEquals((await acquire(tenant.server, waiting)).acquired, true);
      await release(tenant.server, { ...key, lock_id: waiting.lock_id });
    }
    if (way === "cancelled long ago") {
      await release(tenant.server, { ...key, lock_id: crypto.randomUUID() });
      await sql`
        update holdfast.cancellation set cancelled_at = cancelled_at - interval '61 minutes'
        where video_id = ${tenant.video}`;
    }
    if (way === "of a user") await acquire(anna.client, { ...key, ttl_seconds: 1 });
    if (way === "of a user") await tenant.backdate(2);
    if (way === "in a set") {
      const right = sqlDoor(stack);
      await right({}, "acquire_lock", set);
      await right({}, "release_lock", { ...set, lock_holder_user_id: null });
    }
    // whatever it was, it may cost the slower way once
    const once = mine();
    await acquire(tenant.server, once);
    await release(tenant.server, { ...key, lock_id: once.lock_id });

    const usual = mine();
    const named = { ...key, lock_id: usual.lock_id };
    const answers = [
      (await door({}, "acquire_lock", usual)).acquired,
      (await door({}, "renew_lock", named)).renewed,
      (await door({}, "release_lock", named)).released,
    ];
    assertEquals(answers, [true, true, true], way);
  }
});
