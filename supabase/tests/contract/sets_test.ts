// Several databases in one: database_names. One statement, one lock_id, one token, all of them or none.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { microseconds } from "../support/clock.ts";
import { atOneBarrier, openSession, until } from "../support/race.ts";
import { rpc, sql } from "../support/stack.ts";
import { newTenant, type Tenant, W1, W2 } from "../support/tenant.ts";

const NAMES = ["layout", "captions", "audio"];

const one = (tenant: Tenant, database_name: string) => ({ video_id: tenant.video, database_name });
const set = (tenant: Tenant, database_names = NAMES) => ({
  video_id: tenant.video,
  database_names,
});

/** Every state row of the tenant, by name. */
async function rows(tenant: Tenant) {
  const all = await Promise.all(
    ["audio", "captions", "extra", "layout"].map((name) => tenant.state(tenant.video, name)),
  );
  return all.filter((row) => row !== undefined);
}

/** A request that breaks a rule: the paths that the error names. */
async function brokenRules(tenant: Tenant, name: string, body: Record<string, unknown>) {
  const { error } = await tenant.server.rpc(name, { video_id: tenant.video, ...body });
  assertEquals(error?.code, "PT400", JSON.stringify(body));
  return JSON.parse(error!.details).map(({ path }: { path: string }) => path);
}

Deno.test("acquire with database_names grants all of them: one lock_id, one token, in the order of the names", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "captions"), ...W1 });
  const { data: version } = await tenant.server.rpc("advance_server_version", {
    ...one(tenant, "captions"),
    fencing_token: Number((await tenant.state(tenant.video, "captions"))!.fencing_token),
  });
  await rpc(tenant.server, "release_lock", { ...one(tenant, "captions"), ...W1 });

  const { acquired, locks, server_time, ...rest } = await rpc(tenant.server, "acquire_lock", {
    ...set(tenant),
    ...W1,
    lock_id,
    ttl_seconds: 30,
  });
  assertEquals([acquired, rest, version], [true, {}, 1]);
  assertEquals(
    locks,
    NAMES.map((database_name) => ({
      ...one(tenant, database_name),
      lock_id,
      lock_holder_user_id: "worker-1",
      lock_type: "server",
      fencing_token: microseconds(server_time!),
      locked_at: server_time!,
      expires_at: locks![0]!.expires_at,
      ttl_seconds: 30,
      state: {
        server_version: database_name === "captions" ? 1 : 0,
        wasabi_version: 0,
        wasabi_synced_at: null,
      },
    })),
  );
  assertEquals(microseconds(locks![0]!.expires_at) - microseconds(server_time!), 30_000_000);
  for (const row of await rows(tenant)) {
    assertEquals(row.lock_database_names, NAMES.toSorted(), row.database_name);
  }
});

Deno.test("P4 the token of a set is higher than every token that any of its locks has had", async () => {
  await using tenant = await newTenant();
  const ahead = (Date.now() + 3_600_000) * 1000;
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "captions"), ...W1 });
  await sql`update public.video_database_state set fencing_token = ${ahead} where video_id = ${tenant.video}`;
  await rpc(tenant.server, "release_lock", { ...one(tenant, "captions"), ...W1 });
  const { locks } = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1 });
  assertEquals(locks?.map((lock) => lock.fencing_token), NAMES.map(() => ahead + 1));
});

Deno.test("P2 a set that cannot be had whole is refused whole, and the refusal names the database", async () => {
  await using tenant = await newTenant();
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "captions"), ...W1 });
  const before = await rows(tenant);
  assertEquals(before.length, 1);
  const refused = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W2 });
  assertEquals([refused.acquired, refused.reason, refused.database_name], [
    false,
    "held",
    "captions",
  ]);
  assertEquals(refused.holder?.lock_holder_user_id, "worker-1");
  assertEquals([refused.lock, refused.locks, refused.queue], [undefined, undefined, {
    position: null,
    length: 0,
  }]);
  assertEquals(await rows(tenant), before, "not even a row was made");
  // of several that refuse, the first in the order of the names
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "audio"), ...W1 });
  for (const names of [NAMES, NAMES.toReversed()]) {
    const { database_name } = await rpc(tenant.server, "acquire_lock", {
      ...set(tenant, names),
      ...W2,
    });
    assertEquals(database_name, names.find((name) => name !== "layout"));
  }
});

