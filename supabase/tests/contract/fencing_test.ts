// P4 where it counts: in the transaction that writes. The guarded table is the one of docs/how-to/guard-a-table.md, made by the SQL
// that stands there.
import { assertEquals, assertMatch } from "@std/assert";
import type { SupabaseClient } from "@supabase/supabase-js";
import { openSession } from "../support/race.ts";
import {
  acquire,
  afterAll,
  client,
  publishableKey,
  release,
  secretKey,
  sql,
} from "../support/stack.ts";
import { newTenant, type Tenant } from "../support/tenant.ts";

const captions = (tenant: Tenant) => ({ video_id: tenant.video, database_name: "captions" });
const W1 = { lock_holder_user_id: "worker-1" };
const W2 = { lock_holder_user_id: "worker-2" };

const doc = await Deno.readTextFile(
  new URL("../../../docs/how-to/guard-a-table.md", import.meta.url),
);
const example = doc.match(/```sql\n(create table public\.captions[\s\S]*?)```/)?.[1];
await sql.unsafe(`drop table if exists public.captions; ${example}; notify pgrst, 'reload schema'`);
afterAll(() => sql`drop table public.captions`);

/** Writes a caption as docs/how-to/guard-a-table.md does; answers the error's code, or null. */
async function write(
  caller: SupabaseClient,
  video_id: string,
  token: number | string | null,
  text = "Hello",
) {
  for (let tries = 0;; tries++) {
    let request = caller.from("captions").upsert({ video_id, line: 1, text });
    if (token !== null) request = request.setHeader("x-fencing-token", String(token));
    const { error } = await request;
    // the Data API may need a moment to see a new table
    if (error?.code !== "PGRST205" || tries > 100) return error?.code ?? null;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const texts = async (tenant: Tenant) =>
  (await sql<{ text: string }[]>`select text from public.captions where video_id = ${tenant.video}`)
    .map((row) => row.text);

Deno.test("the example of docs/how-to/guard-a-table.md: the holder writes, and nobody else", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  assertEquals(await write(anna.client, tenant.video, 1), "PT412", "nobody holds the lock");
  const { lock } = await acquire(anna.client, captions(tenant));
  const token = lock!.fencing_token;
  assertEquals(await write(anna.client, tenant.video, token), null);
  assertEquals(await write(anna.client, tenant.video, null, "no token"), "PT412");
  assertEquals(await write(anna.client, tenant.video, token + 1, "a later token"), "PT412");
  assertEquals(await write(ben.client, tenant.video, token, "a guessed token"), "PT412");
  assertEquals(await write(anna.client, tenant.video, "7; drop table", "no number"), "PT400");
  assertEquals(
    await write(anna.client, tenant.video, "99999999999999999999", "too large"),
    "PT400",
  );
  assertEquals(await texts(tenant), ["Hello"]);
});

Deno.test("P4 a write with an older token, or after the lease ended in any way, is refused", async (t) => {
  const ways: Record<string, (tenant: Tenant) => Promise<unknown>> = {
    released: (tenant) => release(tenant.server, { ...captions(tenant), ...W1 }),
    forced: (tenant) => release(tenant.server, { ...captions(tenant), force: true }),
    "run out": (tenant) => tenant.backdate(121, tenant.video, "captions"),
    "taken by the next": async (tenant) => {
      await tenant.backdate(121, tenant.video, "captions");
      await acquire(tenant.server, { ...captions(tenant), ...W2 });
    },
  };
  for (const [way, end] of Object.entries(ways)) {
    await t.step(way, async () => {
      await using tenant = await newTenant();
      const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
      const token = lock!.fencing_token;
      assertEquals(await write(tenant.server, tenant.video, token, "in time"), null);
      await end(tenant);
      assertEquals(await write(tenant.server, tenant.video, token, "late"), "PT412");
      const { error } = await tenant.server.from("captions").delete().eq("video_id", tenant.video)
        .setHeader("x-fencing-token", String(token));
      assertEquals(error?.code, "PT412", "nor is a delete let through");
      assertEquals(await texts(tenant), ["in time"]);
    });
  }
});

Deno.test("a token is good for its own lock only: not for another database, video or tenant", async () => {
  await using tenant = await newTenant();
  await using elsewhere = await newTenant();
  const anna = await tenant.join("anna");
  const other = await tenant.addVideo();
  const held = (await acquire(anna.client, captions(tenant))).lock!;
  const { server_version, ...rest } = {
    server_version: 1,
    ...captions(tenant),
    fencing_token: held.fencing_token,
  };
  const advance = async (args: Partial<typeof rest>) => {
    const { data, error } = await anna.client.rpc("advance_server_version", { ...rest, ...args });
    return error?.code ?? data;
  };
  assertEquals(await advance({}), server_version);
  assertEquals(await advance({ database_name: "layout" }), "PT412");
  assertEquals(await advance({ video_id: other }), "PT412");
  assertEquals(await advance({ video_id: elsewhere.video }), "PT404");
  assertEquals(await advance({ video_id: crypto.randomUUID() }), "PT404");
  assertEquals(await advance({ fencing_token: held.fencing_token - 1 }), "PT412");
  await tenant.leave(anna);
  assertEquals(await advance({}), "PT404", "who lost the right to the video writes no more");
});

Deno.test("advance_server_version counts under the lock, and acquire shows where it stands", async () => {
  await using tenant = await newTenant();
  const { lock, state } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  assertEquals(state?.server_version, 0);
  for (const expected of [1, 2, 3]) {
    const { data } = await tenant.server.rpc("advance_server_version", {
      ...captions(tenant),
      fencing_token: lock!.fencing_token,
    });
    assertEquals(data, expected);
  }
  await release(tenant.server, { ...captions(tenant), ...W1 });
  assertEquals(
    (await acquire(tenant.server, { ...captions(tenant), ...W2 })).state?.server_version,
    3,
  );
});

Deno.test("assert_lock_held says with detail and hint why it refuses", async () => {
  await using tenant = await newTenant();
  await acquire(tenant.server, { ...captions(tenant), ...W1 });
  const { error, status } = await tenant.server.rpc("assert_lock_held", {
    ...captions(tenant),
    fencing_token: 9,
  });
  assertEquals([status, error?.code], [412, "PT412"]);
  assertMatch(error!.details, /Token 9 of captions of video .* is not the newest grant's/);
  assertMatch(error!.hint, /Acquire the lock again/);
  const held = await tenant.server.rpc("assert_lock_held", {
    ...captions(tenant),
    fencing_token: 1,
  });
  assertEquals(held.error, null);
});

Deno.test("without credentials no token is ever good", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  const anon = client(publishableKey);
  for (const name of ["assert_lock_held", "advance_server_version"]) {
    const { error } = await anon.rpc(name, {
      ...captions(tenant),
      fencing_token: lock!.fencing_token,
    });
    assertEquals(error?.code, "42501", name);
  }
});

Deno.test("step by step: the holder asserts, the lease runs out, a contender has to wait for the holder's commit", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  // half a second of lease is left
  await tenant.backdate(119.5, tenant.video, "captions");
  await using holder = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });
  await contender.run`select 1`;

  await holder.run`begin`;
  await holder.run`select public.assert_lock_held(${tenant.video}, 'captions', ${
    lock!.fencing_token
  })`;
  await holder.run`select set_config('request.headers', ${`{"x-fencing-token":"${
    lock!.fencing_token
  }"}`}, true)`;
  await holder
    .run`insert into public.captions values (${tenant.video}, 1, 'in time, as nobody took over')`;
  await new Promise((resolve) => setTimeout(resolve, 600));
  const late = await holder.run`savepoint late`
    .then(() =>
      holder.run`insert into public.captions values (${tenant.video}, 2, 'the lease is over')`
    )
    .then(() => "written", (error) => error.code);
  assertEquals(late, "PT412", "what it asserted before does not make a later write good");
  await holder.run`rollback to savepoint late`;

  const taking = contender.run<{ answer: { acquired: boolean; lock: typeof lock } }[]>`
    select public.acquire_lock(${tenant.video}, 'captions', 'worker-2') as answer`.execute();
  await contender.blocked();
  await holder.run`commit`;

  const [taken] = await taking;
  assertEquals(taken?.answer.acquired, true);
  assertEquals(taken?.answer.lock?.fencing_token, lock!.fencing_token + 1);
  assertEquals(await texts(tenant), ["in time, as nobody took over"]);
});

