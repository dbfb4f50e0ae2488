// P4 and P5 where rows are deleted, moved and made by hand: no token comes back, and one lock_id is one grant.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { changedFunctions } from "../support/changed_functions.ts";
import { closedGate } from "../support/gate.ts";
import { sqlDoor } from "../support/doors.ts";
import { openSession, type Session, until } from "../support/race.ts";
import { acquire, type Answer, client, release, renew, secretKey, sql } from "../support/stack.ts";
import { runs } from "../support/soak.ts";
import { layout, newTenant, type Tenant, W1, W2 } from "../support/tenant.ts";

async function call(session: Session, name: string, args: Record<string, unknown>) {
  const names = Object.keys(args);
  const [row] = await session.run.unsafe<{ answer: Answer }[]>(
    `select public.${name}(${names.map((n, i) => `${n} => $${i + 1}`).join(", ")}) as answer`,
    Object.values(args) as string[],
  );
  return row!.answer;
}

/** Whether a write with this token would be let through. */
const accepted = async (tenant: Tenant, token: number, video = tenant.video) =>
  (await tenant.server.rpc("assert_lock_held", {
    ...layout(tenant),
    video_id: video,
    fencing_token: token,
  })).error === null;

Deno.test("P4 tokens are the database's clock in microseconds, and exact in JavaScript", async () => {
  await using tenant = await newTenant();
  const clock = async () =>
    Number(
      (await sql`select (date_part('epoch', clock_timestamp()) * 1000000)::bigint as t`)[0]!.t,
    );
  for (const row of ["not there yet", "there"]) {
    const before = await clock();
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    const after = await clock();
    assert(before <= lock!.fencing_token && lock!.fencing_token <= after, row);
    assert(Number.isSafeInteger(lock!.fencing_token));
    await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
  }
});

Deno.test("P4 a token pushed ahead of the clock still grows by one, and never goes back", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
  const ahead = lock!.fencing_token + 3_600_000_000; // as after a clock that was set back by an hour
  await sql`
    update public.video_database_state set fencing_token = ${ahead} where video_id = ${tenant.video}`;
  for (const expected of [ahead + 1, ahead + 2]) {
    const next = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    assertEquals(next.lock!.fencing_token, expected);
    await release(tenant.server, { ...layout(tenant), lock_id: next.lock!.lock_id });
  }
  // also where the row was deleted, and only the history knows
  await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
  const next = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals(next.lock!.fencing_token, ahead + 3);
});

Deno.test("P4 with the secret key: the row deleted and made by hand, the old token stays no good", async () => {
  await using tenant = await newTenant();
  const api = client(secretKey);
  const first = (await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 1 })).lock!;
  const deleted = await api.from("video_database_state").delete().eq("video_id", tenant.video);
  assertEquals(deleted.error, null);
  const made = await api.from("video_database_state").insert({
    ...layout(tenant),
    tenant_id: tenant.id,
    server_version: 4,
  });
  assertEquals(made.error, null);
  assertGreater(Number((await tenant.state())?.fencing_token), first.fencing_token);
  const next = await acquire(tenant.server, { ...layout(tenant), ...W2 });
  assertGreater(next.lock!.fencing_token, first.fencing_token);
  assertEquals(next.state?.server_version, 4);
  assertEquals(await accepted(tenant, first.fencing_token), false);
  assertEquals(await accepted(tenant, next.lock!.fencing_token), true);
  assertEquals((await tenant.history()).map((lease) => lease.end_reason), ["force_released"]);
  for (
    const forged of [{ fencing_token: 0 }, { lock_id: crypto.randomUUID() }, { has_line: false }]
  ) {
    const { error } = await api.from("video_database_state").update(forged)
      .eq("video_id", tenant.video);
    assertEquals(error?.code, "42501", JSON.stringify(forged));
  }
});

