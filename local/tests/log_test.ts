// What the functions write to their log, read from their processes: one JSON line for each request, with its request
// id and what is known of it, and never a credential.
import { assert, assertEquals, assertFalse, assertGreaterOrEqual } from "@std/assert";
import fc from "fast-check";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import {
  type HostileRequest,
  hostileRequest,
  send,
} from "../../supabase/tests/support/hostile_request.ts";
import { runs } from "../../supabase/tests/support/soak.ts";
import type { Answer } from "../../supabase/tests/support/stack.ts";
import { type Stack, startStack } from "../stack.ts";

/** The demo tenant and its video, from supabase/seed.sql. */
const TENANT = "00000000-0000-4000-8000-000000000001";
const VIDEO = "00000000-0000-4000-8000-000000000101";

let stack: Stack;
let sql: postgres.Sql;
let token: string;
/** All that the functions have written, and how many of it a test has looked at. */
const lines: { name: string; line: string }[] = [];
let looked = 0;

Deno.test.beforeAll(async () => {
  stack = await startStack({ onFunctionLog: (name, line) => lines.push({ name, line }) });
  sql = postgres(stack.dbUrl, { max: 1, onnotice() {} });
  const response = await fetch(`${stack.url}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: stack.publishableKey, "content-type": "application/json" },
    body: JSON.stringify({ email: "anna@example.com", password: crypto.randomUUID() }),
  });
  const { access_token, user } = await response.json();
  token = access_token;
  await sql`insert into public.tenant_members (tenant_id, user_id) values (${TENANT}, ${user.id})`;
});

Deno.test.afterAll(async () => {
  await sql.end();
  await stack.stop();
});

/** Sends a request, and waits for what the function writes about it. */
async function logged(request: HostileRequest): Promise<{
  answer: { status: number; headers: Headers; text: string };
  entry: Record<string, unknown>;
}> {
  const answer = await send(`${stack.url}/functions/v1`, request);
  for (const end = Date.now() + 5000; lines.length === looked && Date.now() < end;) await delay(1);
  assertEquals(lines.length, ++looked, "one line for every request");
  const written = lines.at(-1)!;
  const entry = JSON.parse(written.line);
  assertEquals(entry.request_id, answer.headers.get("x-request-id"));
  assertEquals(entry.function, written.name);
  assertEquals(entry.status, answer.status);
  assert(typeof entry.outcome === "string" && entry.outcome, written.line);
  assertGreaterOrEqual(entry.ms, 0);
  for (const credential of [stack.secretKey, stack.publishableKey, token]) {
    // a part of one is no better
    for (let at = 10; at + 16 <= credential.length; at++) {
      assertFalse(written.line.includes(credential.slice(at, at + 16)), written.line);
    }
  }
  return { answer, entry };
}

/** A well-made request, except for what the test changes. */
function request(
  path: string,
  body: Record<string, unknown> | string,
  more: Partial<HostileRequest> = {},
): HostileRequest {
  return {
    path,
    method: "POST",
    headers: { apikey: stack.secretKey, "content-type": "application/json", ...more.headers },
    body: new TextEncoder().encode(typeof body === "string" ? body : JSON.stringify(body)),
    chunked: false,
  };
}

const lock = (database_name: string) => ({
  video_id: VIDEO,
  database_name,
  lock_id: crypto.randomUUID(),
});

Deno.test("every answer is one line: which function, what came of it, whose video, how long it took", async () => {
  const own = lock("log");
  const as = (name: string) => ({ lock_holder_user_id: name });
  const other = { ...lock("log"), lock_id: crypto.randomUUID() };
  const steps: [string, Record<string, unknown>, string][] = [
    ["lock-acquire", { ...own, ...as("worker-1") }, "acquired"],
    ["lock-acquire", { ...own, ...as("worker-1") }, "acquired"],
    ["lock-acquire", { ...other, ...as("worker-2") }, "held"],
    ["lock-renew", own, "renewed"],
    ["lock-renew", other, "not_held"],
    ["lock-release", other, "cancelled"],
    ["lock-release", own, "released"],
    ["lock-release", own, "released"],
    ["lock-release", lock("log"), "cancelled"],
    ["lock-renew", own, "released"],
    ["lock-acquire", { ...own, ...as("worker-1") }, "ended"],
  ];
  for (const [name, body, outcome] of steps) {
    const { entry } = await logged(request(name, body));
    const { request_id: _, ms: __, ...rest } = entry;
    assertEquals(rest, {
      function: name,
      video_id: VIDEO,
      database_name: "log",
      outcome,
      status: 200,
    });
  }
});

Deno.test("every error is one line with its code, and the video where the request was understood", async () => {
  const anna = { apikey: stack.publishableKey, authorization: `Bearer ${token}` };
  const own = lock("log");
  const secret = stack.secretKey;
  const steps: [string, HostileRequest][] = [
    ["INVALID_JSON", request("lock-acquire", `{"apikey":"${secret}"`)],
    ["INVALID_JSON", request("lock-renew", secret)],
    ["INVALID_REQUEST", request("lock-renew", { apikey: secret, [secret]: token })],
    ["NOT_AUTHENTICATED", request("lock-renew", own, { headers: { apikey: secret + "x" } })],
    [
      "NOT_AUTHENTICATED",
      request("lock-renew", own, { headers: { ...anna, authorization: `Bearer ${token}x` } }),
    ],
    ["METHOD_NOT_ALLOWED", { ...request("lock-renew", own), method: "DELETE" }],
    ["PAYLOAD_TOO_LARGE", request("lock-renew", "x".repeat(20_000))],
    ["UNSUPPORTED_MEDIA_TYPE", request("lock-renew", own, { headers: { "content-type": secret } })],
  ];
  for (const [code, request] of steps) {
    assertEquals((await logged(request)).entry.outcome, code);
  }
  const understood: [string, HostileRequest][] = [
    [
      "FORBIDDEN",
      request("lock-acquire", { ...own, lock_holder_user_id: "ben" }, { headers: anna }),
    ],
    ["VIDEO_NOT_FOUND", request("lock-renew", { ...own, video_id: own.lock_id })],
  ];
  for (const [code, request] of understood) {
    const { entry } = await logged(request);
    const { video_id } = JSON.parse(new TextDecoder().decode(request.body));
    assertEquals([entry.outcome, entry.video_id], [code, video_id]);
  }
});

Deno.test("INTERNAL_ERROR and DATABASE_UNAVAILABLE: the cause is in the log alone, and has no credential in it", async () => {
  const causes: [state: string, code: string, status: number][] = [
    ["XX000", "INTERNAL_ERROR", 500],
    ["22P02", "INTERNAL_ERROR", 500],
    ["53100", "DATABASE_UNAVAILABLE", 503],
  ];
  await sql`alter function public.renew_lock rename to renew_lock_as_it_was`;
  try {
    const own = lock("log");
    await sql`notify pgrst`;
    await delay(200);
    const none = await logged(request("lock-renew", own));
    assertEquals(none.entry.outcome, "INTERNAL_ERROR");
    assert(JSON.stringify(none.entry.cause).includes("renew_lock"));
    for (const [state, code, status] of causes) {
      await sql.unsafe(`
        create or replace function public.renew_lock(video_id uuid, database_name text, lock_id uuid) returns json
        language plpgsql as $$
        begin
          raise exception using errcode = '${state}', message = 'the inside of the house', detail = 'a detail';
        end
        $$;
        grant execute on function public.renew_lock(uuid, text, uuid) to service_role`);
      const { answer, entry } = await logged(request("lock-renew", own));
      assertEquals([answer.status, entry.outcome, entry.video_id], [status, code, VIDEO]);
      assert(JSON.stringify(entry.cause).includes("the inside of the house"));
      assertFalse(answer.text.includes("the inside of the house"));
      assertEquals((JSON.parse(answer.text) as Answer).code, code);
    }
  } finally {
    await sql`drop function if exists public.renew_lock(uuid, text, uuid)`;
    await sql`alter function public.renew_lock_as_it_was rename to renew_lock`;
  }
});

Deno.test("for any request one line and no credential; a preflight, which says nothing, writes none", async () => {
  const known = {
    video: VIDEO,
    otherVideo: VIDEO,
    lockId: crypto.randomUUID(),
    secretKey: stack.secretKey,
    publishableKey: stack.publishableKey,
    token,
  };
  await fc.assert(
    fc.asyncProperty(hostileRequest(known), async (request) => {
      if (request.method !== "OPTIONS") return void await logged(request);
      await send(`${stack.url}/functions/v1`, request);
    }),
    { numRuns: runs(200, 5_000) },
  );
  assertEquals(lines.length, looked);
});
