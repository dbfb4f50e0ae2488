import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import type { Browser, Page } from "playwright-core";
import { until } from "../supabase/tests/support/race.ts";
import { client, publishableKey, sql, url } from "../supabase/tests/support/stack.ts";
import { newTenant, type Tenant } from "../supabase/tests/support/tenant.ts";
import { createLockClient } from "./mod.ts";
import { ask, start, surf, type Surfing } from "./support/chromium.ts";

// Each test ends with what counts: who believes to hold, who holds, and how long the lock was with nobody.

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const holds = async (tenant: Tenant, video?: string) =>
  (await tenant.state(video))?.lock_holder_user_id ?? null;
const token = async (tenant: Tenant) => Number((await tenant.state())?.fencing_token);

/** How long it takes until the lock is free, in milliseconds. */
async function freeAfter(tenant: Tenant, since: number, video?: string): Promise<number> {
  await until(async () => await holds(tenant, video) === null);
  return performance.now() - since;
}

/** A lock that is left by a page is free within a second. */
async function assertFreeSoon(
  tenant: Tenant,
  since = performance.now(),
  video?: string,
): Promise<void> {
  assertLess(await freeAfter(tenant, since, video), 1000, "free within a second");
  await pause(200);
  assertEquals(await holds(tenant, video), null, "and stays so");
}

let browser: Browser;
let open: Surfing["open"];
let origins: Surfing["origins"];
let surfing: Surfing;

Deno.test.beforeAll(async () => {
  surfing = await surf();
  ({ browser, open, origins } = surfing);
});
Deno.test.afterAll(async () => {
  await surfing[Symbol.asyncDispose]();
});

Deno.test("Chromium's navigator.locks pass the suite of Web Locks", async () => {
  await using tenant = await newTenant();
  const page = await open(await tenant.join("anna"));
  assertEquals(await ask(page, "webLocks"), {});
});

const leaving: Record<string, (page: Page) => Promise<unknown>> = {
  "a link to another page": (page) => page.goto(`${origins[0]}/other.html`),
  "a link to another origin": (page) => page.goto(`${origins[1]}/other.html`),
  "a reload": (page) => page.reload(),
  "about:blank": (page) => page.goto("about:blank"),
  "closing the tab": (page) => page.close(),
};
for (const [how, leave] of Object.entries(leaving)) {
  Deno.test(`${how} frees what the page holds, and what it was just asking for`, async () => {
    await using tenant = await newTenant();
    const anna = await tenant.join("anna");
    const page = await open(anna);
    await ask(page, "hold", tenant.video);
    await leave(page);
    await assertFreeSoon(tenant);
    // several times, at other points of the acquire
    await Promise.all([0, 7, 16].map(async (ms) => {
      const video = await tenant.addVideo();
      const asking = await open(anna);
      await ask(asking, "ask", video);
      await pause(ms);
      await leave(asking);
      await assertFreeSoon(tenant, performance.now(), video);
      await asking.context().close();
    }));
  });
}

Deno.test(
  "a page that comes back from the back/forward cache knows that it has lost, and can acquire again",
  async () => {
    await using tenant = await newTenant();
    const page = await open(await tenant.join("anna"));
    await ask(page, "hold", tenant.video);
    await page.goto(`${origins[0]}/other.html`);
    await assertFreeSoon(tenant);
    await page.goBack({ waitUntil: "commit" }); // a page out of the cache does not load
    const believes = await ask(page, "believes").catch(() => []); // a new page has nothing to tell
    assertEquals(believes.filter((state: string) => state !== "lost"), []);
  },
);

Deno.test(
  "a reload acquires anew, with a new token, as soon as the page is there",
  async () => {
    await using tenant = await newTenant();
    const anna = await tenant.join("anna");
    const page = await open(anna);
    const before = await ask(page, "hold", tenant.video);
    await page.reload();
    await start(page, { token: anna.token });
    const since = performance.now();
    const after = await ask(page, "hold", tenant.video);
    assertLess(performance.now() - since, 1000);
    assertGreater(after, before);
    assertEquals(await token(tenant), after);
  },
);

Deno.test(
  "two users: one waits for the other's tab, and has it when that is closed",
  async () => {
    await using tenant = await newTenant();
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
    assertLess(performance.now() - since, 1000);
    assertEquals([await ask(ben, "believes"), await token(tenant)], [["held"], granted]);
  },
);

Deno.test(
  "two tabs of one user, a duplicated one too, are two holders; a steal is told at once",
  async () => {
    await using tenant = await newTenant();
    const user = await tenant.join("anna");
    const profile = await browser.newContext();
    const [first, second] = [await open(user, profile), await open(user, profile)];
    await ask(first, "hold", tenant.video);
    const refused = await ask(second, "hold", tenant.video, { waitSeconds: 1 }).catch(String);
    assert(String(refused).includes("you hold it"), String(refused));
    const stolen = await ask(second, "hold", tenant.video, { steal: true });
    const since = performance.now();
    await until(async () => (await ask(first, "believes"))[0] === "lost");
    assertLess(performance.now() - since, 1000, "long before its next renewal");
    assertEquals([await ask(first, "lost"), await token(tenant)], ["taken_over", stolen]);
    await profile.close();
  },
);