Deno.test("P4 a video's id is changed and the old one used again: the lease ends, and tokens grow on both ids", async () => {
  await using tenant = await newTenant();
  const api = client(secretKey);
  const moved = crypto.randomUUID();
  const first = (await acquire(tenant.server, { ...layout(tenant), ...W1 })).lock!;
  // the new id was one before, under a clock that was an hour ahead
  const ahead = first.fencing_token + 3_600_000_000;
  await sql`
    insert into public.video_database_lock_history (
      video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at, ended_at, end_reason
    )
    values (${moved}, 'layout', gen_random_uuid(), ${tenant.id}, 'w', 'server', ${ahead}, now(), now(), 'released')`;
  const { error } = await api.from("videos").update({ id: moved }).eq("id", tenant.video);
  assertEquals(error, null);
  const there = await tenant.state(moved);
  assertEquals([there?.lock_id, there?.has_line], [null, true], "a moved row is free");
  assertGreater(Number(there!.fencing_token), ahead);
  assertEquals((await tenant.history()).map((lease) => [lease.lock_id, lease.end_reason]), [
    [first.lock_id, "force_released"],
  ]);
  assertEquals(
    (await release(tenant.server, { ...layout(tenant), lock_id: first.lock_id })).reason,
    "force_released",
  );
  await sql`
    insert into public.videos (id, tenant_id, storage_key, status) values (${tenant.video}, ${tenant.id}, 'k', 'ready')`;
  for (const video of [tenant.video, moved]) {
    const next = await acquire(tenant.server, { ...layout(tenant), video_id: video, ...W2 });
    assertGreater(next.lock!.fencing_token, first.fencing_token);
    assertEquals(await accepted(tenant, first.fencing_token, video), false);
  }
  await sql`delete from public.videos where id = ${moved}`;
  await sql`delete from public.video_database_lock_history where video_id = ${moved}`;
});

Deno.test("P7 a lease that had run out when its row was deleted expired, and was not forced", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await tenant.backdate(121);
  const { lock_expires_at } = (await tenant.state())!;
  await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
  assertEquals((await tenant.history()).map(({ ended_at }) => ended_at), [lock_expires_at]);
  assertEquals(
    (await renew(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id })).reason,
    "expired",
  );
});

Deno.test("P5 the row is deleted while the same acquire waits: refused as ended, and nothing is stuck", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID(), ttl_seconds: 60 };
  await using first = openSession();
  await using second = openSession({ role: "service_role" });
  await first.run`begin`;
  const granted = await call(first, "acquire_lock", request);
  const waiting = call(second, "acquire_lock", request);
  await second.blocked();
  await first.run`delete from public.video_database_state where video_id = ${tenant.video}`;
  await first.run`commit`;
  const late = await waiting;
  assertEquals([late.acquired, late.reason, late.end_reason], [false, "ended", "force_released"]);
  const next = await acquire(tenant.server, { ...layout(tenant), ...W2 });
  assertGreater(next.lock!.fencing_token, granted.lock!.fencing_token);
  assertEquals((await release(tenant.server, { ...layout(tenant), force: true })).released, true);
  await acquire(tenant.server, { ...layout(tenant), ...W2 });
  await sql`delete from public.videos where id = ${tenant.video}`;
});

Deno.test("P9 a history that has the lease already is in nobody's way", async () => {
  await using tenant = await newTenant();
  const taken = async () => {
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await sql`
      insert into public.video_database_lock_history (
        video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at, ended_at,
        end_reason
      )
      select video_id, database_name, lock_id, tenant_id, lock_holder_user_id, lock_type, fencing_token, locked_at,
        locked_at, 'released'
      from public.video_database_state where video_id = ${tenant.video}`;
    return lock!;
  };
  const ways: ((lock_id: string) => Promise<unknown>)[] = [
    (lock_id) => release(tenant.server, { ...layout(tenant), lock_id }),
    () => release(tenant.server, { ...layout(tenant), force: true }),
    () => acquire(tenant.server, { ...layout(tenant), ...W1, take_over: true }),
    async () => {
      await tenant.backdate(121);
      await acquire(tenant.server, { ...layout(tenant), ...W2 });
    },
    async () => {
      await tenant.backdate(121);
      await sql`select public.release_expired_locks()`;
    },
    () => sql`delete from public.video_database_state where video_id = ${tenant.video}`,
  ];
  for (const way of ways) {
    const { lock_id } = await taken();
    await way(lock_id);
    assert((await tenant.state())?.lock_id !== lock_id);
    await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
  }
});

Deno.test("P5 a repeated acquire gives the length that was last asked for, also after inactive renewals", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID(), ttl_seconds: 10 };
  await acquire(tenant.server, request);
  await tenant.backdate(5);
  const own = { ...layout(tenant), lock_id: request.lock_id, ttl_seconds: 10, active: false };
  await renew(tenant.server, own);
  assertEquals((await acquire(tenant.server, request)).lock?.ttl_seconds, 10);
  await renew(tenant.server, { ...own, ttl_seconds: 3 });
  assertEquals((await acquire(tenant.server, request)).lock?.ttl_seconds, 3);
});

