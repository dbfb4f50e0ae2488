// Each row of the error table, over HTTP. docs/reference/errors.md is that table.
import {
  assert,
  assertEquals,
  assertFalse,
  assertLess,
  assertMatch,
  assertRejects,
} from "@std/assert";
import { ERRORS } from "../../functions/_shared/errors.ts";
import { passOnTo, serveDataApi, serveFunction } from "../support/own_function.ts";
import {
  type Answer,
  client,
  invoke,
  publishableKey,
  secretKey,
  sql,
  url,
} from "../support/stack.ts";
import { canSign, signedToken } from "../support/authority.ts";
import { newTenant, type Tenant, user } from "../support/tenant.ts";

const FUNCTIONS = ["lock-acquire", "lock-renew", "lock-release"];

/** A valid request for each of the functions. */
const valid = (tenant: Tenant) => ({
  video_id: tenant.video,
  database_name: "layout",
  lock_id: crypto.randomUUID(),
});

/** Posts whatever it is given, as no well-made client would. */
async function post(name: string, init: RequestInit & { base?: string }) {
  const response = await fetch(`${init.base ?? `${url}/functions/v1/${name}`}`, {
    method: "POST",
    ...init,
    headers: { apikey: secretKey, "content-type": "application/json", ...init.headers },
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: JSON.parse(text) as Answer };
}

function assertError(
  answer: { status: number; headers: Headers; body: Answer },
  code: keyof typeof ERRORS,
  note?: string,
) {
  assertEquals([answer.status, answer.body.code], [ERRORS[code].status, code], note);
  assert(
    answer.body.message && answer.body.hint,
    "every error says what happened and what to do next",
  );
  assertEquals(answer.headers.get("access-control-allow-origin"), "*", "a browser may read it");
  assertMatch(answer.headers.get("content-type") ?? "", /^application\/json/);
  assertMatch(answer.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
  assertFalse(/\n\s+at /.test(JSON.stringify(answer.body)), "no stack trace");
}

Deno.test("INVALID_JSON: a body that is not a JSON object", async () => {
  for (const name of FUNCTIONS) {
    for (
      const body of [
        "",
        "{",
        "null",
        "[]",
        "[{}]",
        '"text"',
        "12",
        "{}{}",
        '{"video_id":}',
        new Uint8Array([0x7b, 0xff, 0x7d]),
      ]
    ) assertError(await post(name, { body }), "INVALID_JSON", `${name} ${body}`);
  }
});

Deno.test("INVALID_REQUEST: details name every broken rule and every unknown field at once", async () => {
  for (const name of FUNCTIONS) {
    const answer = await post(name, {
      body: JSON.stringify({
        video_id: "1",
        database_name: "Layout",
        lock_id: 7,
        surprise: 1,
        __proto__x: 2,
      }),
    });
    assertError(answer, "INVALID_REQUEST");
    assertEquals(answer.body.details?.map((rule) => rule.path).toSorted(), [
      "__proto__x",
      "database_name",
      "lock_id",
      "surprise",
      "video_id",
    ]);
  }
});

Deno.test("INVALID_REQUEST: each rule of each field", async () => {
  await using tenant = await newTenant();
  const broken: [string, string, unknown][] = [
    ...FUNCTIONS.flatMap((name): [string, string, unknown][] => [
      [name, "video_id", undefined],
      [name, "video_id", null],
      [name, "video_id", "00000000-0000-4000-8000-00000000010"],
      [name, "video_id", `${tenant.video}x`],
      [name, "database_name", undefined],
      [name, "database_name", ""],
      [name, "database_name", "1layout"],
      [name, "database_name", "lay out"],
      [name, "database_name", "layout\n"],
      [name, "database_name", "a".repeat(64)],
      [name, "lock_id", "not-a-uuid"],
      [name, "lock_id", null],
    ]),
    ["lock-renew", "lock_id", undefined],
    ["lock-renew", "active", "yes"],
    ...["lock-acquire", "lock-renew"].flatMap((name) =>
      [0, -1, 3601, 1.5, "120", null, true, 1e300].map((ttl): [string, string, unknown] => [
        name,
        "ttl_seconds",
        ttl,
      ])
    ),
    ["lock-acquire", "lock_holder_user_id", ""],
    ["lock-acquire", "lock_holder_user_id", "x".repeat(256)],
    ["lock-acquire", "lock_holder_user_id", "nul\0"],
    ["lock-acquire", "lock_holder_user_id", "half \ud800"],
    ["lock-acquire", "lock_holder_user_id", 7],
    ["lock-acquire", "take_over", 1],
    ["lock-release", "force", "true"],
  ];
  for (const [name, field, value] of broken) {
    const answer = await post(name, {
      body: JSON.stringify({
        ...valid(tenant),
        ...(name === "lock-acquire" ? { lock_holder_user_id: "worker-1" } : {}),
        [field]: value,
      }),
    });
    const note = `${name} ${field} ${JSON.stringify(value)?.slice(0, 40)}`;
    assertError(answer, "INVALID_REQUEST", note);
    assertEquals([...new Set(answer.body.details?.map((rule) => rule.path))], [field], note);
  }
  assertEquals(await tenant.state(), undefined, "nothing was locked by any of them");
});

Deno.test("INVALID_REQUEST: what only the database can tell is reported in the same form", async () => {
  await using tenant = await newTenant();
  const { video_id, database_name, lock_id } = valid(tenant);
  const paths = async (name: string, body: unknown) => {
    const answer = await invoke(client(secretKey), name, body);
    assertError(answer, "INVALID_REQUEST");
    return answer.body.details?.map((rule) => rule.path);
  };
  assertEquals(await paths("lock-acquire", { video_id, database_name }), ["lock_holder_user_id"]);
  assertEquals(await paths("lock-release", { video_id, database_name }), ["lock_id"]);
  assertEquals(await paths("lock-release", { video_id, database_name, lock_id, force: true }), [
    "lock_id",
  ]);
});

Deno.test("the values at the edge of each rule are taken", async () => {
  await using tenant = await newTenant();
  const longest = { video_id: tenant.video, database_name: "a" + "-_9".repeat(20) + "zz" };
  for (
    const [ttl_seconds, lock_holder_user_id] of [[1, "x"], [3600, "😀".repeat(255)], [
      60,
      "'; drop table videos; --",
    ]]
  ) {
    const request = { ...longest, ttl_seconds, lock_holder_user_id };
    const { status, body } = await invoke(tenant.server, "lock-acquire", request);
    assertEquals([status, body.acquired, body.lock?.lock_holder_user_id], [
      200,
      true,
      lock_holder_user_id,
    ]);
    await invoke(tenant.server, "lock-release", { ...longest, lock_id: body.lock?.lock_id });
  }
});

Deno.test("NOT_AUTHENTICATED: no credentials, the public key alone, and wrong ones", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const forged = anna.token.slice(0, -8) + "AAAAAAAA";
  const unsigned = `${btoa('{"alg":"none","typ":"JWT"}')}.${anna.token.split(".")[1]}.`;
  const credentials: Record<string, string>[] = [
    { apikey: "" },
    { apikey: publishableKey },
    { apikey: publishableKey, authorization: `Bearer ${publishableKey}` },
    { apikey: "sb_publishable_wrong" },
    { apikey: "sb_secret_wrong" },
    { apikey: publishableKey, authorization: "Bearer junk" },
    { apikey: publishableKey, authorization: `Bearer ${forged}` },
    { apikey: publishableKey, authorization: `Bearer ${unsigned}` },
  ];
  for (const name of FUNCTIONS) {
    for (const headers of credentials) {
      const answer = await post(name, { body: JSON.stringify(valid(tenant)), headers });
      assertError(answer, "NOT_AUTHENTICATED", `${name} ${JSON.stringify(headers).slice(0, 60)}`);
    }
  }
  assertEquals(await tenant.state(), undefined);
});

const othersTokens = await canSign();
Deno.test({
  name:
    "NOT_AUTHENTICATED: a valid token whose subject is no user id, as of a third-party sign-in" +
    (othersTokens ? "" : ", NOT SHOWN: it needs SUPABASE_JWT_SECRET, and a stack that believes it"),
  ignore: !othersTokens,
  async fn() {
    await using tenant = await newTenant();
    const authorization = `Bearer ${await signedToken("auth0|5f7c8ec7c33c6c004bbafe82", 3600)}`;
    for (const name of FUNCTIONS) {
      const answer = await post(name, {
        body: JSON.stringify(valid(tenant)),
        headers: { apikey: publishableKey, authorization },
      });
      assertError(answer, "NOT_AUTHENTICATED", name);
    }
  },
});

Deno.test("FORBIDDEN: a user cannot act in another's name", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const { video_id, database_name } = valid(tenant);
  for (const name of ["lock-acquire", "lock-release"]) {
    const answer = await invoke(anna.client, name, {
      video_id,
      database_name,
      lock_holder_user_id: "ben",
    });
    assertError(answer, "FORBIDDEN", name);
  }
});

