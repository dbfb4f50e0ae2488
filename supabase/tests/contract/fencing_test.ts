// P4 where it counts: in the transaction that writes. The guarded table is the one of the documentation, made by the SQL
// that stands there.
import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import type { SupabaseClient } from "@supabase/supabase-js";
import { changedFunctions } from "../support/changed_functions.ts";
import { openSession, type Session, until } from "../support/race.ts";
import {
  acquire,
  afterAll,
  client,
  type Lock,
  publishableKey,
  release,
  secretKey,
  sql,
} from "../support/stack.ts";
import { layout, newTenant, type Tenant, W1, W2 } from "../support/tenant.ts";

const captions = (tenant: Tenant) => ({ video_id: tenant.video, database_name: "captions" });
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const doc = await Deno.readTextFile(
  new URL("../../../docs/how-to/guard-a-table.md", import.meta.url),
);
const example = doc.match(/```sql\n(create table public\.captions[\s\S]*?)```/)?.[1];
await sql.unsafe(`drop table if exists public.captions; ${example}; notify pgrst, 'reload schema'`);
afterAll(async () => {
  await sql`select holdfast.unguard('public.captions')`;
  await sql`drop table public.captions`;
});

/** Writes a caption as the documentation does; answers the error's code, or null. */
async function write(
  caller: SupabaseClient,
  video_id: string,
  token: number | string | null,
  text = "Hello",
  lock_id?: string,
) {
  for (let tries = 0;; tries++) {
    let request = caller.from("captions").upsert({ video_id, line: 1, text });
    if (token !== null) request = request.setHeader("x-fencing-token", String(token));
    if (lock_id) request = request.setHeader("x-lock-id", lock_id);
    const { error } = await request;
    // the Data API may need a moment to see a new table
    if (error?.code !== "PGRST205" || tries > 100) return error?.code ?? null;
    await sleep(50);
  }
}

const texts = async (tenant: Tenant) =>
  (await sql<{ text: string }[]>`select text from public.captions where video_id = ${tenant.video}`)
    .map((row) => row.text);

/** Gives a session the headers that a request of the Data API would have. */
async function withToken(session: Session, lock: Lock | undefined) {
  const headers = JSON.stringify(lock ? { "x-fencing-token": String(lock.fencing_token) } : {});
  await session.run`select set_config('request.headers', ${headers}, false)`;
}

/** The error's code, or null. */
const code = (query: Promise<unknown>) => query.then(() => null, (error) => error.code as string);

