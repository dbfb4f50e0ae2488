import { join } from "node:path";
// @ts-types="@types/pg"
import pg from "pg";
import type { Stack } from "../local/stack.ts";
import { ROOT } from "./lab.ts";
import { ours } from "./ours.ts";

/** A whole stack with the project's functions, those of baseline_function.ts, and some videos. */
export interface BenchStack extends AsyncDisposable {
  /** Its database, as the owner of the tables. */
  sql: pg.Client;
  /** The folder that has its `supabase/`. */
  project: string;
  /** The ids of its videos. */
  videos: string[];
  url: string;
  /** The header of a worker. */
  headers: Record<string, string>;
  /** Sends a request as a worker; gives what it answers, which has to be a success. */
  // deno-lint-ignore no-explicit-any
  call(path: string, body?: unknown, method?: string): Promise<any>;
}

/** Functions that are measured beside lock-acquire. */
export const BASELINES = ["bench-empty", "bench-passing", "bench-two-calls"];

/** Starts the stack in a thread of its own. */
export async function startBenchStack(): Promise<BenchStack> {
  await using started = ours();
  const project = await Deno.makeTempDir({ prefix: "holdfast-bench-project-" });
  started.defer(() => Deno.remove(project, { recursive: true }));
  await prepareProject(join(project, "supabase"));
  const thread = new Worker(new URL("./stack_worker.ts", import.meta.url), { type: "module" });
  started.defer(() => thread.terminate());
  const tell = <T>(message: string | null) =>
    new Promise<T>((resolve, reject) => {
      thread.onmessage = ({ data }) => resolve(data);
      thread.onerror = (event) => reject(new Error(event.message));
      thread.postMessage(message);
    });
  started.defer(() => tell<void>(null));
  const { url, secretKey, dbUrl } = await tell<Stack>(project);
  const sql = new pg.Client({ connectionString: dbUrl });
  await sql.connect();
  started.defer(() => sql.end());
  const videos = await prepareDatabase(sql);
  const headers = { apikey: secretKey, "content-type": "application/json" };
  const call = async (path: string, body?: unknown, method = body ? "POST" : "GET") => {
    const response = await fetch(url + path, {
      method,
      headers,
      ...body ? { body: JSON.stringify(body) } : {},
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text && JSON.parse(text);
  };
  const all = ours(started.move());
  return {
    sql,
    project,
    videos,
    url,
    headers,
    call,
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

async function prepareProject(supabase: string): Promise<void> {
  await copy(join(ROOT, "supabase"), supabase);
  await Deno.remove(join(supabase, "seed.sql"));
  let blocks = "";
  for (const slug of BASELINES) {
    const folder = join(supabase, "functions", slug);
    await Deno.mkdir(folder);
    await Deno.copyFile(
      new URL("./baseline_function.ts", import.meta.url),
      join(folder, "index.ts"),
    );
    await Deno.writeTextFile(join(folder, "deno.json"), '{ "lock": false }\n');
    blocks += `\n[functions.${slug}]\nenabled = true\nverify_jwt = false\n`;
  }
  await Deno.writeTextFile(join(supabase, "config.toml"), blocks, { append: true });
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (/^(node_modules|tests|\..*)$/.test(name)) continue;
    if (isDirectory) await copy(join(from, name), join(to, name));
    else await Deno.copyFile(join(from, name), join(to, name));
  }
}

async function prepareDatabase(sql: pg.Client): Promise<string[]> {
  // the row of the system that Holdfast replaces, which has no lease and no token
  await sql.query(`
    create table public.bench_two_calls (
      video_id uuid not null,
      database_name text not null,
      server_version integer not null default 0,
      lock_holder_user_id text,
      lock_type text,
      locked_at timestamptz,
      last_activity_at timestamptz,
      primary key (video_id, database_name)
    ) with (fillfactor = 70);
    alter table public.bench_two_calls enable row level security;
    grant select, update on public.bench_two_calls to service_role;
    insert into public.videos (tenant_id, storage_key, status)
    select '00000000-0000-4000-8000-0000000000be', 'bench/' || n, 'ready' from generate_series(1, 50) n;
    insert into public.bench_two_calls (video_id, database_name) select id, 'layout' from public.videos`);
  const { rows } = await sql.query("select id from public.videos");
  return rows.map(({ id }) => id);
}
