/// <reference lib="dom" />
import axe from "axe-core";
import { assertEquals } from "@std/assert";
import { TextLineStream } from "@std/streams/text-line-stream";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import { launch } from "../../../client/support/chromium.ts";
import { createLockClient, type LockClient } from "../../../client/mod.ts";
import { client, secretKey, sql } from "../../../supabase/tests/support/stack.ts";
import { VIDEOS } from "../demo/world.ts";

/** The demo, as `deno task demo` starts it, and a browser in front of it. */
export interface Demo extends AsyncDisposable {
  browser: Browser;
  /** The same pages under two origins. */
  origins: [string, string];
  /** Opens the list, or a video, as one of the demo users. */
  open(as: string, options?: OpenOptions): Promise<Page>;
  /** Ctrl-C; returns the exit code. */
  interrupt(): Promise<number>;
  /** What pages said in their consoles, and should not have. */
  complaints: string[];
}

/** How a page is opened. */
export interface OpenOptions {
  /** Which of the demo's videos, from 1 on; default the list. */
  video?: number;
  origin?: string;
  /** Whose browser; default a new one. Tabs of one browser share sessions, drafts and messages. */
  browser?: BrowserContext;
  /** Settings for the address: `ttl=3&idle=1`. */
  settings?: string;
}

/** Starts the demo on the stack under test, without its worker, and Chromium. */
export async function startDemo(): Promise<Demo> {
  const browser = await launch();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${import.meta.dirname}/../demo/main.ts`, "--port", "0", "--no-worker"],
    stdout: "piped",
  }).spawn();
  const lines: ReadableStream<string> = child.stdout
    .pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  const reader = lines.getReader();
  const said: string[] = [];
  let port: string | undefined;
  while (!port) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`The demo does not start:\n${said.join("\n")}`);
    said.push(value);
    port = /http:\/\/127\.0\.0\.1:(\d+)\/\?as=anna/.exec(value)?.[1];
  }
  const origins: Demo["origins"] = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
  const complaints: string[] = [];
  let ended: Promise<Deno.CommandStatus> | undefined;
  const interrupt = async () => {
    if (!ended) child.kill("SIGINT");
    ended ??= child.status;
    while (!(await reader.read()).done);
    return (await ended).code;
  };
  return {
    browser,
    origins,
    complaints,
    interrupt,
    async open(as, { video, origin = origins[0], browser: context, settings = "" } = {}) {
      const page = await (context ?? await browser.newContext()).newPage();
      page.setDefaultTimeout(15_000);
      page.on("pageerror", (error) => complaints.push(`${as}: ${error.message}`));
      page.on("console", (message) => {
        if (message.type() === "error" && !/WebSocket|Failed to load|ERR_/.test(message.text())) {
          complaints.push(`${as}: ${message.text()}`);
        }
      });
      const hash = video ? `#video=${VIDEOS[video - 1]!.id}` : "";
      await page.goto(`${origin}/?as=${as}&${settings}${hash}`);
      await page.getByRole("heading", { level: 1 }).waitFor();
      return page;
    },
    async [Symbol.asyncDispose]() {
      await browser.close();
      await interrupt();
    },
  };
}

/** What a person does, by what has to come of it. */
export type Scenarios = Record<string, (demo: Demo) => Promise<void>>;

/** A panel of a video's page. */
export function panel(page: Page, name: "Captions" | "Layout"): Locator {
  return page.getByRole("region", { name, exact: true });
}

/** Presses a button, or a link, by the name that a person sees. */
export async function press(where: Page | Locator, name: string | RegExp): Promise<void> {
  await where.getByRole("button", { name, exact: true }).click();
}

/** Presses "Edit", and sees that it is one's turn. */
export async function startsAt(page: Page, name: "Captions" | "Layout"): Promise<void> {
  await press(panel(page, name), "Edit");
  await see(panel(page, name), /You have been editing since/);
}

/** The text of a caption, by its place. */
export function field(page: Page, n: number): Locator {
  return panel(page, "Captions").locator("textarea").nth(n);
}

/** Whether a field is to be read only. */
export async function isReadOnly(field: Locator): Promise<boolean> {
  return await field.getAttribute("readonly") !== null;
}

/** The captions of a demo video, as the database has them. */
export async function captionsOf(video: number): Promise<string[]> {
  const rows = await sql`
    select text from public.captions where video_id = ${
    VIDEOS[video - 1]!.id
  } order by starts_at, id`;
  return rows.map(({ text }) => text);
}

const SAVES = /rest\/v1\/(captions|layout)/;

/** From now on no save of this page arrives. */
export async function blockSaves(page: Page): Promise<void> {
  await page.route(
    SAVES,
    (route) => route.request().method() === "GET" ? route.continue() : route.abort(),
  );
}

/** They arrive again. */
export async function unblockSaves(page: Page): Promise<void> {
  await page.unroute(SAVES);
}

/** Waits until a text is there, and gives the time that it took, in milliseconds. */
export async function see(where: Page | Locator, text: string | RegExp): Promise<number> {
  const since = performance.now();
  await where.getByText(text).first().waitFor();
  return performance.now() - since;
}

/** Waits until a text is not there any more. */
export async function seeNot(where: Page | Locator, text: string | RegExp): Promise<void> {
  await where.getByText(text).first().waitFor({ state: "hidden" });
}

/** The locks, as a worker has them. */
export function worker(holder: string): LockClient {
  return createLockClient(client(secretKey), { holder });
}

/** What axe-core finds by all its rules, or by some: nothing, or it is said what. */
export async function assertAccessible(
  page: Page,
  what: string,
  rules?: string[],
): Promise<void> {
  if (!await page.evaluate(() => "axe" in globalThis)) await page.evaluate(axe.source);
  const violations = await page.evaluate(async (rules) => {
    // deno-lint-ignore no-explicit-any
    const { violations } = await (globalThis as any).axe.run(rules ? { runOnly: rules } : {});
    // deno-lint-ignore no-explicit-any
    return violations.map(({ id, nodes }: any) => [
      id,
      // deno-lint-ignore no-explicit-any
      nodes.slice(0, 3).map(({ html, failureSummary }: any) => `${html} ${failureSummary}`),
    ]);
  }, rules);
  assertEquals(violations, [], what);
}

/** Counts a page's requests for a while, by what they ask. */
export async function countRequests(page: Page, ms: number): Promise<number> {
  let count = 0;
  const listener = () => void count++;
  page.on("request", listener);
  await page.waitForTimeout(ms);
  page.off("request", listener);
  return count;
}
