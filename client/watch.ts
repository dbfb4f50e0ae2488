import type { SupabaseClient } from "@supabase/supabase-js";
import type { LockSnapshot } from "./types.ts";

/** Where Realtime does not answer, two requests each time. In milliseconds. */
const POLL_MS = 5000;
/** Beside Realtime: a lease that runs out, and a change in the line, change no row that it reports. In milliseconds. */
const POLL_BESIDE_REALTIME_MS = 30_000;

/**
 * Reports a video's locks after each change.
 *
 * @param supabase The watcher's client.
 * @param video_id The video.
 * @param query Asks for a snapshot.
 * @param callback Gets every snapshot that differs from the one before.
 * @returns Stops watching.
 */
export function watchVideo(
  supabase: SupabaseClient,
  video_id: string,
  query: () => Promise<LockSnapshot>,
  callback: (snapshot: LockSnapshot) => void,
): () => void {
  let looks = 0;
  let last = "";
  let isLive = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const look = async () => {
    const mine = ++looks;
    clearTimeout(timer);
    const snapshot = await query().catch(() => undefined);
    if (mine !== looks) return; // a later look knows more, or there is to be none any more
    timer = setTimeout(look, isLive ? POLL_BESIDE_REALTIME_MS : POLL_MS);
    const text = JSON.stringify(snapshot);
    if (snapshot && text !== last) callback(snapshot);
    last = text ?? last;
  };
  const channel = supabase.channel(`holdfast ${video_id} ${crypto.randomUUID()}`)
    .on("postgres_changes", {
      event: "*",
      schema: "public",
      table: "video_database_state",
      filter: `video_id=eq.${video_id}`,
    }, look)
    .subscribe((status) => {
      isLive = status === "SUBSCRIBED";
      if (isLive) look();
      else if (status !== "CLOSED") supabase.removeChannel(channel); // it would try for ever
    });
  look();
  return () => {
    // unlike any number: a look that is under way, or that the channel still sets off, is followed by no other
    looks = NaN;
    clearTimeout(timer);
    supabase.removeChannel(channel);
  };
}
