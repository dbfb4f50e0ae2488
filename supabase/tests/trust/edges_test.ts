// Where a lease is most easily wrong: while a caller waits, when an answer is lost, when two come at once.
import { assertEquals, assertGreater, assertGreaterOrEqual, assertLess } from "@std/assert";
import { assertOneWins, atOneBarrier, openSession, type Session } from "../support/race.ts";
import { acquire, type Answer, release, renew } from "../support/stack.ts";
import { layout, newTenant, type Tenant, W1, W2 } from "../support/tenant.ts";

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Runs one of the three functions in a session, and leaves its transaction as it is. */
async function within(
  session: Session,
  name: "acquire" | "renew" | "release",
  args: Record<string, unknown>,
) {
  const names = Object.keys(args);
  const [row] = await session.run.unsafe<{ answer: Answer }[]>(
    `select public.${name}_lock(${
      names.map((name, i) => `${name} => $${i + 1}`).join(", ")
    }) as answer`,
    Object.values(args) as string[],
  );
  return row!.answer;
}

/** A session that stands on the lock's row, so that a writer has to wait. */
async function standingOn(tenant: Tenant): Promise<Session> {
  const session = openSession();
  await session.run`begin`;
  await session
    .run`select from public.video_database_state where video_id = ${tenant.video} for update`;
  return session;
}

/** A session that holds the table, so that a caller who has read a row waits with the write. */
async function holdingTheTable(): Promise<Session> {
  const session = openSession();
  await session.run`begin`;
  await session.run`lock table public.video_database_state in share mode`;
  return session;
}

Deno.test("P3 a contender that waited gets a lease that begins after the wait", async (t) => {
  const ways: Record<string, [hold: string, leaving: string]> = {
    // the usual path: it has read the row, and waits with its write
    "the table is locked": ["lock table public.video_database_state in share mode", "select 1"],
    // two ways of PostgreSQL to go on after a wait: the row is as it was, or it is a new version
    "the row is locked": [
      "select from public.video_database_state where video_id = $1 for update",
      "select 1",
    ],
    "the row is changed": [
      "select from public.video_database_state where video_id = $1 for update",
      "update public.video_database_state set wasabi_version = wasabi_version + 1 where video_id = $1",
    ],
  };
  for (const [way, [hold, leaving]] of Object.entries(ways)) {
    await t.step(way, async () => {
      await using tenant = await newTenant();
      await acquire(tenant.server, { ...layout(tenant), ...W1 });
      await release(tenant.server, { ...layout(tenant), ...W1 });
      await using gate = openSession();
      await using contender = openSession({ role: "service_role" });
      await gate.run`begin`;
      await gate.run.unsafe(hold, hold.includes("$1") ? [tenant.video] : []);
      const waiting = within(contender, "acquire", { ...layout(tenant), ...W2, ttl_seconds: 1 });
      await contender.blocked();
      await sleep(100);
      await gate.run.unsafe(leaving, leaving.includes("$1") ? [tenant.video] : []);
      const [clock] = await gate.run<{ now: Date }[]>`select clock_timestamp() as now`;
      await gate.run`commit`;
      const { acquired, lock, state } = await waiting;
      assertEquals(acquired, true);
      assertGreaterOrEqual(Date.parse(lock!.locked_at), clock!.now.getTime());
      assertEquals(Date.parse(lock!.expires_at) - Date.parse(lock!.locked_at), 1000);
      assertGreaterOrEqual(
        lock!.fencing_token,
        clock!.now.getTime() * 1000,
        "and so does its token",
      );
      assertEquals(state?.wasabi_version, way === "the row is changed" ? 1 : 0);
      assertEquals(
        (await acquire(tenant.server, { ...layout(tenant), ...W1 })).acquired,
        false,
        "it is held",
      );
    });
  }
});

