// What the other tests rely on: the Data API of the stack under test answers as Supabase's does, errors included. The
// embedded stack is held to it by the same words as the real one.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { setTimeout as delay } from "node:timers/promises";
import { publishableKey, secretKey, sql, url } from "../support/stack.ts";
import { user } from "../support/tenant.ts";

/** Something in `public` that a test made for itself. */
interface Thing extends AsyncDisposable {
  name: string;
}

async function make(
  kind: "table" | "function",
  signature: string,
  definition: string,
): Promise<Thing> {
  const name = `test_${crypto.randomUUID().replaceAll("-", "")}`;
  await sql.unsafe(`create ${kind} public.${name}${signature} ${definition}`);
  return {
    name,
    [Symbol.asyncDispose]: async () => void await sql.unsafe(`drop ${kind} public.${name} cascade`),
  };
}

/** Older projects grant everything on what is new, and PostgreSQL itself the calling of functions. */
async function revokeAll(kind: "table" | "function", name: string): Promise<void> {
  await sql.unsafe(
    `revoke all on ${kind} public.${name} from public, anon, authenticated, service_role`,
  );
}

type Headers = Record<string, string>;

async function callers(): Promise<Record<string, Headers>> {
  const { token } = await user("ann");
  return {
    anon: { apikey: publishableKey },
    authenticated: { apikey: publishableKey, authorization: `Bearer ${token}` },
    service_role: { apikey: secretKey },
  };
}

