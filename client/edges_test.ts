import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "@std/assert";
import type { SupabaseClient } from "@supabase/supabase-js";
import { createLockClient, type Lease, LockError } from "./mod.ts";
import { ModelService } from "./support/model_service.ts";
import { virtualTime } from "./support/virtual_time.ts";
import { watchVideo } from "./watch.ts";

// What no network does, but a caller, a machine or a project in a bad state. Each was wrong once.

const KEY = { video_id: "00000000-0000-4000-8000-000000000101", database_name: "layout" };
const forever = () => new Promise<never>(() => {});
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The client of a service that follows the rules, and answers after 2 ms. */
function model(holder = "anna") {
  const service = new ModelService(() => ({ there: 1, back: 1 }));
  return {
    service,
    supabase: service.client(holder),
    locks: createLockClient(service.client(holder), { holder }),
  };
}

/** A client whose calls of functions end so. */
function answering(
  invoke: (name: string, body: Record<string, unknown>) => unknown,
): SupabaseClient {
  const supabase = model().supabase;
  return Object.assign(supabase, {
    functions: {
      invoke: async (name: string, { body }: { body: Record<string, unknown> }) =>
        await invoke(name, body),
    },
  }) as unknown as SupabaseClient;
}

for (const reason of [null, 0, "", { code: "NOT_AUTHENTICATED" }, { code: "MY_TIMEOUT" }]) {
  Deno.test(`a signal that aborts with ${JSON.stringify(reason)} rejects with that very value, while asking and while waiting`, async () => {
    const { locks } = model();
    for (const ms of [0, 1, 20]) {
      const held = ms === 20 ? await model().locks.acquire(KEY) : undefined;
      const controller = new AbortController();
      const request = locks.request(KEY, { signal: controller.signal }, forever);
      const end = request.then(() => "granted", (reason) => [reason]);
      if (ms) await pause(ms);
      controller.abort(reason);
      if (ms < 20) assertEquals((await end)[0], reason);
      await locks.releaseAll();
      await held?.release();
      await end;
    }
  });
}

Deno.test("waitSeconds may be longer than a timer can be", async () => {
  const { locks } = model();
  const held = await locks.acquire(KEY);
  let isOver = false;
  const waiting = locks.acquire(KEY, { waitSeconds: 30 * 86_400 }).finally(() => isOver = true);
  await pause(30);
  assertEquals(isOver, false);
  await held.release();
  await (await waiting).release();
});

Deno.test("ttlSeconds that is no number is refused at once, as JSON would turn it into the default", async () => {
  const { locks, service } = model();
  for (const ttlSeconds of [NaN, Infinity]) {
    await assertRejects(() => locks.acquire(KEY, { ttlSeconds }), TypeError, "ttlSeconds");
  }
  assertEquals(service.calls, 0);
});

Deno.test("requests that wait for another one of their client cost nothing meanwhile", async () => {
  using time = virtualTime(1);
  const timers = globalThis.setTimeout;
  let started = 0;
  globalThis.setTimeout = ((run: () => void, ms?: number) => {
    started++;
    return timers(run, ms);
  }) as typeof setTimeout;
  const { locks } = model();
  const hour = locks.request(KEY, { ttlSeconds: 3600 }, () => pause(3_600_000));
  const others = Array.from(
    { length: 50 },
    () => locks.request(KEY, { waitSeconds: Infinity }, () => {}),
  );
  await time.run(() => {});
  await Promise.all([hour, ...others]);
  assertLess(started, 1000);
});

Deno.test("a lease whose answer slept on the way, with a monotonic clock that stands still in sleep, is not believed", async () => {
  using time = virtualTime(1);
  const awake = Date.now;
  let slept = 0;
  Date.now = () => awake() + slept;
  const believed: string[] = [];
  const service = new ModelService((call) => {
    // the machine sleeps for an hour while the answer to the first renewal is under way
    if (call === 1) setTimeout(() => slept = 3_600_000, 15);
    return { there: 10, back: 10 };
  });
  const locks = createLockClient(service.client("anna"), { holder: "anna" });
  let lease: Lease | undefined;
  const request = locks.request(KEY, { ttlSeconds: 8 }, async (granted) => {
    lease = granted;
    await pause(2_300);
  });
  await time.run(() => {
    if (lease && service.calls === 2 && service.answered === 2) believed.push(lease.state);
  });
  await request;
  assertEquals(believed, ["in doubt"]);
});

