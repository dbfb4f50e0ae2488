// A tenant moves to another database while callers go on: by the very statements of docs/operating/move-a-tenant.md.
import { assert, assertEquals, assertGreater } from "@std/assert";
import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import { authSchema } from "../auth/auth_api.ts";
import { migrate } from "../postgres/migrate.ts";
import { type Postgres, startPostgres } from "../postgres/postgres.ts";
import { prepareDatabase } from "../postgres/prepare_database.ts";

const TENANT = "00000000-0000-4000-8000-0000000000aa";
const VIDEO = "00000000-0000-4000-8000-0000000000ab";
const NAMES = ["layout", "captions"];

const page = await Deno.readTextFile(
  new URL("../../docs/operating/move-a-tenant.md", import.meta.url),
);
const statements = (name: string) => {
  const [, sql] = new RegExp(`<!--move:${name}-->\\s*\`\`\`postgresql\\n([\\s\\S]*?)\`\`\``).exec(
    page,
  )!;
  return sql!;
};

/** A guarded write that was committed. */
interface Write {
  name: string;
  token: number;
  at: number;
}

interface Worlds {
  old: string;
  new: string;
  /** Which of the two callers ask. */
  directory: "old" | "new";
  until: number;
  writes: Write[];
}

async function open(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function openAsServer(url: string): Promise<pg.Client> {
  const client = await open(url);
  await client.query("set role service_role");
  await client.query(`select set_config('request.jwt.claims', '{"role":"service_role"}', false)`);
  return client;
}

async function twoDatabases(cleanUp: AsyncDisposableStack): Promise<Worlds> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-test-" });
  cleanUp.defer(() => Deno.remove(folder, { recursive: true }));
  const server: Postgres = await startPostgres({
    directory: join(folder, "postgres"),
    port: 0,
    adminPassword: "secret",
    logFile: join(folder, "postgres.log"),
  });
  cleanUp.defer(() => server.stop());
  const admin = await open(server.adminUrl);
  await admin.query("create database moved");
  await admin.end();
  const ready = async (name: string) => {
    const adminUrl = server.adminUrl.replace(/postgres$/, name);
    await prepareDatabase(adminUrl, { password: "secret", authSchema: await authSchema() });
    const url = adminUrl.replace("supabase_admin", "postgres");
    await migrate(url, join(import.meta.dirname!, "../../supabase"));
    return url;
  };
  const worlds: Worlds = {
    old: await ready("postgres"),
    new: await ready("moved"),
    directory: "old",
    until: Infinity,
    writes: [],
  };
  const old = await open(worlds.old);
  await old.query(
    "insert into public.videos (id, tenant_id, storage_key, status) values ($1, $2, 'k', 'ready')",
    [VIDEO, TENANT],
  );
  await old.end();
  return worlds;
}

/** A caller who follows the directory, and believes in its tokens for longer than it should. */
async function call(worlds: Worlds, holder: string) {
  const clients = { old: await openAsServer(worlds.old), new: await openAsServer(worlds.new) };
  for (let i = 0; Date.now() < worlds.until; i++) {
    const name = NAMES[i % 2]!;
    const client = clients[worlds.directory];
    const answer = await ask(
      client,
      "select acquire_lock($1, $2, $3, ttl_seconds => 60) as answer",
      [
        VIDEO,
        name,
        holder,
      ],
    );
    if (!answer?.acquired) {
      await new Promise((resolve) => setTimeout(resolve, 3));
      continue;
    }
    const { lock_id, fencing_token } = answer.lock;
    for (const where of ["old", "new"] as const) {
      await write(worlds, clients[where], name, Number(fencing_token));
    }
    if (i % 3 > 0) {
      await ask(clients[worlds.directory], "select release_lock($1, $2, $3) as answer", [
        VIDEO,
        name,
        lock_id,
      ]);
    } else {
      await ask(
        clients[worlds.directory],
        "select release_lock($1, $2, force => true) as answer",
        [VIDEO, name],
      );
    }
  }
  await Promise.all(Object.values(clients).map((client) => client.end()));
}

/** Holds both locks in one database for a while, also where its copy says that they are held. */
async function holdFor(ms: number, url: string): Promise<void> {
  const client = await openAsServer(url);
  const force = (name: string) =>
    ask(client, "select release_lock($1, $2, force => true) as answer", [VIDEO, name]);
  for (const name of NAMES) {
    await force(name);
    await ask(client, "select acquire_lock($1, $2, 'early') as answer", [VIDEO, name]);
  }
  await new Promise((resolve) => setTimeout(resolve, ms));
  for (const name of NAMES) await force(name);
  await client.end();
}

