import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import type { Page } from "playwright-core";
import { until } from "../supabase/tests/support/race.ts";
import { isSoak } from "../supabase/tests/support/soak.ts";
import { client, publishableKey, sql, url } from "../supabase/tests/support/stack.ts";
import { newTenant, type Tenant } from "../supabase/tests/support/tenant.ts";
import { createLockClient } from "./mod.ts";
import { ask, start, surf, type Surfing } from "./support/chromium.ts";
import { openTabToHide } from "./support/hidden_tab.ts";

// The pitfalls of pages, in a real browser. Each case ends with what counts: which pages believe to hold, who holds, and
// how long the lock was with nobody. SOAK=1 prints the last, for docs/internals/client.md.

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const holds = async (tenant: Tenant, video?: string) =>
  (await tenant.state(video))?.lock_holder_user_id ?? null;
const token = async (tenant: Tenant) => Number((await tenant.state())?.fencing_token);
const believers = async (...pages: Page[]) =>
  (await Promise.all(pages.map((page) => ask(page, "believes"))))
    .flatMap((states, i) => states.filter((state) => state !== "lost").map(() => i));

/** A second, and ten times what a request takes now: on a busy machine that is long. In milliseconds. */
async function aSecond(): Promise<number> {
  const begun = performance.now();
  await (await fetch(`${url}/functions/v1/lock-release`, { method: "OPTIONS" })).body?.cancel();
  return 1000 + 10 * (performance.now() - begun);
}

/** What a case works with. */
interface Scene extends Surfing {
  tenant: Tenant;
  /** Notes how long a lock was with nobody, in milliseconds. */
  note(ms: number, what?: string): void;
}

/** A lock that a page has left is free within a second, also if the acquire arrives after the page has gone. */
async function assertFreeSoon(
  { tenant, note }: Scene,
  { since = performance.now(), video, what }: { since?: number; video?: string; what?: string } =
    {},
): Promise<void> {
  let heldFor = 0;
  const most = await aSecond();
  for (let ms = 0; ms < most; ms = performance.now() - since) {
    if (await holds(tenant, video) !== null) heldFor = performance.now() - since;
    await pause(20);
  }
  note(heldFor, what);
  assertEquals(await holds(tenant, video), null, "free within a second");
}

