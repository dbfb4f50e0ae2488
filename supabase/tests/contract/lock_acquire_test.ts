import { assert, assertAlmostEquals, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { microseconds } from "../support/clock.ts";
import { openSession } from "../support/race.ts";
import { acquire, invoke, release, renew, rpc, sql } from "../support/stack.ts";
import { layout, LOCK_COLUMNS, newTenant, W1, W2 } from "../support/tenant.ts";
import { WAYS_TO_END } from "../support/ways_to_end.ts";

Deno.test("lock-acquire grants a free lock, in the words of the contract", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  const { acquired, lock, state, server_time, ...rest } = await acquire(tenant.server, {
    ...layout(tenant),
    ...W1,
    lock_id,
    ttl_seconds: 30,
  });
  assertEquals(acquired, true);
  assertEquals(rest, {});
  assertEquals(lock, {
    ...layout(tenant),
    lock_id,
    lock_holder_user_id: "worker-1",
    lock_type: "server",
    fencing_token: microseconds(lock!.locked_at),
    locked_at: lock!.locked_at,
    expires_at: lock!.expires_at,
    ttl_seconds: 30,
  });
  assertEquals(state, { server_version: 0, wasabi_version: 0, wasabi_synced_at: null });
  for (const time of [lock!.locked_at, lock!.expires_at, server_time!]) {
    assertMatch(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$/, "ISO 8601, UTC");
  }
});

Deno.test("lock-acquire defaults to 120 seconds and a lock_id of its own", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals(lock?.ttl_seconds, 120);
  assertEquals(Date.parse(lock!.expires_at) - Date.parse(lock!.locked_at), 120_000);
  assertMatch(lock!.lock_id, /^[0-9a-f-]{36}$/);
});

Deno.test("lock-acquire by a user needs no holder, and is of type client", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  assertEquals([lock?.lock_holder_user_id, lock?.lock_type], [anna.id, "client"]);
  await release(anna.client, { ...layout(tenant), lock_id: lock!.lock_id });
  for (const lock_holder_user_id of [anna.id, anna.id.toUpperCase()]) {
    const named = await acquire(anna.client, { ...layout(tenant), lock_holder_user_id });
    assertEquals(named.lock?.lock_holder_user_id, anna.id, "a UUID, in upper or lower case");
    await release(anna.client, { ...layout(tenant), lock_id: named.lock!.lock_id });
  }
});

Deno.test("P7 a refusal says who holds it, since when, until when, and how long to wait", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, { ...layout(tenant), ttl_seconds: 60 });
  const refused = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals(refused, {
    acquired: false,
    reason: "held",
    database_name: "layout",
    holder: {
      lock_holder_user_id: anna.id,
      lock_type: "client",
      locked_at: lock!.locked_at,
      last_activity_at: lock!.locked_at,
      expires_at: lock!.expires_at,
      is_you: false,
    },
    queue: { position: null, length: 0 },
    retry_after_ms: refused.retry_after_ms!,
    server_time: refused.server_time!,
  });
  assertAlmostEquals(
    refused.retry_after_ms!,
    Date.parse(lock!.expires_at) - Date.parse(refused.server_time!),
    2,
    "it is the time that is left, rounded up",
  );
});

Deno.test("P7 is_you is true for another acquisition of the same user, or of a server of the same name", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const captions = { video_id: tenant.video, database_name: "captions" };
  await acquire(anna.client, layout(tenant));
  assertEquals((await acquire(anna.client, layout(tenant))).holder?.is_you, true);
  assertEquals((await acquire(ben.client, layout(tenant))).holder?.is_you, false);
  await acquire(tenant.server, { ...captions, ...W1 });
  assertEquals((await acquire(tenant.server, { ...captions, ...W1 })).holder?.is_you, true);
  assertEquals((await acquire(tenant.server, { ...captions, ...W2 })).holder?.is_you, false);
  // a server that calls itself by a user's id is still not that user
  const mimic = await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: anna.id });
  assertEquals(mimic.holder?.is_you, false);
});

