import { chromium } from "playwright-core";
const b = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const base = "http://127.0.0.1:5173/";
const ctx = await b.newContext({ viewport: { width: 1280, height: 860 }, deviceScaleFactor: 1 });
const open = async (as: string, hash = "") => {
  const p = await ctx.newPage();
  p.on("pageerror", (e) => console.log(as, "ERR", e.message));
  p.on("console", (m) => {
    if (m.type() !== "debug") console.log(as, m.type(), m.text().slice(0, 200));
  });
  await p.goto(base + "?as=" + as + hash);
  return p;
};
const anna = await open("anna");
await anna.waitForSelector(".video").catch((e) => console.log(String(e).slice(0, 200)));
await anna.waitForTimeout(500);
await anna.screenshot({ path: "/tmp/s_list.png" });
const V = "#video=00000000-0000-4000-8000-00000000e101";
await anna.goto(base + "?as=anna" + V);
const ben = await open("ben", V);
await anna.locator("section", { hasText: "Captions" }).getByRole("button", { name: "Edit" })
  .click();
await anna.waitForTimeout(800);
await anna.screenshot({ path: "/tmp/s_edit.png" });
await ben.waitForTimeout(1500);
await ben.locator("section", { hasText: "Captions" }).getByRole("button", {
  name: "Ask to hand over",
}).click();
await anna.waitForTimeout(1500);
await anna.screenshot({ path: "/tmp/s_asked.png" });
await ben.screenshot({ path: "/tmp/s_wait.png" });
await anna.emulateMedia({ colorScheme: "dark" });
await anna.screenshot({ path: "/tmp/s_dark.png" });
await anna.setViewportSize({ width: 360, height: 800 });
await anna.screenshot({ path: "/tmp/s_360.png", fullPage: true });
await b.close();