// deno-lint-ignore no-explicit-any
async function ask(client: pg.Client, text: string, values: unknown[]): Promise<any> {
  try {
    return (await client.query(text, values)).rows[0].answer;
  } catch (error) {
    const { code } = error as { code?: string };
    assert(["PT404", "55P03"].includes(code!), `${error}`);
    return null;
  }
}

async function write(worlds: Worlds, client: pg.Client, name: string, token: number) {
  await client.query("begin");
  try {
    await client.query("select assert_lock_held($1, $2, $3)", [VIDEO, name, token]);
    const { rows: [row] } = await client.query(
      "select (extract(epoch from clock_timestamp()) * 1000000)::bigint as at",
    );
    await client.query("commit");
    worlds.writes.push({ name, token, at: Number(row.at) });
  } catch (error) {
    const { code } = error as { code?: string };
    assert(["PT412", "PT503"].includes(code!), `${error}`);
    await client.query("rollback");
  }
}

async function letGo(worlds: Worlds): Promise<string> {
  const client = await open(worlds.old);
  const results = await client.query(
    statements("out").replaceAll(":tenant", `'${TENANT}'`),
  ) as unknown as pg.QueryResult[];
  await client.end();
  return JSON.stringify(results.find(({ rows }) => rows?.[0]?.moved)!.rows[0].moved);
}

async function takeUp(worlds: Worlds, moved: string) {
  const client = await open(worlds.new);
  await client.query(statements("in").replaceAll(":moved", () => `$moved$${moved}$moved$::json`));
  await client.end();
}

/** What both databases know of grants, each once. */
async function grants({ old, new: next }: Worlds) {
  const all = new Map<string, { name: string; token: number; from: number; to: number }>();
  for (const url of [old, next]) {
    const client = await open(url);
    const us = (column: string) => `(extract(epoch from ${column}) * 1000000)::bigint::text`;
    const { rows } = await client.query(`
      select database_name as name, lock_id, fencing_token as token, ${us("locked_at")} as from, ${
      us("ended_at")
    } as to
      from public.video_database_lock_history
      union all
      select database_name, lock_id, fencing_token, ${us("locked_at")}, ${us("lock_expires_at")}
      from public.video_database_state where lock_id is not null`);
    for (const { name, lock_id, token, from, to } of rows) {
      all.set(lock_id, { name, token: Number(token), from: Number(from), to: Number(to) });
    }
    await client.end();
  }
  return [...all.values()].sort((a, b) => a.from - b.from);
}

/** How many leases overlap the one before, how many tokens do not grow, and how many writes came after the next grant. */
async function faultsOf(worlds: Worlds) {
  const faults = { overlaps: 0, tokens: 0, writes: 0 };
  const all = await grants(worlds);
  for (const name of NAMES) {
    const own = all.filter((grant) => grant.name === name);
    for (const [i, grant] of own.entries()) {
      const next = own[i + 1];
      if (next && next.from < grant.to) faults.overlaps++;
      if (next && next.token <= grant.token) faults.tokens++;
      faults.writes += worlds.writes.filter((write) =>
        write.name === name && write.token === grant.token && next && write.at > next.from
      ).length;
    }
  }
  return { faults, count: all.length };
}

for (const order of ["as documented", "the other way round"] as const) {
  Deno.test(`P1 P4 a tenant moves to another database under load: ${order}`, async () => {
    await using cleanUp = new AsyncDisposableStack();
    const worlds = await twoDatabases(cleanUp);
    const callers = Promise.all(["w1", "w2", "w3", "w4"].map((holder) => call(worlds, holder)));
    cleanUp.defer(async () => {
      worlds.until = 0;
      await callers.catch(() => {});
    });
    const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    await later(400);
    if (order === "as documented") {
      await takeUp(worlds, await letGo(worlds));
      worlds.directory = "new";
    } else {
      // a copy first, and callers on it, and only then the end of the old ones
      const client = await open(worlds.old);
      const text = statements("out").replaceAll(":tenant", `'${TENANT}'`).replace(
        /commit;\s*$/,
        "rollback;",
      );
      const results = await client.query(text) as unknown as pg.QueryResult[];
      await client.end();
      await takeUp(
        worlds,
        JSON.stringify(results.find(({ rows }) => rows?.[0]?.moved)!.rows[0].moved),
      );
      await holdFor(200, worlds.new);
      await letGo(worlds);
      worlds.directory = "new";
    }
    await later(400);
    worlds.until = 0;
    await callers;
    const { faults, count } = await faultsOf(worlds);
    assertGreater(count, 20, "too few grants to show anything");
    if (order === "as documented") assertEquals(faults, { overlaps: 0, tokens: 0, writes: 0 });
    else assertGreater(faults.overlaps, 0, "two holders are found");
  });
}
