// P12: who waits has a place in the line. A place is a small lease of its own; time is set here, not slept.
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { openSession } from "../support/race.ts";
import { type Answer, rpc, sql } from "../support/stack.ts";
import { layout, newTenant, type Tenant, type User } from "../support/tenant.ts";

type Caller = Tenant["server"];

const acquire = (caller: Caller, body: Record<string, unknown>) =>
  rpc(caller, "acquire_lock", body);
const release = (caller: Caller, body: Record<string, unknown>) =>
  rpc(caller, "release_lock", body);

/** One who asks for a tenant's layout again and again with the same lock_id. */
interface Waiter {
  lock_id: string;
  ask(more?: Record<string, unknown>): Promise<Answer>;
  release(): Promise<Answer>;
}

function waiter(tenant: Tenant, who: string | User, queue_seconds = 60): Waiter {
  const [caller, name] = typeof who === "string"
    ? [tenant.server, { lock_holder_user_id: who }]
    : [who.client, {}];
  const lock_id = crypto.randomUUID();
  return {
    lock_id,
    ask: (more = {}) =>
      acquire(caller, { ...layout(tenant), ...name, lock_id, queue_seconds, ...more }),
    release: () => release(caller, { ...layout(tenant), lock_id }),
  };
}

/** Another holder has the lock. Ends with what is returned. */
async function hold(tenant: Tenant, ttl_seconds = 3600): Promise<() => Promise<Answer>> {
  const { lock } = await acquire(tenant.server, {
    ...layout(tenant),
    lock_holder_user_id: "holder",
    ttl_seconds,
  });
  return () => release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
}

/** A place as it is, or undefined. */
async function place({ lock_id }: Waiter) {
  const [row] = await sql<{ queued_at: Date; kept_until: Date; left: number }[]>`
    select queued_at, kept_until, extract(epoch from kept_until - clock_timestamp())::float as left
    from holdfast.place where lock_id = ${lock_id}`;
  return row;
}
/** Sets time: the place lapsed a moment ago. */
const lapse = ({ lock_id }: Waiter) =>
  sql`update holdfast.place set kept_until = clock_timestamp() - interval '1 ms' where lock_id = ${lock_id}`;

const positions = async (...waiters: Waiter[]) => {
  const all: (number | null | undefined)[] = [];
  for (const one of waiters) all.push((await one.ask()).queue?.position);
  return all;
};

Deno.test("P12 a refusal with queue_seconds gives a place, until that long from now, and says which", async () => {
  await using tenant = await newTenant();
  await hold(tenant);
  const first = waiter(tenant, "worker-1", 40);
  const second = waiter(tenant, "worker-2", 20);
  const refused = await first.ask();
  assertEquals([refused.acquired, refused.reason, refused.database_name, refused.queue], [
    false,
    "held",
    "layout",
    { position: 1, length: 1 },
  ]);
  assertEquals((await second.ask()).queue, { position: 2, length: 2 });
  for (const [one, seconds] of [[first, 40], [second, 20]] as const) {
    const { left } = (await place(one))!;
    assert(left > seconds - 5 && left <= seconds, `${left} of ${seconds}`);
  }
  // a caller without a place sees the line, and gets no place
  const passing = await acquire(tenant.server, {
    ...layout(tenant),
    lock_holder_user_id: "worker-3",
  });
  assertEquals([passing.reason, passing.queue], ["held", { position: null, length: 2 }]);
  const zero = await waiter(tenant, "worker-3", 0).ask();
  assertEquals(zero.queue, { position: null, length: 2 });
});

