import { assertEquals, assertMatch } from "@std/assert";
import type { Page } from "playwright-core";
import { sql } from "../../../supabase/tests/support/stack.ts";
import { VIDEOS } from "../demo/world.ts";
import type { Lease } from "../../../client/mod.ts";
import {
  assertAccessible,
  captionsOf,
  type Demo,
  field,
  isReadOnly,
  panel,
  press,
  type Scenarios,
  see,
  startsAt,
  worker,
} from "./demo.ts";

/** An administrator ends what a worker does; the worker learns it. */
async function endByForce(demo: Demo, lease: Lease): Promise<void> {
  const ben = await demo.open("ben", { video: 4 });
  await press(panel(ben, "Captions"), "End by force …");
  const dialog = ben.getByRole("alertdialog");
  await see(dialog, /Worker 1 is stopped in the middle of its work on the captions/);
  await press(dialog, "End by force");
  await see(panel(ben, "Captions"), "Free to edit");
  await new Promise((resolve) => {
    if (lease.signal.aborted) resolve(0);
    lease.signal.addEventListener("abort", resolve);
  });
  assertEquals(lease.signal.reason.reason, "force_released");
  await ben.context().close();
}

/** Editing, and waiting for one's turn, while nothing goes wrong. */
export const EDITING: Scenarios = {
  async "opens on a list of videos, of one's own tenants only, that is alive"(demo) {
    const page = await (await demo.browser.newContext()).newPage();
    await page.goto(demo.origins[0]);
    await assertAccessible(page, "who are you");
    await page.getByRole("link", { name: "Anna" }).click();
    await see(page, "Harbour at dawn");
    assertEquals(await page.getByText("Second Street").count(), 0);
    assertEquals(await page.title(), "Videos · Holdfast editor");
    const key = { video_id: VIDEOS[3]!.id, database_name: "captions" };
    const lease = await worker("Worker 1").acquire(key, { ttlSeconds: 3 });
    await see(page, /Worker 1 · since \d\d:\d\d/);
    await see(page, /\d being edited/);
    await page.getByRole("link", { name: "The long way up" }).click();
    await see(panel(page, "Captions"), /Worker 1 has been processing this since/);
    assertEquals(await page.getByRole("button", { name: "Ask to hand over" }).count(), 0);
    await endByForce(demo, lease);
    await see(panel(page, "Captions"), "Free to edit");
    await page.getByRole("link", { name: "← All videos" }).click();
    await see(page, "Night train north");
    await page.locator("a.thumb").first().click({ force: true }); // the title is a link over all of it
    await panel(page, "Captions").waitFor();
    await page.getByRole("link", { name: "Holdfast editor" }).click();
    await see(page, "Night train north");
    const [cleo] = await Promise.all([
      page.waitForEvent("popup"),
      page.getByRole("link", { name: "Open as Cleo" }).click(),
    ]);
    await see(cleo, "Opening credits");
    await see(cleo, "Harbour at dawn");
    // a video of another tenant looks like one that does not exist
    await page.evaluate((id) => void (location.hash = `video=${id}`), VIDEOS[4]!.id);
    await see(page, "There is no such video here");
    await page.getByRole("link", { name: "All videos" }).click();
    await see(page, "Night train north");
    await press(page, "Sign out");
    await see(page, "Who are you?");
    await page.route(/auth\/v1\/token/, (route) => route.fulfill({ status: 500, body: "{}" }));
    await page.getByRole("link", { name: "Anna" }).click();
    await see(page, "That did not work");
    await page.getByRole("link", { name: "choose somebody else" }).click();
    await page.getByRole("link", { name: "Ben" }).click();
    await see(page, "That did not work");
    await page.unroute(/auth\/v1\/token/);
    await page.getByRole("link", { name: "Try again" }).click();
    await see(page, "Night train north");
    await page.context().close();
  },

  async "what is typed is saved by itself, under the guard, and seen by who reads along"(demo) {
    const [anna, ben] = await Promise.all([
      demo.open("anna", { video: 1 }),
      demo.open("ben", { video: 1 }),
    ]);
    assertEquals(await isReadOnly(field(anna, 0)), true);
    await startsAt(anna, "Captions");
    await field(anna, 0).fill("The first boats leave at four.");
    await see(anna, /All changes saved/);
    assertEquals((await captionsOf(1))[0], "The first boats leave at four.");
    await see(panel(ben, "Captions"), "The first boats leave at four.");
    await see(panel(ben, "Captions"), /Anna has been editing since \d\d:\d\d/);
    assertEquals(await isReadOnly(field(ben, 0)), true);
    await press(anna, "+ Add a caption");
    await field(anna, 5).fill("And then it is quiet.");
    await press(anna, "Remove the caption at 0:04.5");
    await anna.getByLabel("Time of the caption at 0:14.0, in seconds").fill("13.5");
    await press(anna, "Stop editing");
    await see(panel(anna, "Captions"), "Free to edit");
    const now = await captionsOf(1);
    assertEquals([now.length, now.at(-1)], [5, "And then it is quiet."]);
    await ben.context().close();
    const layout = panel(anna, "Layout");
    await startsAt(anna, "Layout");
    await anna.getByLabel("Heading").fill("Harbour, before six");
    await layout.getByText("Bottom", { exact: true }).click();
    await layout.getByText("Midnight").click();
    await layout.getByText("Show the logo").click();
    await press(layout, "Stop editing");
    await see(layout, "Free to edit");
    const [row] = await sql`
      select heading, position, theme, logo from public.layout where video_id = ${VIDEOS[0]!.id}`;
    const heading = "Harbour, before six";
    assertEquals(row, { heading, position: "bottom", theme: "midnight", logo: false });
    await anna.context().close();
  },

  async "the line: places, leaving it, asking to hand over, and entering by oneself"(demo) {
    const [anna, ben, cleo] = await Promise.all(
      ["anna", "ben", "cleo"].map((as) => demo.open(as, { video: 2 })),
    ) as [Page, Page, Page];
    await startsAt(anna, "Captions");
    await press(panel(ben, "Captions"), "Wait for my turn");
    await see(ben, "You are 1st in line");
    await see(cleo, "Waiting: Ben");
    await press(panel(cleo, "Captions"), "Wait for my turn");
    await see(cleo, "You are 2nd in line");
    assertMatch(await cleo.title(), /^2nd in line: captions · Interview with a baker/);
    await see(anna, "Waiting: Ben and Cleo");
    await press(panel(cleo, "Captions"), "Leave the line");
    await press(panel(ben, "Captions"), "Ask to hand over");
    await see(anna, "Ben asks you to hand over.");
    await press(anna, "Not yet");
    await see(ben, "Anna needs a little longer.");
    await field(anna, 0).fill("I get up when others come home.");
    await press(anna, "Stop editing");
    await see(ben, /You have been editing since/);
    assertEquals(await field(ben, 0).inputValue(), "I get up when others come home.");
    // and the other way round
    await press(panel(anna, "Captions"), "Ask to hand over");
    await see(ben, "Anna asks you to hand over.");
    await press(ben, "Hand over");
    await see(anna, /You have been editing since/);
    assertMatch(await anna.title(), /^Editing: captions/);
    for (const page of [anna, ben, cleo]) await page.context().close();
  },
};