/** A user whose session supabase-js keeps itself; the page is loaded, and has its client. */
async function openWithSession(
  { browser, origins, tenant }: Scene,
): Promise<[Page, () => Promise<unknown>]> {
  const email = `tab-${crypto.randomUUID()}@example.com`;
  const { data } = await client(publishableKey).auth.signUp({ email, password: "long enough" });
  const id = data.user!.id;
  await sql`insert into public.tenant_members (tenant_id, user_id) values (${tenant.id}, ${id})`;
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${origins[0]}/page.html`);
  await start(page, { session: data.session! });
  return [page, () => sql`delete from auth.users where id = ${id}`];
}

/** Ways to leave a page. */
const LEAVING: Record<string, (page: Page, origins: string[]) => Promise<unknown>> = {
  "a link to another page": (page, [origin]) => page.goto(`${origin}/other.html`),
  "a link to another origin": (page, [, other]) => page.goto(`${other}/other.html`),
  "a reload": (page) => page.reload(),
  "about:blank": (page) => page.goto("about:blank"),
  "closing the tab": (page) => page.close(),
};

type Case = (scene: Scene) => Promise<unknown>;

const LEFT: Record<string, Case> = {
  ...Object.fromEntries(
    Object.entries(LEAVING).map(([how, leave]) => [
      how,
      async (scene: Scene) => {
        const { tenant, browser, open, origins, note } = scene;
        const anna = await tenant.join("anna");
        const profile = await browser.newContext();
        const page = await open(anna, profile);
        await ask(page, "hold", tenant.video);
        await leave(page, origins);
        await assertFreeSoon(scene, { what: "held" });
        // several times, at other points of the acquire
        await Promise.all([0, 7, 16].map(async (ms) => {
          const video = await tenant.addVideo();
          const asking = await open(anna, profile);
          await ask(asking, "ask", video);
          await pause(ms);
          await leave(asking, origins);
          await assertFreeSoon({ ...scene, note: (ms) => note(ms, "asked for") }, { video });
        }));
        await profile.close();
      },
    ]),
  ),
};

const TABS: Record<string, Case> = {
  async "a page that comes back from the back/forward cache knows that it has lost, and can acquire again"(
    scene,
  ) {
    const { tenant, open, origins } = scene;
    const page = await open(await tenant.join("anna"));
    const before = await ask(page, "hold", tenant.video);
    await page.goto(`${origins[0]}/other.html`);
    await assertFreeSoon(scene);
    await page.goBack({ waitUntil: "commit" }); // a page out of the cache does not load
    await until(async () => await ask(page, "restored").catch(() => 0) === 1);
    assertEquals([await ask(page, "believes"), await ask(page, "lost")], [["lost"], "released"]);
    const after = await ask(page, "hold", tenant.video);
    assertGreater(after, before);
    assertEquals([await ask(page, "believes"), await token(tenant)], [["lost", "held"], after]);
  },

  async "a reload acquires anew, with a new token, as soon as the page is there"(
    { tenant, open, note },
  ) {
    const anna = await tenant.join("anna");
    const page = await open(anna);
    const before = await ask(page, "hold", tenant.video);
    await page.reload();
    await start(page, { token: anna.token });
    const since = performance.now();
    const after = await ask(page, "hold", tenant.video);
    const ms = performance.now() - since;
    note(ms);
    assertLess(ms, await aSecond());
    assertGreater(after, before);
    assertEquals([await believers(page), await token(tenant)], [[0], after]);
  },

  async "two users: one waits for the other's tab, and has it when that is closed"(
    { tenant, open, note },
  ) {
    const [anna, ben] = [
      await open(await tenant.join("anna")),
      await open(await tenant.join("ben")),
    ];
    await ask(anna, "hold", tenant.video);
    const waiting = ask(ben, "hold", tenant.video);
    await pause(200);
    const since = performance.now();
    await anna.close();
    const granted = await waiting;
    const ms = performance.now() - since;
    note(ms);
    assertLess(ms, await aSecond());
    assertEquals([await believers(ben), await token(tenant)], [[0], granted]);
  },

  async "a duplicated tab is another holder, though it has a copy of the session storage; a steal is known at once"(
    { tenant, browser, open, note },
  ) {
    const user = await tenant.join("anna");
    const profile = await browser.newContext();
    const first = await open(user, profile);
    await ask(first, "hold", tenant.video);
    const [second] = await Promise.all([profile.waitForEvent("page"), duplicate(first)]);
    await second.waitForLoadState();
    assertEquals(await second.evaluate("sessionStorage.mark"), "copied");
    await start(second, { token: user.token });
    const refused = await ask(second, "hold", tenant.video, { waitSeconds: 1 }).catch(String);
    assert(String(refused).includes("you hold it"), String(refused));
    assertEquals(await believers(first, second), [0]);
    await pause(500); // the refused one is given back, of which the first tab hears, too
    const stolen = await ask(second, "hold", tenant.video, { steal: true });
    const since = performance.now();
    await until(async () => (await believers(first)).length === 0);
    assertLess(performance.now() - since, await aSecond(), "long before its next renewal");
    note(0);
    assertEquals([await ask(first, "lost"), await token(tenant)], ["taken_over", stolen]);
    assertEquals(await believers(first, second), [1]);
    await profile.close();
  },

  async "another origin's page is another holder, too; its steal is known with the next renewal"(
    { tenant, browser, open, origins },
  ) {
    const user = await tenant.join("anna");
    const profile = await browser.newContext();
    const [here, there] = [await open(user, profile), await open(user, profile, origins[1])];
    await ask(here, "hold", tenant.video, { ttlSeconds: 2 });
    const stolen = await ask(there, "hold", tenant.video, { steal: true });
    await until(async () => (await believers(here)).length === 0);
    assertEquals(await ask(here, "lost"), "taken_over");
    assertEquals([await believers(here, there), await token(tenant)], [[1], stolen]);
    await profile.close();
  },

  async "a double click asks twice, and gives one lock at a time"(scene) {
    const { tenant, open } = scene;
    const page = await open(await tenant.join("anna"));
    await ask(page, "ask", tenant.video);
    await ask(page, "ask", tenant.video);
    await until(async () => (await ask(page, "believes")).length === 1);
    await pause(300);
    assertEquals([await ask(page, "believes"), (await tenant.history()).length], [["held"], 0]);
    await page.close();
    await assertFreeSoon(scene);
  },
};

const TIME: Record<string, Case> = {
  async "a hidden tab whose timers are throttled intensively goes on renewing; a frozen one knows afterwards what it has lost"(
    { tenant, origins, note },
  ) {
    const user = await tenant.join("anna");
    await using tab = await openTabToHide(`${origins[0]}/page.html`);
    const who = JSON.stringify({ url, key: publishableKey, token: user.token });
    await until(() => tab.evaluate("document.readyState === 'complete' && !!globalThis.api"));
    await tab.evaluate(`api.start(${who})`);
    const granted = await tab.evaluate(`api.hold("${tenant.video}", { ttlSeconds: 5 })`);
    await tab.evaluate("ticks = 0; setInterval(() => ticks++, 100); true");
    await tab.hide();
    await pause(isSoak ? 90_000 : 7000);
    const ticks = await tab.evaluate("ticks");
    assertLess(ticks, isSoak ? 100 : 40, "usual timers run once a minute");
    assertEquals(
      await tab.evaluate("[document.visibilityState, ...api.believes()].join()"),
      "hidden,held",
    );
    assertEquals([await holds(tenant), await token(tenant)], [user.id, granted]);

    await tab.freeze();
    const key = { video_id: tenant.video, database_name: "layout" };
    const since = performance.now();
    await using lease = await createLockClient((await tenant.join("ben")).client).acquire(key);
    note(performance.now() - since, "frozen, at a TTL of 5 s");
    await tab.thaw();
    assertEquals(await tab.evaluate("[...api.believes(), api.lost()].join()"), "lost,deadline");
    assertEquals(await token(tenant), lease.fencingToken);
  },

  async "a session whose token has expired is refreshed once, and the lease goes on; signing out frees it"(
    scene,
  ) {
    const { tenant, note } = scene;
    const [page, forget] = await openWithSession(scene);
    let refused = 0;
    let refreshed = 0;
    page.on(
      "request",
      (request) => refreshed += Number(request.url().includes("grant_type=refresh_token")),
    );
    await page.route(/lock-(acquire|renew)/, async (route) => {
      if (route.request().method() !== "POST" || refused++ % 2) return await route.continue();
      const headers = { "access-control-allow-origin": "*" };
      await route.fulfill({ status: 401, headers, body: "{}" });
    });
    const granted = await ask(page, "hold", tenant.video, { ttlSeconds: 6 });
    await until(() => Promise.resolve(refused >= 6)); // two renewals or more, each of them refused once
    assertEquals([await believers(page), await token(tenant)], [[0], granted]);
    assertLess(Math.abs(refreshed - refused / 2), 2, "once for each");
    const since = performance.now();
    await ask(page, "signOut");
    assertEquals([await ask(page, "believes"), await ask(page, "lost")], [["lost"], "released"]);
    await until(async () => await holds(tenant) === null);
    const ms = performance.now() - since;
    note(ms);
    assertLess(ms, await aSecond());
    await forget();
  },

  async "offline for longer than the lease lasts: lost in time; online again before: held"(
    { tenant, browser, open, note },
  ) {
    const profile = await browser.newContext();
    const page = await open(await tenant.join("anna"), profile);
    const granted = await ask(page, "hold", tenant.video, { ttlSeconds: 4 });
    await profile.setOffline(true);
    await until(async () => (await ask(page, "believes"))[0] === "in doubt");
    await profile.setOffline(false);
    await until(async () => (await ask(page, "believes"))[0] === "held");
    assertEquals(await token(tenant), granted);
    await profile.setOffline(true);
    await until(async () => (await ask(page, "believes"))[0] === "lost");
    assertEquals(await ask(page, "lost"), "deadline");
    const { lock_expires_at } = (await tenant.state())!;
    const before = lock_expires_at!.getTime() - await ask(page, "lostAt");
    note(before, "sooner than in the database:");
    assertGreater(before, 0, "before the database gives it away");
    await profile.setOffline(false);
    await profile.close();
  },

  async "a network that comes back while a try is paused: the page asks at once"(
    { tenant, browser, open, note },
  ) {
    const profile = await browser.newContext();
    const page = await open(await tenant.join("anna"), profile);
    await page.evaluate("Math.random = () => 1"); // the longest pauses
    await profile.setOffline(true);
    const waiting = ask(page, "hold", tenant.video);
    await pause(1700); // after three failures, in a pause of two seconds
    const since = performance.now();
    await profile.setOffline(false);
    await waiting;
    const ms = performance.now() - since;
    note(ms);
    assertLess(ms, 500 + await aSecond(), "the pause would have lasted 1.8 s more");
    assertEquals([await believers(page), (await tenant.history()).length], [[0], 0]);
    await profile.close();
  },

  ...Object.fromEntries(([["ahead", 1], ["behind", -1]] as const).map(([how, hours]) => [
    `a machine's clock that is an hour ${how}, or jumps there, changes nothing`,
    async ({ tenant, browser, open }: Scene) => {
      const user = await tenant.join("anna");
      const profile = await browser.newContext();
      await profile.addInitScript((ms) => {
        const now = Date.now;
        Date.now = () => now() + ms;
      }, hours * 3_600_000);
      const page = await open(user, profile);
      const granted = await ask(page, "hold", tenant.video, { ttlSeconds: 2 });
      await pause(1100);
      assertEquals([await ask(page, "believes"), await token(tenant)], [["held"], granted]);
      await page.evaluate(
        `{ const now = Date.now; Date.now = () => now() - ${hours * 7_200_000}; }`,
      );
      await pause(1100);
      assertEquals([await ask(page, "believes"), await token(tenant)], [["held"], granted]);
      assertEquals(await holds(tenant), user.id);
      await profile.close();
    },
  ])),

  async "a removed member and a lock that an administrator takes by force: each page knows it"(
    { tenant, open, note },
  ) {
    const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
    const admin = await tenant.join("admin", "admin");
    const pages = [await open(anna), await open(ben)] as const;
    await ask(pages[0], "hold", tenant.video, { ttlSeconds: 2 });
    await tenant.leave(anna);
    await until(async () => await ask(pages[0], "lost") === "forbidden");
    const since = performance.now();
    await until(async () => await holds(tenant) === null);
    note(performance.now() - since, "removed, at a TTL of 2 s");
    await ask(pages[1], "hold", tenant.video, { ttlSeconds: 2 });
    const key = { video_id: tenant.video, database_name: "layout" };
    const steal = { steal: true, force: true };
    await using lease = await createLockClient(admin.client).acquire(key, steal);
    await until(async () => await ask(pages[1], "lost") === "force_released");
    assertEquals([await believers(...pages), await token(tenant)], [[], lease.fencingToken]);
  },

  async "React under StrictMode: mounted twice, held once, free when it is unmounted"(scene) {
    const { tenant, browser, origins } = scene;
    const user = await tenant.join("anna");
    const page = await browser.newPage();
    await page.goto(`${origins[0]}/react.html`);
    await page.evaluate(
      // deno-lint-ignore no-explicit-any
      ([who, video]) => (globalThis as any).mount(who, video),
      [{ url, key: publishableKey, token: user.token }, tenant.video] as const,
    );
    await page.waitForFunction(
      // deno-lint-ignore no-explicit-any
      () => (globalThis as any).document.getElementById("state")?.textContent.startsWith("held"),
    );
    assertEquals(await page.textContent("#state"), `held with ${await token(tenant)}`);
    // deno-lint-ignore no-explicit-any
    await page.evaluate(() => (globalThis as any).unmount());
    await assertFreeSoon(scene);
    await page.close();
  },
};