Deno.test("P12 first come, first served: a free lock is the head's, and queued for everybody else", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const end = await hold(tenant);
  const waiters = [waiter(tenant, "w1"), waiter(tenant, anna), waiter(tenant, "w2")];
  assertEquals(await positions(...waiters), [1, 2, 3]);
  await end();

  const passing = await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: "w3" });
  assertEquals(passing, {
    acquired: false,
    reason: "queued",
    database_name: "layout",
    holder: null,
    queue: { position: null, length: 3 },
    retry_after_ms: 3000,
    server_time: passing.server_time!,
  });
  for (const [i, head] of waiters.entries()) {
    for (const behind of waiters.slice(i + 1)) {
      const answer = await behind.ask();
      assertEquals([answer.reason, answer.holder], ["queued", null]);
      assertGreater(answer.queue!.position!, 1);
    }
    const { acquired, lock } = await head.ask();
    assertEquals([acquired, lock?.lock_id], [true, head.lock_id]);
    assertEquals(await place(head), undefined, "the grant ends the place");
    assertEquals(
      await positions(...waiters.slice(i + 1)),
      waiters.slice(i + 1).map((_, k) => k + 1),
    );
    assertEquals((await head.release()).released, true);
  }
  assertEquals(
    (await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: "w3" })).acquired,
    true,
  );
  assertEquals((await tenant.state())?.has_line, false, "P10: nobody looks for a line any more");
});

Deno.test("P12 the head has the lock also when the lease before it ran out", async () => {
  await using tenant = await newTenant();
  await hold(tenant, 60);
  const [first, second] = [waiter(tenant, "w1"), waiter(tenant, "w2")];
  await positions(first, second);
  await tenant.backdate(61);
  assertEquals((await second.ask()).reason, "queued");
  assertEquals((await first.ask()).acquired, true);
  assertEquals((await tenant.history()).map((lease) => lease.end_reason), ["expired"]);
});

Deno.test("P12 a place ends by release: that acquisition is over, and those behind move up", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const end = await hold(tenant);
  const [first, second, third] = [waiter(tenant, anna), waiter(tenant, "w2"), waiter(tenant, "w3")];
  await positions(first, second, third);
  const given = await first.release();
  assertEquals([given.released, given.reason], [false, "cancelled"]);
  assertEquals(given.holder?.lock_holder_user_id, "holder");
  assertEquals(await first.release(), given);
  assertEquals(await positions(second, third), [1, 2]);
  const late = await first.ask();
  assertEquals([late.reason, late.end_reason, late.queue], ["ended", "cancelled", undefined]);
  await end();
  assertEquals((await second.ask()).acquired, true);
});

Deno.test("P12 a place lapses unless it is kept: one who died holds the line up no longer than that", async () => {
  await using tenant = await newTenant();
  const end = await hold(tenant);
  const [dead, second, third] = [waiter(tenant, "w1"), waiter(tenant, "w2"), waiter(tenant, "w3")];
  await positions(dead, second, third);
  await end();
  assertEquals((await second.ask()).reason, "queued", "the dead one's place is not over yet");
  await lapse(dead);
  assertEquals((await third.ask()).queue, { position: 2, length: 2 });
  assertEquals((await second.ask()).acquired, true);
  // who comes back after that is last
  assertEquals((await dead.ask()).queue, { position: 2, length: 2 });
  // also where nobody has cleared the place that lapsed
  await lapse(third);
  assertEquals((await third.ask()).queue, { position: 2, length: 2 });
});

Deno.test("P12 the order is that of the places, not that of the transactions in which they were asked for", async () => {
  await using tenant = await newTenant();
  await hold(tenant);
  await using session = openSession({ role: "service_role" });
  await session.run`begin`;
  await session.run`select pg_current_xact_id()`;
  assertEquals((await waiter(tenant, "w1").ask()).queue?.position, 1);
  const [row] = await session.run`
    select public.acquire_lock(${tenant.video}, 'layout', 'w2', gen_random_uuid(), queue_seconds => 60) as answer`;
  await session.run`commit`;
  assertEquals(row?.answer.queue.position, 2);
});

