import { build, stop } from "esbuild";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import type { PageApi, Start } from "../browser/page.ts";
import { publishableKey, url } from "../../supabase/tests/support/stack.ts";
import type { User } from "../../supabase/tests/support/tenant.ts";
import { firstProgram } from "./programs.ts";

/** The address bar's pages, two for each window: they take more of the processor than the page that is tested. */
const OFF = ["WebUIOmniboxPopup", "WebUIOmniboxAimPopup"];
const OFF_BY_PLAYWRIGHT = [
  "AvoidUnnecessaryBeforeUnloadCheckSync",
  "DestroyProfileOnBrowserClose",
  "HttpsUpgrades",
  "HttpsFirstBalancedModeAutoEnable",
  "LensOverlay",
  "MediaRouter",
  "PaintHolding",
  "ThirdPartyStoragePartitioning",
  "AvoidCorsURLLoaderRestartOnRedirect",
  "OptimizationHints",
  "NetworkTimeServiceQuerying",
  "AimEnabled",
  "PreconnectToSearch",
];

/** A browser, and the pages' own server. */
export interface Surfing extends AsyncDisposable {
  browser: Browser;
  /** Two origins of the same pages. */
  origins: [string, string];
  /** A page of a user's, in a browser profile of its own or in a given one. */
  open(user: User, profile?: BrowserContext, origin?: string): Promise<Page>;
}

/**
 * Starts Chromium, without a window.
 *
 * @returns It; close it.
 * @throws {Error} Where there is none, with how to get one.
 */
export async function launch(): Promise<Browser> {
  return await chromium.launch({
    executablePath: await firstProgram(),
    // the last list is the one that counts, so it repeats what Playwright's turns off
    args: ["--no-sandbox", `--disable-features=${[...OFF, ...OFF_BY_PLAYWRIGHT].join(",")}`],
    ignoreDefaultArgs: ["--disable-back-forward-cache"],
  });
}

/**
 * Starts Chromium, and serves it a page that has the client.
 *
 * @returns Both; close them with `await using`.
 * @throws {Error} Where there is no Chromium, with how to get one.
 */
export async function surf(): Promise<Surfing> {
  const browser = await launch();
  const { outputFiles } = await build({
    entryPoints: ["page.ts", "react_page.tsx"].map((name) =>
      `${import.meta.dirname}/../browser/${name}`
    ),
    bundle: true,
    format: "iife",
    outdir: "/",
    jsx: "automatic",
    define: { "process.env.NODE_ENV": '"development"' },
    write: false,
  });
  await stop();
  const scripts = new Map(outputFiles.map(({ path, text }) => [path.replace(/.*\//, "/"), text]));
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    const script = scripts.get(pathname);
    if (script) return new Response(script, { headers: { "content-type": "text/javascript" } });
    const name = pathname === "/react.html" ? "react_page" : "page";
    const body = pathname === "/other.html"
      ? "another page"
      : `<div id="root"></div><script src="/${name}.js"></script>`;
    return new Response(`<!doctype html><title>page</title><body>${body}`, {
      headers: { "content-type": "text/html" },
    });
  });
  const { port } = server.addr;
  const origins: [string, string] = [`http://127.0.0.1:${port}`, `http://localhost:${port}`];
  return {
    browser,
    origins,
    async open(user, profile, origin = origins[0]) {
      const page = await (profile ?? await browser.newContext()).newPage();
      await page.goto(`${origin}/page.html`);
      await start(page, { token: user.token });
      return page;
    },
    async [Symbol.asyncDispose]() {
      await browser.close();
      await server.shutdown();
    },
  };
}

/**
 * Gives a page its client.
 *
 * @param page A page that has been loaded.
 * @param who A token or a session.
 */
export async function start(page: Page, who: Pick<Start, "token" | "session">): Promise<void> {
  await ask(page, "start", { url, key: publishableKey, ...who });
}

/**
 * Asks something of a page.
 *
 * @param page The page.
 * @param what One of what pages can be asked.
 * @param args Its arguments.
 * @returns Its answer.
 */
export async function ask<What extends keyof PageApi>(
  page: Page,
  what: What,
  ...args: Parameters<PageApi[What]>
): Promise<Awaited<ReturnType<PageApi[What]>>> {
  return await page.evaluate(
    // deno-lint-ignore no-explicit-any
    ([what, args]) => (globalThis as any).api[what as string](...args as unknown[]),
    [what, args] as const,
  );
}
