import type { SupabaseClient } from "@supabase/supabase-js";
import { createLockClient, type Lease } from "../../client/mod.ts";

/** What a worker is given. */
export interface CaptionOptions {
  /** The name that it gives itself. A worker that starts in its place under the same name can take its lease over. */
  name: string;
  /** A table `(video_id uuid, number integer)` that `holdfast.guard` guards with the database `captions`. */
  table: string;
  /** The videos to caption. */
  videos: string[];
  /** How many captions a video gets. */
  captions: number;
  /** Length of a lease, in seconds. */
  ttlSeconds?: number;
  /** Called at each step, and waited for; a test stops the worker there. */
  step?: (name: string) => Promise<void> | void;
}

/**
 * Captions videos until all are captioned, beside any number of workers that do the same. It may be killed or stalled at any
 * point: another one goes on where it stopped, and no caption is lost or written twice.
 *
 * @param supabase A client with the secret key.
 * @param options What to do.
 */
export async function captionVideos(
  supabase: SupabaseClient,
  options: CaptionOptions,
): Promise<void> {
  const { name, ttlSeconds = 30, videos } = options;
  const locks = createLockClient(supabase, { holder: name });
  for (const video_id of videos) {
    const key = { video_id, database_name: "captions" };
    for (let isDone = false; !isDone;) {
      isDone = await locks.request(key, { ttlSeconds, waitSeconds: 3600 }, async (lease) => {
        await captionVideo(supabase, lease, video_id, options);
        return true;
      }).catch((error) => {
        // lost: the new holder goes on, and this one looks again, as that one may be stopped as well
        if (error.name === "AbortError" || error.code === "PT412") return false;
        throw error;
      });
    }
  }
}

async function captionVideo(
  supabase: SupabaseClient,
  lease: Lease,
  video_id: string,
  { table, captions, step = () => {} }: CaptionOptions,
): Promise<void> {
  await step("granted");
  // read after the grant: from now on nobody else writes, not even one whose write is still on its way
  const { count, error } = await supabase.from(table)
    .select("*", { count: "exact", head: true }).eq("video_id", video_id);
  if (error) throw error;
  for (let number = count! + 1; number <= captions; number++) {
    await step(`before caption ${number}`);
    await lease.guard(supabase.from(table).insert({ video_id, number })).throwOnError();
    await step(`after caption ${number}`);
  }
}