Deno.test("VIDEO_NOT_FOUND: no such video, and another tenant's, alike", async () => {
  await using tenant = await newTenant();
  const outsider = await user("mallory");
  for (const name of FUNCTIONS) {
    const theirs = await invoke(outsider.client, name, valid(tenant));
    const none = await invoke(outsider.client, name, {
      ...valid(tenant),
      video_id: crypto.randomUUID(),
    });
    assertError(theirs, "VIDEO_NOT_FOUND", name);
    assertEquals(theirs.body, none.body);
  }
});

Deno.test("METHOD_NOT_ALLOWED: anything but POST, with Allow", async () => {
  for (const name of FUNCTIONS) {
    for (const method of ["GET", "PUT", "PATCH", "DELETE"]) {
      const answer = await post(name, { method, ...(method === "GET" ? {} : { body: "{}" }) });
      assertError(answer, "METHOD_NOT_ALLOWED", method);
      assertEquals(answer.headers.get("allow"), "POST, OPTIONS");
    }
  }
});

Deno.test("PAYLOAD_TOO_LARGE: over 16 KiB, with or without a length; 16 KiB itself is read", async () => {
  const sized = (bytes: number) => `{"x":"${"y".repeat(bytes - 8)}"}`;
  for (const name of FUNCTIONS) {
    assertError(await post(name, { body: sized(16 * 1024 + 1) }), "PAYLOAD_TOO_LARGE");
    assertError(await post(name, { body: sized(1_000_000) }), "PAYLOAD_TOO_LARGE");
    assertError(
      await post(name, { body: new Blob([sized(16 * 1024 + 1)]).stream() }),
      "PAYLOAD_TOO_LARGE",
    );
    assertError(await post(name, { body: sized(16 * 1024) }), "INVALID_REQUEST", "16 KiB are read");
  }
});