Deno.test("P1 a lock of a set is held like any other: a caller who asks for it alone is refused", async () => {
  await using tenant = await newTenant();
  await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1 });
  for (const name of NAMES) {
    const refused = await rpc(tenant.server, "acquire_lock", { ...one(tenant, name), ...W2 });
    assertEquals([refused.reason, refused.database_name], ["held", name]);
  }
  const extra = await rpc(tenant.server, "acquire_lock", { ...one(tenant, "extra"), ...W2 });
  assertEquals(extra.acquired, true);
});

Deno.test("P5 the same set again is the same grant, in any order of its names", async () => {
  await using tenant = await newTenant();
  const request = { ...W1, lock_id: crypto.randomUUID(), ttl_seconds: 50 };
  const first = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...request });
  const again = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...request });
  assertEquals(again.locks, first.locks);
  const reversed = { ...set(tenant, NAMES.toReversed()), ...request };
  const { locks } = await rpc(tenant.server, "acquire_lock", reversed);
  assertEquals(locks, first.locks!.toReversed());
});

Deno.test("P5 one lock_id with other names than it was granted with is an error, for every function", async () => {
  await using tenant = await newTenant();
  const granted: [names: string[], id: string][] = [
    [["layout", "captions"], crypto.randomUUID()],
    [["audio"], crypto.randomUUID()],
  ];
  for (const [names, lock_id] of granted) {
    await rpc(tenant.server, "acquire_lock", { ...set(tenant, names), ...W1, lock_id });
  }
  const others: [names: string[], id: string][] = [
    [["layout"], granted[0]![1]],
    [["layout", "captions", "extra"], granted[0]![1]],
    [["extra", "audio"], granted[1]![1]],
  ];
  const check = async () => {
    const before = await rows(tenant);
    for (const [database_names, lock_id] of others) {
      for (
        const [name, more] of [["acquire_lock", W1], ["renew_lock", {}], [
          "release_lock",
          {},
        ]] as const
      ) {
        const paths = await brokenRules(tenant, name, { database_names, lock_id, ...more });
        assertEquals(paths, ["lock_id"], name);
      }
    }
    const alone = { database_name: "captions", lock_id: granted[0]![1] };
    assertEquals(await brokenRules(tenant, "renew_lock", alone), ["lock_id"]);
    assertEquals(await brokenRules(tenant, "release_lock", alone), ["lock_id"]);
    assertEquals(await rows(tenant), before);
  };
  await check();
  // and after they have ended
  for (const [names, lock_id] of granted) {
    const { locks } = await rpc(tenant.server, "release_lock", { ...set(tenant, names), lock_id });
    assertEquals(locks?.length, names.length);
  }
  await check();
});

Deno.test("P5 a set of one is the lock of that name: it can be named either way", async () => {
  await using tenant = await newTenant();
  for (const [granted, named] of [[set, one], [one, set]] as const) {
    const lock_id = crypto.randomUUID();
    // deno-lint-ignore no-explicit-any
    const by = (of: any, names: string[]) =>
      of === set ? set(tenant, names) : one(tenant, names[0]!);
    const as = { grant: by(granted, ["layout"]), other: by(named, ["layout"]) };
    const first = await rpc(tenant.server, "acquire_lock", { ...as.grant, ...W1, lock_id });
    const again = await rpc(tenant.server, "acquire_lock", { ...as.other, ...W1, lock_id });
    const token = (answer: typeof first) =>
      (answer.lock ?? answer.locks?.[0])?.fencing_token ?? "none";
    assertEquals(token(again), token(first));
    assertEquals((await rpc(tenant.server, "renew_lock", { ...as.other, lock_id })).renewed, true);
    const released = await rpc(tenant.server, "release_lock", { ...as.other, lock_id });
    assertEquals(released.released, true);
    assertEquals([released.lock, released.locks].filter(Boolean).length, 1);
  }
});

