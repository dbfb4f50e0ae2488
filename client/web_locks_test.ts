import { assertEquals } from "@std/assert";
import { createLockClient } from "./mod.ts";
import { WEB_LOCKS } from "./conformance/suite.ts";
import type { TestedManager } from "./conformance/surroundings.ts";
import { afterAll } from "../supabase/tests/support/stack.ts";
import { newTenant } from "../supabase/tests/support/tenant.ts";

// One tenant for all, and a video for each: they cost more than the cases themselves.
const tenant = await newTenant();
afterAll(async () => await tenant[Symbol.asyncDispose]());

for (const { name, run } of WEB_LOCKS) {
  Deno.test(`locks.forVideo: ${name}`, async () => {
    const anna = await tenant.join("anna");
    const client = createLockClient(anna.client);
    const locks = client.forVideo(await tenant.addVideo()) as TestedManager;
    await run({ locks, a: "layout", b: "captions" });
    await client.releaseAll();
    assertEquals(await locks.query(), { held: [], pending: [] }, "nothing is left");
  });
}