Deno.test("P12 asking again keeps a place, and never shortens it; without queue_seconds it stays as it is", async () => {
  await using tenant = await newTenant();
  const end = await hold(tenant);
  const [first, second] = [waiter(tenant, "w1"), waiter(tenant, "w2")];
  await positions(first, second);
  const before = (await place(second))!;
  assertEquals((await second.ask({ queue_seconds: 1 })).queue, { position: 2, length: 2 });
  for (const queue_seconds of [undefined, null, 0]) {
    const { queue } = await second.ask({ queue_seconds });
    assertEquals(queue, { position: 2, length: 2 });
  }
  assertEquals((await place(second))?.kept_until, before.kept_until);
  await second.ask();
  const after = (await place(second))!;
  assert(after.kept_until > before.kept_until);
  assertEquals(after.queued_at, before.queued_at, "the turn is the same");
  await end();
  await first.ask({ queue_seconds: 0 }).then(({ acquired }) => assertEquals(acquired, true));
  await first.release();
  assertEquals((await second.ask({ queue_seconds: null })).acquired, true);
});

Deno.test("P12 a place ends with the right to the video", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const end = await hold(tenant);
  const [first, second] = [waiter(tenant, anna), waiter(tenant, "w2")];
  await positions(first, second);
  await tenant.leave(anna);
  assertEquals((await second.ask()).queue, { position: 1, length: 1 });
  const { status, error } = await anna.client.rpc("acquire_lock", {
    ...layout(tenant),
    lock_id: first.lock_id,
    queue_seconds: 60,
  });
  assertEquals([status, error?.code], [404, "PT404"]);
  await end();
  assertEquals((await second.ask()).acquired, true);
});

Deno.test("a user who lost the right to the video can still give their place up", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await hold(tenant);
  const first = waiter(tenant, anna);
  await first.ask();
  await tenant.leave(anna);
  assertEquals(await first.release(), { released: false, reason: "cancelled", holder: null });
  assertEquals(await place(first), undefined);
});

Deno.test("P8 who lost the right to the video makes no row of it, also by giving up a place whose row is gone", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await hold(tenant);
  const set = {
    video_id: tenant.video,
    database_names: ["captions", "layout"],
    lock_id: crypto.randomUUID(),
  };
  assertEquals((await acquire(anna.client, { ...set, queue_seconds: 60 })).queue?.position, 1);
  await sql`
    delete from public.video_database_state where video_id = ${tenant.video} and database_name = 'captions'`;
  await tenant.leave(anna);
  const { error } = await anna.client.rpc("release_lock", set);
  assertEquals(error?.code, "PT404");
  assertEquals(await tenant.state(tenant.video, "captions"), undefined);
});

Deno.test("P6 a place belongs to its lock_id and its holder: another's lock_id gives nobody a turn", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const end = await hold(tenant);
  const first = waiter(tenant, anna);
  await first.ask();
  await end();
  const others = [
    () => acquire(ben.client, { ...layout(tenant), lock_id: first.lock_id }),
    ...["w1", anna.id].map((lock_holder_user_id) => () =>
      acquire(tenant.server, { ...layout(tenant), lock_holder_user_id, lock_id: first.lock_id })
    ),
    // the same user, another acquisition
    () => acquire(anna.client, layout(tenant)),
  ];
  for (const other of others) {
    const { reason, queue } = await other();
    assertEquals([reason, queue], ["queued", { position: null, length: 1 }]);
  }
  // nor can they give it up
  for (const caller of [ben.client, tenant.server]) {
    await release(caller, { ...layout(tenant), lock_id: first.lock_id });
    assert(await place(first), "it is still there");
  }
  assertEquals((await first.ask()).acquired, true);
});

