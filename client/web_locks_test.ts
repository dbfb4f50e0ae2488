import { assertEquals } from "@std/assert";
import { createLockClient } from "./mod.ts";
import { WEB_LOCKS } from "./conformance/suite.ts";
import type { TestedManager } from "./conformance/surroundings.ts";
import { newTenant } from "../supabase/tests/support/tenant.ts";

for (const { name, run } of WEB_LOCKS) {
  Deno.test(`locks.forVideo: ${name}`, async () => {
    await using tenant = await newTenant();
    const anna = await tenant.join("anna");
    const client = createLockClient(anna.client);
    const locks = client.forVideo(tenant.video) as TestedManager;
    await run({ locks, a: "layout", b: "captions" });
    await client.releaseAll();
    assertEquals(await locks.query(), { held: [], pending: [] }, "nothing is left");
  });
}
