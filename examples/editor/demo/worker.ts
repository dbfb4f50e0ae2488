import { createClient } from "@supabase/supabase-js";
import { setTimeout as delay } from "node:timers/promises";
import { createLockClient } from "../../../client/mod.ts";
import type { Stack } from "./seed.ts";
import { VIDEOS } from "./world.ts";

/** How long a video is processed, and how long the worker rests then. In milliseconds. */
const WORK_MS = 12_000;
const REST_MS = 5_000;

/**
 * A worker that processes a video now and then, so that the list of videos is alive: it holds the lock of its captions while
 * it tidies them.
 *
 * @param stack Where.
 * @param signal Ends it.
 */
export async function work(stack: Stack, signal: AbortSignal): Promise<void> {
  const supabase = createClient(stack.url, stack.secretKey, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
  const locks = createLockClient(supabase, { holder: "Worker 1" });
  // not the first one, which a visitor opens; each tenant's in turn
  const videos = [3, 6, 4, 5, 2].map((n) => VIDEOS[n - 1]!);
  for (let i = 0; !signal.aborted; i++) {
    const { id: video_id } = videos[i % videos.length]!;
    const key = { video_id, database_name: "captions" };
    const setStatus = (status: string) =>
      supabase.from("videos").update({ status }).eq("id", video_id);
    // it waits in the line as everybody does
    await locks.request(key, { ttlSeconds: 20, waitSeconds: 600, signal }, async (lease) => {
      await setStatus("processing");
      await delay(WORK_MS, undefined, { signal: AbortSignal.any([signal, lease.signal]) });
      const { data } = await supabase.from("captions").select().eq("video_id", video_id)
        .throwOnError();
      const tidy = data.map((row) => ({ ...row, text: row.text.replace(/\s+/g, " ").trim() }));
      await lease.guard(supabase.from("captions").upsert(tidy)).throwOnError();
    }).catch(() => {}); // lost by force, or it is to end: there is always a next video
    await setStatus("ready");
    await delay(REST_MS, undefined, { signal }).catch(() => {});
  }
  await locks.releaseAll();
}