Deno.test("P12 retry_after_ms: often for the head, less and less behind it, soon enough to keep the place", async () => {
  await using tenant = await newTenant();
  await hold(tenant);
  const line = Array.from({ length: 5 }, (_, i) => waiter(tenant, `w${i}`));
  for (const one of line) await one.ask();
  const pauses = async (more = {}) => {
    const all: number[] = [];
    for (const one of line) all.push((await one.ask(more)).retry_after_ms!);
    return all;
  };
  assertEquals(await pauses(), [150, 400, 650, 900, 1150]);
  // the head need not ask again before the lease ends, and comes when it does
  await sql`
    update public.video_database_state set lock_expires_at = clock_timestamp() + interval '90 ms'
    where video_id = ${tenant.video}`;
  const soon = (await line[0]!.ask()).retry_after_ms!;
  assert(soon >= 10 && soon <= 90, `${soon}`);
  await sql`
    update public.video_database_state set lock_expires_at = clock_timestamp() + interval '1 hour'
    where video_id = ${tenant.video}`;
  // half of what is left of a place is time enough for an answer that comes late
  await sql`
    update holdfast.place set kept_until = clock_timestamp() + interval '1 s' where video_id = ${tenant.video}`;
  for (const pause of (await pauses({ queue_seconds: null })).slice(2)) {
    assert(pause > 250 && pause <= 500, `${pause}`);
  }
  assertEquals((await line[4]!.ask({ queue_seconds: 1 })).retry_after_ms! <= 500, true);
  assertEquals((await line[4]!.ask({ queue_seconds: 60 })).retry_after_ms, 1150);
});

Deno.test("P12 a take-over by the same holder does not stand in the line, and leaves it as it is", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  await acquire(anna.client, layout(tenant));
  const first = waiter(tenant, "w1");
  await first.ask();
  const taken = await acquire(anna.client, { ...layout(tenant), take_over: true });
  assertEquals(taken.acquired, true);
  assertEquals((await first.ask()).queue, { position: 1, length: 1 });
  // a free lock is not taken over: there the line goes first
  await release(anna.client, { ...layout(tenant), lock_id: taken.lock!.lock_id });
  assertEquals(
    (await acquire(anna.client, { ...layout(tenant), take_over: true })).reason,
    "queued",
  );
  assertEquals((await first.ask()).acquired, true);
});

Deno.test("P12 the holder learns from a renewal how many wait", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, {
    ...layout(tenant),
    lock_holder_user_id: "holder",
  });
  const beat = async () =>
    (await rpc(tenant.server, "renew_lock", { ...layout(tenant), lock_id: lock!.lock_id })).queue;
  assertEquals(await beat(), { length: 0 });
  const line = [waiter(tenant, "w1"), waiter(tenant, "w2")];
  await positions(...line);
  assertEquals(await beat(), { length: 2 });
  await lapse(line[0]!);
  assertEquals(await beat(), { length: 1 });
});

Deno.test("P12 the holder of a set learns how many wait for the lock for which most do", async () => {
  await using tenant = await newTenant();
  const set = { video_id: tenant.video, database_names: ["captions", "layout"] };
  const lock_id = crypto.randomUUID();
  await acquire(tenant.server, { ...set, lock_holder_user_id: "holder", lock_id });
  await positions(waiter(tenant, "w1"), waiter(tenant, "w2"));
  assertEquals((await rpc(tenant.server, "renew_lock", { ...set, lock_id })).queue, { length: 2 });
});

