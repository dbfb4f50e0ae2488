import { assertEquals, assertLess } from "@std/assert";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { openSession, until } from "../supabase/tests/support/race.ts";
import { client, publishableKey, sql, url } from "../supabase/tests/support/stack.ts";
import { newTenant, type Tenant } from "../supabase/tests/support/tenant.ts";
import { createLockClient } from "./mod.ts";
import { startProxy } from "./support/proxy.ts";

// Moments that are rare and matter: a row that somebody is at, a page that nobody sees, answers that are another's or none.

const layout = ({ video }: Tenant) => ({ video_id: video, database_name: "layout" });
const holder = async (tenant: Tenant) => (await tenant.state())?.lock_id ?? null;

/** What `invoke` gives. */
// deno-lint-ignore no-explicit-any
type Result = { data: any; error: unknown };

/** A client whose answers are changed on their way. */
function changing(
  supabase: SupabaseClient,
  change: (name: string, result: Result, body: { database_name?: string }) => Result,
): SupabaseClient {
  const invoke = async (name: string, options: { body: { database_name?: string } }) =>
    change(name, await supabase.functions.invoke(name, options), options.body);
  return Object.create(supabase, { functions: { value: { invoke } } });
}

/** A document, as a page has it. */
function inPage(hidden: boolean): Disposable & { document: EventTarget & { hidden: boolean } } {
  const document = Object.assign(new EventTarget(), { hidden });
  Object.assign(globalThis, { document });
  return {
    document,
    [Symbol.dispose]() {
      delete (globalThis as { document?: unknown }).document;
    },
  };
}

Deno.test("a row that somebody is at: a renewal in doubt, a release until it is done", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const locks = createLockClient(anna.client);
  const lease = await locks.acquire(layout(tenant), { ttlSeconds: 8 });
  const states: string[] = [];
  lease.addEventListener("statechange", () => states.push(lease.state));
  await using session = openSession();
  const stand = async () => {
    await session.run`begin`;
    await session.run`
      select from public.video_database_state where video_id = ${tenant.video} for update`;
  };
  await stand();
  lease.wake();
  await until(() => Promise.resolve(states.length > 0));
  await session.run`commit`;
  await until(() => Promise.resolve(states.length > 1));
  await stand();
  const released = lease.release();
  await new Promise((resolve) => setTimeout(resolve, 700));
  await session.run`commit`;
  await released;
  assertEquals(await holder(tenant), null);
  assertEquals(states, ["in doubt", "held", "lost"]);
});

Deno.test("who waits in a hidden page keeps a place for a minute, as its timers may come but once in it", async () => {
  await using tenant = await newTenant();
  await using proxy = await startProxy();
  const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
  const waiting = createLockClient(proxy.client(ben));
  for (const [hidden, seconds] of [[true, 60], [false, 15]] as const) {
    using _ = inPage(hidden);
    const lease = await createLockClient(anna.client).acquire(layout(tenant));
    const before = proxy.calls.length;
    const request = waiting.request(layout(tenant), () => {});
    await until(() => Promise.resolve(proxy.calls.length > before));
    assertEquals(proxy.calls[before]!.body.queue_seconds, seconds);
    await lease.release();
    await request;
  }
});

Deno.test("who comes back looks at once: the network, the page, the tab", async () => {
  await using tenant = await newTenant();
  await using proxy = await startProxy();
  using page = inPage(true);
  const anna = await tenant.join("anna");
  await using lease = await createLockClient(proxy.client(anna)).acquire(layout(tenant));
  const renewals = () => proxy.calls.filter(({ name }) => name === "lock-renew").length;
  const back: Record<string, () => void> = {
    online: () => globalThis.dispatchEvent(new Event("online")),
    pageshow: () => globalThis.dispatchEvent(new Event("pageshow")),
    visibilitychange: () => page.document.dispatchEvent(new Event("visibilitychange")),
  };
  for (const [event, happens] of Object.entries(back)) {
    page.document.hidden = event !== "visibilitychange";
    const before = renewals();
    happens();
    await until(() => Promise.resolve(renewals() > before && proxy.calls.at(-1)!.isAnswered));
    await new Promise((resolve) => setTimeout(resolve, 100));
    assertEquals([event, renewals() - before, lease.state], [event, 1, "held"]);
  }
});

