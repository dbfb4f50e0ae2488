import { assertEquals, assertLess, assertMatch } from "@std/assert";
import type { Page } from "playwright-core";
import { VIDEOS } from "../demo/world.ts";
import { sql } from "../../../supabase/tests/support/stack.ts";
import {
  assertAccessible,
  blockSaves,
  captionsOf,
  field,
  isReadOnly,
  panel,
  press,
  type Scenarios,
  secondsUntil,
  see,
  seeNot,
  startsAt,
  stopClock,
  unblockSaves,
} from "./demo.ts";

/** An administrator ends somebody's editing; gives the time until that is shown there, by that page's clock, in seconds. */
async function force(by: Page, whose: Page): Promise<number> {
  await stopClock(whose);
  await press(panel(by, "Captions"), "End by force …");
  await press(by.getByRole("alertdialog"), "End by force");
  await see(panel(by, "Captions"), "Free to edit");
  const seconds = await secondsUntil(whose, /ended your editing at/);
  await whose.clock.resume();
  return seconds;
}

/** Losing one's turn to somebody else, and what becomes of what was typed. */
export const LOSING: Scenarios = {
  async "an administrator on another origin ends it by force: it is shown within a second, and no text is lost"(
    demo,
  ) {
    const [anna, ben] = await Promise.all([
      demo.open("anna", { video: 3, clock: true }),
      demo.open("ben", { video: 3, origin: demo.origins[1] }),
    ]);
    await startsAt(anna, "Captions");
    await press(panel(ben, "Captions"), "End by force …");
    await press(ben, "Cancel");
    assertLess(await force(ben, anna), 1);
    await see(anna, "Everything you had typed was saved.");
    await press(anna, "Understood");
    await startsAt(anna, "Captions");
    await blockSaves(anna);
    await field(anna, 0).fill("The last train leaves at midnight.");
    await field(anna, 1).fill("After Trondheim it is all forest.");
    await see(anna, /Not saved. What you type is kept/);
    assertLess(await force(ben, anna), 1);
    await see(anna, /Ben ended your editing at \d\d:\d\d/);
    await see(anna, /could not be saved any more. It is kept in this browser/);
    assertMatch(await anna.title(), /^Lost: captions/);
    assertEquals(await isReadOnly(field(anna, 0)), true);
    await unblockSaves(anna);
    await takeUp(anna, ben);
    await anna.context().close();
    await ben.context().close();
  },

  async "two tabs: one takes over from the other, which learns it at once and loses no text"(demo) {
    const profile = await demo.browser.newContext();
    const options = { video: 4, browser: profile, clock: true };
    const [first, second] = [await demo.open("anna", options), await demo.open("anna", options)];
    const heading = (page: Page) => page.getByLabel("Heading");
    await startsAt(first, "Layout");
    await blockSaves(first);
    await heading(first).fill("The long way down");
    await see(second, /You are editing in another tab/);
    assertEquals(
      await second.getByText(/changes that were not saved/).count(),
      0,
      "it is being typed",
    );
    await see(second, /The other tab becomes read-only at once/);
    await stopClock(first);
    await press(second, "Take over from my other tab");
    await see(second, /You have been editing since/);
    assertLess(await secondsUntil(first, /You went on in another tab/), 1);
    await first.clock.resume();
    assertEquals(await isReadOnly(heading(first)), true);
    // what the first tab could not save is at hand in the second
    await press(second, "Compare and take up again");
    await press(second.getByRole("dialog"), "Put mine in");
    await see(second, /All changes saved/);
    const [row] = await sql`
      select heading from public.layout where video_id = ${VIDEOS[3]!.id}`;
    assertEquals(row!.heading, "The long way down");
    await seeNot(first, /could not be saved any more/);
    await profile.close();
  },
};

/** Losing one's turn by one's own doing. */
export const BACK_AGAIN: Scenarios = {
  async "offline until the lease has run out: said, kept over a reload, and thrown away only when asked twice"(
    demo,
  ) {
    const cleo = await demo.open("cleo", { video: 5, settings: "ttl=3" });
    // no answer at all: one need not wait for it
    await cleo.route(/lock-acquire/, () => {});
    await press(panel(cleo, "Captions"), "Edit");
    await see(cleo, "Asking for your turn …");
    await press(panel(cleo, "Captions"), "Never mind");
    await see(panel(cleo, "Captions"), "Free to edit");
    await cleo.unroute(/lock-acquire/);
    await startsAt(cleo, "Captions");
    await cleo.context().setOffline(true);
    await field(cleo, 1).fill("With all the people of the neighbourhood");
    await see(cleo, /Connection trouble. It is your turn for \d seconds? still/);
    await see(cleo, /The connection was gone for too long/);
    await see(cleo, /You see what was true at/);
    await cleo.context().setOffline(false);
    await seeNot(cleo, /You see what was true at/);
    await cleo.reload();
    await see(cleo, /You have changes that were not saved/);
    await press(cleo, "Throw away");
    await press(cleo, "Really throw it away");
    await seeNot(cleo, /You have changes that were not saved/);
    assertEquals((await captionsOf(5))[1], "With the people of the neighbourhood");
    await cleo.context().close();
  },

  async "idle: asked, kept by a click, and given way when somebody waits"(demo) {
    const [anna, ben] = await Promise.all([
      demo.open("anna", { video: 3, settings: "idle=1" }),
      demo.open("ben", { video: 3 }),
    ]);
    await startsAt(anna, "Layout");
    await see(anna, /Are you still there\?/);
    await press(anna, "I am still here");
    await seeNot(anna, /Are you still there\?/);
    await press(panel(ben, "Layout"), "Wait for my turn");
    await see(anna, /You paused, somebody was waiting/);
    await see(ben, /You have been editing since/);
    await press(anna, "Understood");
    await press(panel(anna, "Layout"), "History of the layout");
    const history = anna.getByRole("dialog");
    await see(history, "Anna");
    await see(history, "stopped");
    await press(history, "Close");
    await anna.context().close();
    await ben.context().close();
  },
};

/** Meanwhile Ben changes one of Anna's two lines. She compares, leaves that one out, and puts in the other. */
async function takeUp(anna: Page, ben: Page): Promise<void> {
  await startsAt(ben, "Captions");
  await field(ben, 0).fill("The last train leaves at ten.");
  await see(ben, /All changes saved/);
  await see(anna, /Ben has been editing/);
  await press(anna, "Compare and take up again");
  const dialog = anna.getByRole("dialog");
  await see(dialog, "The last train leaves at midnight.");
  await see(dialog, "The last train leaves at ten.");
  await see(dialog, "changed by somebody else, too");
  await assertAccessible(anna, "comparing");
  await anna.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await press(dialog, "Copy my text");
  await see(anna, "Copied.");
  assertMatch(
    await anna.evaluate(() => navigator.clipboard.readText()),
    /The last train leaves at midnight/,
  );
  await press(dialog, "Later");
  await press(anna, "Compare and take up again");
  await dialog.getByText("Caption at 0:00.0").click(); // not this one
  await press(dialog, "Put mine in when it is my turn");
  await see(anna, "You are 1st in line");
  await see(anna, "What you typed goes in as soon as it is your turn.");
  await press(ben, "Stop editing");
  await see(anna, /All changes saved/);
  assertEquals((await captionsOf(3)).slice(0, 2), [
    "The last train leaves at ten.",
    "After Trondheim it is all forest.",
  ]);
}
