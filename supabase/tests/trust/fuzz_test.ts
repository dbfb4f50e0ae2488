// Bad input over HTTP: every answer is one of the error table, nothing changes, and the service goes on. A failure
// prints a seed and a path; FAST_CHECK='{"seed":…,"path":"…"}' in the environment repeats it.
import { assert, assertEquals, assertFalse, assertMatch } from "@std/assert";
import fc from "fast-check";
import { ERRORS } from "../../functions/_shared/errors.ts";
import { microseconds } from "../support/clock.ts";
import { hostileRequest, send } from "../support/hostile_request.ts";
import { isSoak, runs } from "../support/soak.ts";
import {
  acquire,
  type Answer,
  publishableKey,
  release,
  renew,
  secretKey,
  sql,
  url,
} from "../support/stack.ts";
import { newTenant, type Tenant } from "../support/tenant.ts";

const replay = Deno.env.get("FAST_CHECK");

/** A fingerprint of every row of a tenant, and one of its leases alone. */
async function rows({ id }: Tenant): Promise<{ all: string; leases: string }> {
  // with who wrote it last: a row that was rewritten as it was differs too
  const [row] = await sql<{ rows: string; leases: string }[]>`
    with states as (select * from public.video_database_state where tenant_id = ${id}),
    histories (row) as (
      select concat(xmin, h) from public.video_database_lock_history h where tenant_id = ${id}
    ),
    all_rows (row) as (
      select concat(xmin, s) from public.video_database_state s where tenant_id = ${id}
      union all select row from histories
      union all select concat(xmin, m) from public.tenant_members m where tenant_id = ${id}
      union all select concat(xmin, v) from public.videos v where tenant_id = ${id}
      union all
      select concat(p.xmin, p) from holdfast.place p join public.videos v on v.id = p.video_id
      where v.tenant_id = ${id}
      union all
      select concat(c.xmin, c) from holdfast.cancellation c join public.videos v on v.id = c.video_id
      where v.tenant_id = ${id}
    )
    select
      (select count(*) || ' ' || md5(string_agg(row, ' ' order by row)) from all_rows) as rows,
      (
        select md5(concat(
          (select string_agg((to_jsonb(s) - 'has_line')::text, ' ' order by s::text) from states s where lock_id is not null),
          (select string_agg(row, ' ' order by row) from histories)
        ))
      ) as leases`;
  return { all: row!.rows, leases: row!.leases };
}

/** Checks all that holds for any answer; says what kind of one it is. */
function kindOf(method: string, answer: { status: number; headers: Headers; text: string }) {
  const { status, headers, text } = answer;
  assertEquals(headers.get("access-control-allow-origin"), "*", "a browser may read it");
  assertMatch(headers.get("x-request-id") ?? "none", /^[0-9a-f-]{36}$/);
  if (method === "OPTIONS" || method === "HEAD") {
    assertEquals([status, text], [method === "HEAD" ? 405 : 204, ""]);
    return method;
  }
  assertMatch(headers.get("content-type") ?? "none", /^application\/json/);
  assertFalse(/\n\s+at |file:\/\/|\.ts:\d|node_modules/.test(text), `no stack trace: ${text}`);
  const body: Answer = JSON.parse(text);
  if (status === 200) {
    const outcome = body.acquired ?? body.renewed ?? body.released;
    assertEquals(typeof outcome, "boolean", text);
    if (outcome) return "yes";
    return body.queue?.position ? "waits" : body.reason === "cancelled" ? "cancelled" : "no";
  }
  const { code = "none" } = body;
  assert(Object.hasOwn(ERRORS, code), text);
  assertEquals(status, ERRORS[code as keyof typeof ERRORS].status);
  assert(body.message && body.hint, "every error says what happened and what to do next");
  assertFalse(["INTERNAL_ERROR", "DATABASE_UNAVAILABLE"].includes(code), text);
  return code;
}

Deno.test("bad input of every kind gets a code of the table, changes no row, and the service goes on", async () => {
  await using tenant = await newTenant();
  await using bystander = await newTenant();
  const anna = await tenant.join("anna");
  const held = { database_name: "layout", lock_holder_user_id: "worker-1", ttl_seconds: 3600 };
  const { lock } = await acquire(tenant.server, { video_id: tenant.video, ...held });
  const theirs = { video_id: bystander.video, ...held };
  const before = await acquire(bystander.server, theirs); // for a row in their history
  await release(bystander.server, {
    video_id: bystander.video,
    database_name: "layout",
    lock_id: before.lock!.lock_id,
  });
  await acquire(bystander.server, theirs);

  const base = `${url}/functions/v1`;
  const theirRows = await rows(bystander);
  let ourRows = await rows(tenant);
  const kinds = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(
      hostileRequest({
        video: tenant.video,
        otherVideo: bystander.video,
        lockId: lock!.lock_id,
        secretKey,
        publishableKey,
        token: anna.token,
      }),
      async (request) => {
        const kind = kindOf(request.method, await send(base, request));
        kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
        const [ours, others, good] = await Promise.all([
          rows(tenant),
          rows(bystander),
          acquire(bystander.server, { ...theirs, lock_holder_user_id: "good" }),
        ]);
        // the answer of several has the first reason; behind another's lock_id there may be one that is cancelled
        const ofSeveral = kind === "no" && request.path.startsWith("lock-release") &&
          new TextDecoder().decode(request.body).includes("database_names");
        if (kind === "waits" || kind === "cancelled" || ofSeveral) {
          assertEquals(ours.leases, ourRows.leases, `${kind} changes no lease`);
        } else if (kind !== "yes") assertEquals(ours, ourRows, `${kind} changes nothing`);
        ourRows = ours;
        assertEquals(others, theirRows, "another tenant's rows");
        assertEquals(good.holder?.lock_holder_user_id, "worker-1", "the service goes on");
      },
    ),
    { numRuns: runs(300, 10_000), ...JSON.parse(replay ?? "{}") },
  );
  const good = { video_id: tenant.video, database_name: "after", lock_id: crypto.randomUUID() };
  const after = await acquire(tenant.server, { ...good, lock_holder_user_id: "worker-1" });
  assertEquals(after.lock?.fencing_token, microseconds(after.lock!.locked_at));
  assertEquals((await renew(tenant.server, good)).renewed, true);
  assertEquals((await release(tenant.server, good)).released, true);
  if (!replay) {
    assertEquals(USUAL.filter((kind) => !kinds.has(kind)), [], "all that callers can get wrong");
  }
});

/** What so many inputs cannot miss. */
const USUAL = [
  "INVALID_JSON",
  "INVALID_REQUEST",
  "NOT_AUTHENTICATED",
  "METHOD_NOT_ALLOWED",
  "PAYLOAD_TOO_LARGE",
  "UNSUPPORTED_MEDIA_TYPE",
  "no",
  ...(isSoak ? ["yes", "waits", "cancelled", "FORBIDDEN", "VIDEO_NOT_FOUND"] : []),
];
