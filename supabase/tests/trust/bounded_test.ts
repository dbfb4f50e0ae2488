// P11: no call waits for another transaction for longer than half a second; and what was read before a wait is not
// believed after it (P3).
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { changedFunctions } from "../support/changed_functions.ts";
import { closedGate } from "../support/gate.ts";
import { openSession, type Session, until } from "../support/race.ts";
import { acquire, type Answer, client, release, renew, secretKey, sql } from "../support/stack.ts";
import { runs } from "../support/soak.ts";
import { layout, newTenant, type Tenant, W1, W2 } from "../support/tenant.ts";

async function call(session: Session, name: string, args: Record<string, unknown>) {
  const names = Object.keys(args);
  const [row] = await session.run.unsafe<{ answer: Answer; ms: number }[]>(
    `select public.${name}(${names.map((n, i) => `${n} => $${i + 1}`).join(", ")}) as answer,
       extract(epoch from clock_timestamp() - statement_timestamp())::float * 1000 as ms`,
    Object.values(args) as string[],
  );
  return { ...row!.answer, ms: row!.ms };
}

/**
 * The half second that is promised, and ten times what a call takes here that waits for nothing: a busy machine is slow.
 *
 * @param session Whose call was bounded.
 * @returns Milliseconds.
 */
async function halfASecond(session: Session): Promise<number> {
  const nowhere = { video_id: crypto.randomUUID(), database_name: "layout", ...W1 };
  const begun = performance.now();
  await call(session, "acquire_lock", nowhere).catch(() => {}); // there is no such video
  return 500 + 10 * (performance.now() - begun);
}

/** A guarded write of worker-1 that is still open, though its lease has ended. */
async function openWrite(tenant: Tenant) {
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
  const holder = openSession({ role: "service_role" });
  await holder.run`begin`;
  await holder.run`select public.assert_lock_held(${tenant.video}, 'layout', ${
    lock!.fencing_token
  })`;
  return { lock: lock!, holder };
}

const hasRunOut = async ({ video }: Tenant) =>
  (await sql`
    select from public.video_database_state
    where video_id = ${video} and lock_expires_at <= clock_timestamp()`).length > 0;

Deno.test("P11 the next grant is busy while a guarded write is open, and the holder's own calls get through", async () => {
  await using tenant = await newTenant();
  const { lock, holder } = await openWrite(tenant);
  await using _holder = holder;
  await using contender = openSession({ role: "service_role" });
  const own = { ...layout(tenant), lock_id: lock.lock_id };
  assertEquals((await renew(tenant.server, own)).renewed, true);
  assertEquals((await release(tenant.server, own)).released, true);
  const { acquired, reason, retry_after_ms, holder: who, queue, database_name, ms } = await call(
    contender,
    "acquire_lock",
    { ...layout(tenant), ...W2 },
  );
  assertEquals([acquired, reason, database_name, who], [false, "busy", "layout", null]);
  assertEquals([retry_after_ms, queue], [500, { position: null, length: 0 }]);
  assertLess(ms, await halfASecond(contender));
  // a place can be had meanwhile, and is kept
  const lock_id = crypto.randomUUID();
  const placed = await call(contender, "acquire_lock", {
    ...layout(tenant),
    ...W2,
    lock_id,
    queue_seconds: 30,
  });
  assertEquals([placed.reason, placed.queue], ["busy", { position: 1, length: 1 }]);
  await holder.run`commit`;
  const granted = await call(contender, "acquire_lock", { ...layout(tenant), ...W2, lock_id });
  assertEquals(granted.acquired, true);
});

/** Ways of another transaction to have the row. */
const HOLDS = {
  "has locked": "select from public.video_database_state where video_id = $1 for update",
  "has written": "update public.video_database_state set wasabi_version = 7 where video_id = $1",
};

/** What is busy then: the call, and its arguments for the lock's own holder. */
const BUSY: [name: string, args: (own: Record<string, string>) => Record<string, unknown>][] = [
  ["acquire_lock", ({ lock_id: _, ...key }) => ({ ...key, ...W1, take_over: true })],
  ["renew_lock", (own) => own],
  ["release_lock", (own) => own],
  ["release_lock", ({ lock_id: _, ...key }) => ({ ...key, force: true })],
  ["release_lock", ({ lock_id: _, ...key }) => ({ ...key, ...W1 })],
  ["release_lock", (own) => ({ ...own, lock_id: crypto.randomUUID() })],
];