/** A guarded table of a test's own. */
async function guarded(columns: string, guard: string) {
  const name = `guarded_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql.unsafe(`create table public.${name} (${columns})`);
  await sql.unsafe(`select holdfast.guard('public.${name}', ${guard})`);
  return {
    name: `public.${name}`,
    async [Symbol.asyncDispose]() {
      await sql.unsafe(`select holdfast.unguard('public.${name}'); drop table public.${name}`);
    },
  };
}

Deno.test("the example of the documentation: the holder writes, and nobody else", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const ben = await tenant.join("ben");
  assertEquals(await write(anna.client, tenant.video, 1), "PT412", "nobody holds the lock");
  const { lock } = await acquire(anna.client, captions(tenant));
  const token = lock!.fencing_token;
  assertEquals(await write(anna.client, tenant.video, token), null);
  assertEquals(await write(anna.client, tenant.video, token, "Hello", lock!.lock_id), null);
  assertEquals(
    await write(anna.client, tenant.video, token, "Hello", lock!.lock_id.toUpperCase()),
    null,
  );
  assertEquals(
    await write(anna.client, tenant.video, token, "of another grant", crypto.randomUUID()),
    "PT412",
  );
  assertEquals(await write(anna.client, tenant.video, null, "no token"), "PT412");
  assertEquals(await write(anna.client, tenant.video, token + 1, "a later token"), "PT412");
  assertEquals(await write(ben.client, tenant.video, token, "another's token"), "PT412");
  for (const bad of ["undefined", "null", "", "-1", "1.5", "7; drop table", "9".repeat(20)]) {
    assertEquals(await write(anna.client, tenant.video, bad, "no number"), "PT412", bad);
  }
  assertEquals(await write(anna.client, tenant.video, token, "no lock_id", "undefined"), "PT412");
  assertEquals(await texts(tenant), ["Hello"]);
});

Deno.test("a removed member's guarded write is PT412, as every write without the right", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { lock } = await acquire(anna.client, captions(tenant));
  await tenant.leave(anna);
  await using session = openSession({ role: "authenticated", sub: anna.id });
  await withToken(session, lock);
  const error = await session
    .run`select holdfast.check_write(${tenant.video}, 'captions', 'INSERT')`
    .catch((error) => error);
  assertEquals(error.code, "PT412");
  assertMatch(error.detail, /names no lock of a video that the caller may see/);
});

Deno.test("P4 a write with an older token, or after the lease ended in any way, is an error", async (t) => {
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
  const advance = async (args: Record<string, unknown>) => {
    const { data, error } = await anna.client.rpc("advance_server_version", {
      ...captions(tenant),
      fencing_token: held.fencing_token,
      ...args,
    });
    return error?.code ?? data;
  };
  assertEquals(await advance({}), 1);
  assertEquals(await advance({ database_name: "layout" }), "PT412");
  assertEquals(await advance({ video_id: other }), "PT412");
  assertEquals(await advance({ video_id: elsewhere.video }), "PT412");
  assertEquals(await advance({ video_id: crypto.randomUUID() }), "PT412");
  assertEquals(await advance({ fencing_token: held.fencing_token - 1 }), "PT412");
  assertEquals(await advance({ fencing_token: null }), "PT412");
  await tenant.leave(anna);
  assertEquals(await advance({}), "PT412", "who lost the right to the video writes no more");
});

Deno.test("P4 a server's token of one lock does not pass for another lock, also not the first tokens of two locks", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const first = (await acquire(tenant.server, { ...captions(tenant), ...W1 })).lock!;
  const second = (await acquire(anna.client, layout(tenant))).lock!;
  const check = async (database_name: string, fencing_token: number) =>
    (await tenant.server.rpc("assert_lock_held", {
      video_id: tenant.video,
      database_name,
      fencing_token,
    })).error?.code ?? null;
  assertEquals(await check("captions", first.fencing_token), null);
  assertEquals(await check("layout", first.fencing_token), "PT412");
  assertEquals(await check("captions", second.fencing_token), "PT412");
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

Deno.test("assert_lock_held says with detail and hint which lock it is, and why the token is not good", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  const check = (fencing_token: number) =>
    tenant.server.rpc("assert_lock_held", { ...captions(tenant), fencing_token });
  const { error, status } = await check(9);
  assertEquals([status, error?.code], [412, "PT412"]);
  assertMatch(
    error!.details,
    new RegExp(`Token 9 for captions of video ${tenant.video} is not the newest grant's`),
  );
  assertMatch(error!.hint, /Acquire the lock again/);
  assertEquals((await check(lock!.fencing_token)).error, null);
  await tenant.backdate(121, tenant.video, "captions");
  assertMatch((await check(lock!.fencing_token)).error!.details, /a lease that ended at/);
  await release(tenant.server, { ...captions(tenant), ...W1 });
  assertMatch((await check(lock!.fencing_token)).error!.details, /was given back/);
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

Deno.test("step by step: the holder asserts, the lease runs out, a contender is busy until the holder commits", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await using holder = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });
  for (const session of [holder, contender]) await session.run`select 1`;
  await tenant.backdate(119.8, tenant.video, "captions");
  const take = async () =>
    (await contender.run<{ answer: { acquired: boolean; reason: string; lock: Lock } }[]>`
      select public.acquire_lock(${tenant.video}, 'captions', 'worker-2') as answer`)[0]!.answer;

  await holder.run`begin`;
  await holder.run`
    select public.assert_lock_held(${tenant.video}, 'captions', ${lock!.fencing_token})`;
  await withToken(holder, lock);
  await holder
    .run`insert into public.captions values (${tenant.video}, 1, 'in time, as nobody took over')`;
  await sleep(250);
  await holder.run`savepoint late`;
  assertEquals(
    await code(
      holder.run`insert into public.captions values (${tenant.video}, 2, 'the lease is over')`,
    ),
    "PT412",
    "what it asserted before does not make a later write good",
  );
  await holder.run`rollback to savepoint late`;
  const refused = await take();
  assertEquals([refused.acquired, refused.reason], [false, "busy"]);
  await holder.run`commit`;
  const taken = await take();
  assertEquals(taken.acquired, true);
  assertGreater(taken.lock.fencing_token, lock!.fencing_token);
  assertEquals(await texts(tenant), ["in time, as nobody took over"]);
});

