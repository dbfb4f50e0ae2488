import { assertEquals } from "@std/assert";
import { sql } from "../../../supabase/tests/support/stack.ts";
import { ACCESS } from "./access.ts";
import { startDemo } from "./demo.ts";
import { EDITING } from "./editing.ts";
import { BACK_AGAIN, LOSING } from "./losing.ts";
import { assertPictures, takePictures } from "./pictures.ts";

// What a person does with the demo, in real Chromium: with two users, two tabs, another origin. The groups run side by
// side, on videos of their own, as they wait more than they compute.

/** With PICTURES=1 it takes the pictures of the docs anew, from the demo as it starts, and does nothing else. */
const TAKES_PICTURES = Deno.env.has("PICTURES");

Deno.test({
  name: TAKES_PICTURES ? "the editor's pictures" : "the editor",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn(t) {
    await using demo = await startDemo();
    if (TAKES_PICTURES) return await takePictures(demo);
    await Promise.all([EDITING, LOSING, BACK_AGAIN, ACCESS].map(async (scenarios) => {
      for (const [name, run] of Object.entries(scenarios)) {
        await t.step({
          name,
          fn: () => run(demo),
          sanitizeOps: false,
          sanitizeResources: false,
          sanitizeExit: false,
        });
      }
    }));
    await t.step("its pictures are there", assertPictures);
    await t.step("no page has complained; a signal ends all, and cleans up", async () => {
      assertEquals(demo.complaints, []);
      assertEquals(await demo.end("SIGTERM"), 0);
      const [left] = await sql`select to_regclass('public.lock_board') as view`;
      assertEquals(left!.view, null);
    });
  },
});