Deno.test("P5 a release that overtakes its acquire cancels it; the same for every repetition", async () => {
  await using tenant = await newTenant();
  const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID() };
  const own = { ...layout(tenant), lock_id: request.lock_id };
  for (const _ of [1, 2]) {
    const { released, reason } = await release(tenant.server, own);
    assertEquals([released, reason], [false, "cancelled"]);
    const late = await acquire(tenant.server, request);
    assertEquals([late.reason, late.end_reason, late.retry_after_ms], ["ended", "cancelled", 0]);
    assertEquals((await renew(tenant.server, own)).reason, "cancelled");
  }
  assertEquals((await tenant.state())?.lock_id, null, "no ghost lock");
  // also while another holds the lock, and for a lock that was deleted in between
  await acquire(tenant.server, { ...layout(tenant), ...W2 });
  assertEquals((await release(tenant.server, own)).reason, "cancelled");
  await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
  assertEquals((await acquire(tenant.server, request)).end_reason, "cancelled");
  // and for one that was made by hand, was acquired by others, and is free again
  await sql`
    insert into public.video_database_state (video_id, database_name, tenant_id)
    values (${tenant.video}, 'layout', ${tenant.id})`;
  for (const _ of [1, 2]) {
    assertEquals((await acquire(tenant.server, request)).end_reason, "cancelled");
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W2 });
    await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
  }
  // a cancellation is kept for an hour at the least
  await sql`
    update holdfast.cancellation set cancelled_at = cancelled_at - interval '59 minutes'
    where video_id = ${tenant.video}`;
  await sql`select public.release_expired_locks()`;
  assertEquals((await acquire(tenant.server, request)).end_reason, "cancelled");
  await sql`
    update holdfast.cancellation set cancelled_at = cancelled_at - interval '2 minutes'
    where video_id = ${tenant.video}`;
  await sql`select public.release_expired_locks()`;
  assertEquals((await acquire(tenant.server, request)).acquired, true);
});

Deno.test("P5 a user's cancellation is theirs: nobody else's acquisition of that lock_id ends with it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const own = { ...layout(tenant), lock_id: crypto.randomUUID() };
  assertEquals((await release(anna.client, own)).reason, "cancelled");
  assertEquals((await acquire(anna.client, own)).end_reason, "cancelled");
  assertEquals((await acquire(ben.client, own)).acquired, true);
});

Deno.test("P5 an acquire and its release in flight at once: never a lease that its caller believes released", async () => {
  await using tenant = await newTenant();
  const sessions = [0, 1].map(() => openSession({ role: "service_role" }));
  const outcomes = new Set<string>();
  for (let round = 0; round < runs(60, 2000); round++) {
    if (round % 3 === 0) {
      await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
    }
    const lock_id = crypto.randomUUID();
    const [granted, ended] = await Promise.all([
      call(sessions[0]!, "acquire_lock", { ...layout(tenant), ...W1, lock_id }),
      call(sessions[1]!, "release_lock", { ...layout(tenant), lock_id }),
    ]);
    const outcome = `${granted.acquired ? "granted" : granted.end_reason}, ${
      ended.released ? "released" : ended.reason
    }`;
    outcomes.add(outcome);
    assert(
      ["granted, released", "cancelled, cancelled"].includes(outcome),
      `round ${round}: ${outcome}`,
    );
    assertEquals((await tenant.state())?.lock_id ?? null, null, `round ${round}`);
  }
  for (const session of sessions) await session[Symbol.asyncDispose]();
});

for (const how of ["in the same transaction", "a moment later"]) {
  Deno.test(`P1 a row that waits for its grant is deleted and made anew, ${how}: the new one is not taken for one's own`, async () => {
    await using tenant = await newTenant();
    await using stack = new AsyncDisposableStack();
    // nothing but time: it stops before it makes a missing row, and between its last look and the grant
    const [make, grant] = [stack.use(await closedGate()), stack.use(await closedGate())];
    const grants = "elsif v_grantable and v_locked = 'for a grant' then\n";
    const changed = stack.use(
      await changedFunctions([
        ["create_rows", "\nbegin\n", `\nbegin\n${make.pass}`],
        ["acquire_in_turn", grants, grants + grant.pass],
      ]),
    );
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
    const deleting = stack.use(openSession());
    const makeRow = () =>
      deleting.run`
        insert into public.video_database_state (video_id, database_name, tenant_id)
        values (${tenant.video}, 'layout', ${tenant.id})`;
    await deleting.run`begin`;
    await deleting.run`delete from public.video_database_state where video_id = ${tenant.video}`;
    const waiting = sqlDoor(stack, changed.name)({}, "acquire_lock", { ...layout(tenant), ...W1 });
    await until(async () =>
      (await sql`
        select from pg_stat_activity where query like ${`%${changed.name}%`} and wait_event_type = 'Lock'`)
        .length > 0
    );
    if (how === "in the same transaction") await makeRow();
    await deleting.run`commit`;
    if (how === "a moment later") {
      await make.reached();
      await makeRow();
      await make.open();
    }
    await grant.reached();
    const other = await acquire(tenant.server, { ...layout(tenant), ...W2 });
    await grant.open();
    const late = await waiting;
    assertEquals(
      [other.acquired, late.acquired].filter(Boolean).length,
      1,
      "one of the two has it",
    );
    const holder = other.acquired ? W2 : W1;
    assertEquals((await tenant.state())?.lock_holder_user_id, holder.lock_holder_user_id);
  });
}