Deno.test("a token that names no user is nobody's: PT401 by every function", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await using nobody = openSession({ role: "authenticated" });
  const own = [tenant.video, lock!.lock_id];
  const token = [tenant.video, lock!.fencing_token];
  for (
    const [call, values] of [
      ["acquire_lock($1, 'layout')", [tenant.video]],
      ["renew_lock($1, 'layout', $2)", own],
      ["release_lock($1, 'layout', $2)", own],
      ["assert_lock_held($1, 'layout', $2)", token],
      ["advance_server_version($1, 'layout', $2)", token],
    ] as const
  ) {
    const error = await nobody.run.unsafe(`select public.${call}`, [...values])
      .catch((error) => error);
    assertEquals([call, error.code], [call, "PT401"]);
  }
});

Deno.test("what a project's own RPC says of the answer's headers stays", async () => {
  await using tenant = await newTenant();
  await using session = openSession({ role: "service_role" });
  const own = '[{"x-own": "mine"}]';
  const lock_id = crypto.randomUUID();
  await session.run`begin`;
  await session.run`select set_config('response.headers', ${own}, true)`;
  await session.run`select public.acquire_lock(${tenant.video}, 'layout', 'worker-1', ${lock_id})`;
  await session.run`select public.renew_lock(${tenant.video}, 'layout', ${lock_id})`;
  await session.run`select public.release_lock(${tenant.video}, 'layout', ${lock_id})`;
  const [row] = await session.run`select current_setting('response.headers') as headers`;
  await session.run`commit`;
  assertEquals(row?.headers, own);
});

Deno.test("P5 the same acquire again gives the same grant while it is held", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID(), ttl_seconds: 77 };
  const first = await acquire(tenant.server, request);
  const again = await acquire(tenant.server, request);
  assertEquals({ ...again, server_time: "" }, { ...first, server_time: "" });
  const renewed = await renew(tenant.server, {
    ...layout(tenant),
    lock_id: request.lock_id,
    ttl_seconds: 300,
  });
  assertEquals((await acquire(tenant.server, request)).lock, renewed.lock, "also after a renewal");
  assertEquals((await tenant.history()).length, 0);
});

Deno.test("P5 the ttl_seconds of a repeated grant is the length that was last asked for, exactly", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID() };
  await acquire(tenant.server, { ...request, ttl_seconds: 600 });
  const beat = { ...layout(tenant), lock_id: request.lock_id };
  for (const [ttl_seconds, active] of [[10, false], [700, false], [33, true]] as const) {
    await tenant.backdate(7);
    await renew(tenant.server, { ...beat, ttl_seconds, active });
    // the request's own length says nothing any more
    const { lock } = await acquire(tenant.server, { ...request, ttl_seconds: 77 });
    assertEquals(lock?.ttl_seconds, ttl_seconds);
    assertEquals((await tenant.state())?.lock_ttl_seconds, ttl_seconds);
  }
});

Deno.test("a field that may be left out may be null as well, for each function's RPC", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const none = { database_names: null, ttl_seconds: null };
  const acquired = await rpc(anna.client, "acquire_lock", {
    ...layout(tenant),
    ...none,
    lock_holder_user_id: null,
    lock_id: null,
    take_over: null,
    queue_seconds: null,
  });
  assertEquals([acquired.acquired, acquired.lock?.ttl_seconds], [true, 120]);
  const mine = { ...layout(tenant), lock_id: acquired.lock!.lock_id };
  const renewed = await rpc(anna.client, "renew_lock", { ...mine, ...none, active: null });
  assertEquals([renewed.renewed, renewed.lock?.ttl_seconds], [true, 120]);
  assertGreater(
    (await tenant.state())!.last_activity_at!.getTime(),
    Date.parse(acquired.lock!.locked_at),
    "active is true",
  );
  const released = await rpc(anna.client, "release_lock", {
    ...mine,
    database_names: null,
    lock_holder_user_id: null,
    force: null,
  });
  assertEquals(released.released, true);
});