Deno.test("UNSUPPORTED_MEDIA_TYPE: a body that is not declared as plain JSON", async () => {
  for (const name of FUNCTIONS) {
    for (
      const headers of [
        { "content-type": "text/plain" },
        { "content-type": "application/x-www-form-urlencoded" },
        { "content-type": "application/jsonp" },
        { "content-type": "application/json", "content-encoding": "gzip" },
      ]
    ) assertError(await post(name, { body: "{}", headers }), "UNSUPPORTED_MEDIA_TYPE");
  }
  const charset = { "content-type": "Application/JSON; charset=utf-8" };
  assertError(await post("lock-renew", { body: "{}", headers: charset }), "INVALID_REQUEST");
});

Deno.test("DATABASE_UNAVAILABLE: the Data API is gone, answers garbage, or is overloaded; with Retry-After", async () => {
  await using tenant = await newTenant();
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const nobody = `http://127.0.0.1:${listener.addr.port}`;
  listener.close();
  const answers: Record<string, () => Response> = {
    "not JSON": () => new Response("<html>welcome</html>"),
    "JSON of another kind": () => Response.json({ hello: "world" }),
    "a list": () => Response.json([]),
    "nothing": () => new Response(null, { status: 204 }),
    "a proxy's error": () => new Response("bad gateway", { status: 502 }),
    "too many requests": () => new Response("slow down", { status: 429 }),
    "no connection": () =>
      Response.json({ code: "PGRST001", message: "no connection" }, { status: 503 }),
    "the pool is full": () =>
      Response.json({ code: "PGRST003", message: "timed out" }, { status: 504 }),
    "statement timeout": () =>
      Response.json({ code: "57014", message: "canceling statement" }, { status: 500 }),
    "too many connections": () =>
      Response.json({ code: "53300", message: "too many clients" }, { status: 503 }),
  };
  for (const name of FUNCTIONS) {
    const check = async (url: string, note: string) => {
      await using own = await serveFunction(name, url);
      const answer = await post(name, { base: own.url, body: JSON.stringify(valid(tenant)) });
      assertError(answer, "DATABASE_UNAVAILABLE", `${name}: ${note}`);
      assertEquals(answer.headers.get("retry-after"), "1");
    };
    await check(nobody, "nobody listens");
    for (const [note, answer] of Object.entries(answers)) {
      await using api = serveDataApi(answer);
      await check(api.url, note);
    }
  }
});

Deno.test("DATABASE_UNAVAILABLE: a Data API that hangs is given up after the function's own time", async () => {
  await using tenant = await newTenant();
  let cancelled = 0;
  await using api = serveDataApi((request) => {
    request.signal.addEventListener("abort", () => cancelled++);
    return new Promise(() => {});
  });
  await using own = await serveFunction("lock-acquire", api.url);
  const timeout = AbortSignal.timeout;
  const asked: number[] = [];
  AbortSignal.timeout = (ms) => timeout.call(AbortSignal, (asked.push(ms), 50));
  try {
    const answer = await post("lock-acquire", {
      base: own.url,
      body: JSON.stringify(valid(tenant)),
    });
    assertError(answer, "DATABASE_UNAVAILABLE");
  } finally {
    AbortSignal.timeout = timeout;
  }
  assertEquals(asked, [10_000]);
  assertEquals(
    api.calls,
    ["POST /rest/v1/rpc/acquire_lock"],
    "it is not tried again behind the caller's back",
  );
});

