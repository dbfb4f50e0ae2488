// Another tenant's video has to look exactly like one that does not exist: the same answer, and no work that would
// tell what is there. Work is counted in pages that the database touches, as time depends on the machine.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { openSession, type Session } from "../support/race.ts";
import { publishableKey, sql, url } from "../support/stack.ts";
import { newTenant, type Tenant, type User, user } from "../support/tenant.ts";

const LOCK_ID = crypto.randomUUID();

/** Locks a database of a video, and gives it a history. */
async function makeBusy({ id, video }: Tenant, entries = 20): Promise<void> {
  await sql`
    insert into public.video_database_state (
      video_id, tenant_id, database_name, lock_id, lock_holder_user_id, lock_type, locked_at, last_activity_at,
      lock_expires_at, fencing_token
    )
    values (${video}, ${id}, 'layout', ${LOCK_ID}, 'worker-1', 'server', now(), now(), now() + interval '1 hour', 7)`;
  await sql`
    insert into public.video_database_lock_history (
      video_id, tenant_id, database_name, lock_id, lock_holder_user_id, lock_type, locked_at, ended_at, end_reason,
      fencing_token
    )
    select ${video}, ${id}, 'layout', gen_random_uuid(), 'worker-1', 'server', now(), now(), 'released', n
    from generate_series(1, ${entries}) as n`;
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
type Questions = Record<string, (video: string) => Question>;

const call = (path: string, more: Record<string, unknown>) => (video_id: string) => ({
  path,
  body: { video_id, database_name: "layout", ...more },
});
/** What a lock can be asked, by a function or by its RPC. */
const locking = (path: (verb: string) => string): Questions => ({
  "acquire": call(path("acquire"), {}),
  "acquire with the live lock_id": call(path("acquire"), { lock_id: LOCK_ID }),
  "acquire with take_over": call(path("acquire"), { take_over: true }),
  "renew": call(path("renew"), { lock_id: LOCK_ID }),
  "release": call(path("release"), {}),
  "release with the live lock_id": call(path("release"), { lock_id: LOCK_ID }),
  "release by force": call(path("release"), { force: true }),
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
        const none = await ask(question(crypto.randomUUID()), outsider);
        const theirs = await ask(question(tenant.video), outsider);
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
  "release": (v) => `select public.release_lock('${v}', 'layout')`,
  "release with the live lock_id": (v) =>
    `select public.release_lock('${v}', 'layout', '${LOCK_ID}')`,
  "release by force": (v) => `select public.release_lock('${v}', 'layout', force => true)`,
  "assert": (v) => `select public.assert_lock_held('${v}', 'layout', 7)`,
  "advance": (v) => `select public.advance_server_version('${v}', 'layout', 7)`,
};

Deno.test("P8 an RPC on another tenant's video costs at most 5 pages more, whatever is locked there, and writes nothing", async () => {
  await using tenant = await newTenant();
  await using own = await newTenant();
  await makeBusy(tenant, 500);
  const idle = await tenant.addVideo();
  await using meter = await openMeter();
  for (const [who, outsider] of await outsiders(tenant, own)) {
    for (const [name, statement] of Object.entries(RPCS)) {
      const none = await cost(meter, outsider, statement(crypto.randomUUID()));
      for (const video of [idle, tenant.video]) {
        const { pages, written } = await cost(meter, outsider, statement(video));
        // The row of the video, that of its lease, the look for a membership; each may take one page more of an index
        // that other tests have made large. What counts is that it does not grow with what the tenant has.
        assert(pages - none.pages <= 5, `${name}, ${who}: ${pages} pages, not ${none.pages}`);
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
  // full: in the dead space that other tests leave behind, reading all of a table may look cheaper than its index
  const tidy = () =>
    sql`vacuum full analyze public.videos, public.video_database_state, public.video_database_lock_history, public.tenant_members`;
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

Deno.test("an RPC looks one membership up by its key, however many its caller has", async () => {
  await using tenant = await newTenant();
  const member = await tenant.join("anna");
  // a small table, and known to be: all its indexes look alike, and the session keeps the plan that it made then
  await sql`vacuum analyze public.tenant_members`;
  await using meter = await openMeter();
  const costs = async () => {
    const of: [name: string, pages: number][] = [];
    for (const [name, statement] of Object.entries(RPCS)) {
      of.push([name, (await cost(meter, member, statement(tenant.video))).pages]);
    }
    return of;
  };
  const before = await costs();
  await sql`
    insert into public.tenant_members (tenant_id, user_id)
    select gen_random_uuid(), ${member.id} from generate_series(1, 5000)`;
  try {
    for (const [i, [name, pages]] of (await costs()).entries()) {
      assert(pages - before[i]![1] <= 5, `${name}: ${pages} pages, not ${before[i]![1]}`);
    }
  } finally {
    await sql`delete from public.tenant_members where user_id = ${member.id} and tenant_id <> ${tenant.id}`;
  }
});