Deno.test("P5 a lock_id whose acquisition has ended is refused, in every way to end", async (t) => {
  for (const [way, end] of Object.entries(WAYS_TO_END)) {
    await t.step(way, async () => {
      await using tenant = await newTenant();
      const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID() };
      const first = await acquire(tenant.server, request);
      await end(tenant, request.lock_id);
      const before = await tenant.state();
      const late = await acquire(tenant.server, request);
      assertEquals([late.acquired, late.reason, late.retry_after_ms], [false, "ended", 0]);
      assertEquals(late.end_reason, way.split(" ")[0]);
      assertEquals([late.database_name, late.queue], ["layout", undefined]);
      assert(Date.parse(late.ended_at!) <= Date.parse(late.server_time!));
      assertEquals(
        late.holder?.lock_holder_user_id,
        way.includes("another") ? "worker-2" : undefined,
      );
      assertEquals(await tenant.state(), before, "no ghost lock: the row is as it was");
      // the way on that the contract names
      if (!way.includes("another")) {
        const fresh = await acquire(tenant.server, { ...request, lock_id: crypto.randomUUID() });
        assertGreater(fresh.lock!.fencing_token, first.lock!.fencing_token);
      }
    });
  }
});

Deno.test("P5 one lock_id may name acquisitions of different locks, and they do not meet", async () => {
  await using tenant = await newTenant();
  const lock_id = crypto.randomUUID();
  for (const database_name of ["layout", "captions"]) {
    const request = { video_id: tenant.video, database_name, lock_id };
    assertEquals((await acquire(tenant.server, { ...request, ...W1 })).acquired, true);
    assertEquals((await release(tenant.server, request)).released, true);
  }
  for (const database_name of ["layout", "captions"]) {
    const ended = await acquire(tenant.server, {
      video_id: tenant.video,
      database_name,
      lock_id,
      ...W1,
    });
    assertEquals([ended.reason, ended.end_reason], ["ended", "released"], database_name);
  }
});

Deno.test("P8 another caller's live lock_id opens nothing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const { lock } = await acquire(anna.client, layout(tenant));
  const before = await tenant.state();
  for (const [caller, who] of [[ben.client, {}], [tenant.server, W1]] as const) {
    const refused = await acquire(caller, { ...layout(tenant), ...who, lock_id: lock!.lock_id });
    assertEquals([refused.acquired, refused.reason], [false, "held"]);
  }
  assertEquals(await tenant.state(), before);
});

Deno.test("P4 tokens grow across release, expiry, force, and every fate of the state row or the video", async () => {
  await using tenant = await newTenant();
  const tokens: number[] = [];
  const grant = async () => {
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    tokens.push(lock!.fencing_token);
  };
  const [id, state] = [tenant.video, { ...layout(tenant), tenant_id: tenant.id }];
  const elsewhere = crypto.randomUUID();
  const ways = [
    () => release(tenant.server, { ...layout(tenant), ...W1 }),
    () => tenant.backdate(121),
    () => release(tenant.server, { ...layout(tenant), force: true }),
    () => sql`delete from public.video_database_state where video_id = ${id}`,
    async () => {
      // a row that a server makes by hand, in place of the one that it deleted
      const { error } = await tenant.server.from("video_database_state").delete().eq(
        "video_id",
        id,
      );
      const made = await tenant.server.from("video_database_state").insert(state);
      assertEquals([error, made.error], [null, null]);
    },
    async () => {
      for (const [from, to] of [[id, elsewhere], [elsewhere, id]] as const) {
        const { error } = await tenant.server.from("videos").update({ id: to }).eq("id", from);
        assertEquals(error, null);
      }
    },
    async () => {
      await sql`delete from public.videos where id = ${id}`;
      await sql`
        insert into public.videos (id, tenant_id, storage_key, status) values (${id}, ${tenant.id}, 'k', 'ready')`;
    },
  ];
  for (const way of ways) {
    await grant();
    await way();
  }
  await grant();
  assertEquals(tokens, tokens.toSorted((a, b) => a - b));
  assertEquals(new Set(tokens).size, ways.length + 1, `${tokens}`);
});