Deno.test("P3 a grant in turn that waited while it wrote begins after the wait, and asks for the right again", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  for (const right of ["kept", "lost"]) {
    // the lease before it goes into the history first, which is what it waits for
    await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await tenant.backdate(121);
    await using gate = openSession();
    await using contender = openSession({ role: "authenticated", sub: anna.id });
    await gate.run`begin`;
    await gate.run`lock table public.video_database_lock_history in share mode`;
    const waiting = within(contender, "acquire", {
      video_id: tenant.video,
      database_names: ["layout"],
      ttl_seconds: 1,
    }).catch((error) => error.code);
    await contender.blocked();
    if (right === "lost") await tenant.leave(anna);
    await sleep(100);
    const [clock] = await gate.run<{ now: Date }[]>`select clock_timestamp() as now`;
    await gate.run`commit`;
    const answer = await waiting;
    if (right === "lost") return assertEquals(answer, "PT404");
    const [lock] = answer.locks;
    assertGreaterOrEqual(Date.parse(lock.locked_at), clock!.now.getTime());
    assertGreaterOrEqual(lock.fencing_token, clock!.now.getTime() * 1000);
    assertEquals(Date.parse(lock.expires_at) - Date.parse(lock.locked_at), 1000);
    await release(anna.client, { ...layout(tenant), lock_id: lock.lock_id });
  }
});

Deno.test("P5 a lock taken and given back while a contender waits does not confuse the contender", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await release(tenant.server, { ...layout(tenant), ...W1 });
  await using gate = await standingOn(tenant);
  await using contender = openSession({ role: "service_role" });
  const waiting = within(contender, "acquire", { ...layout(tenant), ...W2 });
  await contender.blocked();
  const { lock } = await within(gate, "acquire", { ...layout(tenant), ...W1 });
  await within(gate, "release", { ...layout(tenant), lock_id: lock!.lock_id });
  await gate.run`commit`;
  const taken = await waiting;
  assertEquals(taken.acquired, true);
  assertGreater(taken.lock!.fencing_token, lock!.fencing_token);
});

Deno.test("P1 a contender that waited while another took the lock is refused, and never a second winner", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...layout(tenant), ...W1 });
  await tenant.backdate(121);
  await using gate = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });
  await gate.run`begin`;
  const winner = await within(gate, "acquire", { ...layout(tenant), ...W1 });
  const waiting = within(contender, "acquire", { ...layout(tenant), ...W2 });
  await contender.blocked();
  await gate.run`commit`;
  const refused = await waiting;
  assertEquals([winner.acquired, refused.acquired, refused.reason], [true, false, "held"]);
  assertEquals(refused.holder?.lock_holder_user_id, "worker-1");
  assertEquals((await tenant.history()).map((lease) => lease.end_reason), ["expired"]);
});

Deno.test("P2 the transaction that would have won is rolled back, and the one that waited wins", async () => {
  await using tenant = await newTenant();
  for (const row of ["not there yet", "there"]) {
    await using gate = openSession({ role: "service_role" });
    await using contender = openSession({ role: "service_role" });
    await gate.run`begin`;
    await within(gate, "acquire", { ...layout(tenant), ...W1 });
    const waiting = within(contender, "acquire", { ...layout(tenant), ...W2 });
    await contender.blocked();
    await gate.run`rollback`;
    const { acquired, lock } = await waiting;
    assertEquals([acquired, lock?.lock_holder_user_id], [true, "worker-2"], `row ${row}`);
    await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
  }
});

Deno.test("P2 two callers take one expired lease at once: one wins, and the lease ended once", async () => {
  await using tenant = await newTenant();
  for (let round = 1; round <= 5; round++) {
    await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
    await tenant.backdate(61);
    await assertOneWins(
      10,
      async (i) =>
        (await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: `worker-${i}` }))
          .acquired === true,
    );
    const history = await tenant.history();
    assertEquals(history.length, 2 * round - 1, "one entry for each lease that ended");
    assertEquals(history.at(-1)?.end_reason, "expired");
    await release(tenant.server, { ...layout(tenant), force: true });
  }
});

Deno.test("P5 the same acquire sent ten times at once is one grant with one token", async () => {
  await using tenant = await newTenant();
  for (const row of ["not there yet", "there"]) {
    const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID() };
    const answers = await atOneBarrier(10, async () => {
      for (;;) {
        const answer = await acquire(tenant.server, request);
        if (answer.reason !== "busy") return answer;
      }
    });
    assertEquals(
      new Set(answers.map((answer) => JSON.stringify(answer.lock))).size,
      1,
      `row ${row}`,
    );
    assertEquals(answers.every((answer) => answer.acquired), true);
    await release(tenant.server, { ...layout(tenant), lock_id: request.lock_id });
  }
});