Deno.test("renew of a set renews all or none, and says which was lost and how", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  const first = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1, lock_id });
  const beat = { ...set(tenant), lock_id, ttl_seconds: 300 };
  const renewed = await rpc(tenant.server, "renew_lock", beat);
  assertEquals(renewed, {
    renewed: true,
    locks: first.locks!.map(({ state: _, ...lock }) => ({
      ...lock,
      expires_at: renewed.locks![0]!.expires_at,
      ttl_seconds: 300,
    })),
    queue: { length: 0 },
    server_time: renewed.server_time!,
  });
  assertEquals(
    microseconds(renewed.locks![0]!.expires_at) - microseconds(renewed.server_time!),
    300_000_000,
  );
  const shorter = await rpc(tenant.server, "renew_lock", { ...beat, ttl_seconds: 30 });
  assertEquals(
    shorter.locks!.map(({ expires_at }) => expires_at),
    renewed.locks!.map(({ expires_at }) => expires_at),
    "never backwards",
  );

  const active = (await rows(tenant)).map(({ last_activity_at }) => last_activity_at);
  await rpc(tenant.server, "renew_lock", { ...beat, active: false });
  assertEquals((await rows(tenant)).map(({ last_activity_at }) => last_activity_at), active);

  await rpc(tenant.server, "release_lock", { ...one(tenant, "captions"), force: true });
  const before = await rows(tenant);
  const lost = await rpc(tenant.server, "renew_lock", { ...beat, ttl_seconds: 600 });
  assertEquals(lost, {
    renewed: false,
    reason: "force_released",
    database_name: "captions",
    holder: null,
    server_time: lost.server_time!,
  });
  assertEquals(await rows(tenant), before, "none was renewed");

  // of several that are lost it names the first, in the order of the request
  await rpc(tenant.server, "release_lock", { ...one(tenant, "layout"), ...W1 });
  const lastFirst = { ...beat, database_names: NAMES.toReversed() };
  const answers = [
    await rpc(tenant.server, "renew_lock", beat),
    await rpc(tenant.server, "renew_lock", lastFirst),
  ];
  assertEquals(answers.map(({ database_name, reason }) => [database_name, reason]), [
    ["layout", "released"],
    ["captions", "force_released"],
  ]);
});

Deno.test("release of a set ends what is still held of it, and says so again", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  const first = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1, lock_id });
  await rpc(tenant.server, "release_lock", { ...one(tenant, "captions"), force: true });
  const request = { ...set(tenant), lock_id };
  const released = await rpc(tenant.server, "release_lock", request);
  const kept = first.locks!.filter((lock) => lock.database_name !== "captions");
  const released_at = released.locks?.[0]?.released_at;
  assertEquals(released, {
    released: true,
    locks: kept.map(({ state: _, expires_at: _e, ttl_seconds: _t, ...lock }) => ({
      ...lock,
      released_at: released_at!,
    })) as unknown as NonNullable<typeof released.locks>,
  });
  assertEquals((await rows(tenant)).filter((row) => row.lock_id || row.lock_database_names), []);
  assertEquals(await rpc(tenant.server, "release_lock", request), released);
  // others have them now: the late release touches nothing
  await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W2 });
  const before = await rows(tenant);
  assertEquals(await rpc(tenant.server, "release_lock", request), released);
  assertEquals(await rows(tenant), before);
});

Deno.test("release of a set of which nothing is held gives the first reason in the order of the names", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1, lock_id });
  await rpc(tenant.server, "release_lock", { ...one(tenant, "captions"), force: true });
  for (const name of ["layout", "audio"]) await tenant.backdate(500, tenant.video, name);
  for (
    const [names, reason] of [[NAMES, "expired"], [
      ["captions", "audio", "layout"],
      "force_released",
    ]] as const
  ) {
    assertEquals(
      await rpc(tenant.server, "release_lock", { ...set(tenant, [...names]), lock_id }),
      { released: false, reason, holder: null },
    );
  }
});

Deno.test("P5 a release of a set that overtakes its acquire cancels it", async () => {
  await using tenant = await newTenant();
  const request = { ...set(tenant), lock_id: crypto.randomUUID() };
  const cancelled = { released: false, reason: "cancelled", holder: null };
  assertEquals(await rpc(tenant.server, "release_lock", request), cancelled);
  assertEquals(await rpc(tenant.server, "release_lock", request), cancelled);
  const late = await rpc(tenant.server, "acquire_lock", { ...request, ...W1 });
  assertEquals([late.acquired, late.reason, late.end_reason], [false, "ended", "cancelled"]);
  assertEquals((await rows(tenant)).filter((row) => row.lock_id), []);
});

