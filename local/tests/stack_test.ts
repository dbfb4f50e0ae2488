import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { type ScratchServer, startScratchServer } from "../../tools/scratch_server.ts";
import { migrate } from "../postgres/migrate.ts";
import { type Stack, type StackOptions, startStack } from "../stack.ts";
import { StackError } from "../stack_error.ts";
import { makeProject, type Project } from "./support/project.ts";

const NOTES = `
  create table public.notes (id int primary key, text text);
  grant select, insert on public.notes to service_role;
`;

const HELLO = (greeting: string) => `
  export default {
    async fetch(request) {
      const body = await request.text();
      return Response.json({ greeting: "${greeting}", body, env: Deno.env.toObject() });
    },
  };
`;

/** Runs a stack for the length of a test. */
async function running(options: StackOptions): Promise<Stack & AsyncDisposable> {
  const stack = await startStack(options);
  return { ...stack, [Symbol.asyncDispose]: () => stack.stop() };
}

async function query(dbUrl: string, text: string): Promise<Record<string, unknown>[]> {
  const sql = postgres(dbUrl, { max: 1, onnotice() {} });
  try {
    return [...await sql.unsafe(text)];
  } finally {
    await sql.end();
  }
}

/** Calls the stack as a server; gives status and text. */
async function call(
  stack: Stack,
  path: string,
  init: RequestInit = {},
): Promise<[status: number, text: string]> {
  const headers = { apikey: stack.secretKey, "content-type": "application/json", ...init.headers };
  const response = await fetch(stack.url + path, { ...init, headers });
  return [response.status, await response.text()];
}

Deno.test("a second start keeps the data and the keys, and applies only the migrations that are new", async () => {
  await using project = await makeProject({
    "migrations/1_notes.sql": NOTES,
    "seed.sql": "insert into public.notes values (1, 'seeded')",
  });
  const applied: string[] = [];
  const options: StackOptions = {
    project: project.path,
    data: project.data,
    onProgress: (message) => message.startsWith("applying") && applied.push(message),
  };

  const first = await startStack(options);
  await query(first.dbUrl, "delete from public.notes; insert into public.notes values (2, 'kept')");
  await first.stop();
  assertEquals(applied.splice(0), ["applying 1_notes.sql", "applying seed.sql"]);

  await project.write("migrations/2_more.sql", "-- more\nalter table public.notes add more int;");
  await using second = await running(options);
  assertEquals(applied, ["applying 2_more.sql"]);
  assertEquals(second.secretKey, first.secretKey);
  assertEquals(await query(second.dbUrl, "select * from public.notes"), [{
    id: 2,
    text: "kept",
    more: null,
  }]);
  assertEquals(
    await query(
      second.dbUrl,
      "select * from supabase_migrations.schema_migrations where version = '2'",
    ),
    [
      {
        version: "2",
        name: "more",
        statements: ["-- more\nalter table public.notes add more int;"],
      },
    ],
  );
});

Deno.test("fresh forgets data and keys", async () => {
  await using project = await makeProject({ "migrations/1_notes.sql": NOTES });
  const options = { project: project.path, data: project.data };
  const first = await startStack(options);
  await query(first.dbUrl, "insert into public.notes values (1, 'old')");
  await first.stop();
  await using second = await running({ ...options, fresh: true });
  assertNotEquals(second.secretKey, first.secretKey);
  assertEquals(await query(second.dbUrl, "select * from public.notes"), []);
});

Deno.test("two stacks side by side share nothing", async () => {
  await using project = await makeProject({ "migrations/1_notes.sql": NOTES });
  await using one = await running({ project: project.path });
  await using two = await running({ project: project.path });
  await query(one.dbUrl, "insert into public.notes values (1, 'of one')");
  assertEquals(await call(one, "/rest/v1/notes?select=text"), [200, '[{"text":"of one"}]']);
  assertEquals(await call(two, "/rest/v1/notes?select=text"), [200, "[]"]);
  assertEquals((await call({ ...two, secretKey: one.secretKey }, "/rest/v1/notes"))[0], 401);
});