/** Opens the page once more as the browser does it to a duplicated tab: with a copy of the session storage. */
async function duplicate(page: Page): Promise<void> {
  await page.evaluate("sessionStorage.mark = 'copied'; void open(location.href)");
}

/** The database crashes and recovers while one page holds and another one waits. */
async function restart({ tenant, open, note }: Scene): Promise<void> {
  const pages = [
    await open(await tenant.join("anna")),
    await open(await tenant.join("ben")),
  ] as const;
  const granted = await ask(pages[0], "hold", tenant.video, { ttlSeconds: 6 });
  const waiting = ask(pages[1], "hold", tenant.video, { ttlSeconds: 6 });
  await until(async () => (await tenant.state())?.has_line === true);
  const [backend] = await sql<{ pid: number }[]>`
    select pid from pg_stat_activity where application_name = 'data-api' limit 1`;
  const { lock_expires_at: before } = (await tenant.state())!;
  Deno.kill(backend!.pid, "SIGKILL"); // then PostgreSQL ends all sessions, and recovers as after a crash
  await until(async () =>
    (await tenant.state().catch(() => undefined))?.lock_expires_at! > before!
  );
  assertEquals([await believers(...pages), await token(tenant)], [[0], granted]);
  const since = performance.now();
  await pages[0].close();
  const next = await waiting;
  note(performance.now() - since);
  assertEquals([await believers(pages[1]), await token(tenant)], [[0], next]);
}