Deno.test("held_locks shows the leases that are live, with the length of the line; waiting_locks who stands in it", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  const { lock } = await acquire(anna.client, { ...layout(tenant), ttl_seconds: 60 });
  const first = waiter(tenant, ben);
  await first.ask();
  await waiter(tenant, "w2").ask();
  for (const caller of [anna.client, ben.client, tenant.server]) {
    const held = await caller.from("held_locks").select("*").eq("tenant_id", tenant.id);
    assertEquals(held.data, [{
      ...layout(tenant),
      tenant_id: tenant.id,
      lock_id: lock!.lock_id,
      lock_holder_user_id: anna.id,
      lock_type: "client",
      fencing_token: lock!.fencing_token,
      locked_at: held.data![0].locked_at,
      last_activity_at: held.data![0].locked_at,
      expires_at: held.data![0].expires_at,
      ttl_seconds: 60,
      queue_length: 2,
      server_time: held.data![0].server_time,
    }]);
    const waiting = await caller.from("waiting_locks").select("*").eq("tenant_id", tenant.id)
      .order("position");
    const who = [[1, ben.id, "client"], [2, "w2", "server"]] as const;
    assertEquals(
      waiting.data,
      who.map(([position, lock_holder_user_id, lock_type], i) => ({
        ...layout(tenant),
        tenant_id: tenant.id,
        position,
        lock_holder_user_id,
        lock_type,
        queued_at: waiting.data![i].queued_at,
        server_time: waiting.data![i].server_time,
      })),
      "without a lock_id",
    );
  }
  await tenant.backdate(61);
  const over = await ben.client.from("held_locks").select("*").eq("tenant_id", tenant.id);
  assertEquals(over.data, [], "the row is not cleared yet, and the lease is over");
  await lapse(first);
  const left = await ben.client.from("waiting_locks").select("position,lock_holder_user_id").eq(
    "tenant_id",
    tenant.id,
  );
  assertEquals(left.data, [{ position: 1, lock_holder_user_id: "w2" }]);
});

Deno.test("P12 bounds: at most 10 places of a holder in a line, and 1,000 in all; beyond them an answer without a place", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const end = await hold(tenant);
  for (const who of [anna, "w1"]) {
    const line = Array.from({ length: 11 }, () => waiter(tenant, who));
    const answers: Answer[] = [];
    for (const one of line) answers.push(await one.ask());
    assertEquals(answers.map(({ queue }) => queue?.position != null), [
      ...Array(10).fill(true),
      false,
    ]);
    assertEquals(answers[10]!.reason, "held");
    assertEquals((await line[3]!.ask()).queue?.position, answers[3]!.queue?.position);
  }
  await sql`
    insert into holdfast.place (
      video_id, database_name, lock_id, lock_holder_user_id, lock_type, queued_at, kept_until
    )
    select ${tenant.video}, 'layout', gen_random_uuid(), 'crowd ' || n, 'server', clock_timestamp(),
      clock_timestamp() + interval '50 s'
    from generate_series(1, 979) n`;
  const last = waiter(tenant, "w2");
  assertEquals((await last.ask()).queue, { position: 1000, length: 1000 });
  const beyond = await waiter(tenant, "w3").ask();
  assertEquals([beyond.reason, beyond.queue], ["held", { position: null, length: 1000 }]);
  await end();
  assertEquals((await waiter(tenant, "w3").ask()).reason, "queued");
});

Deno.test("P12 a line of 1,000 that lapsed is no line: it is cleared, and the next caller has the lock", async () => {
  await using tenant = await newTenant();
  const end = await hold(tenant);
  await waiter(tenant, "w1").ask();
  await sql`update holdfast.place set kept_until = clock_timestamp() where video_id = ${tenant.video}`;
  await end();
  const count = async () =>
    (await sql`select from holdfast.place where video_id = ${tenant.video}`).length;
  assertEquals(await count(), 1);
  await sql`select public.release_expired_locks()`;
  assertEquals(await count(), 0);
  assertEquals(
    (await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: "w2" })).acquired,
    true,
  );
  // the next grant clears it, too
  await waiter(tenant, "w3").ask();
  assertEquals(await count(), 1);
  await sql`update holdfast.place set kept_until = clock_timestamp() where video_id = ${tenant.video}`;
  await release(tenant.server, { ...layout(tenant), lock_holder_user_id: "w2" });
  await acquire(tenant.server, { ...layout(tenant), lock_holder_user_id: "w4" });
  assertEquals(await count(), 0);
});