Deno.test("P5 an acquire that is delivered twice around its release leaves no ghost lock", async (t) => {
  for (const row of ["not there yet", "there"]) {
    await t.step(`the row is ${row}`, async () => {
      await using tenant = await newTenant();
      if (row === "there") {
        await acquire(tenant.server, { ...layout(tenant), ...W2 });
        await release(tenant.server, { ...layout(tenant), ...W2 });
      }
      const request = { ...layout(tenant), ...W1, lock_id: crypto.randomUUID() };
      await using first = openSession({ role: "service_role" });
      await using duplicate = openSession({ role: "service_role" });
      await first.run`begin`;
      assertEquals((await within(first, "acquire", request)).acquired, true);
      await within(first, "release", { ...layout(tenant), lock_id: request.lock_id });
      // it saw a free lock and an empty history, and now it waits for the row
      const late = within(duplicate, "acquire", request);
      await duplicate.blocked();
      await first.run`commit`;
      const { acquired, reason, end_reason } = await late;
      assertEquals([acquired, reason, end_reason], [false, "ended", "released"]);
      assertEquals((await tenant.state())?.lock_id, null);
    });
  }
});

/**
 * Lets a call of the holder's wait while the lease runs out; anew where a busy machine is so slow that it has run out before.
 *
 * @param tenant Whose lock.
 * @param verb The call.
 * @param hold What it waits for.
 * @returns The state before it, and the answer.
 */
async function pastTheExpiry(
  tenant: Tenant,
  verb: "renew" | "release",
  hold: "the table" | "the row",
) {
  for (let tries = 1;; tries++) {
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
    await tenant.backdate(59.8);
    const before = await tenant.state();
    await using gate = hold === "the row" ? await standingOn(tenant) : await holdingTheTable();
    await using holder = openSession({ role: "service_role" });
    let isAnswered = false;
    const calling = within(holder, verb, { ...layout(tenant), lock_id: lock!.lock_id })
      .finally(() => isAnswered = true);
    if (await holder.blocked(() => isAnswered)) {
      await sleep(250);
      await gate.run`commit`;
      return { before, answer: await calling };
    }
    assertLess(tries, 20, "it always comes too late");
    await gate.run`rollback`;
  }
}

Deno.test("P3 a renewal that waited past the expiry is lost: it judges after it has the row", async () => {
  await using tenant = await newTenant();
  for (const hold of ["the table", "the row"] as const) {
    const { before, answer } = await pastTheExpiry(tenant, "renew", hold);
    assertEquals([answer.renewed, answer.reason], [false, "expired"], hold);
    assertEquals(await tenant.state(), before, "not revived");
  }
});

Deno.test("P1 what was read before a wait is not ended or renewed after it: the row may be another's by then", async () => {
  for (const verb of ["release", "renew"] as const) {
    await using tenant = await newTenant();
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await using gate = await holdingTheTable();
    await using late = openSession({ role: "service_role" });
    // it has read its own lease, and waits with the write
    const calling = within(late, verb, { ...layout(tenant), lock_id: lock!.lock_id });
    await late.blocked();
    await within(gate, "release", { ...layout(tenant), force: true });
    const next = await within(gate, "acquire", { ...layout(tenant), ...W2, ttl_seconds: 60 });
    await gate.run`commit`;
    assertEquals((await calling).reason, "force_released", verb);
    const state = await tenant.state();
    assertEquals([state?.lock_id, state?.lock_ttl_seconds], [next.lock!.lock_id, 60], verb);
  }
});

Deno.test("P3 a release that waited past the expiry did not release: the lease had expired", async () => {
  await using tenant = await newTenant();
  for (const hold of ["the table", "the row"] as const) {
    const { before, answer } = await pastTheExpiry(tenant, "release", hold);
    assertEquals(answer, { released: false, reason: "expired", holder: null }, hold);
    assertEquals((await tenant.history()).at(-1)?.ended_at, before!.lock_expires_at);
  }
});