for (const [what, hold] of Object.entries(HOLDS)) {
  Deno.test(`P11 a row that another transaction ${what} is busy for acquire, renew, release and advance`, async () => {
    await using tenant = await newTenant();
    await using other = openSession();
    await other.run`begin`;
    // each call has a lock of its own, so that all can wait at the same time
    await Promise.all(BUSY.map(async ([name, args]) => {
      await using session = openSession({ role: "service_role" });
      const key = { database_name: "layout", video_id: await tenant.addVideo() };
      const { lock } = await call(session, "acquire_lock", { ...key, ...W1 });
      await other.run.unsafe(hold, [key.video_id]);
      const given = args({ ...key, lock_id: lock!.lock_id });
      const { reason, ms } = await call(session, name, given);
      assertEquals(reason, "busy", `${name} ${JSON.stringify(given)}`);
      assertLess(ms, await halfASecond(session));
      const version = await call(session, "advance_server_version", {
        ...key,
        fencing_token: lock!.fencing_token,
      }).catch((error) => error.code);
      assertEquals(version, "PT503");
      // what does not need the row does not wait for it
      const refused = await call(session, "acquire_lock", { ...key, ...W2 });
      assertEquals(refused.reason, "held");
      assertEquals((await tenant.state(key.video_id))?.lock_id, lock!.lock_id);
      assertEquals((await tenant.history(key.video_id)).length, 0);
    }));
    await other.run`rollback`;
  });
}

Deno.test("P11 a lock that is just being made by another transaction, or whose video is being deleted, is busy", async () => {
  await using tenant = await newTenant();
  for (
    const statement of [
      "insert into public.video_database_state (video_id, database_name, tenant_id) values ($1, 'layout', $2)",
      "delete from public.videos where id = $1 and tenant_id = $2",
    ]
  ) {
    await using other = openSession();
    await other.run`begin`;
    await other.run.unsafe(statement, [tenant.video, tenant.id]);
    await using session = openSession({ role: "service_role" });
    const { reason, ms } = await call(session, "acquire_lock", { ...layout(tenant), ...W1 });
    assertEquals(reason, "busy", statement);
    assertLess(ms, await halfASecond(session));
    await other.run`rollback`;
    const granted = await call(session, "acquire_lock", { ...layout(tenant), ...W1 });
    assertEquals(granted.acquired, true);
    await sql`delete from public.video_database_state where video_id = ${tenant.video}`;
  }
});

Deno.test("P11 of many who want one busy row one waits, the others are gone at once", async () => {
  await using tenant = await newTenant();
  const { lock, holder } = await openWrite(tenant);
  await using _holder = holder;
  await release(tenant.server, { ...layout(tenant), lock_id: lock.lock_id });
  const answers = await Promise.all(Array.from({ length: 12 }, async (_, i) => {
    await using session = openSession({ role: "service_role" });
    await session.run`select 1`;
    return await call(session, "acquire_lock", {
      ...layout(tenant),
      lock_holder_user_id: `worker-${i + 2}`,
    });
  }));
  assertEquals(new Set(answers.map((answer) => answer.reason)), new Set(["busy"]));
  const times = answers.map((answer) => answer.ms).toSorted((a, b) => a - b);
  assertGreater(times.at(-1)!, 400, "one waits");
  assertLess(times[6]!, 300, "most do not");
  await holder.run`commit`;
});

Deno.test("P11 callers of a busy lock, over HTTP, do not stop other requests of the project", async () => {
  await using tenant = await newTenant();
  const { lock, holder } = await openWrite(tenant);
  await using _holder = holder;
  await release(tenant.server, { ...layout(tenant), lock_id: lock.lock_id });
  let asking = true;
  const reasons = new Set<string>();
  const callers = Array.from({ length: 12 }, async (_, i) => {
    while (asking) {
      const { reason, retry_after_ms } = await acquire(tenant.server, {
        ...layout(tenant),
        lock_holder_user_id: `worker-${i + 2}`,
      });
      reasons.add(reason!);
      if (asking) await new Promise((resolve) => setTimeout(resolve, retry_after_ms));
    }
  });
  for (let i = 0; i < 5; i++) {
    const { error } = await client(secretKey).from("videos").select("id").eq("id", tenant.video);
    assertEquals(error, null);
  }
  const other = await tenant.addVideo();
  assertEquals(
    (await acquire(tenant.server, { ...layout(tenant), video_id: other, ...W1 })).acquired,
    true,
  );
  asking = false;
  await Promise.all(callers);
  assertEquals(reasons, new Set(["busy"]), "all that while the guarded write was open");
  await holder.run`commit`;
});

Deno.test("P7 a grant after a wait shows the versions of the row as it is then", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
  await using holder = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });
  await contender.run`select 1`;
  await holder.run`begin`;
  await tenant.backdate(59.5);
  await call(holder, "advance_server_version", {
    ...layout(tenant),
    fencing_token: lock!.fencing_token,
  });
  await until(() => hasRunOut(tenant));
  const waiting = call(contender, "acquire_lock", { ...layout(tenant), ...W2 });
  await contender.blocked();
  await holder.run`commit`;
  const granted = await waiting;
  assertEquals([granted.acquired, granted.state?.server_version], [true, 1]);
});