Deno.test("a name releases what it holds of a set, and force all of it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const chief = await tenant.join("chief", "admin");
  await rpc(anna.client, "acquire_lock", set(tenant, ["layout", "captions"]));
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "audio"), ...W1 });
  const byName = await rpc(tenant.server, "release_lock", { ...set(tenant), ...W1 });
  assertEquals(byName.locks?.map((lock) => lock.database_name), ["audio"]);
  const own = { ...set(tenant), lock_holder_user_id: anna.id };
  assertEquals((await rpc(anna.client, "release_lock", own)).locks?.length, 2);

  await rpc(anna.client, "acquire_lock", set(tenant, ["layout", "captions"]));
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "audio"), ...W1 });
  const forced = await rpc(chief.client, "release_lock", { ...set(tenant), force: true });
  assertEquals(forced.locks?.map((lock) => lock.lock_type), ["client", "client", "server"]);
  for (const name of NAMES) {
    const ended = (await tenant.history(tenant.video, name)).at(-1);
    assertEquals([ended?.end_reason, ended?.ended_by], ["force_released", chief.id], name);
  }
});

Deno.test("P6 force with the lock_id of a set ends that acquisition, and none that came after it", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1, lock_id });
  const forced = { ...set(tenant), lock_id, force: true };
  const first = await rpc(tenant.server, "release_lock", forced);
  assertEquals(first.locks?.map((lock) => lock.database_name), NAMES);
  await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W2 });
  const before = await rows(tenant);
  assertEquals(await rpc(tenant.server, "release_lock", forced), first);
  assertEquals(await rows(tenant), before);
});

Deno.test("take_over of a set takes every lease of the same holder's in it, and nobody else's", async () => {
  await using tenant = await newTenant();
  const old = crypto.randomUUID();
  const first = await rpc(tenant.server, "acquire_lock", {
    ...set(tenant, ["layout", "captions"]),
    ...W1,
    lock_id: old,
  });
  const taking = { ...set(tenant, ["captions", "audio"]), take_over: true };
  const refused = await rpc(tenant.server, "acquire_lock", { ...taking, ...W2 });
  assertEquals([refused.reason, refused.database_name, refused.holder?.is_you], [
    "held",
    "captions",
    false,
  ]);
  const { locks } = await rpc(tenant.server, "acquire_lock", { ...taking, ...W1 });
  assertEquals(locks?.map((lock) => lock.database_name), ["captions", "audio"]);
  assertGreater(locks![0]!.fencing_token, first.locks![0]!.fencing_token);
  // the old acquisition lost one of its two
  const renewal = { ...set(tenant, ["layout", "captions"]), lock_id: old };
  const lost = await rpc(tenant.server, "renew_lock", renewal);
  assertEquals([lost.reason, lost.database_name, lost.holder?.is_you], [
    "taken_over",
    "captions",
    true,
  ]);
  const released = await rpc(tenant.server, "release_lock", renewal);
  assertEquals(released.locks?.map((lock) => lock.database_name), ["layout"]);
});

Deno.test("P4 the one token of a set is good for each of its databases, and for no other", async () => {
  await using tenant = await newTenant();
  const { locks } = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1 });
  const { fencing_token } = locks![0]!;
  await rpc(tenant.server, "acquire_lock", { ...one(tenant, "extra"), ...W2 });
  for (const name of [...NAMES, "extra"]) {
    const { error } = await tenant.server.rpc("assert_lock_held", {
      ...one(tenant, name),
      fencing_token,
    });
    assertEquals(error?.code, name === "extra" ? "PT412" : undefined, name);
  }
});

