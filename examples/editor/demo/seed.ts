import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { PASSWORD, PEOPLE, type Person, TENANTS, VIDEOS } from "./world.ts";

/** A Supabase stack that has Holdfast. */
export interface Stack {
  url: string;
  publishableKey: string;
  secretKey: string;
  /** As the owner of the tables. */
  dbUrl: string;
}

/**
 * Makes the demo's tables, users and videos.
 *
 * @param stack Where. It must not have them already.
 */
export async function seed(stack: Stack): Promise<void> {
  const sql = postgres(stack.dbUrl, { onnotice() {}, max: 1 });
  try {
    await sql.unsafe(await Deno.readTextFile(`${import.meta.dirname}/tables.sql`));
    const [ids] = await Promise.all([
      Promise.all(PEOPLE.map((person) => signUp(stack, person))),
      insertVideos(sql),
    ]);
    for (const [i, { name, picture, roles }] of PEOPLE.entries()) {
      await sql`insert into public.profiles values (${ids[i]!}, ${name}, ${picture})`;
      for (const [tenant, role] of Object.entries(roles)) {
        await sql`insert into public.tenant_members values (${tenant}, ${ids[i]!}, ${role})`;
      }
    }
    // last, as it guards the tables
    await sql.unsafe(await Deno.readTextFile(`${import.meta.dirname}/views.sql`));
  } finally {
    await sql.end();
  }
}

/**
 * Takes everything of the demo away again.
 *
 * @param stack Where.
 */
export async function unseed(stack: Stack): Promise<void> {
  const sql = postgres(stack.dbUrl, { onnotice() {}, max: 1 });
  await sql.unsafe(await Deno.readTextFile(`${import.meta.dirname}/remove.sql`));
  await sql`delete from auth.users where email in ${sql(PEOPLE.map(({ email }) => email))}`;
  await sql.end();
}

async function signUp({ url, publishableKey }: Stack, { email }: Person): Promise<string> {
  const auth = { persistSession: false, autoRefreshToken: false };
  const client = createClient(url, publishableKey, { auth });
  const { data, error } = await client.auth.signUp({ email, password: PASSWORD });
  if (error || !data.user) throw new Error(`${email} could not be signed up: ${error?.message}`);
  return data.user.id;
}

async function insertVideos(sql: postgres.Sql): Promise<void> {
  const tenants = Object.entries(TENANTS).map(([id, name]) => ({ id, name }));
  await sql`insert into public.tenants ${sql(tenants)}`;
  const videos = VIDEOS.map(({ id, tenant_id, title }) => ({
    id,
    tenant_id,
    title,
    storage_key: `${tenant_id}/${id}.mp4`,
    status: "ready",
  }));
  await sql`insert into public.videos ${sql(videos)}`;
  await sql`insert into public.captions ${
    sql(VIDEOS.flatMap(({ id, captions }) =>
      captions.map(([starts_at, text]) => ({ video_id: id, starts_at, text }))
    ))
  }`;
  await sql`insert into public.layout ${
    sql(VIDEOS.map(({ id, layout }) => ({ video_id: id, ...layout })))
  }`;
}
