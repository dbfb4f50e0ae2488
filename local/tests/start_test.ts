// A start meets what it should not: a strange environment, files that were lost or left, servers that never answer, and
// a user who gives up.
import {
  assertEquals,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
// @ts-types="@types/pg"
import pg from "pg";
import { isSoak, runs } from "../../supabase/tests/support/soak.ts";
import { readKeys } from "../keys.ts";
import { startPostgres } from "../postgres/postgres.ts";
import { type Stack, startStack } from "../stack.ts";
import { StackError } from "../stack_error.ts";
import { processesWith, run, runCurls, start } from "./support/command.ts";
import { makeProject, temporaryFolder } from "./support/project.ts";

/** A port where nothing listens. */
const NOWHERE = "http://127.0.0.1:9";

/** What must not reach the stack's own connections. Each of these alone would make the start fail. */
const STRANGE = {
  PGSSLMODE: "require",
  PGHOST: "127.0.0.1",
  PGPORT: "9",
  PGUSER: "nobody",
  PGPASSWORD: "wrong",
  PGDATABASE: "none",
  PGOPTIONS: "-c search_path=nowhere",
  PGDATA: "/nowhere",
  PGCLIENTENCODING: "LATIN1",
  PGSSLNEGOTIATION: "direct",
  PGAPPNAME: "none",
  HTTP_PROXY: NOWHERE,
  http_proxy: NOWHERE,
  https_proxy: NOWHERE,
  ALL_PROXY: NOWHERE,
  no_proxy: "example.com",
  NO_PROXY: "example.com",
};

Deno.test("PG* variables and a proxy in the environment: the stack starts, and its functions reach it", async () => {
  await using data = await temporaryFolder();
  const started = await start(data.path, [], { env: STRANGE });
  try {
    const [acquired, released] = await runCurls(started.stdout, STRANGE);
    assertEquals([acquired.acquired, released.released], [true, true]);
  } finally {
    assertEquals((await started.end("SIGTERM")).code, 0);
  }
});

Deno.test("keys.json is lost: the start makes new keys, and the data is as it was", async () => {
  await using project = await makeProject({
    "migrations/1_notes.sql":
      "create table public.notes (id int); grant all on public.notes to service_role",
  });
  const options = { project: project.path, data: project.data };
  const add = async ({ url, secretKey }: Stack, id: number) => {
    const response = await fetch(`${url}/rest/v1/notes`, {
      method: "POST",
      headers: { apikey: secretKey, "content-type": "application/json", prefer: "return=minimal" },
      body: JSON.stringify({ id }),
    });
    assertEquals(response.status, 201, await response.text());
  };
  const first = await startStack(options);
  await add(first, 1);
  await first.stop();
  const file = join(project.data, "keys.json");
  await Deno.remove(file);
  const second = await startStack(options);
  await add(second, 2);
  await second.stop();
  const third = await startStack(options);
  const answer = await fetch(`${third.url}/rest/v1/notes?select=id`, {
    headers: { apikey: second.secretKey },
  });
  assertEquals(await answer.json(), [{ id: 1 }, { id: 2 }]);
  await third.stop();

  await Deno.writeTextFile(file, "{");
  const error = await assertRejects(() => startStack(options), StackError);
  assertStringIncludes(error.message, `${file} is damaged. Remove it`);
});

Deno.test("an error that does not pass ends the start, which says which", async () => {
  await using data = await temporaryFolder();
  await (await startStack({ data: data.path })).stop();
  const rules = join(data.path, "postgres", "pg_hba.conf");
  await Deno.writeTextFile(rules, "host all all 127.0.0.1/32 reject\n");
  const error = await assertRejects(() => startStack({ data: data.path }), StackError);
  assertMatch(error.message, /cannot be used: pg_hba\.conf rejects connection.*\(28000\)/);
  assertEquals(await processesWith(data.path), []);
});

/** Gives a start up when it does what `at` says, and sees it end soon with nothing left. */
async function giveUp(files: Record<string, string>, at: RegExp): Promise<void> {
  await using project = await makeProject(files);
  const interrupt = new AbortController();
  let begun = 0;
  const starting = startStack({
    project: project.path,
    data: project.data,
    signal: interrupt.signal,
    onProgress(message) {
      if (!at.test(message)) return;
      setTimeout(() => {
        begun = performance.now();
        interrupt.abort(new StackError("Interrupted."));
      }, 100);
    },
  });
  await assertRejects(() => starting, StackError, "Interrupted.");
  assertLess(performance.now() - begun, 5_000);
  assertEquals(await processesWith(project.path), []);
}

Deno.test("giving up while the database is made leaves nothing, and the next start makes it", async () => {
  await giveUp({}, /starting PostgreSQL/);
  await using data = await temporaryFolder();
  const interrupt = new AbortController();
  const options = { data: data.path, signal: interrupt.signal };
  const starting = startStack(options);
  setTimeout(() => interrupt.abort(new StackError("Interrupted.")), 250);
  await assertRejects(() => starting, StackError, "Interrupted.");
  await (await startStack({ data: data.path })).stop();
});

Deno.test("giving up does not wait for a PostgreSQL that lets nobody in", async () => {
  await using data = await temporaryFolder();
  await (await startStack({ data: data.path })).stop();
  // one that goes on recovering, as after a long crash
  const folder = join(data.path, "postgres");
  await Deno.writeTextFile(join(folder, "standby.signal"), "");
  await Deno.writeTextFile(join(folder, "postgresql.auto.conf"), "hot_standby = off\n");
  const interrupt = new AbortController();
  const starting = startStack({ data: data.path, signal: interrupt.signal });
  await delay(1_000);
  const begun = performance.now();
  interrupt.abort(new StackError("Interrupted."));
  await assertRejects(() => starting, StackError, "Interrupted.");
  assertLess(performance.now() - begun, 5_000);
  assertEquals(await processesWith(data.path), []);
});

Deno.test("giving up does not wait for a migration", async () => {
  await giveUp({ "migrations/1_slow.sql": "select pg_sleep(60)" }, /applying 1_slow/);
});

Deno.test("giving up does not wait for a function that never comes up", async () => {
  const never = "setInterval(() => {}, 1000); await new Promise(() => {});";
  await giveUp({ "functions/never/index.ts": never }, /starting Data API/);
  // one that hears nothing; not for ever, so that a stack that forgets it leaves no process for good
  const busy = "for (const end = Date.now() + 15_000; Date.now() < end;);";
  await giveUp({ "functions/busy/index.ts": busy }, /starting Data API/);
});

Deno.test("a function that loads for ever ends with the process that started it", async () => {
  await using folder = await temporaryFolder();
  const file = join(folder.path, "index.ts");
  await Deno.writeTextFile(file, "setInterval(() => {}, 1000); await new Promise(() => {});");
  const worker = new URL("../functions/function_worker.ts", import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", worker, file],
    stdin: "piped",
    stdout: "null",
  }).spawn();
  await delay(500);
  await child.stdin.close();
  assertEquals((await child.status).code, 0);
});

