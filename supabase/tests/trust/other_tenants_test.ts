// Another tenant's video has to look exactly like one that does not exist: the same answer, and no work that would
// show what is there. Work is counted in pages that the database touches, as time depends on the machine.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { plantLease } from "../support/plant_lease.ts";
import { openSession, type Session } from "../support/race.ts";
import { afterAll, publishableKey, sql, url } from "../support/stack.ts";
import { newTenant, type Tenant, type User, user } from "../support/tenant.ts";

const LOCK_ID = crypto.randomUUID();
/** Of an acquisition that waits, and of one that was cancelled. */
const WAITING_ID = crypto.randomUUID();
const CANCELLED_ID = crypto.randomUUID();

/** Locks two of three databases of a video, gives one a history, a line and a cancellation. */
async function makeBusy(tenant: Tenant, entries = 20): Promise<void> {
  const { id, video } = tenant;
  await plantLease({
    tenant,
    lockId: LOCK_ID,
    holder: "worker-1",
    type: "server",
    token: 7,
    seconds: 3600,
    databases: ["layout", "captions"],
    isSet: false,
  });
  await sql`
    insert into public.video_database_state (video_id, tenant_id, database_name) values (${video}, ${id}, 'audio')`;
  await sql`
    insert into public.video_database_lock_history (
      video_id, tenant_id, database_name, lock_id, lock_holder_user_id, lock_type, locked_at, ended_at, end_reason,
      fencing_token
    )
    select ${video}, ${id}, 'layout', gen_random_uuid(), 'worker-1', 'server', now(), now(), 'released', n
    from generate_series(1, ${entries}) as n`;
  await sql`
    insert into holdfast.place (
      video_id, database_name, lock_id, lock_holder_user_id, lock_type, queued_at, kept_until
    )
    select ${video}, 'layout', case n when 1 then ${WAITING_ID}::uuid else gen_random_uuid() end, 'worker ' || n,
      'server', now(), now() + interval '1 hour'
    from generate_series(1, ${entries}) as n`;
  await sql`
    insert into holdfast.cancellation (
      video_id, database_name, lock_id, lock_holder_user_id, lock_type, cancelled_at
    )
    select ${video}, 'layout', case n when 1 then ${CANCELLED_ID}::uuid else gen_random_uuid() end, '', 'server', now()
    from generate_series(1, ${entries}) as n`;
  await sql`update public.video_database_state set has_line = true where video_id = ${video} and database_name = 'layout'`;
}

/** Users who have no business in a tenant. */
async function outsiders(tenant: Tenant, own: Tenant): Promise<[who: string, user: User][]> {
  const removed = await tenant.join("rita");
  await tenant.leave(removed);
  return [
    ["of no tenant", await user("nobody")],
    ["an admin of another tenant", await own.join("mallory", "admin")],
    ["a member until a moment ago", removed],
  ];
}

/** A question about a video. */
interface Question {
  path: string;
  method?: string;
  body?: Record<string, unknown>;
}
type Questions = Record<string, (video: string, me: User) => Question>;

