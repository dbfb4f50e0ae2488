import { assertEquals } from "@std/assert";
import type { Browser, Page } from "playwright-core";
import { blockSaves, type Demo, field, panel, press, see, startsAt, worker } from "./demo.ts";
import { sql } from "../../../supabase/tests/support/stack.ts";
import { VIDEOS } from "../demo/world.ts";

const FOLDER = `${import.meta.dirname}/../../../docs/images`;
const SCHEMES = ["light", "dark"] as const;
const NAMES = ["editor", "editor-list", "editor-lost"] as const;

const file = (name: string, scheme: string) => `${FOLDER}/${name}-${scheme}.png`;

/** The pictures of the docs are there, as this test writes them. */
export async function assertPictures(): Promise<void> {
  for (const name of NAMES) {
    for (const scheme of SCHEMES) {
      const head = (await Deno.readFile(file(name, scheme))).subarray(1, 4);
      assertEquals(new TextDecoder().decode(head), "PNG", file(name, scheme));
    }
  }
}

/** Takes the pictures of the docs anew. */
export async function takePictures(demo: Demo): Promise<void> {
  const { browser, open } = demo;
  const contexts = await Promise.all(["anna", "ben", "cleo"].map(() =>
    browser.newContext({
      viewport: { width: 680, height: 910 },
      deviceScaleFactor: 1.5,
      timezoneId: "Europe/Oslo",
    })
  ));
  const [anna, ben, cleo] = await Promise.all(
    ["anna", "ben", "cleo"].map((as, i) => open(as, { video: 1, browser: contexts[i]! })),
  ) as [Page, Page, Page];
  await startsAt(anna, "Captions");
  await field(anna, 3).fill("She has done this for thirty-two years.");
  await see(anna, /All changes saved/);
  await press(panel(ben, "Captions"), "Ask to hand over");
  await see(anna, "Ben asks you to hand over.");
  await press(panel(cleo, "Captions"), "Wait for my turn");
  await see(ben, "Waiting: you and Cleo");
  await see(anna, "Waiting: Ben and Cleo");
  for (const page of [anna, ben]) await page.evaluate(() => scrollTo(0, 0));
  for (const scheme of SCHEMES) await sideBySide(browser, scheme, [anna, ben]);
  const { id } = VIDEOS[2]!;
  await worker("Worker 1").acquire({ video_id: id, database_name: "captions" });
  await sql`update public.videos set status = 'processing' where id = ${id}`;
  await startsAt(anna, "Layout");
  await cleo.setViewportSize({ width: 1280, height: 860 });
  await cleo.getByRole("link", { name: "← All videos" }).click();
  await see(cleo, "Worker 1");
  for (const scheme of SCHEMES) await shoot(cleo, "editor-list", scheme);
  await lose(anna, ben);
  for (const scheme of SCHEMES) await shoot(anna, "editor-lost", scheme);
}

/** Anna has lost her turn and compares, beside what Ben has made of it meanwhile. */
async function lose(anna: Page, ben: Page): Promise<void> {
  await anna.setViewportSize({ width: 1280, height: 860 });
  await blockSaves(anna);
  await field(anna, 2).fill("“You learn to read the water before you learn to read,” says Marit.");
  await press(panel(ben, "Captions"), "End by force …");
  await press(ben.getByRole("alertdialog"), "End by force");
  await see(ben, /You have been editing since/);
  await see(anna, /Ben ended your editing/);
  await field(ben, 2).fill("“The water tells you everything,” says Marit.");
  await see(ben, /All changes saved/);
  await see(panel(anna, "Captions"), /The water tells you everything/);
  await press(anna, "Compare and take up again");
}

async function shoot(page: Page, name: typeof NAMES[number], colorScheme: "light" | "dark") {
  await page.emulateMedia({ colorScheme });
  await page.screenshot({ path: file(name, colorScheme) });
}

/** Two windows in one picture. */
async function sideBySide(browser: Browser, colorScheme: "light" | "dark", pages: Page[]) {
  const windows = await Promise.all(pages.map(async (page) => {
    await page.emulateMedia({ colorScheme });
    return (await page.screenshot()).toBase64();
  }));
  const desk = await browser.newPage({
    viewport: { width: 1440, height: 964 },
    deviceScaleFactor: 1.5,
    colorScheme,
  });
  await desk.setContent(`<style>
    body { margin: 0; display: flex; gap: 24px; padding: 24px; height: 100vh; box-sizing: border-box;
      background: ${colorScheme === "light" ? "#d9e3e0" : "#05080a"} }
    img { width: 684px; border-radius: 14px; box-shadow: 0 2px 4px #0003, 0 16px 40px #0004 }
  </style>${windows.map((png) => `<img src="data:image/png;base64,${png}">`).join("")}`);
  await desk.screenshot({ path: file("editor", colorScheme) });
  await desk.close();
}