Deno.test("a renewal races a release: with either of them first, the answers are true", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const own = { ...layout(tenant), lock_id: lock!.lock_id };
  await using releasing = openSession({ role: "service_role" });
  await using renewing = openSession({ role: "service_role" });
  await releasing.run`begin`;
  await within(releasing, "release", own);
  const renewal = within(renewing, "renew", own);
  await renewing.blocked();
  await releasing.run`commit`;
  assertEquals((await renewal).reason, "released");

  const again = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  const next = { ...layout(tenant), lock_id: again.lock!.lock_id };
  await renewing.run`begin`;
  assertEquals((await within(renewing, "renew", { ...next, ttl_seconds: 600 })).renewed, true);
  const release = within(releasing, "release", next);
  await releasing.blocked();
  await renewing.run`commit`;
  assertEquals((await release).released, true, "the renewal only moved the expiry");
  assertEquals((await tenant.state())?.lock_id, null);
});

Deno.test("a renewal races a take-over and the taking of an expired lease: the old acquisition is lost", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const claims = { role: "authenticated", sub: anna.id } as const;
  await using taking = openSession(claims);
  await using renewing = openSession(claims);
  const first = await acquire(anna.client, layout(tenant));
  await taking.run`begin`;
  const second = await within(taking, "acquire", { ...layout(tenant), take_over: true });
  const renewal = within(renewing, "renew", { ...layout(tenant), lock_id: first.lock!.lock_id });
  await renewing.blocked();
  await taking.run`commit`;
  const lost = await renewal;
  assertEquals([lost.renewed, lost.reason, lost.holder?.is_you], [false, "taken_over", true]);

  // the other way round: the renewal is first, and the take-over then ends the renewed lease
  await renewing.run`begin`;
  await within(renewing, "renew", {
    ...layout(tenant),
    lock_id: second.lock!.lock_id,
    ttl_seconds: 900,
  });
  const third = within(taking, "acquire", { ...layout(tenant), take_over: true });
  await taking.blocked();
  await renewing.run`commit`;
  assertEquals((await third).acquired, true);

  await tenant.backdate(3000);
  const expired = { ...layout(tenant), lock_id: (await third).lock!.lock_id };
  await taking.run`begin`;
  await within(taking, "acquire", layout(tenant));
  assertEquals(
    (await within(renewing, "renew", expired)).reason,
    "expired",
    "an expired lease is lost, whether or not another caller is about to take it",
  );
  await taking.run`commit`;
  assertEquals((await within(renewing, "renew", expired)).reason, "expired");
  assertEquals((await tenant.history()).map((lease) => lease.end_reason), [
    "taken_over",
    "taken_over",
    "expired",
  ]);
});

Deno.test("P6 the same user in two tabs: late calls of the first never touch the second", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const first = (await acquire(anna.client, layout(tenant))).lock!;
  await tenant.backdate(121);
  const second = (await acquire(anna.client, layout(tenant))).lock!;
  assertGreater(second.fencing_token, first.fencing_token);
  const before = await tenant.state();
  const old = { ...layout(tenant), lock_id: first.lock_id };
  assertEquals((await renew(anna.client, old)).reason, "expired");
  assertEquals((await release(anna.client, old)).reason, "expired");
  assertEquals((await acquire(anna.client, old)).end_reason, "expired");
  assertEquals(await tenant.state(), before);
});

Deno.test("a video that is deleted while an acquire waits for it is not found, and leaves no row", async () => {
  await using tenant = await newTenant();
  await using deleting = openSession();
  await using acquiring = openSession({ role: "service_role" });
  await deleting.run`begin`;
  await deleting.run`delete from public.videos where id = ${tenant.video}`;
  const waiting = within(acquiring, "acquire", { ...layout(tenant), ...W1 }).catch((error) =>
    error.code
  );
  await acquiring.blocked();
  await deleting.run`commit`;
  assertEquals(await waiting, "PT404");
  assertEquals(await tenant.state(), undefined);
});