Deno.test("a double click asks twice, and gives one lock at a time", async () => {
  await using tenant = await newTenant();
  const page = await open(await tenant.join("anna"));
  await ask(page, "ask", tenant.video);
  await ask(page, "ask", tenant.video);
  await until(async () => (await ask(page, "believes")).length === 1);
  await pause(300);
  assertEquals(await ask(page, "believes"), ["held"]);
  await page.close();
  await assertFreeSoon(tenant);
});

Deno.test(
  "offline for longer than the lease lasts: lost in time; online again before: held",
  async () => {
    await using tenant = await newTenant();
    const user = await tenant.join("anna");
    const profile = await browser.newContext();
    const page = await open(user, profile);
    await ask(page, "hold", tenant.video, { ttlSeconds: 2 });
    await profile.setOffline(true);
    await until(async () => (await ask(page, "believes"))[0] === "in doubt");
    await profile.setOffline(false);
    await until(async () => (await ask(page, "believes"))[0] === "held");
    await profile.setOffline(true);
    await until(async () => (await ask(page, "believes"))[0] === "lost");
    assertEquals(await ask(page, "lost"), "deadline");
    const { lock_expires_at } = (await tenant.state())!;
    assertGreater(lock_expires_at!.getTime(), Date.now(), "before the database gives it away");
    await profile.setOffline(false);
    await profile.close();
  },
);

for (const [how, hours] of [["ahead", 1], ["behind", -1]] as const) {
  Deno.test(`a machine's clock that is an hour ${how} changes nothing`, async () => {
    await using tenant = await newTenant();
    const user = await tenant.join("anna");
    const profile = await browser.newContext();
    await profile.addInitScript((ms) => {
      const now = Date.now;
      Date.now = () => now() + ms;
    }, hours * 3_600_000);
    const page = await open(user, profile);
    await ask(page, "hold", tenant.video, { ttlSeconds: 1 });
    await pause(1500);
    assertEquals([await ask(page, "believes"), await holds(tenant)], [["held"], user.id]);
    await profile.close();
  });
}

Deno.test("a hidden tab goes on renewing", async () => {
  await using tenant = await newTenant();
  const user = await tenant.join("anna");
  const profile = await browser.newContext();
  const page = await open(user, profile);
  await ask(page, "hold", tenant.video, { ttlSeconds: 3 });
  // as a browser does it to a tab that is not seen: timers at most once a second
  const session = await profile.newCDPSession(page);
  await session.send("Page.setWebLifecycleState", { state: "active" });
  await page.evaluate(() => {
    // deno-lint-ignore no-explicit-any
    Object.defineProperty((globalThis as any).document, "hidden", { value: true });
    const real = globalThis.setTimeout;
    globalThis.setTimeout = ((run: () => void, ms = 0) =>
      real(
        run,
        Math.ceil((performance.now() + ms) / 1000) * 1000 - performance.now(),
      )) as typeof setTimeout;
  });
  await pause(3300);
  assertEquals([await ask(page, "believes"), await holds(tenant)], [["held"], user.id]);
  await profile.close();
});

Deno.test(
  "a session whose token has expired is refreshed once, and the lease goes on; signing out frees it",
  async () => {
    await using tenant = await newTenant();
    const email = `tab-${crypto.randomUUID()}@example.com`;
    const { data } = await client(publishableKey).auth.signUp({ email, password: "long enough" });
    await sql`insert into public.tenant_members (tenant_id, user_id) values (${tenant.id}, ${
      data.user!.id
    })`;
    const page = await (await browser.newContext()).newPage();
    await page.goto(`${origins[0]}/page.html`);
    await start(page, { session: data.session! });
    let refused = 0;
    let refreshed = 0;
    page.on(
      "request",
      (request) => refreshed += Number(request.url().includes("grant_type=refresh_token")),
    );
    await page.route("**/functions/v1/lock-acquire*", async (route) => {
      if (route.request().method() !== "POST" || refused++ > 0) return await route.continue();
      await route.fulfill({
        status: 401,
        headers: { "access-control-allow-origin": "*" },
        body: "{}",
      });
    });
    await ask(page, "hold", tenant.video);
    assertEquals([refused, refreshed], [2, 1]);
    const since = performance.now();
    await ask(page, "signOut");
    assertEquals([await ask(page, "believes"), await ask(page, "lost")], [["lost"], "released"]);
    await assertFreeSoon(tenant, since);
    await sql`delete from auth.users where id = ${data.user!.id}`;
  },
);

Deno.test("a removed member and a lock forced by an administrator are told", async () => {
  await using tenant = await newTenant();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const admin = await tenant.join("admin", "admin");
  const pages = [await open(anna), await open(ben)] as const;
  await ask(pages[0], "hold", tenant.video, { ttlSeconds: 2 });
  await tenant.leave(anna);
  await until(async () => await ask(pages[0], "lost") === "forbidden");
  await freeAfter(tenant, performance.now());
  await ask(pages[1], "hold", tenant.video, { ttlSeconds: 2 });
  const key = { video_id: tenant.video, database_name: "layout" };
  await using lease = await createLockClient(admin.client).acquire(key, {
    steal: true,
    force: true,
  });
  await until(async () => await ask(pages[1], "lost") === "force_released");
  assertEquals(await token(tenant), lease.fencingToken);
});

Deno.test(
  "React under StrictMode: mounted twice, held once, free when it is unmounted",
  async () => {
    await using tenant = await newTenant();
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
    await assertFreeSoon(tenant);
    await page.close();
  },
);