let surfing: Surfing;
const figures: string[] = [];

Deno.test.beforeAll(async () => {
  surfing = await surf();
});
Deno.test.afterAll(async () => {
  await surfing[Symbol.asyncDispose]();
  if (isSoak) console.log(figures.sort().join("\n"));
});

async function play(name: string, body: Case): Promise<void> {
  await using tenant = await newTenant();
  const note = (ms: number, what = "") => figures.push(`${name}: ${what} ${Math.round(ms)} ms`);
  await body({ ...surfing, tenant, note });
}

/** How many cases of a group run side by side: they wait more than they compute. */
const LANES = 3;

function group(name: string, cases: Record<string, Case>): void {
  Deno.test(name, async (t) => {
    const waiting = Object.entries(cases);
    await Promise.all(Array.from({ length: LANES }, async () => {
      for (let next; (next = waiting.shift());) {
        const [name, body] = next;
        await t.step({
          name,
          fn: () => play(name, body),
          sanitizeOps: false,
          sanitizeResources: false,
          sanitizeExit: false,
        });
      }
    }));
  });
}

group("a page that is left frees what it holds, and what it was just asking for", LEFT);
group("tabs of one user, of two, and of another origin are holders of their own", TABS);
group("a page's lease in sleep, offline, with a wrong clock, without a session or the right", TIME);

Deno.test("Chromium's navigator.locks pass the suite of Web Locks", () =>
  play("suite", async ({ tenant, open }) => {
    const page = await open(await tenant.join("anna"));
    assertEquals(await ask(page, "webLocks"), {});
  }));

Deno.test("the database restarts: the holder goes on with its token, and who waits keeps its turn", () =>
  play("restart", restart));