Deno.test("an answer that names another acquisition grants nothing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  let foreign = 0;
  const mixedUp = changing(anna.client, (name, { data, error }) => {
    if (name !== "lock-acquire" || foreign++ > 0) return { data, error };
    return { data: { ...data, lock: { ...data.lock, lock_id: crypto.randomUUID() } }, error };
  });
  await createLockClient(mixedUp).request(layout(tenant), async ({ lockId }) => {
    assertEquals(await holder(tenant), lockId);
  });
  assertEquals(foreign, 2, "it was asked again");
  assertEquals(await holder(tenant), null);
});

Deno.test("an answer that is none is asked for again", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  let hijacked = false;
  // something in between answers in the service's place
  const invoke = async (name: string, options: object) => {
    if (name !== "lock-release" || hijacked) {
      return await anna.client.functions.invoke(name, options);
    }
    hijacked = true;
    return { data: { hello: "world" }, error: null };
  };
  const supabase = Object.create(anna.client, { functions: { value: { invoke } } });
  await createLockClient(supabase).request(layout(tenant), () => {});
  assertEquals(await holder(tenant), null);
});

Deno.test("who signs in again in time has lost nothing", async () => {
  await using tenant = await newTenant();
  await using proxy = await startProxy();
  const anna = await tenant.join("anna");
  // two calls of two tries each
  proxy.plan = ({ name, number }) => name === "lock-renew" && number < 4 ? "unauthorized" : "pass";
  const states: string[] = [];
  const options = { ttlSeconds: 4 };
  await createLockClient(proxy.client(anna)).request(layout(tenant), options, async (lease) => {
    lease.addEventListener("statechange", () => states.push(lease.state));
    lease.wake();
    await until(() => Promise.resolve(states.length === 2 || lease.signal.aborted));
  });
  assertEquals(states, ["in doubt", "held", "lost"]);
});

Deno.test("calls that find the token expired at the same time refresh the session once", async () => {
  await using tenant = await newTenant();
  const supabase = client(publishableKey);
  const email = `late-${crypto.randomUUID()}@example.com`;
  const { data } = await supabase.auth.signUp({ email, password: "long enough" });
  const { id } = data.user!;
  await sql`insert into public.tenant_members (tenant_id, user_id) values (${tenant.id}, ${id})`;
  const refused = new Set<string>();
  let refreshed = 0;
  const refresh = supabase.auth.refreshSession.bind(supabase.auth);
  const names = ["layout", "captions", "audio"];
  supabase.auth.refreshSession = async (session) => {
    refreshed++;
    await until(() => Promise.resolve(refused.size === names.length)); // so they are at the same time
    return await refresh(session);
  };
  const late = changing(
    supabase,
    (name, result, { database_name = "" }) => {
      if (name !== "lock-acquire" || refused.has(database_name)) return result;
      refused.add(database_name); // the first call for each lock
      return { data: null, error: { context: new Response("{}", { status: 401 }) } };
    },
  );
  const locks = createLockClient(late);
  await Promise.all(
    names.map((database_name) =>
      locks.request({ video_id: tenant.video, database_name }, () => {})
    ),
  );
  assertEquals([refreshed, refused.size], [1, names.length]);
  await sql`delete from auth.users where id = ${id}`;
});

Deno.test("a steal from one's own request is known at once, and not at the next renewal", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const locks = createLockClient(anna.client);
  const first = await locks.acquire(layout(tenant));
  const begun = performance.now();
  const lost = new Promise<string>((resolve) => {
    first.signal.addEventListener("abort", () => resolve(first.signal.reason.reason));
  });
  await using _ = await locks.acquire(layout(tenant), { steal: true });
  assertEquals(await lost, "taken_over");
  assertLess(performance.now() - begun, 5000);
});

Deno.test("a page that is left releases with the last token that it had, also where the application has none left", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  let token: string | null = anna.token;
  const supabase = createClient(url, publishableKey, { accessToken: () => Promise.resolve(token) });
  const lease = await createLockClient(supabase).acquire(layout(tenant));
  token = null;
  lease.wake();
  await until(() => Promise.resolve(lease.state === "in doubt"));
  globalThis.dispatchEvent(new Event("pagehide"));
  await until(async () => await holder(tenant) === null);
  assertEquals(lease.state, "lost");
});