Deno.test("step by step: a contender takes the lease over first, and the holder's guarded write waits for nobody", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await tenant.backdate(121, tenant.video, "captions");
  await using holder = openSession({ role: "service_role" });
  await using contender = openSession({ role: "service_role" });
  await withToken(holder, lock);
  const late = () =>
    code(holder.run`insert into public.captions values (${tenant.video}, 1, 'late')`);

  await contender.run`begin`;
  await contender.run`select public.acquire_lock(${tenant.video}, 'captions', 'worker-2')`;
  assertMatch(
    (await late())!,
    /^PT(412|503)$/,
    "the old lease is over, or its lock is being changed",
  );
  await contender.run`commit`;
  assertEquals(await late(), "PT412");
  assertEquals(await texts(tenant), []);
});

Deno.test("guarded transactions of one holder run side by side, and count their versions one after the other", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await using one = openSession({ role: "service_role" });
  await using two = openSession({ role: "service_role" });
  for (const [i, session] of [one, two].entries()) {
    await withToken(session, lock);
    await session.run`begin`;
    await session.run`insert into public.captions values (${tenant.video}, ${i}, 'beside')`;
  }
  // a heartbeat and a release get through, too
  const renewed = await tenant.server.rpc("renew_lock", {
    ...captions(tenant),
    lock_id: lock!.lock_id,
  });
  assertEquals(renewed.data.renewed, true);
  await one.run`commit`;
  await two.run`commit`;
  assertEquals((await texts(tenant)).length, 2);
  const versions = await Promise.all(Array.from({ length: 8 }, async () => {
    await using session = openSession({ role: "service_role" });
    await session.run`begin`;
    await session.run`
      select public.assert_lock_held(${tenant.video}, 'captions', ${lock!.fencing_token})`;
    const [row] = await session.run`
      select public.advance_server_version(${tenant.video}, 'captions', ${
      lock!.fencing_token
    }) as version`;
    await session.run`commit`;
    return row?.version;
  }));
  assertEquals(versions.toSorted((a, b) => a - b), [1, 2, 3, 4, 5, 6, 7, 8]);
});

Deno.test("deleting a video takes its guarded rows along", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  assertEquals(await write(tenant.server, tenant.video, lock!.fencing_token), null);
  const { error } = await client(secretKey).from("videos").delete().eq("id", tenant.video);
  assertEquals(error, null);
  assertEquals(await texts(tenant), []);
});

Deno.test("the guard adds no deadlock with the deletion of the video", async (t) => {
  const statements: Record<string, (tenant: Tenant) => [string, string[]]> = {
    "an insert": (tenant) => [
      "insert into public.captions values ($1, 9, 'x')",
      [tenant.video],
    ],
    "an update": (tenant) => [
      "update public.captions set text = 'x' where video_id = $1",
      [tenant.video],
    ],
    "a delete": (tenant) => ["delete from public.captions where video_id = $1", [tenant.video]],
  };
  for (const [what, statement] of Object.entries(statements)) {
    for (const first of ["the deletion", "the assert"]) {
      await t.step(`${what}, ${first} first`, async () => {
        await using tenant = await newTenant();
        const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
        assertEquals(await write(tenant.server, tenant.video, lock!.fencing_token), null);
        await using holder = openSession({ role: "service_role" });
        await using deleting = openSession();
        await withToken(holder, lock);
        await holder.run`begin`;
        await deleting.run`begin`;
        const assertion = () =>
          holder.run`
            select public.assert_lock_held(${tenant.video}, 'captions', ${lock!.fencing_token})`;
        const deletion = () => deleting.run`delete from public.videos where id = ${tenant.video}`;
        if (first === "the deletion") {
          await deletion();
          assertEquals(await code(assertion()), "PT503", "being deleted just now");
          await holder.run`rollback`;
          await deleting.run`commit`;
          assertEquals(
            await code(holder.run.unsafe(...statement(tenant))),
            what === "an insert" ? "23503" : null,
          );
          return;
        }
        await assertion();
        const deleted = code(deletion());
        await deleting.blocked();
        assertEquals(await code(holder.run.unsafe(...statement(tenant))), null);
        await holder.run`commit`;
        assertEquals(await deleted, null);
        await deleting.run`commit`;
        assertEquals(await texts(tenant), []);
      });
    }
  }
});

