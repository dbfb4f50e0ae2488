// What an answer says was so at one moment, also where it takes two looks to find out.
import { assertEquals } from "@std/assert";
import { changedFunctions } from "../support/changed_functions.ts";
import { sqlDoor } from "../support/doors.ts";
import { closedGate } from "../support/gate.ts";
import { acquire, release } from "../support/stack.ts";
import { newTenant } from "../support/tenant.ts";

for (const what of ["a lock", "a set", "a part of a set"]) {
  const isSet = what !== "a lock";
  Deno.test(`a repeated acquire of which ${what} is released meanwhile is ended, and not a grant of nothing`, async () => {
    await using tenant = await newTenant();
    await using stack = new AsyncDisposableStack();
    // nothing but time: between the look that finds the lease and the one that reads it for the answer
    const gate = stack.use(await closedGate());
    const looked = "elsif v_first is null then\n";
    const { name } = stack.use(
      await changedFunctions([["acquire_in_turn", looked, looked + gate.pass]]),
    );
    const names = isSet ? { database_names: ["layout", "captions"] } : { database_name: "layout" };
    const key = { video_id: tenant.video, ...names, lock_id: crypto.randomUUID() };
    const asking = { ...key, lock_holder_user_id: "worker-1" };
    assertEquals((await acquire(tenant.server, asking)).acquired, true);
    const repeating = sqlDoor(stack, name)({}, "acquire_lock", asking);
    await gate.reached();
    const some = {
      video_id: tenant.video,
      database_name: "captions",
      lock_holder_user_id: "worker-1",
    };
    const released = await release(tenant.server, what === "a part of a set" ? some : key);
    assertEquals(released.released, true);
    await gate.open();
    const { acquired, reason, end_reason } = await repeating;
    assertEquals([acquired, reason, end_reason], [false, "ended", "released"]);
  });
}