for (const signal of isSoak ? ["SIGINT", "SIGTERM"] as const : ["SIGTERM"] as const) {
  Deno.test(`${signal} ends a start that waits for a database which never answers`, async () => {
    await using data = await temporaryFolder();
    using mute = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const url = `postgresql://postgres@127.0.0.1:${mute.addr.port}/postgres`;
    const { end } = await start(data.path, ["--db-url", url], { until: "setting up" });
    await delay(100);
    const begun = performance.now();
    assertEquals((await end(signal)).code, 1);
    assertLess(performance.now() - begun, 5_000);
  });
}

for (const signal of isSoak ? ["SIGINT", "SIGTERM"] as const : ["SIGINT"] as const) {
  Deno.test(`${signal} as soon as the start has said a word ends it, with nothing left`, async () => {
    await using data = await temporaryFolder();
    const { end } = await start(data.path, [], { until: "starting PostgreSQL" });
    assertEquals((await end(signal)).code, 1);
    assertEquals(await processesWith(data.path), []);
    assertEquals((await run(["status", "--data", data.path])).code, 1);
  });
}

/** What startPostgres needs for a folder. */
const inFolder = (path: string) => ({
  directory: join(path, "postgres"),
  port: 0,
  adminPassword: "secret",
  logFile: join(path, "postgres.log"),
});

Deno.test("a postmaster.pid that was left behind does not stop the start, also where another process has its number now", async () => {
  await using folder = await temporaryFolder();
  const first = await startPostgres(inFolder(folder.path));
  const file = join(folder.path, "postgres", "postmaster.pid");
  const [, ...lines] = (await Deno.readTextFile(file)).split("\n");
  const { uid, gid } = await Deno.stat(file);
  await first.stop();
  // of the same account, as PostgreSQL takes a process that it may not signal for none of its own
  const stranger = new Deno.Command("sleep", {
    args: ["60"],
    cwd: "/", // that account may not reach this folder
    ...(uid === Deno.uid() ? {} : { uid: uid!, gid: gid! }),
  }).spawn();
  try {
    for (const pid of [stranger.pid, Deno.pid, 1]) {
      await Deno.writeTextFile(file, [pid, ...lines].join("\n"));
      await (await startPostgres(inFolder(folder.path))).stop();
    }
  } finally {
    stranger.kill();
    await stranger.status;
  }
});

Deno.test("a PostgreSQL that still runs on the folder is left alone and named", async () => {
  await using folder = await temporaryFolder();
  const server = await startPostgres(inFolder(folder.path));
  try {
    const second = { ...inFolder(folder.path), patienceMs: 200 };
    const error = await assertRejects(() => startPostgres(second), StackError);
    assertMatch(
      error.message,
      /A PostgreSQL \(process \d+\) runs on .* already\. End it: kill -INT \d+$/,
    );
    const client = new pg.Client({ connectionString: server.adminUrl });
    await client.connect();
    await client.end();
  } finally {
    await server.stop();
  }
});

Deno.test("the schema cache's connection is ended many times: no pile of connections, and changes are seen again", async () => {
  await using data = await temporaryFolder();
  const stack = await startStack({ data: data.path });
  const { adminPassword } = await readKeys(join(data.path, "keys.json"));
  const url = new URL(stack.dbUrl);
  Object.assign(url, { username: "supabase_admin", password: adminPassword });
  const admin = new pg.Client({ connectionString: url.href, application_name: "test" });
  await admin.connect();
  const others = `
    from pg_stat_activity
    where usename = 'supabase_admin' and backend_type = 'client backend' and pid <> pg_backend_pid()`;
  try {
    for (let ended = 0; ended < runs(15, 60); await delay(5)) {
      ended += (await admin.query(`select pg_terminate_backend(pid) ${others}`)).rowCount!;
    }
    await delay(1_000);
    assertEquals((await admin.query(`select application_name ${others}`)).rows, [
      { application_name: "schema-cache" },
    ]);
    await admin.query(`
      create function public.seven() returns int language sql as 'select 7';
      grant execute on function public.seven to service_role`);
    const response = await fetch(`${stack.url}/rest/v1/rpc/seven`, {
      method: "POST",
      headers: { apikey: stack.secretKey },
    });
    assertEquals([response.status, await response.text()], [200, "7"]);
  } finally {
    await admin.end();
    await stack.stop();
  }
});