Deno.test("P4 at random: rows deleted under eight callers, no token twice, no two leases at once", async () => {
  await using tenant = await newTenant();
  const leases: { token: number; from: string; to: string }[] = [];
  const end = Date.now() + runs(1500, 60_000);
  await Promise.all(Array.from({ length: 8 }, async (_, i) => {
    await using session = openSession(i === 0 ? undefined : { role: "service_role" });
    while (Date.now() < end || leases.length <= 20) { // a busy machine takes longer
      if (Math.random() < 0.2) {
        await session.run`delete from public.video_database_state where video_id = ${tenant.video}`;
        continue;
      }
      const lock_id = crypto.randomUUID();
      const answer = await call(session, "acquire_lock", {
        ...layout(tenant),
        lock_holder_user_id: `worker-${i}`,
        lock_id,
      });
      if (!answer.acquired) continue;
      const ended = await call(session, "release_lock", { ...layout(tenant), lock_id });
      const { fencing_token: token, locked_at: from } = answer.lock!;
      if (ended.released) leases.push({ token, from, to: ended.lock!.released_at! });
    }
  }));
  leases.sort((a, b) => a.token - b.token);
  for (const [i, lease] of leases.entries()) {
    const before = leases[i - 1];
    if (!before) continue;
    assertGreater(lease.token, before.token);
    assert(lease.from >= before.to, `${JSON.stringify(before)} and ${JSON.stringify(lease)}`);
  }
});

Deno.test("P4 a take-over that has not committed lets no assert of the old token begin", async () => {
  await using tenant = await newTenant();
  const first = (await acquire(tenant.server, { ...layout(tenant), ...W1 })).lock!;
  await using taking = openSession({ role: "service_role" });
  await using holder = openSession({ role: "service_role" });
  await holder.run`set statement_timeout = '3s'`; // it waits for nobody
  await taking.run`begin`;
  const taken = await call(taking, "acquire_lock", { ...layout(tenant), ...W1, take_over: true });
  assertEquals(taken.acquired, true);
  const error = await call(holder, "assert_lock_held", {
    ...layout(tenant),
    fencing_token: first.fencing_token,
  }).catch((error) => error);
  assertEquals(error.code, "PT503");
  await taking.run`commit`;
  assertEquals(await accepted(tenant, first.fencing_token), false);
});

for (const what of ["a release", "a release and the next grant"]) {
  Deno.test(`P4 ${what} that is committed between an assert's look and its lock is seen by it`, async () => {
    await using tenant = await newTenant();
    await using gate = await closedGate();
    // the statement that locks the row has its snapshot, and comes to the lock when the gate is opened
    const look = "    where v.id = p_video_id and s.video_id = p_video_id";
    await using changed = await changedFunctions([
      ["check_token", look, `${look} and ${gate.isOpen}`],
    ]);
    await using holder = openSession({ role: "service_role" });
    const asserts = async (token: number) =>
      await holder.run
        .unsafe(`select ${changed.name}.check_token($1, 'layout', $2, null)`, [tenant.video, token])
        .then(() => "accepted", ({ code }) => code);
    const grant = async (worker: { lock_holder_user_id: string }) =>
      (await acquire(tenant.server, { ...layout(tenant), ...worker })).lock!;
    const { lock_id, fencing_token } = await grant(W1);
    const asserting = asserts(fencing_token);
    await gate.reached();
    await release(tenant.server, { ...layout(tenant), lock_id });
    const next = what === "a release" ? undefined : await grant(W2);
    await gate.open();
    assertEquals(await asserting, "PT412");
    assertEquals(await asserts((next ?? await grant(W1)).fencing_token), "accepted");
  });
}