Deno.test("a caller who hangs up cancels the function's call of the Data API", async () => {
  await using tenant = await newTenant();
  for (const name of FUNCTIONS) {
    const called = Promise.withResolvers<void>();
    const cancelled = Promise.withResolvers<void>();
    await using api = serveDataApi((request) => {
      request.signal.addEventListener("abort", () => cancelled.resolve());
      called.resolve();
      return new Promise(() => {});
    });
    await using own = await serveFunction(name, api.url);
    const caller = new AbortController();
    const answer = post(name, {
      base: own.url,
      body: JSON.stringify(valid(tenant)),
      signal: caller.signal,
    });
    await called.promise;
    const hungUp = performance.now();
    caller.abort();
    await assertRejects(() => answer);
    await cancelled.promise;
    assertLess(performance.now() - hungUp, 1000, name);
  }
});

Deno.test("INTERNAL_ERROR: an unforeseen error of the database stays in the log", async () => {
  await using tenant = await newTenant();
  await using api = serveDataApi(() =>
    Response.json(
      { code: "XX000", message: "secret of the house", details: "cache lookup failed" },
      { status: 500 },
    )
  );
  await using own = await serveFunction("lock-acquire", api.url);
  const answer = await post("lock-acquire", { base: own.url, body: JSON.stringify(valid(tenant)) });
  assertError(answer, "INTERNAL_ERROR");
  assertFalse(JSON.stringify(answer.body).includes("secret of the house"));
});

Deno.test("CORS: a browser on another origin may call, and read answers and errors", async () => {
  for (const name of FUNCTIONS) {
    const response = await fetch(`${url}/functions/v1/${name}`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,apikey,content-type,x-client-info",
      },
    });
    await response.body?.cancel();
    assertEquals(response.ok, true);
    assertEquals(response.headers.get("access-control-allow-origin"), "*");
    assertMatch(response.headers.get("access-control-allow-methods") ?? "", /POST/);
    for (const header of ["authorization", "apikey", "content-type", "x-client-info"]) {
      assertMatch(response.headers.get("access-control-allow-headers") ?? "", new RegExp(header));
    }
  }
});

Deno.test("P2 an acquire is exactly one call to the Data API and one SQL statement, granted or refused", async () => {
  await using tenant = await newTenant();
  await using api = serveDataApi(passOnTo(url));
  await using own = await serveFunction("lock-acquire", api.url);
  const body = { video_id: tenant.video, database_name: "layout", lock_holder_user_id: "worker-1" };
  // statements as clients sent them, counted by the database
  const statements = async () => {
    const [row] = await sql<{ calls: number }[]>`
      select coalesce(sum(calls), 0)::integer as calls from extensions.pg_stat_statements
      where query like ${"%acquire_lock%"}`;
    return row!.calls;
  };
  const before = await statements();
  const granted = await post("lock-acquire", { base: own.url, body: JSON.stringify(body) });
  const refused = await post("lock-acquire", { base: own.url, body: JSON.stringify(body) });
  assertEquals([granted.body.acquired, refused.body.acquired], [true, false]);
  assertEquals(api.calls, ["POST /rest/v1/rpc/acquire_lock", "POST /rest/v1/rpc/acquire_lock"]);
  assertEquals(await statements() - before, 2);
});

Deno.test("P8 a function passes on its caller's credentials as they are, and adds none", async () => {
  await using tenant = await newTenant();
  const anna = await tenant.join("anna");
  const seen: (string | null)[][] = [];
  await using api = serveDataApi((request) => {
    seen.push([request.headers.get("apikey"), request.headers.get("authorization")]);
    return passOnTo(url)(request);
  });
  await using own = await serveFunction("lock-acquire", api.url);
  const body = JSON.stringify({ video_id: tenant.video, database_name: "layout" });
  await post("lock-acquire", { base: own.url, body });
  await post("lock-acquire", {
    base: own.url,
    body,
    headers: { apikey: publishableKey, authorization: `Bearer ${anna.token}` },
  });
  await post("lock-acquire", {
    base: own.url,
    body,
    headers: { authorization: `Bearer ${secretKey}` },
  });
  assertEquals(seen, [
    [secretKey, null],
    [publishableKey, `Bearer ${anna.token}`],
    [secretKey, null],
  ]);
});

Deno.test("P3 the caller's clock does not matter: a function whose own clock is a day off answers the same", async () => {
  await using tenant = await newTenant();
  await using own = await serveFunction("lock-acquire", url);
  const { now } = Date;
  const body = JSON.stringify({
    video_id: tenant.video,
    database_name: "layout",
    lock_holder_user_id: "w",
  });
  let answer;
  try {
    Date.now = () => now() - 86_400_000;
    answer = await post("lock-acquire", { base: own.url, body });
  } finally {
    Date.now = now;
  }
  assert(Math.abs(Date.parse(answer.body.lock!.locked_at) - Date.now()) < 60_000);
});