Deno.test("a guarded update that meets the deletion of its video is PT503, and the deletion goes on", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  assertEquals(await write(tenant.server, tenant.video, lock!.fencing_token), null);
  await using holder = openSession({ role: "service_role" });
  await using deleting = openSession();
  await withToken(holder, lock);
  await holder.run`begin`;
  await holder.run`select from public.captions where video_id = ${tenant.video} for update`;
  // it has the video, and wants the guarded row
  await deleting.run`begin`;
  const deletion = code(deleting.run`delete from public.videos where id = ${tenant.video}`);
  await deleting.blocked();
  assertEquals(
    await code(
      holder.run`update public.captions set text = 'x' where video_id = ${tenant.video}`,
    ),
    "PT503",
  );
  await holder.run`rollback`;
  assertEquals(await deletion, null);
  await deleting.run`commit`;
});

Deno.test("when a stale writer and the rightful holder cross on a row, the rightful one does not fail", async () => {
  await using tenant = await newTenant();
  const old = (await acquire(tenant.server, { ...captions(tenant), ...W1 })).lock!;
  assertEquals(await write(tenant.server, tenant.video, old.fencing_token), null);
  await tenant.backdate(121, tenant.video, "captions");
  await using stale = openSession({ role: "service_role" });
  await using rightful = openSession({ role: "service_role" });
  const update = (session: Session, text: string) =>
    code(session.run`update public.captions set text = ${text} where video_id = ${tenant.video}`);
  await withToken(stale, old);
  await rightful.run`begin`;
  const [row] = await rightful.run<{ answer: { lock: Lock } }[]>`
    select public.acquire_lock(${tenant.video}, 'captions', 'worker-2') as answer`;
  await withToken(rightful, row!.answer.lock);
  await stale.run`begin`;
  await stale.run`select from public.captions where video_id = ${tenant.video} for update`;
  const written = update(rightful, "rightful");
  await rightful.blocked();
  assertMatch((await update(stale, "stale"))!, /^PT(412|503)$/);
  await stale.run`rollback`;
  assertEquals(await written, null);
  await rightful.run`commit`;
  assertEquals(await texts(tenant), ["rightful"]);
});

/** Writes to a table that has the row (video, 'captions', 1), by what they are. */
function writes(table: string, video: string): Record<string, string> {
  return {
    insert: `insert into ${table} values ('${video}', 'captions', 2)`,
    update: `update ${table} set n = 3 where n = 1`,
    delete: `delete from ${table}`,
    "upsert that updates":
      `insert into ${table} values ('${video}', 'captions', 1) on conflict (video, db, n) do update set n = 4`,
    "upsert that inserts":
      `insert into ${table} values ('${video}', 'captions', 5) on conflict do nothing`,
    merge:
      `merge into ${table} t using (values (1)) v (n) on t.n = v.n when matched then update set n = 6`,
    "move away": `update ${table} set db = 'layout' where n = 1`,
  };
}

