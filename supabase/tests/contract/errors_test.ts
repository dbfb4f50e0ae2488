// Each row of the error table, over HTTP. docs/reference/errors.md is that table.
import {
  assert,
  assertEquals,
  assertFalse,
  assertLess,
  assertMatch,
  assertRejects,
} from "@std/assert";
import { corsHeaders } from "@supabase/supabase-js/cors";
import { setTimeout as delay } from "node:timers/promises";
import type {
  AcquireAnswer,
  ReleaseAnswer,
  RenewAnswer,
} from "../../functions/_shared/contract.ts";
import { ERRORS } from "../../functions/_shared/errors.ts";
import { DEADLINE_MS, MESSAGES, TTL_SECONDS } from "../../functions/_shared/rules.ts";
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

/** Posts anything, as no well-made client would. */
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
  const many = (length: number) => Array.from({ length }, (_, i) => `layer-${i}`);
  const broken: [string, string, unknown][] = [
    ...FUNCTIONS.flatMap((name): [string, string, unknown][] => [
      [name, "video_id", undefined],
      [name, "video_id", null],
      [name, "video_id", "00000000-0000-4000-8000-00000000010"],
      [name, "video_id", `${tenant.video}x`],
      [name, "database_name", undefined],
      [name, "database_name", null],
      [name, "database_name", ""],
      [name, "database_name", "1layout"],
      [name, "database_name", "lay out"],
      [name, "database_name", "layout\n"],
      [name, "database_name", "a".repeat(64)],
      ...["layout", {}, [], [null], [7], ["Layout"], ["a", "b", "a"], many(17)].map((
        names,
      ): [string, string, unknown] => [name, "database_names", names]),
      [name, "lock_id", "not-a-uuid"],
    ]),
    ["lock-renew", "lock_id", undefined],
    ["lock-renew", "lock_id", null],
    ["lock-renew", "active", "yes"],
    ...["lock-acquire", "lock-renew"].flatMap((name) =>
      [0, -1, 3601, 1.5, "120", true, 1e300].map((ttl): [string, string, unknown] => [
        name,
        "ttl_seconds",
        ttl,
      ])
    ),
    ...[-1, 61, 0.5, "10", false].map((seconds): [string, string, unknown] => [
      "lock-acquire",
      "queue_seconds",
      seconds,
    ]),
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
        ...(field === "database_names" ? { database_name: undefined } : {}),
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

Deno.test("INVALID_REQUEST: rules about several fields are reported beside those about each", async () => {
  await using tenant = await newTenant();
  const { video_id, database_name, lock_id } = valid(tenant);
  const both = { database_name, database_names: ["captions"] };
  const broken: [name: string, body: Record<string, unknown>, details: [string, string][]][] = [
    ...FUNCTIONS.flatMap((name): [string, Record<string, unknown>, [string, string][]][] => [
      [name, { video_id, lock_id }, [["database_name", MESSAGES.noName]]],
      [name, { video_id, lock_id, ...both }, [["database_names", MESSAGES.twoNames]]],
    ]),
    ["lock-acquire", { video_id, database_name, queue_seconds: 5 }, [
      ["lock_id", MESSAGES.queueWithoutId],
    ]],
    ["lock-acquire", { video_id: 1, ...both, queue_seconds: 61, more: true }, [
      ["video_id", MESSAGES.uuid],
      ["queue_seconds", MESSAGES.queueSeconds],
      ["more", MESSAGES.unknown],
      ["database_names", MESSAGES.twoNames],
      ["lock_id", MESSAGES.queueWithoutId],
    ]],
    ...[{}, { lock_id: undefined }, { force: false }, { lock_id: null, force: null }].map((
      target,
    ): [string, Record<string, unknown>, [string, string][]] => [
      "lock-release",
      { video_id, database_name, ...target },
      [["lock_id", MESSAGES.nothingToRelease]],
    ]),
    ["lock-release", { video_id: 1, database_name }, [
      ["video_id", MESSAGES.uuid],
      ["lock_id", MESSAGES.nothingToRelease],
    ]],
    ...[{ lock_id }, { force: true }, { lock_id, force: true }].map((
      target,
    ): [string, Record<string, unknown>, [string, string][]] => [
      "lock-release",
      { video_id, database_name, lock_holder_user_id: "w", ...target },
      [["lock_holder_user_id", MESSAGES.holderNotAlone]],
    ]),
  ];
  for (const [name, body, details] of broken) {
    const answer = await post(name, { body: JSON.stringify(body) });
    assertError(answer, "INVALID_REQUEST", `${name} ${JSON.stringify(body)}`);
    assertEquals(answer.body.details, details.map(([path, message]) => ({ path, message })));
  }
});

Deno.test("an optional field that is null counts as left out", async () => {
  await using tenant = await newTenant();
  const key = { video_id: tenant.video, database_name: "layout", database_names: null };
  const anna = await tenant.join("anna");
  const granted = await invoke(anna.client, "lock-acquire", {
    ...key,
    lock_holder_user_id: null,
    lock_id: null,
    ttl_seconds: null,
    take_over: null,
    queue_seconds: null,
  });
  assertEquals([granted.status, granted.body.lock?.ttl_seconds], [200, TTL_SECONDS.default]);
  const lock_id = granted.body.lock!.lock_id;
  const renewed = await invoke(anna.client, "lock-renew", {
    ...key,
    lock_id,
    ttl_seconds: null,
    active: null,
  });
  assertEquals([renewed.status, renewed.body.renewed], [200, true]);
  const released = await invoke(anna.client, "lock-release", {
    ...key,
    lock_id,
    lock_holder_user_id: null,
    force: null,
  });
  assertEquals([released.status, released.body.released], [200, true]);
});

Deno.test("a UUID is the same in upper and lower case", async () => {
  await using tenant = await newTenant();
  const request = { ...valid(tenant), lock_holder_user_id: "worker-1" };
  const capitals = {
    ...request,
    video_id: request.video_id.toUpperCase(),
    lock_id: request.lock_id.toUpperCase(),
  };
  const first = await invoke(tenant.server, "lock-acquire", capitals);
  const again = await invoke(tenant.server, "lock-acquire", request);
  assertEquals(again.body.lock, first.body.lock);
  assertEquals(first.body.lock?.lock_id, request.lock_id);

  // and a user's own id, where the lock's row is there and where it is not
  const anna = await tenant.join("anna");
  const own = {
    video_id: request.video_id,
    database_name: "captions",
    lock_holder_user_id: anna.id.toUpperCase(),
  };
  for (const _ of [1, 2]) {
    const { body } = await invoke(anna.client, "lock-acquire", own);
    assertEquals([body.acquired, body.lock?.lock_holder_user_id], [true, anna.id]);
    assertEquals((await invoke(anna.client, "lock-release", own)).body.released, true);
  }
});

Deno.test("INVALID_REQUEST: what only the database can judge is reported in the same form", async () => {
  await using tenant = await newTenant();
  const { video_id, database_name } = valid(tenant);
  const paths = async (name: string, body: unknown) => {
    const answer = await invoke(client(secretKey), name, body);
    assertError(answer, "INVALID_REQUEST");
    return answer.body.details?.map((rule) => rule.path);
  };
  assertEquals(await paths("lock-acquire", { video_id, database_name }), ["lock_holder_user_id"]);
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
  for (const row of ["not there yet", "there"]) {
    for (const name of ["lock-acquire", "lock-release"]) {
      const answer = await invoke(anna.client, name, {
        video_id,
        database_name,
        lock_holder_user_id: "ben",
      });
      assertError(answer, "FORBIDDEN", `${name}, the lock's row is ${row}`);
    }
    await invoke(anna.client, "lock-acquire", { video_id, database_name });
    await invoke(anna.client, "lock-release", {
      video_id,
      database_name,
      lock_holder_user_id: anna.id,
    });
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

Deno.test("DATABASE_UNAVAILABLE: every way to say not now, with Retry-After", async () => {
  await using tenant = await newTenant();
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const nobody = `http://127.0.0.1:${listener.addr.port}`;
  listener.close();
  const html = (status: number) => () => new Response("<html>Sorry</html>", { status });
  const answers: Record<string, () => Response> = {
    "not JSON": html(200),
    "JSON of another kind": () => Response.json({ hello: "world" }),
    "a list": () => Response.json([]),
    "null": () => Response.json(null),
    "nothing": () => new Response(null, { status: 204 }),
    "a broken answer": () => new Response('{"acquired": tr'),
    ...Object.fromEntries(
      [408, 425, 429, 500, 502, 503, 504, 520, 522, 540, 544].flatMap((status) => [
        [`a page with ${status}`, html(status)],
        [`JSON with ${status}`, () => Response.json({ message: "not now" }, { status })],
      ]),
    ),
    ...Object.fromEntries([502, 503, 504].map((status) => [
      `a gateway with ${status} and a code of its own`,
      () => Response.json({ code: "UPSTREAM_DOWN", message: "" }, { status }),
    ])),
    "a proxy with a code of its own": () =>
      Response.json({ code: "PROJECT_PAUSED", message: "" }, { status: 540 }),
    ...Object.fromEntries(
      NOT_NOW_CODES.map(([code, status]) => [
        code,
        () => Response.json({ code, message: "the inside of the house" }, { status }),
      ]),
    ),
  };
  for (const name of FUNCTIONS) {
    const check = async (url: string, note: string) => {
      await using own = await serveFunction(name, url);
      const answer = await post(name, { base: own.url, body: JSON.stringify(valid(tenant)) });
      assertError(answer, "DATABASE_UNAVAILABLE", `${name}: ${note}`);
      assertEquals(answer.headers.get("retry-after"), "1");
      assertFalse(JSON.stringify(answer.body).includes("house"));
    };
    await check(nobody, "no server listens");
    for (const [note, answer] of Object.entries(answers)) {
      await using api = serveDataApi(answer);
      await check(api.url, note);
    }
  }
});

/** Codes, each with the status that PostgREST gives to it. */
const NOT_NOW_CODES: [code: string, status: number][] = [
  ["08000", 503],
  ["08003", 503],
  ["08006", 503],
  ["25006", 405],
  ["25P03", 500],
  ["25P04", 500],
  ["40001", 500],
  ["40003", 500],
  ["40P01", 500],
  ["53000", 503],
  ["53100", 503],
  ["53200", 503],
  ["53300", 503],
  ["53400", 500],
  ["55000", 500],
  ["57000", 500],
  ["57014", 500],
  ["57P01", 503],
  ["57P02", 500],
  ["57P03", 500],
  ["57P04", 500],
  ["57P05", 500],
  ["PGRST000", 503],
  ["PGRST001", 503],
  ["PGRST002", 503],
  ["PGRST003", 504],
];

Deno.test("DATABASE_UNAVAILABLE: what the database raises itself (PT503) keeps its own words", async () => {
  await using tenant = await newTenant();
  const raised = { code: "PT503", message: "The lock is being changed just now", hint: "Wait." };
  await using api = serveDataApi(() => Response.json(raised, { status: 503 }));
  await using own = await serveFunction("lock-renew", api.url);
  const answer = await post("lock-renew", { base: own.url, body: JSON.stringify(valid(tenant)) });
  assertError(answer, "DATABASE_UNAVAILABLE");
  assertEquals([answer.body.message, answer.body.hint], [raised.message, raised.hint]);
});

Deno.test("a redirect by the Data API is not followed, so that no credential travels on", async () => {
  await using tenant = await newTenant();
  await using elsewhere = serveDataApi(() => Response.json({ acquired: true }));
  for (const name of FUNCTIONS) {
    for (const status of [301, 302, 303, 307, 308]) {
      await using api = serveDataApi((request) =>
        Response.redirect(new URL(new URL(request.url).pathname, elsewhere.url), status)
      );
      await using own = await serveFunction(name, api.url);
      const answer = await post(name, { base: own.url, body: JSON.stringify(valid(tenant)) });
      assertError(answer, "DATABASE_UNAVAILABLE", `${name} ${status}`);
    }
  }
  assertEquals(elsewhere.calls, []);
});

/** Sets the functions' own time: so many milliseconds instead of what they ask for, which is recorded. */
function shortDeadline(ms: number): Disposable & { asked: number[] } {
  const { timeout } = AbortSignal;
  const asked: number[] = [];
  AbortSignal.timeout = (wanted) => timeout.call(AbortSignal, (asked.push(wanted), ms));
  return { asked, [Symbol.dispose]: () => void (AbortSignal.timeout = timeout) };
}

/** Sends the head of a request and then a byte of its body now and then, until it is answered; gives the answer. */
async function trickle(
  url: string,
  everyMs: number,
  body: string,
): Promise<{ status: number; headers: Headers; body: Answer }> {
  const { hostname, port } = new URL(url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  const send = (text: string) => connection.write(new TextEncoder().encode(text));
  await send(
    `POST / HTTP/1.1\r\nhost: ${hostname}\r\napikey: ${secretKey}\r\n` +
      `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n`,
  );
  let answered = false;
  const sending = (async () => {
    for (let at = 0; at < body.length && !answered; at++) {
      await delay(everyMs);
      await send(body[at]!);
    }
  })();
  let text = "";
  const buffer = new Uint8Array(4096);
  while (!text.endsWith("}")) {
    const bytes = await connection.read(buffer);
    text += new TextDecoder().decode(buffer.subarray(0, bytes ?? 0));
    if (bytes === null) break;
  }
  answered = true;
  await sending.catch(() => {}); // it may be closed already
  const [head = "", json = ""] = text.split("\r\n\r\n");
  const [first = "", ...lines] = head.split("\r\n");
  const headers = new Headers(lines.map((line) => line.split(": ", 2) as [string, string]));
  return { status: Number(first.split(" ")[1]), headers, body: JSON.parse(json) };
}

Deno.test("REQUEST_TIMEOUT: a body that does not arrive in time ends the request, and the database is not asked", async () => {
  await using tenant = await newTenant();
  using deadline = shortDeadline(200);
  for (const name of FUNCTIONS) {
    await using api = serveDataApi(() => Response.json({}));
    await using own = await serveFunction(name, api.url);
    const started = performance.now();
    assertError(await trickle(own.url, 25, JSON.stringify(valid(tenant))), "REQUEST_TIMEOUT", name);
    assertLess(performance.now() - started, 1500, name);
    assertEquals(api.calls, []);
    assertEquals(own.log.map(({ outcome, status }) => [outcome, status]), [[
      "REQUEST_TIMEOUT",
      408,
    ]]);
  }
  assertEquals(deadline.asked, FUNCTIONS.map(() => DEADLINE_MS));
});

Deno.test("DATABASE_UNAVAILABLE: a Data API that hangs is given up, and the time the body took counts too", async () => {
  await using tenant = await newTenant();
  assertEquals(DEADLINE_MS, 10_000);
  for (const name of FUNCTIONS) {
    // the body takes a quarter of it; on a busy machine two or three
    using deadline = shortDeadline(2000);
    await using api = serveDataApi(() => new Promise(() => {}));
    await using own = await serveFunction(name, api.url);
    const body = JSON.stringify(valid(tenant));
    assertError(
      await trickle(own.url, 500 / body.length, body),
      "DATABASE_UNAVAILABLE",
      name,
    );
    assertEquals(deadline.asked, [DEADLINE_MS], "one deadline over everything");
    assertLess(own.log[0]!.ms, 2500, "and not a second one for the database");
    assertEquals(api.calls.length, 1, "it is not tried again behind the caller's back");
  }
});

Deno.test("a database that finds the row locked (55P03) is asked once more, and then the lock is called busy", async () => {
  await using tenant = await newTenant();
  const now = new Date(Math.floor(Date.now() / 1000) * 1000);
  const locked = (date: string | null) => () =>
    Response.json({ code: "55P03", message: "canceling statement due to lock timeout" }, {
      status: 500,
      headers: date === null ? {} : { date },
    });
  const common = {
    reason: "busy",
    holder: null,
  } as const;
  const server_time = now.toISOString();
  const expected = {
    "lock-acquire": {
      acquired: false,
      database_name: "layout",
      ...common,
      server_time,
      queue: { position: null, length: 0 },
      retry_after_ms: 500,
    } satisfies AcquireAnswer,
    "lock-renew": {
      renewed: false,
      database_name: "layout",
      ...common,
      server_time,
    } satisfies RenewAnswer,
    "lock-release": { released: false, ...common } satisfies ReleaseAnswer,
  };
  for (const [name, busy] of Object.entries(expected)) {
    await using api = serveDataApi(locked(now.toUTCString()));
    await using own = await serveFunction(name, api.url);
    const one = valid(tenant);
    const { database_name, ...rest } = one;
    for (const body of [one, { ...rest, database_names: [database_name, "captions"] }]) {
      const answer = await post(name, { base: own.url, body: JSON.stringify(body) });
      assertEquals<unknown>([answer.status, answer.body], [200, busy]);
    }
    assertEquals(api.calls.length, 4);
    assertEquals(own.log.map(({ outcome }) => outcome), ["busy", "busy"]);

    // without the database's time there is no answer that has one
    await using timeless = serveDataApi(locked("none"));
    await using lost = await serveFunction(name, timeless.url);
    const without = await post(name, { base: lost.url, body: JSON.stringify(one) });
    if (name === "lock-release") assertEquals<unknown>(without.body, busy);
    else assertError(without, "DATABASE_UNAVAILABLE");

    let calls = 0;
    const { reason: _, ...yes } = { ...busy, [Object.keys(busy)[0]!]: true };
    await using moment = serveDataApi(() => calls++ ? Response.json(yes) : locked(null)());
    await using second = await serveFunction(name, moment.url);
    const answer = await post(name, { base: second.url, body: JSON.stringify(one) });
    assertEquals<unknown>([answer.status, answer.body], [200, yes], "it was a moment's lock");
  }
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

Deno.test("INTERNAL_ERROR: what no second try helps stays in the log", async () => {
  await using tenant = await newTenant();
  const codes: [code: string, status: number][] = [
    ["25P02", 500],
    ["28P01", 403],
    ["0P000", 403],
    ["42883", 404],
    ["42P01", 404],
    ["54001", 500],
    ["58030", 500],
    ["P0001", 400],
    ["PGRST202", 404],
    ["PGRST300", 500],
    ["PT412", 412],
    ["XX000", 500],
    ["XX001", 500],
  ];
  for (const name of FUNCTIONS) {
    for (const [code, status] of codes) {
      const inside = { code, message: "secret of the house", details: "cache lookup failed" };
      await using api = serveDataApi(() => Response.json(inside, { status }));
      await using own = await serveFunction(name, api.url);
      const answer = await post(name, { base: own.url, body: JSON.stringify(valid(tenant)) });
      assertError(answer, "INTERNAL_ERROR", code);
      assertFalse(/house|lookup/.test(JSON.stringify(answer.body)));
      assertEquals(own.log[0]?.cause, { status, body: inside });
      assertEquals(own.log[0]?.request_id, answer.headers.get("x-request-id"));
    }
  }
});

Deno.test("CORS: a browser on another origin may call, with every header that supabase-js can send", async () => {
  const sent = [...corsHeaders["Access-Control-Allow-Headers"]!.split(", "), "x-region"];
  for (const name of FUNCTIONS) {
    const response = await fetch(`${url}/functions/v1/${name}`, {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": sent.join(),
      },
    });
    await response.body?.cancel();
    assertEquals(response.ok, true);
    assertEquals(response.headers.get("access-control-allow-origin"), "*");
    assertMatch(response.headers.get("access-control-allow-methods") ?? "", /POST/);
    const allowed = response.headers.get("access-control-allow-headers")?.split(/,\s*/) ?? [];
    assertEquals(sent.filter((header) => !allowed.includes(header)), []);
  }
});

Deno.test("the request id and the caller's traceparent reach the Data API and the log; what is no trace does not", async () => {
  await using tenant = await newTenant();
  const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const seen: (string | null)[][] = [];
  await using api = serveDataApi((request) => {
    seen.push(["x-request-id", "traceparent"].map((name) => request.headers.get(name)));
    return passOnTo(url)(request);
  });
  for (const name of FUNCTIONS) {
    await using own = await serveFunction(name, api.url);
    for (const traceparent of [trace, secretKey, `${trace}-more`, ""]) {
      const { headers } = await post(name, {
        base: own.url,
        body: JSON.stringify({ ...valid(tenant), video_id: crypto.randomUUID() }),
        headers: { traceparent },
      });
      const id = headers.get("x-request-id");
      const passed = traceparent === trace ? trace : null;
      assertEquals(seen.pop(), [id, passed]);
      const line = own.log.pop()!;
      assertEquals([line.request_id, line.traceparent ?? null], [id, passed]);
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