Deno.test("a grant whose answer slept on the way is asked for again, before anybody believes in it", async () => {
  using time = virtualTime(1);
  const awake = Date.now;
  let slept = 0;
  Date.now = () => awake() + slept;
  const service = new ModelService((call) => {
    if (call === 0) setTimeout(() => slept = 3_600_000, 15);
    return { there: 10, back: 10 };
  });
  const locks = createLockClient(service.client("anna"), { holder: "anna" });
  const request = locks.request(KEY, { ttlSeconds: 8 }, () => service.calls);
  await time.run(() => {});
  assertEquals(await request, 2);
});

Deno.test("watch asks nothing more once it is stopped, whatever its channel still says", async () => {
  using time = virtualTime(1);
  let changed = () => {};
  let subscribed = (_status: string) => {};
  const channel = {
    on: (_: string, __: object, listener: () => void) => {
      changed = listener;
      return channel;
    },
    subscribe: (listener: (status: string) => void) => {
      subscribed = listener;
      return channel;
    },
  };
  const supabase = { channel: () => channel, removeChannel() {} } as unknown as SupabaseClient;
  let asked = 0;
  const stop = watchVideo(supabase, "video", () => {
    asked++;
    return Promise.resolve({ held: [], pending: [] });
  }, () => {});
  setTimeout(stop, 12_000);
  setTimeout(() => subscribed("SUBSCRIBED"), 12_001);
  setTimeout(() => changed(), 12_002);
  setTimeout(() => stop(), 400_000); // or the old one would go on for ever
  let atStop = 0;
  await time.run(() => {
    if (time.now() < 13_000) atStop = asked;
  });
  assertGreater(atStop, 2);
  assertLess(asked - atStop, 3, "what was set off already may still ask once");
});

Deno.test("where the functions are missing, a request says so at once", async () => {
  const locks = createLockClient(answering(() => ({
    error: {
      context: new Response(`{"code":"NOT_FOUND","message":"no such function"}`, { status: 404 }),
    },
  })));
  const askedAt = performance.now();
  const error = await assertRejects(() => locks.acquire(KEY), LockError, "no such function");
  assertLess(performance.now() - askedAt, 1000);
  assertEquals(error.status, 404);
});

Deno.test("an answer that says yes and makes no sense renews nothing, and loses nothing", async () => {
  const { supabase } = model();
  const invoke = supabase.functions.invoke.bind(supabase.functions);
  let renewals = 0;
  const locks = createLockClient(answering(async (name, body) => {
    if (name === "lock-renew" && renewals++ < 2) return { data: { renewed: true } };
    return await invoke(name, { body, signal: new AbortController().signal } as never);
  }));
  const states: string[] = [];
  await locks.request(KEY, { ttlSeconds: 2 }, async (lease) => {
    lease.addEventListener("statechange", () => states.push(lease.state));
    while (states.length < 2) await pause(50);
  });
  assertEquals(states.slice(0, 2), ["in doubt", "held"]);
});

Deno.test("a page that may not talk to other tabs acquires all the same", async () => {
  const real = globalThis.BroadcastChannel;
  Object.assign(globalThis, {
    document: Object.assign(new EventTarget(), { hidden: false }),
    BroadcastChannel: class {
      constructor() {
        throw new DOMException("Blocked", "SecurityError");
      }
    },
  });
  try {
    assertEquals(await model().locks.request(KEY, () => "granted"), "granted");
  } finally {
    Object.assign(globalThis, { BroadcastChannel: real });
    delete (globalThis as { document?: unknown }).document;
  }
});

Deno.test("nothing is left of 200 requests: no timer, no listener, no turn", async () => {
  const { locks } = model();
  const { signal } = new AbortController();
  let listeners = 0;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  Object.assign(signal, {
    addEventListener: (...args: Parameters<typeof add>) => (listeners++, add(...args)),
    removeEventListener: (...args: Parameters<typeof remove>) => (listeners--, remove(...args)),
  });
  for (let i = 0; i < 20; i++) {
    const key = (n: number) => ({ ...KEY, database_name: `n${n}` });
    await Promise.all(
      Array.from({ length: 10 }, (_, n) => locks.request(key(n), { signal }, () => {})),
    );
  }
  assertEquals(listeners, 0);
  assert(!signal.aborted);
  // timers that are left fail this test: Deno watches them
});