Deno.test("queue_seconds is an integer from 0 to 60, and needs a lock_id", async () => {
  await using tenant = await newTenant();
  const broken = async (more: Record<string, unknown>) => {
    const { error } = await tenant.server.rpc("acquire_lock", {
      ...layout(tenant),
      lock_holder_user_id: "w1",
      ...more,
    });
    return [
      error?.code,
      error && JSON.parse(error.details).map(({ path }: { path: string }) => path),
    ];
  };
  for (const held of [false, true]) {
    if (held) await hold(tenant);
    for (const queue_seconds of [-1, 61]) {
      const with_id = { queue_seconds, lock_id: crypto.randomUUID() };
      assertEquals(await broken(with_id), ["PT400", ["queue_seconds"]]);
    }
    assertEquals(await broken({ queue_seconds: 1 }), ["PT400", ["lock_id"]]);
  }
});

Deno.test("P10 a refusal without a place, and one that has a place and asks without queue_seconds, writes nothing", async () => {
  await using tenant = await newTenant();
  const end = await hold(tenant);
  const [first, second] = [waiter(tenant, "w1"), waiter(tenant, "w2")];
  await positions(first, second);
  await using session = openSession({ role: "service_role" });
  const ask = async (holder: string, lock_id: string | null) => {
    await session.run`begin`;
    const [row] = await session.run`
      select public.acquire_lock(${tenant.video}, 'layout', ${holder}, ${lock_id}::uuid) as answer`;
    const [xact] = await session.run`select pg_current_xact_id_if_assigned()::text as id`;
    await session.run`commit`;
    return [row?.answer.reason, row?.answer.queue.position, xact?.id];
  };
  for (const reason of ["held", "queued"]) {
    assertEquals(await ask("w3", null), [reason, null, null]);
    assertEquals(await ask("w2", second.lock_id), [reason, 2, null]);
    await end();
  }
});

Deno.test("P11 a place can be had while a guarded write is open: busy for the grant, not for the place", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, {
    ...layout(tenant),
    lock_holder_user_id: "holder",
    ttl_seconds: 3600,
  });
  await using writer = openSession({ role: "service_role" });
  await writer.run`begin`;
  await writer.run`select public.assert_lock_held(${tenant.video}, 'layout', ${
    lock!.fencing_token
  })`;
  const [first, second] = [waiter(tenant, "w1"), waiter(tenant, "w2")];
  assertEquals(await positions(first, second), [1, 2]);
  const { released } = await release(tenant.server, {
    ...layout(tenant),
    lock_id: lock!.lock_id,
  });
  assertEquals(released, true, "a release gets through an open guarded write");
  const started = performance.now();
  const busy = await first.ask();
  assertLess(performance.now() - started, 1_000);
  assertEquals([busy.acquired, busy.reason, busy.queue], [false, "busy", {
    position: 1,
    length: 2,
  }]);
  assertEquals(busy.retry_after_ms, 500);
  assertEquals((await second.ask()).reason, "queued");
  await writer.run`commit`;
  assertEquals((await first.ask()).acquired, true);
});

Deno.test("P12 a set waits in the line of each of its locks, and keeps its free ones idle meanwhile", async () => {
  await using tenant = await newTenant();
  const end = await hold(tenant);
  const set = (who: string, database_names: string[]) => {
    const body = {
      video_id: tenant.video,
      database_names,
      lock_holder_user_id: who,
      lock_id: crypto.randomUUID(),
      queue_seconds: 60,
    };
    return { ...body, ask: () => acquire(tenant.server, body) };
  };
  const first = set("w1", ["captions", "layout"]);
  const second = set("w2", ["audio", "captions"]);
  const refused = await first.ask();
  assertEquals([refused.reason, refused.database_name, refused.queue], ["held", "layout", {
    position: 1,
    length: 1,
  }]);
  const [times] = await sql`
    select count(distinct queued_at)::integer as n, count(*)::integer as places
    from holdfast.place where lock_id = ${first.lock_id}`;
  assertEquals({ ...times }, { n: 1, places: 2 }, "all as old as one another");
  // captions is free, and the first set's turn; audio is then the second's
  const behind = await second.ask();
  assertEquals([behind.reason, behind.database_name, behind.queue], ["queued", "captions", {
    position: 2,
    length: 2,
  }]);
  const idle = await acquire(tenant.server, {
    video_id: tenant.video,
    database_name: "audio",
    lock_holder_user_id: "w3",
  });
  assertEquals(idle.reason, "queued");
  await end();
  assertEquals((await second.ask()).reason, "queued");
  assertEquals((await first.ask()).locks?.map((lock) => lock.database_name), first.database_names);
  assertEquals((await second.ask()).reason, "held");
  await release(tenant.server, {
    video_id: tenant.video,
    database_names: first.database_names,
    lock_id: first.lock_id,
  });
  assertEquals((await second.ask()).acquired, true);
  const [left] = await sql`
    select count(*)::integer as n from holdfast.place where video_id = ${tenant.video}`;
  assertEquals(left?.n, 0, "the grant ends all places of the set");
});