Deno.test("P7 at random: versions counted under take-overs are never shown stale", async () => {
  await using tenant = await newTenant();
  await using one = openSession({ role: "service_role" });
  await using two = openSession({ role: "service_role" });
  let counted = 0;
  for (let round = 0; round < runs(80, 1500); round++) {
    const held = await call(one, "acquire_lock", { ...layout(tenant), ...W1, take_over: true });
    const [advanced, taken] = await Promise.all([
      call(one, "advance_server_version", {
        ...layout(tenant),
        fencing_token: held.lock!.fencing_token,
      }).then(() => 1, (error) => {
        assert(/^PT(412|503)$/.test(error.code), error.code);
        return 0;
      }),
      call(two, "acquire_lock", { ...layout(tenant), ...W1, take_over: true }),
    ]);
    counted += advanced;
    if (!taken.acquired) {
      assertEquals(taken.reason, "busy");
      continue;
    }
    const after = (await tenant.state())!.server_version;
    assertEquals(after, counted);
    assertEquals(taken.state!.server_version, after, `round ${round}`);
  }
});

Deno.test("P8 the video moves to another tenant while a member of the old one waits: not found", async () => {
  for (const row of ["there", "not there yet"]) {
    await using tenant = await newTenant();
    await using elsewhere = await newTenant();
    const anna = await tenant.join("anna");
    if (row === "there") {
      const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
      await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
    }
    await using moving = openSession();
    await using waiting = openSession({ role: "authenticated", sub: anna.id });
    await moving.run`begin`;
    await moving
      .run`update public.videos set tenant_id = ${elsewhere.id} where id = ${tenant.video}`;
    const acquiring = call(waiting, "acquire_lock", layout(tenant)).catch((error) => error.code);
    await waiting.blocked();
    await moving.run`commit`;
    assertEquals(await acquiring, "PT404", row);
    assertEquals((await tenant.state())?.lock_id ?? null, null);
    await sql`delete from public.videos where id = ${tenant.video}`;
  }
});

Deno.test("P8 a member who is removed while they wait for a row finds no video", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  for (const hold of ["lock table public.video_database_state in share mode", ""]) {
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
    await sql`update public.video_database_state set has_line = false where video_id = ${tenant.video}`;
    await using gate = openSession();
    await using waiting = openSession({ role: "authenticated", sub: anna.id });
    await gate.run`begin`;
    if (hold) await gate.run.unsafe(hold);
    else {await gate
        .run`select from public.video_database_state where video_id = ${tenant.video} for update`;}
    const acquiring = call(waiting, "acquire_lock", layout(tenant)).catch((error) => error.code);
    await waiting.blocked();
    await sql`delete from public.tenant_members where user_id = ${anna.id}`;
    await new Promise((resolve) => setTimeout(resolve, 20));
    await gate.run`commit`;
    assertEquals(await acquiring, "PT404", hold);
    await tenant.join("anna");
  }
});

Deno.test("P8 a member who is removed while the check of their write waits for the row writes nothing", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, layout(tenant));
  await using gate = await closedGate();
  const waits = "  for v_try in 0..6 loop\n";
  await using slow = await changedFunctions([["check_token", waits, `  ${gate.pass}${waits}`]]);
  await using session = openSession({ role: "authenticated", sub: anna.id });
  const check = session.run.unsafe(
    `select ${slow.name}.check_token($1, 'layout', $2, null)`,
    [tenant.video, lock!.fencing_token],
  ).then(() => "passed", (error) => error.code);
  await gate.reached();
  await tenant.leave(anna);
  await gate.open();
  assertEquals(await check, "PT412");
});

Deno.test("P1 a grant whose read of the row is old by its write does not pass a guarded write that began in between", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
  // between its look and its decision the lease ends, and before that its holder asserts
  await using gate = await closedGate();
  await using slow = await changedFunctions([
    ["acquire_lock", "  if not v_server then\n", `  ${gate.pass}  if not v_server then\n`],
  ]);
  await using holder = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });
  await holder.run`begin`;
  await contender.run`select 1`;
  await tenant.backdate(59);
  const asking = contender.run.unsafe<{ answer: Answer }[]>(
    `select ${slow.name}.acquire_lock($1, 'layout', 'worker-2', null, null, null, null, null) as answer`,
    [tenant.video],
  ).execute();
  await gate.reached();
  await holder.run`
    select public.assert_lock_held(${tenant.video}, 'layout', ${lock!.fencing_token})`;
  await until(() => hasRunOut(tenant));
  await gate.open();
  const [row] = await asking;
  assertEquals(row!.answer.acquired, false, "the guarded write is still open");
  await holder.run`commit`;
});

Deno.test("P3 a version that waited past the end of its lease is not counted", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1, ttl_seconds: 60 });
  const own = { ...layout(tenant), fencing_token: lock!.fencing_token };
  await using first = openSession({ role: "service_role" });
  await using second = openSession({ role: "service_role" });
  await second.run`select 1`;
  await first.run`begin`;
  await tenant.backdate(59.6);
  await call(first, "advance_server_version", own);
  const waiting = call(second, "advance_server_version", own).catch((error) => error.code);
  await second.blocked();
  await until(() => hasRunOut(tenant));
  await first.run`commit`;
  assertEquals(await waiting, "PT412");
  assertEquals((await tenant.state())?.server_version, 1);
});