const call = (path: string, more: Record<string, unknown>, named = true) => (video_id: string) => ({
  path,
  body: { video_id, ...(named ? { database_name: "layout" } : {}), ...more },
});
const SET = { database_names: ["layout", "captions"] };
const QUEUED = { queue_seconds: 60 };
/** What a lock can be asked, by a function or by its RPC. */
const locking = (path: (verb: string) => string): Questions => ({
  "acquire": call(path("acquire"), {}),
  "acquire what is held and nobody waits for": call(path("acquire"), { database_name: "captions" }),
  "acquire what is free": call(path("acquire"), { database_name: "audio" }),
  "renew what nobody waits for": call(path("renew"), {
    lock_id: LOCK_ID,
    database_name: "captions",
  }),
  "acquire with the live lock_id": call(path("acquire"), { lock_id: LOCK_ID }),
  "acquire with take_over": call(path("acquire"), { take_over: true }),
  "acquire with a lock_id that waits": call(path("acquire"), { lock_id: WAITING_ID }),
  "acquire with a lock_id that was cancelled": call(path("acquire"), { lock_id: CANCELLED_ID }),
  "renew": call(path("renew"), { lock_id: LOCK_ID }),
  "renew with a lock_id that was cancelled": call(path("renew"), { lock_id: CANCELLED_ID }),
  "release": (video_id, { id }) => ({
    path: path("release"),
    body: { video_id, database_name: "layout", lock_holder_user_id: id },
  }),
  "release with the live lock_id": call(path("release"), { lock_id: LOCK_ID }),
  "release with a lock_id that waits": call(path("release"), { lock_id: WAITING_ID }),
  "release with a lock_id that was cancelled": call(path("release"), { lock_id: CANCELLED_ID }),
  "release by force": call(path("release"), { force: true }),
  "release by force and lock_id": call(path("release"), { force: true, lock_id: LOCK_ID }),
  "acquire and wait": call(path("acquire"), { ...QUEUED, lock_id: LOCK_ID }),
  "acquire and wait in another's place": call(path("acquire"), { ...QUEUED, lock_id: WAITING_ID }),
  "acquire several": call(path("acquire"), SET, false),
  "acquire several and wait": call(path("acquire"), { ...SET, ...QUEUED, lock_id: LOCK_ID }, false),
  "renew several": call(path("renew"), { ...SET, lock_id: LOCK_ID }, false),
  "release several": call(path("release"), { ...SET, lock_id: LOCK_ID }, false),
  "release several by force": call(path("release"), { ...SET, force: true }, false),
});
const table = (method: string, path: string, body?: Record<string, unknown>) => (id: string) => ({
  path: `/rest/v1/${path}=eq.${id}`,
  method,
  ...(body ? { body } : {}),
});

const QUESTIONS: Record<string, Questions> = {
  "the functions answer": locking((verb) => `/functions/v1/lock-${verb}`),
  "the RPCs answer": {
    ...locking((verb) => `/rest/v1/rpc/${verb}_lock`),
    "acquire with a broken rule of the line": call("/rest/v1/rpc/acquire_lock", QUEUED),
    "acquire with a broken rule": call("/rest/v1/rpc/acquire_lock", { ttl_seconds: 0 }),
    "renew with a broken rule": call("/rest/v1/rpc/renew_lock", {
      lock_id: LOCK_ID,
      database_name: "1",
    }),
    "release with a broken rule": call("/rest/v1/rpc/release_lock", { database_name: "1" }),
    "assert": call("/rest/v1/rpc/assert_lock_held", { fencing_token: 7 }),
    "assert with an old token": call("/rest/v1/rpc/assert_lock_held", { fencing_token: 6 }),
    "advance": call("/rest/v1/rpc/advance_server_version", { fencing_token: 7 }),
  },
  "reads and writes of tables answer": {
    "read videos": table("GET", "videos?id"),
    "read videos and their state": table("GET", "videos?select=*,video_database_state(*)&id"),
    "read state": table("GET", "video_database_state?video_id"),
    "read history": table("GET", "video_database_lock_history?video_id"),
    "read held locks": table("GET", "held_locks?video_id"),
    "read who waits": table("GET", "waiting_locks?video_id"),
    "write held locks": table("PATCH", "held_locks?video_id", { lock_type: "client" }),
    "write videos": table("PATCH", "videos?id", { status: "x" }),
    "delete videos": table("DELETE", "videos?id"),
    "write state": table("PATCH", "video_database_state?video_id", { server_version: 1 }),
    "delete history": table("DELETE", "video_database_lock_history?video_id"),
  },
};

/** Headers that name the single request, or say how long it took. */
const OF_THE_REQUEST = /^(date|x-request-id|sb-request-id|cf-ray|content-location)$|time|latency/;