Deno.test("a migration that fails is reported with file and place, and leaves no stack", async () => {
  await using project = await makeProject({
    "migrations/1_notes.sql": NOTES,
    "migrations/2_wrong.sql": "create table public.a (i int);\n\nselect nothing;",
  });
  const options = { project: project.path, data: project.data };
  const error = await assertRejects(() => startStack(options), StackError);
  assertStringIncludes(
    error.message,
    '2_wrong.sql:3:8: column "nothing" does not exist (SQLSTATE 42703)',
  );

  await project.write("migrations/2_wrong.sql", "create table public.a (i int);");
  await using stack = await running(options); // the data folder is free, and nothing of the failed file is left
  assertEquals(
    await query(
      stack.dbUrl,
      "select version from supabase_migrations.schema_migrations order by 1",
    ),
    [
      { version: "1" },
      { version: "2" },
    ],
  );
});

let server: ScratchServer;
Deno.test.beforeAll(async () => {
  server = await startScratchServer();
});
Deno.test.afterAll(async () => await server[Symbol.asyncDispose]());

/** Migrates a database twice, with the files changed in between, and gives what the second time said. */
async function migratedAgainWith(
  change: (project: Project) => Promise<void>,
): Promise<string> {
  await using project = await makeProject({
    "migrations/1_notes.sql": NOTES,
    "migrations/3_more.sql": "-- of the CLI's record\nselect 1;\n\nselect 2;",
    "seed.sql": "select 'seeded'",
  });
  const messages: string[] = [];
  const onProgress = (message: string) => messages.push(message);
  const database = await server.database();
  const folder = join(project.path, "supabase");
  await migrate(database, folder, { onProgress });
  assertEquals(messages.splice(0), [
    "applying 1_notes.sql",
    "applying 3_more.sql",
    "applying seed.sql",
  ]);
  // as the Supabase CLI records it
  await query(
    database,
    `update supabase_migrations.schema_migrations
     set statements = array['-- of the CLI''s record\nselect 1', 'select 2'] where version = '3'`,
  );
  await change(project);
  return await migrate(database, folder, { onProgress }).then(
    () => messages.join("\n"),
    (error) => (assertInstanceOf(error, StackError), error.message),
  );
}

Deno.test("files that are as they were applied, by this stack or by the Supabase CLI, are not applied again", async () => {
  const message = await migratedAgainWith(() => Promise.resolve());
  assertEquals(message, "");
});

for (
  const [what, change, said] of [
    [
      "was edited",
      ({ write }) => write("migrations/1_notes.sql", NOTES + "drop table public.notes;"),
      /1_notes\.sql was changed after it had been applied.*Put the file back/,
    ],
    [
      "was deleted",
      ({ path }) => Deno.remove(join(path, "supabase/migrations/1_notes.sql")),
      /1_notes\.sql, which is not in supabase\/migrations.*Put it back/,
    ],
    [
      "came later than a newer one",
      ({ write }) => write("migrations/2_between.sql", "select 1"),
      /2_between\.sql has not been applied, and is older than 3_more\.sql.*Give it a later version/,
    ],
  ] as [string, (project: Project) => Promise<void>, RegExp][]
) {
  Deno.test(`a migration that ${what} is an error, which says which file and what to do`, async () => {
    const message = await migratedAgainWith(change);
    assertMatch(message, said);
    assertStringIncludes(message, "--fresh");
  });
}

Deno.test("a seed that was edited is reported, and is not applied twice", async () => {
  const message = await migratedAgainWith(({ write }) => write("seed.sql", "select 'other'"));
  assertStringIncludes(message, "supabase/seed.sql has changed since it was applied");
  assertFalse(message.includes("applying"), message);
});

Deno.test("migrations run as a role that is no superuser", async () => {
  await using project = await makeProject({
    "migrations/1_file.sql": "select pg_read_file('PG_VERSION')",
  });
  const error = await assertRejects(() => startStack({ project: project.path }), StackError);
  assertStringIncludes(error.message, "SQLSTATE 42501");
});