Deno.test("P12 two sets that overlap never wait for each other, in any order of their names", async () => {
  await using tenant = await newTenant();
  for (const name of ["a", "b"]) {
    await acquire(tenant.server, {
      video_id: tenant.video,
      database_name: name,
      lock_holder_user_id: "holder",
    });
  }
  const sets = [["a", "b"], ["b", "a"], ["a", "b"], ["b", "a"]].map((database_names, i) => ({
    video_id: tenant.video,
    database_names,
    lock_holder_user_id: `w${i}`,
    lock_id: crypto.randomUUID(),
    queue_seconds: 60,
  }));
  await Promise.all(sets.map((set) => acquire(tenant.server, set)));
  const orders = await sql<{ database_name: string; line: string[] }[]>`
    select database_name, array_agg(lock_holder_user_id order by queued_at, lock_id) as line
    from holdfast.place where video_id = ${tenant.video} group by 1`;
  assertEquals(orders.length, 2);
  assertEquals(orders[0]!.line, orders[1]!.line, "the same order in both lines");
  assertEquals(orders[0]!.line.length, 4);
  for (const name of ["a", "b"]) {
    await release(tenant.server, { video_id: tenant.video, database_name: name, force: true });
  }
  for (const holder of orders[0]!.line) {
    const answers: Answer[] = [];
    for (const set of sets) answers.push(await acquire(tenant.server, set));
    const won = sets.filter((_, i) => answers[i]!.acquired);
    assertEquals(won.map((set) => set.lock_holder_user_id), [holder]);
    const { lock_id, database_names } = won[0]!;
    await release(tenant.server, { video_id: tenant.video, database_names, lock_id });
    sets.splice(sets.indexOf(won[0]!), 1);
  }
});

Deno.test("P12 of many who wait and keep to retry_after_ms, nobody is overtaken", async () => {
  await using tenant = await newTenant();
  const end = await hold(tenant);
  const line = Array.from({ length: 6 }, (_, i) => waiter(tenant, `w${i}`));
  for (const one of line) await one.ask();
  const served: string[] = [];
  const wait = async (one: Waiter) => {
    for (;;) {
      const { acquired, retry_after_ms } = await one.ask();
      if (acquired) break;
      await new Promise((resolve) => setTimeout(resolve, retry_after_ms! * Math.random()));
    }
    served.push(one.lock_id);
    await one.release();
  };
  // and a crowd without places, which must not get in between
  let over = false;
  const passing = async () => {
    const reasons = new Set<string | undefined>();
    while (!over) {
      const { reason } = await acquire(tenant.server, {
        ...layout(tenant),
        lock_holder_user_id: "passing",
        lock_id: crypto.randomUUID(),
      });
      reasons.add(reason);
    }
    return reasons;
  };
  const crowd = [passing(), passing()];
  const waiting = Promise.all(line.toReversed().map(wait)).finally(() => over = true);
  await end();
  await waiting;
  assertEquals(served, line.map(({ lock_id }) => lock_id));
  const reasons = new Set((await Promise.all(crowd)).flatMap((some) => [...some]));
  assertEquals(reasons.has("queued"), true);
});
