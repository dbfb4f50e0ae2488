import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "@std/assert";
import { newTenant, type Tenant } from "../supabase/tests/support/tenant.ts";
import { until } from "../supabase/tests/support/race.ts";
import { createLockClient, LockError } from "./mod.ts";
import { type Call, type Fault, FAULTS, startProxy } from "./support/proxy.ts";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const layout = ({ video }: Tenant) => ({ video_id: video, database_name: "layout" });

/** This fault for the first calls of one function, and none for all others. */
const first = (times: number, name: string, fault: Fault) => (call: Call) =>
  call.name === name && call.number < times ? fault : "pass";

/** Who holds the lock by the database's clock. */
const holder = async (tenant: Tenant) => (await tenant.state())?.lock_id ?? null;

/** Side by side: most of it is waiting. */
const eachFault = (test: (fault: Fault) => Promise<void>) => async () => {
  await Promise.all(FAULTS.map(async (fault) => {
    await test(fault).catch((error) => {
      throw new Error(fault, { cause: error });
    });
  }));
};

for (const name of ["lock-acquire", "lock-release"]) {
  Deno.test(
    `request: ${name} suffers each fault once, and nobody notices`,
    eachFault(async (fault) => {
      await using tenant = await newTenant();
      await using proxy = await startProxy();
      const anna = await tenant.join("anna");
      proxy.plan = first(1, name, fault);
      const locks = createLockClient(proxy.client(anna));
      const token = await locks.request(layout(tenant), (lease) => lease.fencingToken);
      assertEquals(await holder(tenant), null, "the lock is free");
      await pause(fault === "repeat" ? 400 : 0);
      assertEquals(await holder(tenant), null, "and stays so");
      const history = await tenant.history();
      assertEquals(history.map((lease) => Number(lease.fencing_token)), [token], "one grant");
    }),
  );
}

Deno.test(
  "request: a waiter's second and third call suffer each fault, and it has its turn",
  eachFault(async (fault) => {
    await using tenant = await newTenant();
    await using proxy = await startProxy();
    const [anna, ben] = [await tenant.join("anna"), await tenant.join("ben")];
    proxy.plan = ({ name, number }) =>
      // two 401 in a row are believed
      name === "lock-acquire" && (number === 1 || number === 2 && fault !== "unauthorized")
        ? fault
        : "pass";
    const order: string[] = [];
    const granted = Promise.withResolvers<void>();
    const held = createLockClient(anna.client).request(layout(tenant), async () => {
      granted.resolve();
      await until(() => Promise.resolve(proxy.calls.length >= 3));
      order.push("anna ends");
    });
    await granted.promise;
    await createLockClient(proxy.client(ben)).request(layout(tenant), () => order.push("ben"));
    await held;
    assertEquals(order, ["anna ends", "ben"]);
    assertEquals(await holder(tenant), null, "the lock is free");
  }),
);

Deno.test(
  "a request that is given up while its call suffers each fault leaves no lease",
  eachFault(async (fault) => {
    await using tenant = await newTenant();
    await using proxy = await startProxy();
    const anna = await tenant.join("anna");
    proxy.plan = first(1, "lock-acquire", fault);
    const locks = createLockClient(proxy.client(anna));
    const controller = new AbortController();
    const request = locks.request(layout(tenant), { signal: controller.signal }, () => pause(50));
    await until(() => Promise.resolve(proxy.calls.length > 0));
    controller.abort("given up");
    await request.catch((reason) => assertEquals(reason, "given up"));
    await locks.releaseAll();
    assertEquals(await holder(tenant), null, "the lock is free");
    await pause(400);
    assertEquals(await holder(tenant), null, "and stays so");
  }),
);