Deno.test("a function gets what the platform gives, and nothing else of this process", async () => {
  await using project = await makeProject({ "functions/hello/index.ts": HELLO("hello") });
  const foreign = ["HOLDFAST_TEST_SECRET", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "PGPASSWORD"];
  for (const name of foreign) Deno.env.set(name, "http://127.0.0.1:9");
  await using stack = await running({ project: project.path });
  for (const name of foreign) Deno.env.delete(name);
  const [status, text] = await call(stack, "/functions/v1/hello", {
    method: "POST",
    body: "streamed",
  });
  const { body, env } = JSON.parse(text);
  assertEquals([status, body], [200, "streamed"]);
  assertEquals(
    Object.keys(env).filter((name) => /SUPABASE|HOLDFAST|PROXY|^PG/i.test(name)).sort(),
    [
      "SUPABASE_ANON_KEY",
      "SUPABASE_DB_URL",
      "SUPABASE_FUNCTION_SLUG",
      "SUPABASE_JWKS",
      "SUPABASE_PUBLISHABLE_KEYS",
      "SUPABASE_SECRET_KEYS",
      "SUPABASE_SERVICE_ROLE_KEY",
      "SUPABASE_URL",
    ],
  );
  assertEquals(JSON.parse(env.SUPABASE_SECRET_KEYS), { default: stack.secretKey });
  assertEquals([env.SUPABASE_URL, env.SUPABASE_FUNCTION_SLUG], [stack.url, "hello"]);
  assertEquals((await call(stack, "/functions/v1/nobody"))[0], 404);
});

Deno.test("a changed function is served at once, and so is a new one", async () => {
  await using project = await makeProject({ "functions/hello/index.ts": HELLO("before") });
  await using stack = await running({ project: project.path, watch: true });
  const greeting = async (name: string) => {
    const [status, text] = await call(stack, `/functions/v1/${name}`);
    return status === 200 ? JSON.parse(text).greeting : status;
  };
  const becomes = async (name: string, wanted: string) => {
    for (
      const deadline = Date.now() + 5_000;
      Date.now() < deadline && await greeting(name) !== wanted;
    ) await delay(25);
    assertEquals(await greeting(name), wanted);
  };
  assertEquals(await greeting("hello"), "before");
  await project.write("functions/hello/index.ts", HELLO("after"));
  await becomes("hello", "after");
  await project.write("functions/second/index.ts", HELLO("second"));
  await becomes("second", "second");
});

Deno.test("PostgreSQL that is killed comes back with what was committed; until then callers get 503", async () => {
  await using project = await makeProject({ "migrations/1_notes.sql": NOTES });
  await using stack = await running({ project: project.path, data: project.data });
  await call(stack, "/rest/v1/notes", { method: "POST", body: '{"id":1,"text":"safe"}' });
  const pid = Number(
    (await Deno.readTextFile(join(project.data, "postgres", "postmaster.pid"))).split("\n")[0],
  );
  Deno.kill(pid, "SIGKILL");
  const seen = new Set<number>();
  let answer = await call(stack, "/rest/v1/notes?select=text");
  for (const deadline = Date.now() + 10_000; answer[0] !== 200 && Date.now() < deadline;) {
    seen.add(answer[0]);
    await delay(10);
    answer = await call(stack, "/rest/v1/notes?select=text");
  }
  assertEquals(answer, [200, '[{"text":"safe"}]']);
  assert(seen.isSubsetOf(new Set([503])), `${[...seen]}`);
});

Deno.test("a function that one role may call stays closed to the next on the same connection", async () => {
  // PostgreSQL writes such a body into its plan, and looks at the right to call it only then
  await using project = await makeProject({
    "migrations/1_seven.sql": `
      create function public.seven() returns int language sql as 'select 7';
      revoke execute on function public.seven from public;
      grant execute on function public.seven to anon;
    `,
  });
  await using stack = await running({ project: project.path });
  const seven = (key: string) =>
    call({ ...stack, secretKey: key }, "/rest/v1/rpc/seven", { method: "POST" });
  assertEquals(await seven(stack.publishableKey), [200, "7"]);
  assertEquals((await seven(stack.secretKey))[0], 403);
});
