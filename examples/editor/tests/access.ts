import { assert, assertEquals, assertLess } from "@std/assert";
import type { Page } from "playwright-core";
import { VIDEOS } from "../demo/world.ts";
import { standInForRealtime } from "./realtime.ts";
import {
  assertAccessible,
  panel,
  passTime,
  press,
  type Scenarios,
  secondsUntil,
  see,
  startsAt,
  stopClock,
  worker,
} from "./demo.ts";

/** What axe-core finds, and whether the dark colours have enough contrast. */
async function inBoth(page: Page, what: string): Promise<void> {
  await page.emulateMedia({ colorScheme: "light" });
  await assertAccessible(page, what);
  await page.emulateMedia({ colorScheme: "dark" });
  await assertAccessible(page, `${what}, dark`, ["color-contrast"]);
}

/** For everybody: by keyboard, by ear, on a small screen; and for who pays for the requests. */
export const ACCESS: Scenarios = {
  async "axe-core finds nothing, in any state, light or dark"(demo) {
    const [anna, ben] = await Promise.all([
      demo.open("anna"),
      demo.open("ben", { video: 2 }),
    ]);
    await see(anna, "Interview with a baker");
    await inBoth(anna, "the list");
    await using _lease = await worker("Worker 1").acquire({
      video_id: VIDEOS[5]!.id,
      database_name: "captions",
    });
    await anna.getByRole("link", { name: "Interview with a baker" }).click();
    await see(anna, "Position");
    await assertAccessible(anna, "reading");
    await startsAt(anna, "Layout");
    await press(panel(ben, "Layout"), "Ask to hand over");
    await see(anna, "Ben asks you to hand over.");
    await inBoth(anna, "editing, and asked to hand over");
    await see(ben, /You asked Anna/);
    await assertAccessible(ben, "waiting");
    await press(panel(ben, "Layout"), "End by force …");
    await inBoth(ben, "before ending by force");
    await press(ben.getByRole("alertdialog"), "End by force");
    await see(anna, /Ben ended your editing/);
    await inBoth(anna, "lost");
    await press(panel(anna, "Layout"), "History of the layout");
    await see(anna.getByRole("dialog"), "ended by Ben");
    await assertAccessible(anna, "the history");
    await anna.context().close();
    await ben.context().close();
    const cleo = await demo.open("cleo", { video: 6 });
    await see(cleo, /Worker 1 has been processing/);
    await inBoth(cleo, "a worker's");
    await cleo.context().close();
  },

  async "by keyboard alone: the focus is never lost; one polite live region says what happens"(
    demo,
  ) {
    const cleo = await demo.open("cleo", { video: 6 });
    const focused = () =>
      cleo.evaluate(() => {
        const { activeElement } = document;
        return `${activeElement?.tagName} ${activeElement?.textContent}`;
      });
    const layout = panel(cleo, "Layout");
    await layout.getByRole("button", { name: "Edit" }).focus();
    await cleo.keyboard.press("Enter");
    await see(cleo, "It is your turn: you are editing the layout.");
    assertEquals((await focused()).split(" ")[0], "INPUT");
    await cleo.keyboard.type(" & more");
    await see(layout, /All changes saved/);
    await layout.getByRole("button", { name: "Stop editing" }).focus();
    await cleo.keyboard.press("Enter");
    await see(cleo, "You have stopped editing the layout.");
    assertEquals(await focused(), "H2 Layout");
    await layout.getByRole("button", { name: "History of the layout" }).focus();
    await cleo.keyboard.press("Enter");
    await see(cleo.getByRole("dialog"), "Cleo");
    await cleo.keyboard.press("Escape");
    await cleo.getByRole("dialog").waitFor({ state: "detached" });
    // a dialog that has gone gives the focus back in the next frame
    await cleo.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    assertEquals(await focused(), "BUTTON History");
    const regions = cleo.locator("[aria-live], [role=status], [role=alert], output");
    assertEquals(await regions.count(), 1);
    assertEquals(await regions.getAttribute("aria-live"), "polite");
    await cleo.context().close();
  },

  async "from 360 pixels to 4 k nothing has to be scrolled sideways"(demo) {
    const cleo = await demo.open("cleo", { video: 6 });
    for (const width of [360, 768, 1280, 3840]) {
      await cleo.setViewportSize({ width, height: 800 });
      for (const hash of ["", `#video=${VIDEOS[5]!.id}`]) {
        await cleo.evaluate((hash) => void (location.hash = hash), hash);
        await see(cleo, "Corner shop, day one");
        const wide = await cleo.evaluate(() => document.body.scrollWidth);
        assertEquals(wide, width, `${hash || "the list"} at ${width}`);
      }
    }
    await cleo.context().close();
  },

  async "how often a page asks is bounded: looked at, while it holds a lock, away, and hidden"(
    demo,
  ) {
    const cleo = await demo.open("cleo", { video: 5, clock: true });
    await see(cleo, "Opening credits");
    const during = async (seconds: number) => {
      await stopClock(cleo);
      const { requests } = await passTime(cleo, seconds);
      await cleo.clock.resume();
      return requests;
    };
    // README.md says how many in a minute
    const looked = await during(12);
    assert(looked >= 5 && looked <= 7, `${looked}`);
    await startsAt(cleo, "Layout");
    const held = await during(6);
    assert(held >= 8 && held <= 11, `${held}`);
    await press(panel(cleo, "Layout"), "Stop editing");
    await see(panel(cleo, "Layout"), "Free to edit");
    await cleo.clock.fastForward(121_000);
    const away = await during(30);
    assert(away >= 1 && away <= 3, `${away}`);
    await cleo.evaluate(() => Object.defineProperty(document, "hidden", { value: true }));
    await cleo.clock.fastForward(15_000); // the look that was due
    assertEquals(await during(20), 0, "hidden");
    await cleo.context().close();
  },

  async "where Realtime answers, the page asks seldom, and hears of a loss at once"(demo) {
    const browser = await demo.browser.newContext();
    const realtime = await standInForRealtime(browser);
    const anna = await demo.open("anna", { video: 4, browser, clock: true });
    await startsAt(anna, "Captions");
    await stopClock(anna);
    const { requests } = await passTime(anna, 10);
    assert(requests >= 2 && requests <= 3, `${requests}`);
    const ben = await demo.open("ben", { video: 4 });
    await press(panel(ben, "Captions"), "End by force …");
    await press(ben.getByRole("alertdialog"), "End by force");
    await see(panel(ben, "Captions"), "Free to edit");
    realtime.tell("video_database_state");
    assertLess(await secondsUntil(anna, /ended your editing/), 1, "long before its next look");
    await browser.close();
    await ben.context().close();
  },
};
