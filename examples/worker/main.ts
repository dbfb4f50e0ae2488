// A worker as a program: deno run -A examples/worker/main.ts NAME TABLE CAPTIONS VIDEO…
// It reads SUPABASE_URL and SUPABASE_SECRET_KEY, and STOP_AT, for tests: at that step it prints a line, and waits a moment.
import { createClient } from "@supabase/supabase-js";
import { captionVideos } from "./caption_videos.ts";

const [name, table, captions, ...videos] = Deno.args as [string, string, string, ...string[]];
const supabase = createClient(
  Deno.env.get("SUPABASE_URL")!,
  Deno.env.get("SUPABASE_SECRET_KEY")!,
);
let hasStopped = false;
await captionVideos(supabase, {
  name,
  table,
  captions: Number(captions),
  videos,
  ttlSeconds: Number(Deno.env.get("TTL_SECONDS") ?? 30),
  async step(step) {
    if (hasStopped || step !== Deno.env.get("STOP_AT")) return;
    hasStopped = true;
    console.log(step);
    await new Promise((resolve) => setTimeout(resolve, 4000)); // on a busy machine the signal is late
  },
});