Deno.test("P4 a token goes on from the one before it where the clock is behind that one", async () => {
  await using tenant = await newTenant();
  const w1 = { ...layout(tenant), ...W1 };
  await acquire(tenant.server, w1);
  const ahead = (Date.now() + 3_600_000) * 1000;
  await sql`update public.video_database_state set fencing_token = ${ahead} where video_id = ${tenant.video}`;
  await release(tenant.server, w1);
  assertEquals((await acquire(tenant.server, w1)).lock?.fencing_token, ahead + 1);
  await release(tenant.server, w1);
  await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
  const anew = await acquire(tenant.server, w1);
  assertEquals(anew.lock?.fencing_token, ahead + 2, "the history's highest is one more floor");
});

Deno.test("P4 at the end of bigint, where no clock comes, nothing wraps: acquire fails and changes nothing", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await release(tenant.server, { ...layout(tenant), ...W1 });
  await sql`
    update public.video_database_state set fencing_token = 9223372036854775806 where video_id = ${tenant.video}`;
  assertEquals((await acquire(tenant.server, { ...layout(tenant), ...W1 })).acquired, true);
  assertEquals((await tenant.state())?.fencing_token, "9223372036854775807");
  await release(tenant.server, { ...layout(tenant), ...W1 });
  const before = await tenant.state();
  const { status, body } = await invoke(tenant.server, "lock-acquire", {
    ...layout(tenant),
    ...W1,
  });
  assertEquals([status, body.code], [500, "INTERNAL_ERROR"]);
  assertEquals(await tenant.state(), before);
});

Deno.test("P9 half a lock is an error of the database itself", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  for (const column of LOCK_COLUMNS) {
    const error = await sql`
      update public.video_database_state set ${sql(column)} = null where video_id = ${tenant.video}`
      .catch((error) => error);
    assertEquals(error.constraint_name, "video_database_state_lock_all_or_none_check", column);
  }
});

Deno.test("P10 a refusal takes no row lock and writes no WAL", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const ended = { ...layout(tenant), lock_id: crypto.randomUUID() };
  await using session = openSession({ role: "service_role" });
  const refusals = {
    held: session.run`select public.acquire_lock(${tenant.video}, 'layout', 'worker-2') as answer`,
    ended: session
      .run`select public.acquire_lock(${tenant.video}, 'layout', 'worker-2', ${ended.lock_id}) as answer`,
  };
  for (const [reason, refusal] of Object.entries(refusals)) {
    if (reason === "ended") {
      await release(tenant.server, { ...layout(tenant), ...W1 });
      await acquire(tenant.server, { ...ended, ...W2 });
      await release(tenant.server, ended);
    }
    await session.run`begin`;
    const [first] = await refusal;
    assertEquals(first?.answer.reason, reason);
    // a row lock, or anything written, needs a transaction id
    const [xact] = await session.run`select pg_current_xact_id_if_assigned()::text as id`;
    assertEquals(xact?.id, null);
    await session.run`commit`;
  }
  // counted by the database: records and bytes that the statement wrote
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const explain = async (holder: string) => {
    const [row] = await session.run.unsafe(
      `explain (analyze, wal, format json) select public.acquire_lock('${tenant.video}', 'layout', '${holder}')`,
    );
    return row?.["QUERY PLAN"][0].Plan["WAL Bytes"];
  };
  // the first read of a page may tidy it up, after what was there before
  await explain("worker-2");
  assertEquals(await explain("worker-2"), 0);
  await release(tenant.server, { ...layout(tenant), ...W1 });
  assertGreater(await explain("worker-2"), 0, "a grant does write: the measure works");
});

Deno.test("P3 times are UTC in every session's time zone", async () => {
  await using tenant = await newTenant();
  await using session = openSession({ role: "service_role" });
  await session.run`set timezone = 'Asia/Kathmandu'`;
  const [row] = await session
    .run`select public.acquire_lock(${tenant.video}, 'layout', 'worker-1') as answer`;
  assertMatch(row?.answer.lock.expires_at, /(Z|\+00:00)$/);
  const left = Date.parse(row?.answer.lock.expires_at) - Date.parse(row?.answer.server_time);
  assertAlmostEquals(left, 120_000, 1_000);
});