Deno.test("a lease of two seconds lives through every fault of every second renewal", async () => {
  await Promise.all(FAULTS.map(async (fault) => {
    await using tenant = await newTenant();
    await using proxy = await startProxy();
    const anna = await tenant.join("anna");
    proxy.plan = ({ name, number }) => name === "lock-renew" && number % 2 === 0 ? fault : "pass";
    const locks = createLockClient(proxy.client(anna));
    await locks.request(layout(tenant), { ttlSeconds: 2 }, async (lease) => {
      await pause(2600);
      assertEquals(lease.signal.aborted, false, fault);
      assertEquals(await holder(tenant), lease.lockId, fault);
    });
    const ends = (await tenant.history()).map((lease) => lease.end_reason);
    assertEquals(ends, ["released"], fault);
  }));
});

Deno.test("a lease whose renewals are all lost is in doubt, and over before the database gives it away", async () => {
  await using tenant = await newTenant();
  await using proxy = await startProxy();
  const anna = await tenant.join("anna");
  const locks = createLockClient(proxy.client(anna));
  proxy.plan = ({ name }) =>
    name === "lock-renew" ? "drop" : name === "lock-release" ? "drop" : "pass";
  const states: string[] = [];
  const sentAt = performance.now();
  const request = locks.request(layout(tenant), { ttlSeconds: 2 }, async (lease) => {
    lease.addEventListener("statechange", () => states.push(lease.state));
    await pause(5000);
  });
  const error = await assertRejects(() => request, DOMException);
  const passed = performance.now() - sentAt;
  assertEquals([error.name, (error as { cause?: { reason: string } }).cause?.reason], [
    "AbortError",
    "deadline",
  ]);
  assertEquals(states, ["in doubt", "lost"]);
  assertLess(passed, 2000);
  assertGreater(passed, 1500, "not given up without need");
  assert(
    (await tenant.state())!.lock_expires_at!.getTime() > Date.now(),
    "the database still keeps it",
  );
});

Deno.test("a lease that cannot be renewed for a while is in doubt for that while", async () => {
  await using tenant = await newTenant();
  await using proxy = await startProxy();
  const anna = await tenant.join("anna");
  const locks = createLockClient(proxy.client(anna));
  proxy.plan = first(2, "lock-renew", "drop");
  const states: string[] = [];
  await locks.request(layout(tenant), { ttlSeconds: 4 }, async (lease) => {
    lease.addEventListener("statechange", () => states.push(lease.state));
    await until(() => Promise.resolve(states.length === 2));
    assertGreater(lease.secondsLeft, 2);
  });
  assertEquals(states, ["in doubt", "held", "lost"]);
});

Deno.test("an answer that names another lease renews nothing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  let foreign = 0;
  // as behind a pooler that mixes up answers
  const invoke = anna.client.functions.invoke.bind(anna.client.functions);
  const mixedUp = Object.create(anna.client, {
    functions: {
      value: {
        async invoke(name: string, options: object) {
          const result = await invoke(name, options);
          if (name !== "lock-renew" || !result.data) return result;
          foreign++;
          const lock = { ...result.data.lock, lock_id: crypto.randomUUID() };
          return { ...result, data: { ...result.data, lock } };
        },
      },
    },
  });
  const locks = createLockClient(mixedUp);
  const sentAt = performance.now();
  await assertRejects(
    () => locks.request(layout(tenant), { ttlSeconds: 1 }, () => pause(3000)),
    DOMException,
  );
  assertLess(performance.now() - sentAt, 1000);
  assertGreater(foreign, 1);
});

Deno.test("a final failure is reported at once, with the service's own code", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const locks = createLockClient(anna.client);
  const refused = async (key: { video_id: string; database_name: string }) =>
    await assertRejects(() => locks.request(key, () => {}), LockError);
  const unknown = await refused({ video_id: crypto.randomUUID(), database_name: "layout" });
  assertEquals([unknown.code, unknown.status], ["VIDEO_NOT_FOUND", 404]);
  const wrong = await refused({ video_id: tenant.video, database_name: "No Name" });
  assertEquals([wrong.code, wrong.status, wrong.details?.[0]?.path], [
    "INVALID_REQUEST",
    400,
    "database_name",
  ]);
});