async function ask({ path, method = "POST", body }: Question, { token }: User) {
  const response = await fetch(url + path, {
    method,
    headers: {
      apikey: publishableKey,
      authorization: `Bearer ${token}`,
      ...(body ? { "content-type": "application/json" } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  return {
    status: response.status,
    body: await response.text(),
    headers: [...response.headers].filter(([name]) => !OF_THE_REQUEST.test(name)),
  };
}

for (const [what, questions] of Object.entries(QUESTIONS)) {
  Deno.test(`P8 ${what} for another tenant's video as for one that does not exist, to the letter`, async () => {
    await using tenant = await newTenant();
    await using own = await newTenant();
    await makeBusy(tenant);
    for (const [who, outsider] of await outsiders(tenant, own)) {
      for (const [name, question] of Object.entries(questions)) {
        const answer = async (video: string) => {
          const { body, ...rest } = await ask(question(video, outsider), outsider);
          // what the caller sent may come back
          return { ...rest, body: body.replaceAll(video, "<video>") };
        };
        const none = await answer(crypto.randomUUID());
        const theirs = await answer(tenant.video);
        assertEquals(theirs, none, `${name}, ${who}`);
        assert(none.status >= 400 || none.body === "[]", `${name}, ${who}: ${none.status}`);
      }
    }
  });
}

/** A session that can count what a user's statement costs. */
async function openMeter(): Promise<Session> {
  const session = openSession();
  // an error would end the statement before it is counted
  await session.run.unsafe(`
    create function pg_temp.attempt(question text) returns text language plpgsql as $$
    begin
      execute question;
      return 'answered';
    exception when others then
      return sqlstate;
    end $$`);
  return session;
}

/** Full: in the dead space that other tests leave behind, reading all of a table may look cheaper than its index. */
async function tidy(): Promise<void> {
  await sql`vacuum full analyze public.videos, public.video_database_state, public.video_database_lock_history, public.tenant_members`;
}

/** Pages that a statement of a user touches, all in memory, and bytes that it writes to the log. */
async function cost({ run }: Session, { id }: User, statement: string) {
  const claims = JSON.stringify({ role: "authenticated", sub: id });
  await run`select set_config('role', 'authenticated', false), set_config('request.jwt.claims', ${claims}, false)`;
  const pages: number[] = [];
  const written: number[] = [];
  // plans are made, and catalogs read, in the first runs
  for (let i = 0; i < 10; i++) {
    const [row] = await run.unsafe(
      `explain (analyze, buffers, wal, format json) select pg_temp.attempt($$${statement}$$)`,
    );
    const { Plan } = row?.["QUERY PLAN"][0];
    pages.push(Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"]);
    written.push(Plan["WAL Bytes"]);
  }
  await run`reset role`;
  return { pages: Math.min(...pages), written };
}

const RPCS: Record<string, (video: string) => string> = {
  "acquire": (v) => `select public.acquire_lock('${v}', 'layout')`,
  "acquire with the live lock_id": (v) =>
    `select public.acquire_lock('${v}', 'layout', null, '${LOCK_ID}')`,
  "renew": (v) => `select public.renew_lock('${v}', 'layout', '${LOCK_ID}')`,
  "acquire and wait": (v) =>
    `select public.acquire_lock('${v}', 'layout', null, '${LOCK_ID}', queue_seconds => 60)`,
  "acquire several": (v) =>
    `select public.acquire_lock('${v}', database_names => '{layout,captions}')`,
  "renew several": (v) =>
    `select public.renew_lock('${v}', lock_id => '${LOCK_ID}', database_names => '{layout,captions}')`,
  "release of their own": (v) =>
    `select public.release_lock('${v}', 'layout', lock_holder_user_id => auth.uid()::text)`,
  "release with the live lock_id": (v) =>
    `select public.release_lock('${v}', 'layout', '${LOCK_ID}')`,
  "release with a lock_id that waits": (v) =>
    `select public.release_lock('${v}', 'layout', '${WAITING_ID}')`,
  "release several": (v) =>
    `select public.release_lock('${v}', lock_id => '${LOCK_ID}', database_names => '{layout,captions}')`,
  "release by force": (v) => `select public.release_lock('${v}', 'layout', force => true)`,
  "assert": (v) => `select public.assert_lock_held('${v}', 'layout', 7)`,
  "advance": (v) => `select public.advance_server_version('${v}', 'layout', 7)`,
};

Deno.test("P8 an RPC on another tenant's video costs at most 12 pages more, with any lock there, and writes nothing", async () => {
  await using tenant = await newTenant();
  await using own = await newTenant();
  await makeBusy(tenant, 5000);
  const idle = await tenant.addVideo();
  await tidy();
  await using meter = await openMeter();
  for (const [who, outsider] of await outsiders(tenant, own)) {
    for (const [name, statement] of Object.entries(RPCS)) {
      const none = await cost(meter, outsider, statement(crypto.randomUUID()));
      for (const video of [idle, tenant.video]) {
        const { pages, written } = await cost(meter, outsider, statement(video));
        // The row of the video, that of its lease, the looks for a membership, into the history, for a cancellation; each
        // may take a page more of an index that other tests have made large. What counts is that it does not grow with
        // what the tenant has: thousands of entries, places and cancellations here.
        assert(pages - none.pages <= 12, `${name}, ${who}: ${pages} pages, not ${none.pages}`);
        // at the least, as any read may tidy up a page that others left behind
        assertEquals(Math.min(...written), 0, `${name}, ${who}`);
      }
    }
  }
  const member = await tenant.join("anna");
  const { written } = await cost(meter, member, RPCS["acquire"]!(idle));
  assertGreater(written[0]!, 0, "a grant writes: it does measure");
});

Deno.test("P8 a read touches the pages of the caller's own tenants, however much others have", async () => {
  await using tenant = await newTenant();
  await using own = await newTenant();
  const others = Array.from({ length: 200 }, () => crypto.randomUUID());
  await makeBusy(tenant, 2000);
  try {
    await sql`
      with video as (
        insert into public.videos (tenant_id, storage_key, status)
        select unnest(array_fill(t, array[10])), 'k', 'ready' from unnest(${others}::uuid[]) as t
        returning id, tenant_id
      )
      insert into public.video_database_state (video_id, tenant_id, database_name)
      select id, tenant_id, 'layout' from video`;
    await sql`
      insert into public.video_database_lock_history (
        video_id, tenant_id, database_name, lock_id, lock_holder_user_id, lock_type, locked_at, ended_at, end_reason,
        fencing_token
      )
      select id, tenant_id, 'layout', gen_random_uuid(), 'worker-1', 'server', now(), now(), 'released', 1
      from public.videos where tenant_id in ${sql(others)}`;
    const { id: busy } = await user("busy");
    await sql`
      insert into public.tenant_members (tenant_id, user_id)
      select t, ${busy} from unnest(${others}::uuid[]) as t`;
    await tidy();

    await using meter = await openMeter();
    for (const [who, outsider] of await outsiders(tenant, own)) {
      for (
        const read of [
          "public.videos",
          "public.video_database_state",
          "public.video_database_lock_history",
          "public.held_locks",
          "public.waiting_locks",
          `public.waiting_locks where video_id = '${tenant.video}'`,
          `public.video_database_lock_history where video_id = '${tenant.video}'`,
          `public.video_database_lock_history where tenant_id = '${tenant.id}'`,
          `public.videos where tenant_id = '${others[0]}'`,
        ]
      ) {
        const { pages } = await cost(meter, outsider, `select * from ${read}`);
        assert(pages <= 12, `${read}, ${who}: ${pages} pages`);
      }
    }
    const member = await tenant.join("anna");
    const { pages } = await cost(meter, member, "select * from public.video_database_lock_history");
    assertGreater(pages, 12, "it does measure");
  } finally {
    await sql`delete from public.videos where tenant_id in ${sql(others)}`;
    await sql`delete from public.video_database_lock_history where tenant_id in ${sql(others)}`;
    await sql`delete from public.tenant_members where tenant_id in ${sql(others)}`;
    await tidy();
  }
});

/** What a statement of a user's is expected to find, by the plan that the user may ask for. */
async function estimate({ run }: Session, { id }: User, statement: string): Promise<number> {
  const claims = JSON.stringify({ role: "authenticated", sub: id });
  await run`select set_config('role', 'authenticated', false), set_config('request.jwt.claims', ${claims}, false)`;
  const [row] = await run.unsafe(`explain (format json) ${statement}`);
  await run`reset role`;
  return row?.["QUERY PLAN"][0].Plan["Plan Rows"];
}

Deno.test("P8 what the planner expects of another tenant's rows is what it expects of none", async () => {
  await using tenant = await newTenant();
  await using own = await newTenant();
  await makeBusy(tenant, 3000);
  for (let i = 0; i < 20; i++) await makeBusy({ ...tenant, video: await tenant.addVideo() });
  const crowd = Array.from({ length: 50 }, () => crypto.randomUUID());
  await sql`insert into auth.users (id) select unnest(${crowd}::uuid[])`;
  afterAll(() => sql`delete from auth.users where id in ${sql(crowd)}`);
  await sql`
    insert into public.tenant_members (tenant_id, user_id) select ${tenant.id}, unnest(${crowd}::uuid[])`;
  // as autovacuum would: now statistics say what there is, where there are any
  await sql`analyze public.videos, public.video_database_state, public.video_database_lock_history, public.tenant_members`;
  await using session = openSession();
  const columns = {
    video_id: tenant.video,
    tenant_id: tenant.id,
    lock_id: LOCK_ID,
    lock_holder_user_id: "worker-1",
  };
  const differing: string[] = [];
  for (const [who, outsider] of await outsiders(tenant, own)) {
    for (
      const [table, names] of [
        ["videos", ["tenant_id"]],
        ["tenant_members", ["tenant_id"]],
        ["video_database_state", Object.keys(columns)],
        ["video_database_lock_history", Object.keys(columns)],
        ["held_locks", Object.keys(columns)],
        ["waiting_locks", ["video_id", "tenant_id"]],
      ] as const
    ) {
      for (const name of names) {
        const ask = (value: string) =>
          estimate(session, outsider, `select * from public.${table} where ${name} = '${value}'`);
        const theirs = await ask(columns[name as keyof typeof columns]);
        const none = await ask(crypto.randomUUID());
        if (theirs !== none) differing.push(`${who}: ${table}.${name}: ${theirs}, not ${none}`);
      }
    }
    // and as the Data API says it
    const count = async (path: string, id: string) => {
      const response = await fetch(`${url}/rest/v1/${path}=eq.${id}`, {
        headers: {
          apikey: publishableKey,
          authorization: `Bearer ${outsider.token}`,
          prefer: "count=planned",
        },
      });
      assertEquals(await response.json(), []);
      return response.headers.get("content-range");
    };
    for (
      const path of [
        "videos?tenant_id",
        "video_database_lock_history?tenant_id",
        "video_database_state?tenant_id",
      ]
    ) {
      assertEquals(await count(path, tenant.id), await count(path, crypto.randomUUID()), path);
    }
  }
  assertEquals(differing, []);
});

Deno.test("an RPC looks one membership up by its key, however many its caller has", async () => {
  await using tenant = await newTenant();
  const member = await tenant.join("anna");
  // a small table, and known to be: all its indexes look alike, and the session keeps the plan that it made then
  await sql`vacuum analyze public.tenant_members`;
  await using meter = await openMeter();
  const costs = async () => {
    const of: [name: string, pages: number][] = [];
    // anew each time, as what was cancelled makes a lock's next requests look further
    const video = await tenant.addVideo();
    for (const [name, statement] of Object.entries(RPCS)) {
      of.push([name, (await cost(meter, member, statement(video))).pages]);
    }
    return of;
  };
  const before = await costs();
  await sql`
    insert into public.tenant_members (tenant_id, user_id)
    select gen_random_uuid(), ${member.id} from generate_series(1, 5000)`;
  try {
    for (const [i, [name, pages]] of (await costs()).entries()) {
      // who waits is asked about several times; each look may take a page more of an index that has grown by a level
      assert(pages - before[i]![1] <= 10, `${name}: ${pages} pages, not ${before[i]![1]}`);
    }
  } finally {
    await sql`delete from public.tenant_members where user_id = ${member.id} and tenant_id <> ${tenant.id}`;
  }
});