Deno.test("every kind of write is guarded: insert, update, delete, upsert, merge, copy, truncate", async (t) => {
  await using tenant = await newTenant();
  await using table = await guarded(
    "video uuid, db text, n integer, primary key (video, db, n)",
    "video_column => 'video', database_column => 'db'",
  );
  await using session = openSession();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await withToken(session, lock);
  const row = `('${tenant.video}', 'captions', 1)`;
  await session.run.unsafe(`insert into ${table.name} values ${row}`);
  for (const [what, statement] of Object.entries(writes(table.name, tenant.video))) {
    await t.step(what, async () => {
      const attempt = async (token: Lock | undefined) => {
        await withToken(session, token);
        await session.run`begin`;
        const result = await code(session.run.unsafe(statement));
        await session.run`rollback`;
        return result;
      };
      assertEquals(await attempt(undefined), "PT412");
      assertEquals(await attempt({ ...lock!, fencing_token: lock!.fencing_token - 1 }), "PT412");
      assertEquals(await attempt(lock), what === "move away" ? "PT412" : null);
    });
  }
  await t.step("move here, from a lock that is not held", async () => {
    const { lock: other } = await acquire(tenant.server, { ...layout(tenant), ...W2 });
    await session.run`begin`;
    await withToken(session, other);
    await session.run.unsafe(`insert into ${table.name} values ('${tenant.video}', 'layout', 9)`);
    await withToken(session, lock);
    const moved = session.run.unsafe(`update ${table.name} set db = 'captions' where n = 9`);
    assertEquals(await code(moved), "PT412");
    await session.run`rollback`;
  });
  await t.step("truncate, with any token", async () => {
    await withToken(session, lock);
    assertEquals(await code(session.run.unsafe(`truncate ${table.name}`)), "0A000");
  });
  await t.step("a statement that touches no row asks for no token", async () => {
    await withToken(session, undefined);
    assertEquals(await code(session.run.unsafe(`delete from ${table.name} where n = 77`)), null);
  });
  await t.step("copy", async () => {
    for (const [token, copied] of [[undefined, 0], [lock, 1]] as const) {
      await using copying = openSession();
      await withToken(copying, token);
      const stream = await copying.run.unsafe(`copy ${table.name} from stdin`).writable();
      stream.on("error", () => {}); // the library reports it on no promise, so its effect is looked at
      stream.end(`${tenant.video}\tcaptions\t8\n`);
      await until(async () => {
        const [active] = await sql`
          select count(*)::integer as n from pg_stat_activity
          where state = 'active' and query like ${`copy ${table.name}%`}`;
        return active!.n === 0;
      });
      const [rows] = await sql.unsafe(
        `select count(*)::integer as n from ${table.name} where n = 8`,
      );
      assertEquals(rows!.n, copied);
    }
  });
});

Deno.test("a set's token moves a row between the locks of the set, and no further", async () => {
  await using tenant = await newTenant();
  await using table = await guarded(
    "video_id uuid, database_name text, n integer",
    "database_column => 'database_name'",
  );
  await using session = openSession();
  const { data } = await tenant.server.rpc("acquire_lock", {
    video_id: tenant.video,
    database_names: ["captions", "layout"],
    ...W1,
  });
  await withToken(session, data.locks[0]);
  await session.run.unsafe(`insert into ${table.name} values ($1, 'captions', 1)`, [tenant.video]);
  assertEquals(
    await code(session.run.unsafe(`update ${table.name} set database_name = 'layout'`)),
    null,
  );
  assertEquals(
    await code(session.run.unsafe(`update ${table.name} set database_name = 'sounds'`)),
    "PT412",
  );
});

Deno.test("a trigger of the table's own cannot carry a row past the guard, and generated columns count", async () => {
  await using tenant = await newTenant();
  const other = await tenant.addVideo();
  await using table = await guarded(
    "video_id uuid, n integer, database_name text generated always as (case when n < 10 then 'captions' else 'layout' end) stored",
    "database_column => 'database_name'",
  );
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await using session = openSession();
  await withToken(session, lock);
  const put = (n: number) =>
    code(session.run.unsafe(`insert into ${table.name} values ($1, $2)`, [tenant.video, n]));
  assertEquals(await put(1), null);
  assertEquals(await put(10), "PT412", "it is a row of layout");
  await sql.unsafe(`
    create function public.zzz_move() returns trigger language plpgsql as
    $$ begin new.video_id := '${other}'; return new; end $$;
    create trigger zzz_move before insert on ${table.name} for each row execute function public.zzz_move()`);
  try {
    assertEquals(await put(2), "PT412", "the row went to another lock");
    await sql.unsafe(`drop trigger zzz_move on ${table.name};
      create function public.zzz_after() returns trigger language plpgsql as
      $$ begin update ${table.name} set video_id = '${other}' where n = new.n; return null; end $$;
      create trigger zzz_after after insert on ${table.name} for each row execute function public.zzz_after()`);
    assertEquals(await put(3), "PT412", "also by a later statement");
  } finally {
    await sql.unsafe(`drop trigger if exists zzz_after on ${table.name};
      drop function if exists public.zzz_after; drop function public.zzz_move cascade`);
  }
  const [rows] = await sql.unsafe(`select count(*)::integer as n from ${table.name}`);
  assertEquals(rows!.n, 1);
});

