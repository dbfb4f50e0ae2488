import { assertEquals } from "@std/assert";
import type { SupabaseClient } from "@supabase/supabase-js";
import { afterAll, client, publishableKey, secretKey, sql } from "./stack.ts";

/** A signed-in user. */
export interface User {
  id: string;
  token: string;
  client: SupabaseClient;
}

const users = new Map<string, Promise<User>>();

/**
 * A signed-in user. The same name is the same user for all tests of a file, as signing up takes its time; what the
 * user may do is up to {@link Tenant.join}.
 *
 * @param name Any name.
 * @returns The user, of no tenant yet.
 */
export function user(name: string): Promise<User> {
  let made = users.get(name);
  if (!made) users.set(name, made = signUp(name));
  return made;
}

async function signUp(name: string): Promise<User> {
  const { data, error } = await client(publishableKey).auth.signUp({
    email: `${name}-${crypto.randomUUID()}@example.com`,
    password: crypto.randomUUID(),
  });
  if (error || !data.session || !data.user) {
    throw new Error(`sign-up of ${name}: ${error?.message}`);
  }
  const { id } = data.user;
  afterAll(() => sql`delete from auth.users where id = ${id}`);
  const token = data.session.access_token;
  return { id, token, client: client(publishableKey, token) };
}

/** Workers, as they name themselves. */
export const W1 = { lock_holder_user_id: "worker-1" } as const;
export const W2 = { lock_holder_user_id: "worker-2" } as const;

/** The lock that most tests are about. */
export const layout = ({ video }: Pick<Tenant, "video">): {
  video_id: string;
  database_name: string;
} => ({ video_id: video, database_name: "layout" });

/** The state row of one database of a video. */
export interface StateRow {
  video_id: string;
  database_name: string;
  tenant_id: string;
  server_version: number;
  lock_holder_user_id: string | null;
  lock_type: string | null;
  locked_at: Date | null;
  last_activity_at: Date | null;
  lock_id: string | null;
  lock_expires_at: Date | null;
  lock_ttl_seconds: number | null;
  lock_database_names: string[] | null;
  fencing_token: string;
  has_line: boolean;
}

/** The columns that are all set while a lock is held, and all NULL otherwise (P9). */
export const LOCK_COLUMNS = [
  "lock_holder_user_id",
  "lock_type",
  "locked_at",
  "last_activity_at",
  "lock_id",
  "lock_expires_at",
  "lock_ttl_seconds",
] as const satisfies (keyof StateRow)[];

/** One entry of the history. */
export interface HistoryRow {
  lock_id: string;
  lock_holder_user_id: string;
  lock_type: string;
  fencing_token: string;
  locked_at: Date;
  ended_at: Date;
  end_reason: string;
  ended_by: string | null;
}

/** A tenant of a test's own. `await using` removes everything of it. */
export interface Tenant extends AsyncDisposable {
  id: string;
  /** Its first video. */
  video: string;
  /** A worker with the secret key. */
  server: SupabaseClient;
  addVideo(): Promise<string>;
  /** A user, signed in and a member. */
  join(name: string, role?: "member" | "admin"): Promise<User>;
  leave(user: User): Promise<void>;
  state(video?: string, database?: string): Promise<StateRow | undefined>;
  history(video?: string, database?: string): Promise<HistoryRow[]>;
  /** Sets time: moves the lease that is held now into the past, by this many seconds. */
  backdate(seconds: number, video?: string, database?: string): Promise<void>;
}

/**
 * Makes a tenant with one video.
 *
 * @returns The tenant; dispose of it with `await using`.
 */
export async function newTenant(): Promise<Tenant> {
  const id = crypto.randomUUID();
  const videos: string[] = [];
  const addVideo = async () => {
    const video = crypto.randomUUID();
    await sql`
      insert into public.videos (id, tenant_id, storage_key, status)
      values (${video}, ${id}, ${`${id}/videos/${video}.mp4`}, 'uploading')`;
    videos.push(video);
    return video;
  };
  const first = await addVideo();
  return {
    id,
    video: first,
    server: client(secretKey),
    addVideo,
    async join(name, role = "member") {
      const member = await user(name);
      await sql`
        insert into public.tenant_members (tenant_id, user_id, role) values (${id}, ${member.id}, ${role})
        on conflict (tenant_id, user_id) do update set role = excluded.role`;
      return member;
    },
    async leave({ id: user }) {
      await sql`delete from public.tenant_members where tenant_id = ${id} and user_id = ${user}`;
    },
    async state(video = first, database = "layout") {
      const [row] = await sql<StateRow[]>`
        select * from public.video_database_state where video_id = ${video} and database_name = ${database}`;
      return row;
    },
    async history(video = first, database = "layout") {
      return await sql<HistoryRow[]>`
        select * from public.video_database_lock_history
        where video_id = ${video} and database_name = ${database} order by fencing_token`;
    },
    async backdate(seconds, video = first, database = "layout") {
      const moved = await sql`
        update public.video_database_state
        set locked_at = locked_at - ${seconds} * interval '1 second',
          last_activity_at = last_activity_at - ${seconds} * interval '1 second',
          lock_expires_at = lock_expires_at - ${seconds} * interval '1 second'
        where video_id = ${video} and database_name = ${database} and lock_id is not null`;
      assertEquals(moved.count, 1, "there is no lease to back-date");
    },
    async [Symbol.asyncDispose]() {
      await sql`delete from public.videos where tenant_id = ${id}`;
      await sql`delete from public.video_database_lock_history where tenant_id = ${id}`;
      await sql`delete from holdfast.place where video_id in ${sql(videos)}`;
      await sql`delete from holdfast.cancellation where video_id in ${sql(videos)}`;
      await sql`delete from public.tenant_members where tenant_id = ${id}`;
      const [left] = await sql<{ rows: number }[]>`
        select count(*)::integer as rows from public.video_database_state where video_id in ${
        sql(videos)
      }`;
      assertEquals(left?.rows, 0, "a test leaves no row behind");
    },
  };
}