/** Asks the Data API, again while it has not noticed yet that the object exists. */
async function ask(
  headers: Headers,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: { code?: string } }> {
  for (let attempt = 0;; attempt++) {
    const response = await fetch(`${url}/rest/v1/${path}`, {
      method: body === undefined ? "GET" : "POST",
      headers: { "content-type": "application/json", prefer: "return=representation", ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const answer = { status: response.status, body: text ? JSON.parse(text) : {} };
    if (!/^PGRST20[25]$/.test(answer.body.code ?? "") || attempt === 100) return answer;
    await delay(50);
  }
}

Deno.test("a table whose grant is missing is closed to every role, and open to it with the grant", async () => {
  await using table = await make("table", "", "(id int)");
  await revokeAll("table", table.name);
  for (const [role, headers] of Object.entries(await callers())) {
    const status = role === "anon" ? 401 : 403;
    for (const body of [undefined, { id: 1 }]) {
      const answer = await ask(headers, table.name, body);
      assertEquals([role, answer.status, answer.body.code], [role, status, "42501"]);
    }
    await sql.unsafe(`grant select, insert on public.${table.name} to ${role}`);
    assertEquals((await ask(headers, table.name, { id: 1 })).status, 201);
    assertEquals((await ask(headers, table.name)).status, 200);
  }
});

Deno.test("a function whose grant is missing is closed to every role, and open to it with the grant", async () => {
  await using fn = await make(
    "function",
    "()",
    "returns int language plpgsql as 'begin return 7; end'",
  );
  await revokeAll("function", fn.name);
  for (const [role, headers] of Object.entries(await callers())) {
    const answer = await ask(headers, `rpc/${fn.name}`, {});
    assertEquals([role, answer.status, answer.body.code], [
      role,
      role === "anon" ? 401 : 403,
      "42501",
    ]);
    await sql.unsafe(`grant execute on function public.${fn.name} to ${role}`);
    assertEquals(await ask(headers, `rpc/${fn.name}`, {}), { status: 200, body: 7 as never });
  }
});

// An unsigned token ("alg": "none") is in local/tests/verify_token_test.ts and, for what it could reach, authority_test.ts.
Deno.test("a token that is junk or forged is an error, and never taken for the anonymous caller", async () => {
  await using fn = await make(
    "function",
    "()",
    "returns text language sql as 'select current_user::text'",
  );
  await sql.unsafe(`grant execute on function public.${fn.name} to anon`);
  assertEquals((await ask({ apikey: publishableKey }, `rpc/${fn.name}`, {})).status, 200);

  const part = (value: unknown) => btoa(JSON.stringify(value)).replace(/=+$/, "");
  const claims = part({ role: "service_role", exp: 4102444800 });
  const junk = ["junk", "a.b.c"];
  const forged = `${part({ alg: "HS256", typ: "JWT" })}.${claims}.c2lnbmF0dXJl`;
  for (const token of [...junk, forged]) {
    const answer = await ask(
      { apikey: publishableKey, authorization: `Bearer ${token}` },
      `rpc/${fn.name}`,
      {},
    );
    assertEquals([token, answer.status], [token, 401]);
    assertMatch(answer.body.code ?? "", /^PGRST30\d$/);
  }
});

Deno.test("the database sees the request's headers, method and claims, in functions and in table writes", async () => {
  const seen = `jsonb_build_object(
    'header', current_setting('request.headers', true)::json ->> 'x-test',
    'method', current_setting('request.method', true),
    'role', auth.role(),
    'user', current_user
  )`;
  await using table = await make("table", "", `(id int, seen jsonb default ${seen})`);
  await using fn = await make(
    "function",
    "()",
    `returns jsonb language sql as $$ select ${seen} $$`,
  );
  await sql.unsafe(`grant select, insert on public.${table.name} to service_role`);
  await sql.unsafe(`grant execute on function public.${fn.name} to service_role`);
  const expected = { header: "yes", method: "POST", role: "service_role", user: "service_role" };
  const headers = { apikey: secretKey, "x-test": "yes" };
  assertEquals((await ask(headers, `rpc/${fn.name}`, {})).body, expected as never);
  assertEquals(
    (await ask(headers, table.name, { id: 1 })).body,
    [{ id: 1, seen: expected }] as never,
  );
});

Deno.test("arguments and results are PostgreSQL's own JSON", async () => {
  await using fn = await make(
    "function",
    "(a jsonb, b int[], c timestamptz)",
    "returns table (a jsonb, b int[], c timestamptz, n numeric) language sql as 'select a, b, c, 1.50'",
  );
  await sql.unsafe(`grant execute on function public.${fn.name} to service_role`);
  const given = { a: [{ deep: "\"'\\" }], b: [1, 2], c: "2026-01-02T03:04:05.000006+00:00" };
  const answer = await ask({ apikey: secretKey }, `rpc/${fn.name}`, given);
  assertEquals(answer, { status: 200, body: [{ ...given, n: 1.5 }] as never });
});

Deno.test("an error that SQL raises keeps its code, and has the status of its kind", async () => {
  await using fn = await make(
    "function",
    "(code text)",
    "returns void language plpgsql as $$ begin raise exception using errcode = code, message = 'm', detail = 'd', hint = 'h'; end $$",
  );
  await sql.unsafe(`grant execute on function public.${fn.name} to service_role, anon`);
  const statuses = {
    P0001: 400,
    PT418: 418,
    "42501": 403,
    "23505": 409,
    "40001": 500,
    "22012": 400,
    "53300": 503,
  };
  for (const [code, status] of Object.entries(statuses)) {
    const answer = await ask({ apikey: secretKey }, `rpc/${fn.name}`, { code });
    assertEquals(answer, {
      status,
      body: { code, message: "m", details: "d", hint: "h" } as never,
    });
  }
  assertEquals(
    (await ask({ apikey: publishableKey }, `rpc/${fn.name}`, { code: "42501" })).status,
    401,
  );
});

Deno.test("a role's statement_timeout holds for its requests", async () => {
  await using fn = await make(
    "function",
    "()",
    "returns text language sql as 'select current_setting(''statement_timeout'')'",
  );
  await sql.unsafe(`grant execute on function public.${fn.name} to anon, authenticated`);
  const { anon, authenticated } = await callers();
  assert((await ask(anon!, `rpc/${fn.name}`, {})).body === "3s" as never);
  assert((await ask(authenticated!, `rpc/${fn.name}`, {})).body === "8s" as never);
});