Deno.test("partitions are guarded, directly and through their table; one attached later is reported until it is", async () => {
  await using tenant = await newTenant();
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await sql.unsafe(`
    create table public.parted (video_id uuid, n integer) partition by range (n);
    create table public.parted_1 partition of public.parted for values from (0) to (10);
    select holdfast.guard('public.parted', database => 'captions');
    create table public.parted_2 partition of public.parted for values from (10) to (20)`);
  const unguarded = async () =>
    (await sql`select partition::text from holdfast.unguarded_partitions`).map((r) => r.partition);
  try {
    await using session = openSession();
    const put = (into: string, n: number) =>
      code(session.run.unsafe(`insert into public.${into} values ($1, $2)`, [tenant.video, n]));
    assertEquals(await put("parted", 1), "PT412");
    assertEquals(await put("parted_1", 1), "PT412");
    assertEquals(await put("parted", 11), "PT412", "through the table");
    assertEquals(await unguarded(), ["parted_2"]);
    await sql`select holdfast.guard('public.parted', database => 'captions')`;
    assertEquals(await unguarded(), []);
    assertEquals(await put("parted_2", 11), "PT412");
    await withToken(session, lock);
    assertEquals(await put("parted_1", 1), null);
    assertEquals(await put("parted", 11), null);
    assertEquals(
      await code(session.run`update public.parted set n = 12 where n = 1`),
      null,
      "a row may change its partition",
    );
  } finally {
    await sql`select holdfast.unguard('public.parted')`;
    await sql`drop table public.parted`;
  }
});

Deno.test("what cannot be guarded is an error with a hint, and unguard leaves nothing behind", async () => {
  await sql.unsafe("create table public.guard_me (video uuid, video_text text, db text)");
  const errors: [args: string, code: string, message: RegExp][] = [
    ["'public.guard_me', database => 'captions'", "42703", /no column video_id of type uuid/],
    ["'public.guard_me', database => 'captions', video_column => 'video_text'", "42703", /uuid/],
    ["'public.guard_me', video_column => 'video'", "22023", /either database or database_column/],
    [
      "'public.guard_me', database => 'a', database_column => 'db', video_column => 'video'",
      "22023",
      /either/,
    ],
    [
      "'public.guard_me', database_column => 'no', video_column => 'video'",
      "42703",
      /no column no/,
    ],
    ["'public.guard_me', database => 'No Name', video_column => 'video'", "23514", /database_name/],
    ["'public.held_locks', database => 'captions'", "42809", /no table/],
    ["'public.no_such_table', database => 'captions'", "42P01", /no_such_table/],
  ];
  const left = async () =>
    (await sql`select proname from pg_proc where proname like 'guard public.guard_me%'`).length;
  try {
    for (const [args, expected, message] of errors) {
      const error = await sql.unsafe(`select holdfast.guard(${args})`).catch((error) => error);
      assertEquals(error.code, expected, args);
      assertMatch(error.message, message);
    }
    const good =
      "select holdfast.guard('public.guard_me', database => 'a', video_column => 'video')";
    await sql.unsafe(good);
    await sql.unsafe(good);
    assertEquals(await left(), 1, "guarded again is guarded once");
    await sql`select holdfast.unguard('public.guard_me')`;
    assertEquals(await left(), 0);
    await sql`insert into public.guard_me values (gen_random_uuid(), '', '')`;
    await sql`select holdfast.unguard('public.guard_me')`;
  } finally {
    await sql`drop table public.guard_me`;
  }
});