Deno.test("database_names breaks its rule in every way that it can, for every function", async () => {
  await using tenant = await newTenant();
  const many = Array.from({ length: 17 }, (_, i) => `db${i}`);
  for (
    const [name, more] of [
      ["acquire_lock", W1],
      ["renew_lock", { lock_id: crypto.randomUUID() }],
      ["release_lock", { lock_id: crypto.randomUUID() }],
    ] as const
  ) {
    for (const database_names of [[], many, ["a", "a"], ["a", "B"], ["a", null], ["a", ""]]) {
      assertEquals(await brokenRules(tenant, name, { database_names, ...more }), [
        "database_names",
      ]);
    }
    const both = { database_names: ["a"], database_name: "a", ...more };
    assertEquals(await brokenRules(tenant, name, both), ["database_names"]);
    assertEquals(await brokenRules(tenant, name, { ...more }), ["database_name"]);
  }
  const { locks } = await rpc(tenant.server, "acquire_lock", {
    ...set(tenant, many.slice(1)),
    ...W1,
  });
  assertEquals(locks?.length, 16, "sixteen are allowed");
});

Deno.test("P2 of callers with sets that overlap, those win that meet nobody, whole, and nobody errs", async () => {
  await using tenant = await newTenant();
  const names = Array.from({ length: 6 }, (_, i) => `db${i}`);
  const wanted = Array.from(
    { length: 12 },
    (_, i) => [0, 1, 2].map((k) => names[(i + k * (1 + i % 2)) % 6]!),
  ).map((set, i) => i % 3 ? set : set.toReversed());
  for (const round of ["without rows", "with rows", "with rows"]) {
    const answers = await atOneBarrier(wanted.length, (i) =>
      rpc(tenant.server, "acquire_lock", {
        ...set(tenant, wanted[i]),
        lock_holder_user_id: `worker-${i}`,
      }));
    const won = answers.flatMap((answer) => answer.acquired ? [answer.locks!] : []);
    assert(won.length >= 1, round);
    const held = won.flat().map((lock) => lock.database_name);
    assertEquals(new Set(held).size, held.length, `P1: no database twice, ${round}`);
    for (const [i, { acquired, reason }] of answers.entries()) {
      if (acquired) continue;
      assert(["held", "busy"].includes(reason!), reason);
      assert(wanted[i]!.some((name) => held.includes(name)), `${round}: ${i} met nobody`);
    }
    for (const locks of won) {
      const { released } = await rpc(tenant.server, "release_lock", {
        ...set(tenant, locks.map((lock) => lock.database_name)),
        lock_id: locks[0]!.lock_id,
      });
      assertEquals(released, true);
    }
  }
});

Deno.test("P2 no part of a set is ever seen: a reader sees all of it or none", async () => {
  await using tenant = await newTenant();
  let over = false;
  const seen = new Set<number>();
  const look = async () => {
    await using session = openSession();
    while (!over) {
      const held = await session.run`
        select lock_id from public.video_database_state where video_id = ${tenant.video} and lock_id is not null`;
      seen.add(held.length);
      assertEquals(new Set(held.map(({ lock_id }) => lock_id)).size <= 1, true);
    }
  };
  const live = async () => {
    for (let i = 0; i < 40; i++) {
      const { locks } = await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1 });
      await rpc(tenant.server, "release_lock", { ...set(tenant), lock_id: locks![0]!.lock_id });
    }
    over = true;
  };
  await Promise.all([look(), live()]);
  assertEquals([...seen].toSorted(), [0, 3]);
});

Deno.test("the rows of a set are locked in the order of their names, however the request has them", async () => {
  await using tenant = await newTenant();
  await rpc(tenant.server, "acquire_lock", { ...set(tenant), ...W1 });
  await rpc(tenant.server, "release_lock", { ...set(tenant), ...W1 });
  for (const database_names of [["audio", "layout"], ["layout", "audio"]]) {
    await using gate = openSession();
    await using waiting = openSession({ role: "service_role" });
    await gate.run`begin`;
    await gate.run`
      select from public.video_database_state
      where video_id = ${tenant.video} and database_name = 'layout' for update`;
    const acquiring = waiting.run`
      select public.acquire_lock(${tenant.video}, null, 'worker-2', database_names => ${database_names})`
      .catch((error) => error);
    // it waits for layout, and has audio
    await until(async () =>
      (await sql`
        select from public.video_database_state
        where video_id = ${tenant.video} and database_name = 'audio' for update skip locked`)
        .length === 0
    );
    await gate.run`rollback`;
    await acquiring;
    await rpc(tenant.server, "release_lock", { ...set(tenant), force: true });
  }
});
