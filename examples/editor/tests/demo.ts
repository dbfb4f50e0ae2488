/// <reference lib="dom" />
import axe from "axe-core";
import { assertEquals } from "@std/assert";
import { TextLineStream } from "@std/streams/text-line-stream";
import {
  type Browser,
  type BrowserContext,
  type Locator,
  type Page,
  type Request,
} from "playwright-core";
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
  /** Ends it as Ctrl-C does, or a system that shuts down; returns the exit code. */
  end(signal?: "SIGINT" | "SIGTERM"): Promise<number>;
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
  /** With a clock that the test can stop. */
  clock?: boolean;
}

/** Starts the demo on the stack under test, without its worker, and Chromium. */
export async function startDemo(): Promise<Demo> {
  const browser = await launch(); // or how to get one
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
  const end = async (signal: Deno.Signal = "SIGINT") => {
    if (!ended) child.kill(signal);
    ended ??= child.status;
    while (!(await reader.read()).done);
    return (await ended).code;
  };
  return {
    browser,
    origins,
    complaints,
    end,
    async open(
      as,
      { video, origin = origins[0], browser: context, settings = "", clock = false } = {},
    ) {
      const page = await (context ?? await browser.newContext()).newPage();
      if (clock) await page.clock.install();
      followRequests(page);
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
      await end();
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

/** What each page has asked and not been answered. */
const asked = new WeakMap<Page, { open: Set<Request>; count: number }>();

function followRequests(page: Page): void {
  const requests = { open: new Set<Request>(), count: 0 };
  asked.set(page, requests);
  page.on("request", (request) => {
    requests.open.add(request);
    requests.count += Number(request.method() !== "OPTIONS");
  });
  page.on("requestfinished", (request) => requests.open.delete(request));
  page.on("requestfailed", (request) => requests.open.delete(request));
}

/**
 * Stops a page's clock. It was opened with `clock`.
 *
 * @param page The page.
 */
export async function stopClock(page: Page): Promise<void> {
  await page.clock.pauseAt(await page.evaluate(() => Date.now() + 2000));
}

/**
 * Moves a page's clock on, which has been stopped, as if its requests took no time: so a busy machine makes no difference.
 *
 * @param page The page.
 * @param seconds How far at most.
 * @param isEnough Asked after each step; default: never.
 * @returns How far it was moved, in seconds, and how many requests there were.
 */
export async function passTime(
  page: Page,
  seconds: number,
  isEnough: () => Promise<boolean> = () => Promise.resolve(false),
): Promise<{ seconds: number; requests: number }> {
  const requests = asked.get(page)!;
  const before = requests.count;
  let passed = 0;
  do {
    await page.clock.runFor(STEP_MS);
    passed += STEP_MS / 1000;
    for (let calm = 0; calm < 3; calm = requests.open.size ? 0 : calm + 1) {
      await page.evaluate(() => 0); // one turn of the page
    }
  } while (passed < seconds && !await isEnough());
  return { seconds: passed, requests: requests.count - before };
}

/** Fine enough for what is asked in tenths of a second. */
const STEP_MS = 100;

/** How long it takes by a page's own clock until a text is there, in seconds. */
export async function secondsUntil(page: Page, text: RegExp): Promise<number> {
  return (await passTime(page, 60, () => page.getByText(text).first().isVisible())).seconds;
}