Deno.test("tables whose names are long and begin alike are guarded apart", async () => {
  await using tenant = await newTenant();
  const names = ["one", "two"].map((end) =>
    `captions_of_a_project_that_has_quite_long_names_${end}`
  );
  const { lock } = await acquire(tenant.server, { ...captions(tenant), ...W1 });
  await using session = openSession();
  await withToken(session, lock);
  try {
    for (const [i, name] of names.entries()) {
      await sql.unsafe(`
        create table public.${name} (video_id uuid);
        select holdfast.guard('public.${name}', database => '${["captions", "layout"][i]}')`);
    }
    await sql.unsafe(`select holdfast.unguard('public.${names[1]}')`);
    const put = (name: string) =>
      code(session.run.unsafe(`insert into public.${name} values ($1)`, [tenant.video]));
    assertEquals([await put(names[0]!), await put(names[1]!)], [null, null]);
    await withToken(session, undefined);
    assertEquals(await put(names[0]!), "PT412");
  } finally {
    for (const name of names) {
      await sql.unsafe(`select holdfast.unguard('public.${name}'); drop table public.${name}`)
        .catch(() => {});
    }
  }
});

Deno.test("only the owner of the database may guard and unguard", async () => {
  for (const role of ["service_role", "authenticated"] as const) {
    await using session = openSession({ role });
    for (const what of ["guard", "unguard"]) {
      assertEquals(
        await code(session.run.unsafe(
          `select holdfast.${what}('public.captions'${
            what === "guard" ? ", database => 'x'" : ""
          })`,
        )),
        "42501",
        `${role} ${what}`,
      );
    }
  }
});

Deno.test("P4 a take-over whose lease came between its look and its write lets no assert of that lease begin", async () => {
  await using tenant = await newTenant();
  const first = await acquire(tenant.server, { ...layout(tenant), ...W2 });
  await release(tenant.server, { ...layout(tenant), lock_id: first.lock!.lock_id });
  await using slow = await changedFunctions([
    ["acquire_lock", "if v_seen.free then", "if false then"],
    [
      "touch_rows",
      "if v_shared is not true then",
      "perform pg_sleep(0.4);\n    if v_shared is not true then",
    ],
  ]);
  await using taker = openSession({ role: "service_role" });
  await taker.run`begin`;
  const taken = taker.run.unsafe<{ acquired: string }[]>(
    `select ${slow.name}.acquire_lock($1, 'layout', 'worker-1', gen_random_uuid(), 60, true, 0, null) ->> 'acquired' as acquired`,
    [tenant.video],
  ).execute();
  await sleep(150);
  const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
  assertEquals((await taken)[0]!.acquired, "true", "it takes that lease over");
  await using writer = openSession({ role: "service_role" });
  const asserted = writer.run`
    select public.assert_lock_held(${tenant.video}, 'layout', ${lock!.fencing_token})`
    .then(() => "passed", ({ code }) => code as string);
  const early = await Promise.race([asserted, sleep(250).then(() => "waits")]);
  await taker.run`commit`;
  assert(["waits", "PT503"].includes(early), early);
  assert(["PT412", "PT503"].includes(await asserted));
});

for (const level of ["repeatable read", "serializable"]) {
  Deno.test(`P4 a transaction at ${level} does not write under a lease that ended after its first statement`, async () => {
    await using tenant = await newTenant();
    const { lock } = await acquire(tenant.server, { ...layout(tenant), ...W1 });
    await using writer = openSession({ role: "service_role" });
    const assertion = () =>
      writer.run`select public.assert_lock_held(${tenant.video}, 'layout', ${lock!.fencing_token})`
        .then(() => null, ({ code }) => code);
    await writer.run.unsafe(`begin isolation level ${level}`);
    assertEquals(await assertion(), null, "it is held");
    await writer.run`commit`;

    await writer.run.unsafe(`begin isolation level ${level}`);
    await writer.run`select count(*) from public.videos`;
    await release(tenant.server, { ...layout(tenant), lock_id: lock!.lock_id });
    assertEquals((await acquire(tenant.server, { ...layout(tenant), ...W2 })).acquired, true);
    assertEquals(await assertion(), "40001", "what it sees is old");
    await writer.run`rollback`;
  });
}