Deno.test("step by step: a contender takes the lease over first, and the holder's guarded write is refused", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await tenant.backdate(121, tenant.video, "captions");
  await using holder = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });

  await contender.run`begin`;
  await contender.run`select public.acquire_lock(${tenant.video}, 'captions', 'worker-2')`;
  await holder.run`select set_config('request.headers', ${`{"x-fencing-token":"${
    lock!.fencing_token
  }"}`}, false)`;
  const writing = holder.run`insert into public.captions values (${tenant.video}, 1, 'late')`
    .then(() => "written", (error) => error.code);
  await holder.blocked();
  await contender.run`commit`;

  assertEquals(await writing, "PT412");
  assertEquals(await texts(tenant), []);
});

Deno.test("two guarded transactions of one holder wait for each other, and never deadlock", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  const runs = await Promise.all(Array.from({ length: 8 }, async () => {
    await using session = openSession({ role: "service_role" });
    await session.run`begin`;
    await session.run`select public.assert_lock_held(${tenant.video}, 'captions', ${
      lock!.fencing_token
    })`;
    const [row] = await session.run`
      select public.advance_server_version(${tenant.video}, 'captions', ${
      lock!.fencing_token
    }) as version`;
    await session.run`commit`;
    return row?.version;
  }));
  assertEquals(runs.toSorted((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("deleting a video takes its guarded rows along", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  assertEquals(await write(tenant.server, tenant.video, lock!.fencing_token), null);
  const { error } = await client(secretKey).from("videos").delete().eq("id", tenant.video);
  assertEquals(error, null);
  assertEquals(await texts(tenant), []);
});

Deno.test("require_lock with columns: of the database and of the token", async () => {
  await using tenant = await newTenant();
  await sql.unsafe(`
    create table public.guarded_rows (
      video uuid not null, db text not null, token bigint, body text, primary key (video, db)
    );
    create trigger guarded_rows_require_lock before insert or update or delete on public.guarded_rows
      for each row execute function public.require_lock('video', 'db', 'token')`);
  await using owner = openSession();
  const attempt = (query: Promise<unknown>) => query.then(() => null, (error) => error.code);
  try {
    const first = (await acquire(tenant.server, { ...captions(tenant), ...W1 })).lock!;
    const put = (db: string, token: number | null) =>
      attempt(owner.run`
        insert into public.guarded_rows values (${tenant.video}, ${db}, ${token}, 'x')
        on conflict (video, db) do update set token = excluded.token, body = excluded.body`);
    assertEquals(await put("captions", first.fencing_token), null);
    assertEquals(await put("captions", null), "PT412", "the owner needs a token too");
    assertEquals(await put("layout", first.fencing_token), "PT412", "not this lock's");
    assertEquals(
      await attempt(
        owner.run`update public.guarded_rows set db = 'layout' where video = ${tenant.video}`,
      ),
      "PT412",
      "a row that moves to another lock is a write under both",
    );
    assertEquals(
      await attempt(owner.run`delete from public.guarded_rows where video = ${tenant.video}`),
      "PT412",
      "a delete needs the token in the header, whatever the row says",
    );
    await owner
      .run`select set_config('request.headers', ${`{"x-fencing-token":"${first.fencing_token}"}`}, false)`;
    assertEquals(
      await attempt(owner.run`delete from public.guarded_rows where video = ${tenant.video}`),
      null,
    );
  } finally {
    await sql`drop table public.guarded_rows`;
  }
});

Deno.test("require_lock without arguments takes the columns video_id and database_name", async () => {
  await using tenant = await newTenant();
  await sql.unsafe(`
    create table public.guarded_rows (video_id uuid, database_name text);
    create trigger guarded_rows_require_lock before insert on public.guarded_rows
      for each row execute function public.require_lock()`);
  try {
    const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
    await using owner = openSession();
    const put = () =>
      owner.run`insert into public.guarded_rows values (${tenant.video}, 'captions')`
        .then(() => null, (error) => error.code);
    assertEquals(await put(), "PT412");
    const headers = `{"x-fencing-token":"${lock!.fencing_token}"}`;
    await owner.run`select set_config('request.headers', ${headers}, false)`;
    assertEquals(await put(), null);
  } finally {
    await sql`drop table public.guarded_rows`;
  }
});

Deno.test("require_lock refuses a trigger that names no column of the table, or too many", async () => {
  await using tenant = await newTenant();
  for (
    const args of [
      "",
      "'video'",
      "'video', 'no_such_column'",
      "'video', '=captions', '=7'",
      "'video', '=captions', 'token', 'more'",
    ]
  ) {
    await sql.unsafe(`
      create table public.guarded_rows (video uuid, token bigint);
      create trigger guarded_rows_require_lock before insert on public.guarded_rows
        for each row execute function public.require_lock(${args})`);
    const error = await sql`insert into public.guarded_rows values (${tenant.video}, 1)`.catch((
      error,
    ) => error);
    assertMatch(
      String(error.message),
      /^Trigger guarded_rows_require_lock of public\.guarded_rows: /,
      args,
    );
    await sql`drop table public.guarded_rows`;
  }
});
